"""The data set that needs no path: synthetic hands, rendered once into the cache and read as RHD is.

``--data synthetic`` renders them when they are first needed; ``synthetic:?count=4000&seed=1`` sets the number of frames
and the seed; ``synthetic:FOLDER`` reads frames that ``cvhpe data synth`` wrote.
"""

from __future__ import annotations

from pathlib import Path

from cvhpe.data.datasets.rhd import Rhd
from cvhpe.data.source import parse_options
from cvhpe.errors import DataError
from cvhpe.io.atomic import make_folder_once
from cvhpe.io.cache import cache_dir
from cvhpe.io.progress import ProgressCallback

DEFAULTS = {"count": "2000", "seed": "0"}
SIZE = 320


def locate(path: Path | None = None, progress: ProgressCallback | None = None, *, workers: int | None = None) -> Path:
    """The folder of the frames, which are rendered now unless the cache has them.

    Args:
        path: None, ``?count=N&seed=S``, or a folder of frames, which is returned.
        progress: called with the number of rendered frames and of all.
        workers: processes; by default one a core.

    Returns:
        The folder.

    Raises:
        DataError: For a wrong option, or a cache that cannot be written.
    """
    root, options = parse_options(Path("?") if path is None else Path(path), "synthetic", DEFAULTS)
    if path is not None and not str(path).startswith("?"):
        return root
    count, seed = (_whole_number(options[name], name) for name in DEFAULTS)
    from cvhpe.synthetic import VERSION, generate

    folder = cache_dir() / "synthetic" / f"v{VERSION}-{count}-{seed}-{SIZE}"

    def make(partial: Path) -> None:
        generate(partial / "frames", count, seed, size=SIZE, workers=workers, progress=progress)

    return make_folder_once(folder, "frames", make) / "frames"


def _whole_number(text: str, name: str) -> int:
    if not text.isdecimal():
        raise DataError(f"synthetic data: {name}={text} must be a whole number, as in synthetic:?count=4000&seed=1")
    return int(text)


class Synthetic(Rhd):
    """One split of the synthetic frames: 9 in 10 train, the rest test, and no person is in both."""

    def __init__(self, path: Path | None, split: str) -> None:
        super().__init__(locate(path), split, "synthetic")
