"""Export a trained model to ONNX or ``.pt2`` (:mod:`torch.export`), normalisation included; the file needs no cvhpe.

Image inputs are the crop of the hand, uint8 ``[B, S, S, 3]`` (``depth``: uint16 codes ``[B, S, S]``). 2D joints are
pixels of any frame, ``[B, J, 2]``; the file computes their crop. A run of protocol H also takes ``hand``, int64
``[B]``, 0 left and 1 right. 3D joints are root-relative, mm. The batch size is dynamic.
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
from cvhpe.inference.exported_modules import Exported, Port, ports, refine_functions, takes_pixels, takes_points
from cvhpe.io import atomic
from cvhpe.models.fusion import fuse
from cvhpe.models.pairs import sources, targets
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.fusion import calibration_of, fusion_params

SUFFIXES = (".onnx", ".pt2")
TOLERANCE_MM = 1e-3
"""Tolerated difference between the file and the model, mm for 3D joints, else in the units of the target."""


def export(run: Run, names: Sequence[str], target: str, out: Path, root: str = "wrist") -> float:
    """Write a file and check it against the model on batches of 1, 2 and 5 random hands.

    Args:
        run: The run.
        names: Inputs, which the file fuses if there are several.
        target: Modality to decode.
        out: File to write, ``.onnx`` or ``.pt2``.
        root: Position of the root joint of 2D joints given to the file, ``wrist`` or ``palm``.

    Returns:
        The largest difference, mm for 3D joints.

    Raises:
        UserError: If the run lacks an input or target, or the extra ``export`` is not installed.
        RuntimeError: If the file differs from the model; it is not kept.
    """
    names = list(dict.fromkeys(names))
    _check_export(run, names, target, out)
    inputs, output = ports(run, names, target, root)
    module = Exported(run, names, target, root).eval()
    example = tuple(_random_inputs(inputs, 3))
    dynamic = torch.export.Dim.DYNAMIC
    with _silence():
        program = torch.export.export(module, example, dynamic_shapes={"inputs": tuple({0: dynamic} for _ in example)})
    metadata = _file_metadata(run, inputs, output, root)
    with atomic.atomic_file(out) as temporary:
        # writers depend on the suffix
        part = temporary.with_name(temporary.name + out.suffix)
        try:
            try:
                (_write_onnx if out.suffix == ".onnx" else _write_pt2)(program, example, inputs, output, metadata, part)
            except torch.onnx.OnnxExporterError as error:
                refining = ", ".join(refine_functions(run, names, target))
                if not refining:
                    raise
                raise UserError(
                    f"--from {refining}: ONNX lacks an operation of its refine; use --out {out.stem}.pt2"
                ) from error
            worst = max_difference(run, part, names, target, inputs, root)
            if not worst <= TOLERANCE_MM:
                raise RuntimeError(f"{out}: the exported model differs by {worst:g}, more than {TOLERANCE_MM:g}")
            part.replace(temporary)
        finally:
            part.unlink(missing_ok=True)
    return worst


def _check_export(run: Run, names: Sequence[str], target: str, out: Path) -> None:
    known, decoded = sources(run.model.pairs), targets(run.model.pairs)
    for name in names:
        if name not in known:
            raise UserError(f"--from {name}: this run encodes no {name}; {nearest(name, known)}")
    if not names:
        raise UserError(f"--from: name an input; have: {', '.join(known)}")
    if target not in decoded:
        raise UserError(f"--to {target}: this run decodes no {target}; {nearest(target, decoded)}")
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out}: end it in .onnx or .pt2")


def _file_metadata(run: Run, inputs: Sequence[Port], output: Port, root: str) -> dict[str, str]:
    """Metadata of the file; values are strings, JSON for lists."""
    trained = run.metadata
    return {
        "cvhpe": version("cvhpe"),
        "layout": trained.layout,
        "joints": json.dumps(layout(trained.layout).joints),
        "bones": json.dumps(layout(trained.layout).bones),
        "root": trained.root,
        "input_root": root,
        "units": output.meaning,
        "scale_mm": f"{trained.mean_scale_mm:.6g}",
        "scale_from": "training mean" if run.has_scale else "predicted",
        "protocol": run.config.protocol,
        "crop_factor": f"{run.config.crop_factor:g}",
        "inputs": json.dumps([port.as_dict() for port in inputs]),
        "output": json.dumps(output.as_dict()),
    }


def _write_onnx(
    program: Any,
    example: tuple[Tensor, ...],
    inputs: Sequence[Port],
    output: Port,
    metadata: Mapping[str, str],
    path: Path,
) -> None:
    _import_onnxruntime()
    with _silence():
        exported = torch.onnx.export(
            program,
            args=example,
            input_names=[port.name for port in inputs],
            output_names=[output.name],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert exported is not None
        exported.model.metadata_props.update(metadata)
        exported.save(path, external_data=False)


def _write_pt2(
    program: Any,
    example: tuple[Tensor, ...],
    inputs: Sequence[Port],
    output: Port,
    metadata: Mapping[str, str],
    path: Path,
) -> None:
    """The metadata is the extra file ``cvhpe.json``."""
    torch.export.save(program, path, extra_files={"cvhpe.json": json.dumps(dict(metadata))})


def _import_onnxruntime() -> Any:
    """Import onnxruntime; UserError if it, or a package that writes ONNX, is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"exporting to ONNX needs {error.name}: pip install 'cvhpe[export]'") from None
    return onnxruntime


