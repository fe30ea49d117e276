"""EvalSet-out samples of a run as its networks see them: what every figure and the report are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cvhpe.data.loader import Batches, visible_joints
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import UserError
from cvhpe.evaluation.evaluate import (
    identity_view,
    palm_of,
    refine_absolute_pose,
    root_relative,
    to_network_input,
    truth_mm,
)
from cvhpe.models.pairs import sources, targets
from cvhpe.plugin.contract import Posterior, hand_side
from cvhpe.runs.run_dir import Run, model_fields

Array = np.ndarray
AT_ONCE = 256


class Lacking(Exception):
    """A figure cannot be drawn of a run; the message says what the run lacks."""


class EvalSet:
    """The held-out samples ``packs`` of a run; a row is a number among them.

    inputs, outputs: what the run encodes and decodes. Joints are handed out in mm, relative to the root.
    """

    def __init__(self, run: Run, packs: Sequence[Pack]) -> None:
        other = sorted({p.layout for p in packs} - {run.metadata.layout})
        if other:
            raise UserError(
                f"{run.path}: trained on layout {run.metadata.layout}, the data has {other[0]}: other joints"
            )
        self.run = run
        self.batches = Batches(packs, model_fields(run.config), AT_ONCE, seed=0, shuffle=False)
        self.arrays = self.batches.arrays()
        self.palm = palm_of(run.metadata.layout)
        self.inputs, self.outputs = sources(run.model.pairs), targets(run.model.pairs)
        self.device = next(run.model.parameters()).device

    def having(self, *modalities: str) -> Array:
        """The rows that have all of some modalities, every joint of theirs labelled."""
        keep = np.ones(self.batches.samples, bool)
        for name in modalities:
            for field in self.run.model.modalities[name].reads if name in self.run.model.modalities else (name,):
                if f"has_{field}" in self.arrays:
                    keep &= self.arrays[f"has_{field}"].numpy().astype(bool)
                if field in self.arrays:
                    keep &= self.arrays[field].isfinite().flatten(1).all(1).numpy()
        return np.flatnonzero(keep)

    def some(self, count: int, *modalities: str, seed: int = 0) -> Array:
        """At most ``count`` rows that have ``modalities``: a draw that a smaller count is the beginning of."""
        rows = self.having(*modalities)
        return np.random.default_rng(seed).permutation(rows)[:count]

    def fields(self, rows: Array) -> dict[str, Tensor]:
        """Those rows, as the loader gives them."""
        return self.batches.batch(np.asarray(rows))

    def to_network_input(self, modality: str, rows: Array, by: Run | None = None) -> Tensor:
        """``[n, *shape]``: rows of a modality as its encoder takes them, unaugmented; ``by``: another run's encoder."""
        fields = self.fields(rows)
        return to_network_input((by or self.run).model, modality, fields, identity_view(fields, self.batches.margin))

    def side(self, rows: Array) -> Tensor:
        """One-hot hand side ``[n, 2]``, zeros where the run is not given it."""
        return hand_side(self.arrays["side"][torch.from_numpy(np.asarray(rows))], known=self.run.knows_side)

    def encode(self, modality: str, rows: Array, by: Run | None = None) -> Posterior:
        """Posteriors ``[n, D]`` of some rows, on the CPU; ``by``: another run's encoder."""
        model = (by or self.run).model
        means, logvars = [], []
        for part in parts(rows):
            x, side = self.to_network_input(modality, part, by), self.side(part)
            with torch.inference_mode():
                device = next(model.parameters()).device
                mu, logvar = model.encode(modality, x.to(device), side.to(device))
            means.append(mu.cpu())
            logvars.append(logvar.cpu())
        return Posterior(torch.cat(means), torch.cat(logvars))

    def decode(self, modality: str, z: Tensor) -> Array:
        """Latents ``[n, D]`` -> ``[n, *shape]``, network-ready."""
        with torch.inference_mode():
            out = [self.run.model.decode(modality, part.to(self.device)).float().cpu() for part in z.split(AT_ONCE)]
        return torch.cat(out).numpy()

    def scale(self, rows: Array) -> Array:
        """``(n,)`` mm a bone: the hands' own where the run is given it, the training hands' mean otherwise."""
        return self.run.model.units(self.arrays["scale_mm"][torch.from_numpy(np.asarray(rows))]).numpy()

    def truth(self, rows: Array) -> Array:
        """True joints ``(n, J, 3)`` mm, relative to the root."""
        return truth_mm({**self.fields_of_joints(rows)}, self.palm).numpy()

    def fields_of_joints(self, rows: Array) -> dict[str, Tensor]:
        """Those rows without their pictures."""
        at = torch.from_numpy(np.asarray(rows))
        return {name: values[at] for name, values in self.arrays.items()}

    def visible(self, rows: Array) -> Array:
        """``(n, J)`` bool: joints that count in a score."""
        fields = self.fields_of_joints(rows)
        return visible_joints(fields).numpy()

    def judged(self, rows: Array) -> Array:
        """Those of some rows of whose labelled joints at least half count; where there are none, those with any.

        The root does not, as its error is 0 by definition. A hand out of sight but for two joints is no best one.
        """
        counts = self.visible(rows)
        counts[:, self.palm.root] = False
        labelled = self.fields_of_joints(rows)["joints3d"].isfinite().all(-1).numpy()
        labelled[:, self.palm.root] = False
        seen = counts.any(1)
        mostly = seen & (2 * counts.sum(1) >= labelled.sum(1))
        return rows[mostly if mostly.any() else seen]

    def joints(self, z: Tensor, rows: Array) -> Array:
        """Joints ``(..., n, J, 3)`` mm, root-relative, that latents ``[..., n, D]`` of some rows decode to."""
        flat = torch.from_numpy(self.decode("joints3d", z.flatten(0, -2))).unflatten(0, z.shape[:-1])
        return root_relative(flat, self.palm.root).numpy() * self.scale(rows)[:, None, None]

    def predict(self, modality: str, rows: Array) -> Array:
        """Joints ``(n, J, 3)`` mm that the posterior's mean of a modality decodes to, refined as in evaluation."""
        joints = self.joints(self.encode(modality, rows).mu, rows)
        if self.run.model.modalities[modality].refine is None:
            return joints
        fields = self.fields(rows)
        return refine_absolute_pose(
            self.run.model, torch.from_numpy(joints), fields, [modality], self.batches.margin
        ).numpy()


def parts(rows: Array) -> Iterator[Array]:
    """Rows in pieces that fit in memory as pictures; at least one."""
    for start in range(0, max(1, len(rows)), AT_ONCE):
        yield np.asarray(rows)[start : start + AT_ONCE]
