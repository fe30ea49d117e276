"""``cvhpe predict``: 3D hands in images and videos, as JSON and as overlays."""

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
    "joints2d_px": "px of the upright image, centre of its top-left pixel (0, 0)",
    "uncertainty_mm": "mm, root mean square distance of posterior samples from the prediction, one a joint",
    "box": "x, y, width, height, px",
    "scale_mm": "mm, middle finger PIP to MCP",
}


def predict(
    run: Annotated[str, typer.Argument(help="A run folder, or 'default': the model that ships with cvhpe.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Images, videos, or folders of them.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the results: NAME.json, and NAME.png, or NAME.mp4 for a video.")
    ],
    bbox: Annotated[str, typer.Option(help="x,y,width,height of one hand in px, instead of a detector.")] = "",
    handedness: Annotated[str, typer.Option(help="left or right; default: as detected.")] = "",
    source: Annotated[
        str, typer.Option("--from", help="Input modalities, as in rgb,joints2d; default: all available.")
    ] = "",
    samples: Annotated[int, typer.Option(min=0, help="Posterior samples for the uncertainty; 0: none.")] = 20,
    scale_mm: Annotated[
        float | None, typer.Option(help="Length of the middle finger's PIP-MCP bone in mm; default: the training mean.")
    ] = None,
    max_hands: Annotated[int, typer.Option(min=1, help="Maximum number of hands in an image.")] = 4,
    detector_model: Annotated[
        Path | None, typer.Option(help="A hand_landmarker.task, for MediaPipe versions without models.")
    ] = None,
    frame_stride: Annotated[int, typer.Option(min=1, help="Predict every Nth frame of a video.")] = 1,
    overlay: Annotated[bool, typer.Option(help="Also write overlays.")] = True,
) -> None:
    """Predict the 3D joints of hands in images and videos.

    MediaPipe detects the hands (pip install 'cvhpe[detect]'), unless --bbox gives one. The model's inputs are the
    image, the detected 2D joints, or both, whichever it encodes.

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
    check_outputs(paths, [out / stem for stem in named])
    skipped = 0
    for path, stem in zip(paths, named, strict=True):
        try:
            if is_video(path):
                result = predict_video(model, path, out / stem, frame_stride, overlay, asked)
            else:
                result = predict_image(model, path, out / stem, overlay, asked)
        except DataError as error:
            if len(paths) == 1:
                raise
            print(f"skipped: {error}", file=sys.stderr)
            skipped += 1
            continue
        typer.echo(f"{path}: {result} -> {out / stem}.json")
    if skipped:
        left = f"what could be read is in {out}" if skipped < len(paths) else "nothing was predicted"
        raise DataError(f"{skipped} of {len(paths)} files could not be read; {left}")


def check_outputs(paths: list[Path], stems: list[Path]) -> None:
    """Raise if a result would overwrite an input."""
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


def predict_image(model: HandModel, path: Path, out: Path, overlay: bool, asked: dict[str, Any]) -> str:
    """Predict one image, write the results, and return a summary."""
    from cvhpe.io.image import read_image
    from cvhpe.viz.overlay import save_overlay

    image = read_image(path)
    hands = model.predict(image, **asked)
    height, width = image.shape[:2]
    write(out, {**header(model, path, (width, height)), "hands": [hand.as_dict() for hand in hands]})
    if overlay:
        save_overlay(out.with_name(f"{out.name}.png"), image, hands, model.run.metadata.layout)
    return describe(hands)


def predict_video(
    model: HandModel, path: Path, out: Path, frame_stride: int, overlay: bool, asked: dict[str, Any]
) -> str:
    """Predict the frames of a video, write the results, and return a summary."""
    from contextlib import ExitStack

    from cvhpe.io.video import VideoWriter, read_frames
    from cvhpe.viz.overlay import overlay_frame

    out.parent.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    size, shown = (0, 0), (0, 0)
    with ExitStack() as stack:
        writer = None
        for frame in read_frames(path, frame_stride):
            hands = model.predict(frame.image, **asked)
            records.append(
                {"frame": frame.number, "seconds": round(frame.seconds, 4), "hands": [hand.as_dict() for hand in hands]}
            )
            size = (frame.image.shape[1], frame.image.shape[0])
            if not overlay:
                continue
            if writer is None:
                rate = frame.rate / frame_stride
                writer = stack.enter_context(VideoWriter(out.with_name(f"{out.name}.mp4"), rate))
                shown = (2 * round(250 * size[0] / size[1]) + 1000, 500)
            writer.write(overlay_frame(frame.image, hands, model.run.metadata.layout, shown))
    write(out, {**header(model, path, size), "frames": records})
    with_hand = sum(bool(record["hands"]) for record in records)
    return f"{len(records)} frames, {with_hand} with a hand"


def header(model: HandModel, path: Path, size: tuple[int, int]) -> dict[str, Any]:
    """The fields of a result file before the hands."""
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
    """Write a result file, atomically."""
    import json

    from cvhpe.io.atomic import write_text

    write_text(out.with_name(f"{out.name}.json"), json.dumps(record, indent=1) + "\n")


def describe(hands: list[Hand]) -> str:
    """``2 hands (left, right)``, or that there is none."""
    from cvhpe.inference.predict import SIDES

    if not hands:
        return "no hand detected"
    sides = ", ".join(SIDES[hand.side] for hand in hands)
    return f"{len(hands)} {'hand' if len(hands) == 1 else 'hands'} ({sides})"
