import pytest

from cvhpe.config.schema import Config, assign, checked, merge, parse, read_toml
from cvhpe.errors import UserError


def test_defaults_are_the_papers():
    c = Config()
    assert (c.latent_dim, c.lr, c.batch_size, c.image_size, c.backbone) == (30, 1e-4, 64, 256, "resnet18")
    assert (c.augmentation.rotation_deg, c.augmentation.flip, c.hidden_dim, c.num_hidden_layers) == (45, 0.5, 512, 5)


def test_toml_round_trip(tmp_path):
    c = checked({"pairs": ["rgb:rgb"], "lr": 3e-4, "pair_weights": {"rgb:rgb": 0.5}, "augmentation": {"flip": 0.0}})
    path = tmp_path / "config.toml"
    path.write_text(c.toml())
    assert checked(read_toml(path)) == c


def test_set_reaches_into_tables():
    tree = {"lr": 1.0}
    for setting in ("augmentation.flip=0", "lr=1e-3", "recipe=best", "modalities=['rgb']"):
        assign(tree, setting)
    assert tree == {"lr": 1e-3, "augmentation": {"flip": 0}, "recipe": "best", "modalities": ["rgb"]}
    assert parse("true") is True
    assert parse("a b") == "a b"


def test_merge_lays_tables_over_tables():
    assert merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}}) == {"a": {"x": 1, "y": 3}, "b": 1}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lrr": 1}, "unknown setting 'lrr'; did you mean 'lr'?"),
        ({"augmentation": {"flipp": 1}}, "did you mean 'augmentation.flip'?"),
        ({"lr": -1}, "lr = -1"),
        ({"image_size": 100}, "image_size = 100"),
        ({"batch_size": "many"}, "batch_size = 'many'"),
        ({"protocol": "S"}, "protocol = 'S'"),
    ],
)
def test_what_does_not_fit_is_one_line(settings, says):
    with pytest.raises(UserError) as caught:
        checked(settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_without_value_and_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="name=value"):
        assign({}, "lr")
    with pytest.raises(UserError, match="no settings below it"):
        assign({"lr": 1}, "lr.x=1")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = [")
    with pytest.raises(UserError, match=r"bad\.toml"):
        read_toml(bad)
    with pytest.raises(UserError, match=r"nothing\.toml"):
        read_toml(tmp_path / "nothing.toml")
