"""Takes the name of a built-in data set."""

from cvhpe import DatasetSpec, hookimpl


def open_nothing(path, split):
    raise AssertionError("the built-in one was asked for")


@hookimpl
def cvhpe_datasets():
    return [DatasetSpec(name="rhd", open=open_nothing, layout="rhd", root="wrist", fields=("rgb",))]
