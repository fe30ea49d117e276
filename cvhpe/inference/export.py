"""A trained model as a file that needs no cvhpe: ONNX, or torch's own ``.pt2``, normalisation included.

Picture inputs are the hand's crop, uint8 ``[B, S, S, 3]`` (``depth``: its uint16 codes ``[B, S, S]``), 2D joints are
pixels of any frame ``[B, J, 2]``: the crop about them is computed inside. A run of protocol H also takes ``hand``,
int64 ``[B]``, 0 left and 1 right. 3D joints come out in mm, root-relative. The batch size is free.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvhpe.errors import UserError, nearest
from cvhpe.evaluation.evaluate import encode, refine_absolute_pose, root_relative
from cvhpe.geometry.camera import crop_around
from cvhpe.geometry.skeleton import layout
from cvhpe.inference.exported_modules import Exported, Port, ports, refines, takes_pixels, takes_points
from cvhpe.io import atomic
from cvhpe.models.fusion import fuse
from cvhpe.models.pairs import sources, targets
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.fusion import calibration_of, fusion_params

SUFFIXES = (".onnx", ".pt2")
TOLERANCE_MM = 1e-3
"""How far the file may be from the model it was made of, mm; for other targets than 3D joints, in their units."""


def export(run: Run, names: Sequence[str], target: str, out: Path, root: str = "wrist") -> float:
    """Write ``out`` (``.onnx`` or ``.pt2``), check it against the model, and return the largest difference.

    names: inputs, fused where there are several. root: what the root of 2D joints given to the file is.
    The difference is in mm for 3D joints, over batches of 1, 2 and 5 made-up hands. UserError where an input or
    the extra is missing; a file that disagrees is not written, and that is a RuntimeError: a fault of ours.
    """
    names = list(dict.fromkeys(names))  # one said twice is one
    check_request(run, names, target, out)
    inputs, output = ports(run, names, target, root)
    module = Exported(run, names, target, root).eval()
    example = tuple(made_up(run, inputs, 3))
    free = torch.export.Dim.DYNAMIC
    with _silence():
        program = torch.export.export(module, example, dynamic_shapes={"inputs": tuple({0: free} for _ in example)})
    card = metadata(run, inputs, output, root)
    with atomic.atomic_file(out) as temporary:
        # writers look at the ending
        part = temporary.with_name(temporary.name + out.suffix)
        try:
            try:
                (write_onnx if out.suffix == ".onnx" else write_pt2)(program, example, inputs, output, card, part)
            except torch.onnx.OnnxExporterError as error:
                refining = ", ".join(refines(run, names, target))
                if not refining:
                    raise
                raise UserError(
                    f"--from {refining}: ONNX lacks what it moves predicted joints with; --out {out.stem}.pt2 holds it"
                ) from error
            worst = difference(run, part, names, target, inputs, root)
            if not worst <= TOLERANCE_MM:
                raise RuntimeError(f"{out}: the exported model differs by {worst:g}, more than {TOLERANCE_MM:g}")
            part.replace(temporary)
        finally:
            part.unlink(missing_ok=True)
    return worst


def check_request(run: Run, names: Sequence[str], target: str, out: Path) -> None:
    """Refuse what the run cannot give and a file that is none of ours."""
    known, made = sources(run.model.pairs), targets(run.model.pairs)
    for name in names:
        if name not in known:
            raise UserError(f"--from {name}: this run encodes no {name}; {nearest(name, known)}")
    if not names:
        raise UserError(f"--from: name an input; have: {', '.join(known)}")
    if target not in made:
        raise UserError(f"--to {target}: this run decodes no {target}; {nearest(target, made)}")
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out}: end it in .onnx or .pt2")


def metadata(run: Run, inputs: Sequence[Port], output: Port, root: str) -> dict[str, str]:
    """What travels with the file, every value a text (JSON where it is more than one word)."""
    metadata = run.metadata
    return {
        "cvhpe": version("cvhpe"),
        "layout": metadata.layout,
        "joints": json.dumps(layout(metadata.layout).joints),
        "bones": json.dumps(layout(metadata.layout).bones),
        "root": metadata.root,
        "input_root": root,
        "units": output.meaning,
        "scale_mm": f"{metadata.mean_scale_mm:.6g}",
        "scale_from": "training mean" if run.has_scale else "predicted",
        "protocol": run.config.protocol,
        "crop_factor": f"{run.config.crop_factor:g}",
        "inputs": json.dumps([port.as_dict() for port in inputs]),
        "output": json.dumps(output.as_dict()),
    }


def write_onnx(
    program: Any, example: tuple[Tensor, ...], inputs: Sequence[Port], output: Port, card: Mapping[str, str], path: Path
) -> None:
    """Translate an exported program to ONNX, weights inside."""
    onnxruntime()
    with _silence():
        made = torch.onnx.export(
            program,
            args=example,
            input_names=[port.name for port in inputs],
            output_names=[output.name],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert made is not None
        made.model.metadata_props.update(card)
        made.save(path, external_data=False)


def write_pt2(
    program: Any, example: tuple[Tensor, ...], inputs: Sequence[Port], output: Port, card: Mapping[str, str], path: Path
) -> None:
    """Save an exported program, its metadata as the extra file ``cvhpe.json``."""
    torch.export.save(program, path, extra_files={"cvhpe.json": json.dumps(dict(card))})


def onnxruntime() -> Any:
    """onnxruntime, beside what torch needs to write ONNX; UserError names the extra where one is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"exporting to ONNX needs {error.name}: pip install 'cvhpe[export]'") from None
    return onnxruntime


