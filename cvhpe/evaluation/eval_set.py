"""The held-out samples of a run, as figures and the report read them."""

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
CHUNK_SIZE = 256


class MissingDataError(Exception):
    """A run or its data lacks what a figure needs; the message says what."""


class EvalSet:
    """Held-out samples of a run. A row is the number of a sample. Joints are in mm, root-relative.

    Args:
        run: The run.
        packs: The samples.

    Attributes:
        inputs: The modalities that the run encodes.
        outputs: The modalities that it decodes.
        arrays: All fields but images, of all samples.
        palm: Root joint and the joint it shifts towards.

    Raises:
        UserError: The samples have another joint layout than the run.
    """

    def __init__(self, run: Run, packs: Sequence[Pack]) -> None:
        other = sorted({p.layout for p in packs} - {run.metadata.layout})
        if other:
            raise UserError(
                f"{run.path}: trained on layout {run.metadata.layout}, the data has {other[0]}: other joints"
            )
        self.run = run
        self.batches = Batches(packs, model_fields(run.config), CHUNK_SIZE, seed=0, shuffle=False)
        self.arrays = self.batches.arrays()
        self.palm = palm_of(run.metadata.layout)
        self.inputs, self.outputs = sources(run.model.pairs), targets(run.model.pairs)
        self.device = next(run.model.parameters()).device

    def rows_with(self, *modalities: str) -> Array:
        """The rows that have all the given modalities, with all their joints labelled."""
        keep = np.ones(self.batches.samples, bool)
        for name in modalities:
            for field in self.run.model.modalities[name].reads if name in self.run.model.modalities else (name,):
                if f"has_{field}" in self.arrays:
                    keep &= self.arrays[f"has_{field}"].numpy().astype(bool)
                if field in self.arrays:
                    keep &= self.arrays[field].isfinite().flatten(1).all(1).numpy()
        return np.flatnonzero(keep)

    def sample_rows(self, count: int, *modalities: str, seed: int = 0) -> Array:
        """Sample rows that have some modalities, without replacement.

        Args:
            count: The most rows wanted.
            *modalities: What they must have.
            seed: A smaller sample is the beginning of a larger one of the same seed.

        Returns:
            ``(n,)`` rows.
        """
        return np.random.default_rng(seed).permutation(self.rows_with(*modalities))[:count]

    def fields(self, rows: Array) -> dict[str, Tensor]:
        """All fields of some rows, as the loader gives them."""
        return self.batches.batch(np.asarray(rows))

    def labels(self, rows: Array) -> dict[str, Tensor]:
        """The fields of some rows but for images."""
        index = torch.from_numpy(np.asarray(rows))
        return {name: values[index] for name, values in self.arrays.items()}

    def to_network_input(self, modality: str, rows: Array, encoder_run: Run | None = None) -> Tensor:
        """A modality as its encoder takes it, not augmented.

        Args:
            modality: The modality.
            rows: ``(n,)``.
            encoder_run: Another run whose encoder is meant.

        Returns:
            ``[n, *shape]``.
        """
        fields, model = self.fields(rows), (encoder_run or self.run).model
        return to_network_input(model, modality, fields, identity_view(fields, self.batches.margin))

    def side(self, rows: Array) -> Tensor:
        """One-hot hand side ``[n, 2]``, zeros if the run is not given it."""
        return hand_side(self.labels(rows)["side"], known=self.run.knows_side)

    def encode(self, modality: str, rows: Array, encoder_run: Run | None = None) -> Posterior:
        """Encode a modality of some rows.

        Args:
            modality: The modality.
            rows: ``(n,)``.
            encoder_run: Another run to encode with.

        Returns:
            Posteriors ``[n, D]``, on the CPU.
        """
        model = (encoder_run or self.run).model
        device = next(model.parameters()).device
        means, logvars = [], []
        for chunk in row_chunks(rows):
            x, side = self.to_network_input(modality, chunk, encoder_run), self.side(chunk)
            with torch.inference_mode():
                mu, logvar = model.encode(modality, x.to(device), side.to(device))
            means.append(mu.cpu())
            logvars.append(logvar.cpu())
        return Posterior(torch.cat(means), torch.cat(logvars))

    def decode(self, modality: str, z: Tensor) -> Array:
        """Decode latents.

        Args:
            modality: The target modality.
            z: ``[n, D]``.

        Returns:
            ``[n, *shape]``, network-ready.
        """
        with torch.inference_mode():
            decoded = [self.run.model.decode(modality, c.to(self.device)).float().cpu() for c in z.split(CHUNK_SIZE)]
        return torch.cat(decoded).numpy()

    def scale_mm(self, rows: Array) -> Array:
        """``(n,)`` mm a bone: each hand's own under protocol S, the training hands' mean otherwise."""
        return self.run.model.units(self.labels(rows)["scale_mm"]).numpy()

    def true_joints(self, rows: Array) -> Array:
        """True joints ``(n, J, 3)``."""
        return truth_mm(self.labels(rows), self.palm).numpy()

    def visible(self, rows: Array) -> Array:
        """``(n, J)`` bool: joints that count in a score."""
        return visible_joints(self.labels(rows)).numpy()

    def mostly_visible(self, rows: Array) -> Array:
        """The rows in which at least half of the labelled joints count; if there are none, those with any.

        The root is left out, since its error is 0 by definition.
        """
        counts = self.visible(rows)
        counts[:, self.palm.root] = False
        labelled = self.labels(rows)["joints3d"].isfinite().all(-1).numpy()
        labelled[:, self.palm.root] = False
        any_visible = counts.any(1)
        mostly = any_visible & (2 * counts.sum(1) >= labelled.sum(1))
        return rows[mostly if mostly.any() else any_visible]

    def decode_joints(self, z: Tensor, rows: Array) -> Array:
        """Decode latents of some rows to 3D joints.

        Args:
            z: ``[..., n, D]``.
            rows: ``(n,)``, for their scales.

        Returns:
            ``(..., n, J, 3)``.
        """
        flat = torch.from_numpy(self.decode("joints3d", z.flatten(0, -2))).unflatten(0, z.shape[:-1])
        return root_relative(flat, self.palm.root).numpy() * self.scale_mm(rows)[:, None, None]

    def predict(self, modality: str, rows: Array) -> Array:
        """Predict 3D joints from posterior means, refined as in evaluation.

        Args:
            modality: The input modality.
            rows: ``(n,)``.

        Returns:
            ``(n, J, 3)``.
        """
        joints = self.decode_joints(self.encode(modality, rows).mu, rows)
        if self.run.model.modalities[modality].refine is None:
            return joints
        model, margin = self.run.model, self.batches.margin
        return refine_absolute_pose(model, torch.from_numpy(joints), self.fields(rows), [modality], margin).numpy()


def row_chunks(rows: Array) -> Iterator[Array]:
    """Rows in chunks whose images fit in memory; at least one chunk."""
    for start in range(0, max(1, len(rows)), CHUNK_SIZE):
        yield np.asarray(rows)[start : start + CHUNK_SIZE]