def max_difference(run: Run, path: Path, names: Sequence[str], target: str, inputs: Sequence[Port], root: str) -> float:
    """Compare a file with its run on batches of 1, 2 and 5 random hands.

    Args:
        run: The run.
        path: The file.
        names: Inputs.
        target: Decoded modality.
        inputs: Inputs of the file.
        root: Position of the root joint of 2D joints.

    Returns:
        The largest absolute difference, mm for 3D joints.
    """
    call = _open_exported(path)
    worst = 0.0
    for n in (1, 2, 5):
        batch = _random_inputs(inputs, n, seed=n)
        expected = _run_model(run, names, target, batch, root)
        worst = max(worst, float((call(batch) - expected).abs().max()))
    return worst


def _open_exported(path: Path) -> Any:
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()
        return lambda batch: module(*batch).detach()
    session = _import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    input_names = [node.name for node in session.get_inputs()]
    return lambda batch: torch.from_numpy(
        session.run(None, {n: x.numpy() for n, x in zip(input_names, batch, strict=True)})[0]
    )


def _run_model(run: Run, names: Sequence[str], target: str, batch: Sequence[Tensor], root: str) -> Tensor:
    """The output for the same inputs, computed as in evaluation: crops, views, the modalities' ``augment``."""
    n = len(batch[0])
    fields: dict[str, Tensor] = {"side": batch[-1] if run.knows_side else torch.zeros(n, dtype=torch.int64)}
    weight = layout(run.metadata.layout).root_shift_weight(root, run.metadata.root)
    fields["root_shift_weight"] = torch.full((n,), weight)
    ready: dict[str, Tensor] = {}
    for name, x in zip(names, batch, strict=False):
        modality = run.model.modalities[name]
        if takes_points(modality):
            points = [joints.numpy() for joints in x]
            fractions = [crop_around(p, run.config.crop_factor).fraction(p) for p in points]
            fields["joints2d"] = torch.from_numpy(np.stack(fractions).astype(np.float32))
        elif takes_pixels(modality):
            fields[modality.reads[0]] = x
        else:
            ready[name] = x
    model, protocol = run.model, run.config.protocol
    with torch.inference_mode():
        from_fields = [name for name in names if name not in ready]
        posteriors = encode(model, fields, from_fields, protocol=protocol, margin=1.0)
        for name, x in ready.items():
            side = torch.nn.functional.one_hot(fields["side"], 2).float() * float(run.knows_side)
            posteriors[name] = model.encode(name, x, side)
        ordered = {name: posteriors[name] for name in names}
        z = fuse(ordered, **fusion_params(calibration_of(run.metadata.training), names)).mu
        out = model.decode(target, z).float()
        if target != "joints3d":
            return out
        joints = root_relative(out * run.metadata.mean_scale_mm, layout(run.metadata.layout).root)
        joints = refine_absolute_pose(model, joints, fields, from_fields, 1.0)
        for name, refine in refine_functions(run, list(ready), target).items():
            joints = refine(joints, ready[name])
    return joints


def _random_inputs(inputs: Sequence[Port], n: int, seed: int = 0) -> list[Tensor]:
    """Smooth images, joints with a standard deviation of 50 px, alternating sides."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for port in inputs:
        if port.name == "hand":
            batch.append(torch.arange(n) % 2)
        elif not port.dtype.is_floating_point:
            size, max_value = port.shape[0], torch.iinfo(port.dtype).max
            low_res = torch.rand(n, port.shape[2] if len(port.shape) > 2 else 1, 8, 8, generator=generator)
            images = nn.functional.interpolate(low_res, size=(size, size), mode="bilinear") * max_value
            images = images.permute(0, 2, 3, 1).round().to(port.dtype)
            batch.append(images if len(port.shape) > 2 else images[..., 0].contiguous())
        else:
            mean, std = (160.0, 50.0) if port.name.endswith("_px") else (0.0, 1.0)
            batch.append(mean + std * torch.randn(n, *port.shape, generator=generator))
    return batch


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence the progress messages and warnings of torch's exporter."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