def difference(run: Run, path: Path, names: Sequence[str], target: str, inputs: Sequence[Port], root: str) -> float:
    """The largest difference between a written file and the run it was made of, over batches of 1, 2 and 5."""
    call = _opened(path)
    worst = 0.0
    for n in (1, 2, 5):
        batch = made_up(run, inputs, n, seed=n)
        expected = by_the_run(run, names, target, batch, root)
        worst = max(worst, float((call(batch) - expected).abs().max()))
    return worst


def _opened(path: Path) -> Any:
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()
        return lambda batch: module(*batch).detach()
    session = onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = [one.name for one in session.get_inputs()]
    return lambda batch: torch.from_numpy(
        session.run(None, {n: x.numpy() for n, x in zip(wanted, batch, strict=True)})[0]
    )


def by_the_run(run: Run, names: Sequence[str], target: str, batch: Sequence[Tensor], root: str) -> Tensor:
    """The same inputs on the way that evaluation goes: crops, views and the modalities' own ``augment``."""
    n = len(batch[0])
    fields: dict[str, Tensor] = {"side": batch[-1] if run.knows_side else torch.zeros(n, dtype=torch.int64)}
    movable = layout(run.metadata.layout).palm is not None
    fields["root_shift_weight"] = torch.full(
        (n,), 0.5 if root == "wrist" and run.metadata.root == "palm" and movable else 0.0
    )
    ready: dict[str, Tensor] = {}
    for name, x in zip(names, batch, strict=False):
        modality = run.model.modalities[name]
        if takes_points(modality):
            crops = [crop_around(one.numpy(), run.config.crop_factor) for one in x]
            at = np.stack([crop.fraction(one.numpy()) for crop, one in zip(crops, x, strict=True)])
            fields["joints2d"] = torch.from_numpy(at.astype(np.float32))
        elif takes_pixels(modality):
            fields[modality.reads[0]] = x
        else:
            ready[name] = x
    model, protocol = run.model, run.config.protocol
    with torch.inference_mode():
        made = [name for name in names if name not in ready]
        posteriors = encode(model, fields, made, protocol=protocol, margin=1.0)
        for name, x in ready.items():
            side = torch.nn.functional.one_hot(fields["side"], 2).float() * float(run.knows_side)
            posteriors[name] = model.encode(name, x, side)
        ordered = {name: posteriors[name] for name in names}
        z = fuse(ordered, **fusion_params(calibration_of(run.metadata.training), names)).mu
        out = model.decode(target, z).float()
        if target != "joints3d":
            return out
        joints = refine_absolute_pose(
            model, root_relative(out * run.metadata.mean_scale_mm, layout(run.metadata.layout).root), fields, made, 1.0
        )
        for name, refine in refines(run, list(ready), target).items():
            joints = refine(joints, ready[name])
    return joints


def made_up(run: Run, inputs: Sequence[Port], n: int, seed: int = 0) -> list[Tensor]:
    """Inputs to try a file with: smooth pictures, joints strewn over some 100 px, sides in turn."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for port in inputs:
        if port.name == "hand":
            batch.append(torch.arange(n) % 2)
        elif not port.dtype.is_floating_point:
            size, most = port.shape[0], torch.iinfo(port.dtype).max
            coarse = torch.rand(n, port.shape[2] if len(port.shape) > 2 else 1, 8, 8, generator=generator)
            fine = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") * most
            picture = fine.permute(0, 2, 3, 1).round().to(port.dtype)
            batch.append(picture if len(port.shape) > 2 else picture[..., 0].contiguous())
        else:
            spread = 50.0 if port.name.endswith("_px") else 1.0
            batch.append(torch.randn(n, *port.shape, generator=generator) * spread + (160.0 if spread > 1 else 0.0))
    return batch


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Torch's exporter tells of its steps on stdout and in warnings; only what it raises matters here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
