"""``cvhpe predict``: 3D hands of photographs and videos, as JSON and as pictures to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvhpe.config.lists import comma_list

if TYPE_CHECKING:
    from cvhpe.api import HandModel
    from cvhpe.inference.predict import Hand

UNITS = {
    "joints3d_mm": "mm, relative to the root joint; camera frame, x right, y down, z forward",
    "joints2d_px": "px of the picture turned upright, centre of its top-left pixel (0, 0)",
    "uncertainty_mm": "mm, root mean square distance of posterior samples from the prediction, joint by joint",
    "box": "x, y, width, height, px",
    "scale_mm": "mm, middle finger PIP to MCP",
}


def predict(
    run: Annotated[str, typer.Argument(help="A run folder, or 'default': the model that ships with cvhpe.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Pictures, videos, folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the results: NAME.json and NAME.png, or .mp4 of a video.")],
    bbox: Annotated[str, typer.Option(help="x,y,width,height px of the one hand, instead of searching.")] = "",
    handedness: Annotated[str, typer.Option(help="left or right; by default what the detector says.")] = "",
    source: Annotated[str, typer.Option("--from", help="Inputs, as in rgb,joints2d; by default all there are.")] = "",
    samples: Annotated[int, typer.Option(min=0, help="Posterior samples for the uncertainty; 0: none.")] = 20,
    scale_mm: Annotated[
        float | None, typer.Option(help="Length of the middle finger's PIP-MCP bone; by default the training mean.")
    ] = None,
    max_hands: Annotated[int, typer.Option(min=1, help="The most hands to search for in a picture.")] = 4,
    detector_model: Annotated[
        Path | None, typer.Option(help="A hand_landmarker.task, for a MediaPipe without models of its own.")
    ] = None,
    frame_stride: Annotated[int, typer.Option(min=1, help="Take every Nth frame of a video.")] = 1,
    overlay: Annotated[bool, typer.Option(help="Also write pictures to look at.")] = True,
) -> None:
    """Predict the 3D joints of the hands in photographs and videos.

    Hands are found by MediaPipe (pip install 'cvhpe[detect]'), or where --bbox says. A run that encodes 2D joints
    gets the detector's, one that encodes rgb the picture, one that encodes both gets both.

    Example: cvhpe predict default photo.jpg --out out

    Example: cvhpe predict runs/rgb photo.jpg --bbox 120,80,200,220 --handedness right --out out
    """
    import sys

    from cvhpe.api import load
    from cvhpe.errors import DataError
    from cvhpe.io.image import is_video, list_media, unique_stems

    box = parse_box(bbox)
    model = load(run, detector_model=detector_model, hands=max_hands)
    model.warn = lambda text: print(f"note: {text}", file=sys.stderr)
    asked: dict[str, Any] = {"samples": samples, "scale_mm": scale_mm, "bbox": box, "hand": handedness or None}
    asked["inputs"] = comma_list(source)
    paths = list_media(files)
    named = unique_stems(paths)
    spare_inputs(paths, [out / stem for stem in named])
    skipped = 0
    for path, stem in zip(paths, named, strict=True):
        try:
            if is_video(path):
                said = of_video(model, path, out / stem, frame_stride, overlay, asked)
            else:
                said = of_picture(model, path, out / stem, overlay, asked)
        except DataError as error:
            if len(paths) == 1:
                raise
            # One broken file among a folder's is no reason to leave the others out.
            print(f"skipped: {error}", file=sys.stderr)
            skipped += 1
            continue
        typer.echo(f"{path}: {said} -> {out / stem}.json")
    if skipped:
        left = f"what could be read is in {out}" if skipped < len(paths) else "nothing was predicted"
        raise DataError(f"{skipped} of {len(paths)} files could not be read; {left}")


def spare_inputs(paths: list[Path], stems: list[Path]) -> None:
    """Refuse an --out in which a result would take the place of a picture or video that was given."""
    from cvhpe.errors import UserError

    given = {path.resolve() for path in paths}
    for stem in stems:
        for ending in (".json", ".png", ".mp4"):
            result = stem.with_name(f"{stem.name}{ending}")
            if result.resolve() in given:
                raise UserError(f"--out {stem.parent}: {result} would be overwritten; choose another folder")


def parse_box(text: str) -> tuple[float, ...] | None:
    """``x,y,width,height`` as numbers; None of an empty text."""
    from cvhpe.errors import UserError

    if not text:
        return None
    try:
        box = tuple(float(part) for part in comma_list(text))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise UserError(f"--bbox {text}: write it as x,y,width,height in pixels, as in --bbox 120,80,200,220")
    return box


def of_picture(model: HandModel, path: Path, out: Path, overlay: bool, asked: dict[str, Any]) -> str:
    """Predict one picture, write its results, and say in a few words what was found."""
    from cvhpe.io.image import read_image
    from cvhpe.viz.overlay import save_overlay

    picture = read_image(path)
    found = model.predict(picture, **asked)
    height, width = picture.shape[:2]
    write(out, {**header(model, path, (width, height)), "hands": [hand.as_dict() for hand in found]})
    if overlay:
        save_overlay(out.with_name(f"{out.name}.png"), picture, found, model.run.metadata.layout)
    return described(found)


def of_video(model: HandModel, path: Path, out: Path, frame_stride: int, overlay: bool, asked: dict[str, Any]) -> str:
    """Predict the frames of a video one by one, write the results, and say what was found."""
    from contextlib import ExitStack

    from cvhpe.io.video import VideoWriter, read_frames
    from cvhpe.viz.overlay import overlay_frame

    out.parent.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    size, shown = (0, 0), (0, 0)
    with ExitStack() as stack:
        writer = None
        for frame in read_frames(path, frame_stride):
            found = model.predict(frame.image, **asked)
            hands = [hand.as_dict() for hand in found]
            records.append({"frame": frame.number, "seconds": round(frame.seconds, 4), "hands": hands})
            size = (frame.image.shape[1], frame.image.shape[0])
            if not overlay:
                continue
            if writer is None:
                rate = frame.rate / frame_stride
                writer = stack.enter_context(VideoWriter(out.with_name(f"{out.name}.mp4"), rate))
                shown = (2 * round(250 * size[0] / size[1]) + 1000, 500)
            writer.write(overlay_frame(frame.image, found, model.run.metadata.layout, shown))
    write(out, {**header(model, path, size), "frames": records})
    several = sum(bool(record["hands"]) for record in records)
    return f"{len(records)} frames, {several} with a hand"


def header(model: HandModel, path: Path, size: tuple[int, int]) -> dict[str, Any]:
    """What a result file says before the hands."""
    from importlib.metadata import version

    from cvhpe.geometry.skeleton import layout
    from cvhpe.runs.run_dir import DEFAULT

    metadata = model.run.metadata
    return {
        "file": str(path),
        "size": list(size),
        "run": DEFAULT if model.run.bundled else str(model.run.path),
        "cvhpe": version("cvhpe"),
        "detector": model.detector_name,
        "layout": metadata.layout,
        "root": metadata.root,
        "joints": list(layout(metadata.layout).joints),
        "units": UNITS,
    }


def write(out: Path, record: dict[str, Any]) -> None:
    """Write a result file, whole or not at all."""
    import json

    from cvhpe.io.atomic import write_text

    write_text(out.with_name(f"{out.name}.json"), json.dumps(record, indent=1) + "\n")


def described(found: list[Hand]) -> str:
    """``2 hands (left, right)``, or that there is none."""
    from cvhpe.inference.predict import SIDES

    if not found:
        return "no hand found"
    sides = ", ".join(SIDES[hand.side] for hand in found)
    return f"{len(found)} {'hand' if len(found) == 1 else 'hands'} ({sides})"
