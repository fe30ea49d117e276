"""The data set that needs no path: synthetic hands, rendered once into the cache and read as RHD is.

``--data synthetic`` renders them when they are first needed; ``synthetic:?count=4000&seed=1`` says how many
frames and of which seed; ``synthetic:FOLDER`` reads frames that ``cvhpe data synth`` wrote.
"""

from __future__ import annotations

from pathlib import Path

from cvhpe.data.datasets.rhd import Rhd
from cvhpe.errors import DataError
from cvhpe.io.atomic import make_folder_once
from cvhpe.io.cache import cache_dir
from cvhpe.io.progress import ProgressCallback
from cvhpe.plugin.sample import DatasetSpec

COUNT = 2000
SEED = 0
SIZE = 320


def locate(path: Path | None = None, progress: ProgressCallback | None = None, *, workers: int | None = None) -> Path:
    """The folder of the frames; rendered now where the cache does not have them yet.

    path: None, ``?count=N&seed=S``, or a folder, which is given back. progress: called with (frames done, all).
    """
    from cvhpe.data.files import with_options

    options = {"count": str(COUNT), "seed": str(SEED)}
    if path is not None:
        where, options = with_options(Path(path), "synthetic", options)
        if not str(path).startswith("?"):
            return where
    count, seed = (_whole(options[name], name) for name in ("count", "seed"))
    from cvhpe.synthetic import generate
    from cvhpe.synthetic.dataset import VERSION

    place = cache_dir() / "synthetic" / f"v{VERSION}-{count}-{seed}-{SIZE}"

    def make(part: Path) -> None:
        generate(part / "frames", count, seed, size=SIZE, workers=workers, progress=progress)

    return make_folder_once(place, "frames", make) / "frames"


def _whole(text: str, name: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise DataError(f"synthetic data: {name}={text} must be a whole number, as in synthetic:?count=4000&seed=1")
    return value


def open_synthetic(path: Path | None, split: str) -> Rhd:
    """One split of the synthetic frames: 9 in 10 train, the rest test, and no person is in both."""
    return Rhd(locate(path), split, "synthetic")


def spec() -> DatasetSpec:
    return DatasetSpec(
        name="synthetic",
        open=open_synthetic,
        locate=locate,
        layout="rhd",
        root="wrist",
        fields=("rgb", "depth", "mask", "joints2d", "joints3d"),
        about="rendered hands, made when first needed and kept; every label exact",
        needs_path=False,
    )
