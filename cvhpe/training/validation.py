"""What a run in progress is worth on held-out samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from cvhpe.config.schema import Config
from cvhpe.data.loader import Batches
from cvhpe.data.packing.pack import Pack
from cvhpe.evaluation.evaluate import palm_of, predict
from cvhpe.evaluation.metrics import summary
from cvhpe.models.vae import CrossModalVAE
from cvhpe.plugin.contract import Fields
from cvhpe.runs.run_dir import Metadata, model_fields
from cvhpe.training.batching import BatchBuilder

Guard = Callable[[Iterable[Fields]], Iterator[Fields]]
BATCH = 256


def score(
    model: CrossModalVAE, config: Config, metadata: Metadata, packs: list[Pack], guard: Guard = iter
) -> tuple[float, dict[str, Any]]:
    """What validation goes by (smaller is better) and its parts: the median EPE of every input of 3D.

    A model that decodes no 3D joints goes by its loss. ``guard`` sees every batch first, and may end it all.
    """
    batches = Batches(packs, model_fields(config), BATCH, shuffle=False, seed=0)
    record: dict[str, Any] = {}
    for source in [p.source for p in model.pairs if p.target == "joints3d"]:
        got = predict(
            model,
            guard(batches.epoch(0)),
            source,
            protocol=config.protocol,
            mean_scale_mm=metadata.mean_scale_mm,
            margin=batches.margin,
            palm=palm_of(metadata.layout),
        )
        result = summary(got.predicted, got.truth, got.visible)
        record[f"{source}:joints3d"] = {"epe_median_mm": result.epe_median, "epe_mean_mm": result.epe_mean}
    if record:
        main = next((k for k in record if not k.startswith("joints3d:")), next(iter(record)))
        return record[main]["epe_median_mm"], record
    loss = held_out_loss(model, config, batches, guard)
    return loss, {"loss": loss}


def held_out_loss(model: CrossModalVAE, config: Config, batches: Batches, guard: Guard) -> float:
    """The mean loss of held-out samples, under views that are the same every time."""
    device = next(model.parameters()).device
    feed = BatchBuilder(config, model, batches, device)
    was_training = model.training
    model.eval()
    total, count = torch.zeros((), device=device), 0
    with torch.inference_mode():
        for i, fields in enumerate(guard(batches.epoch(0))):
            (part,), seeds = feed(fields, torch.Generator().manual_seed(i))
            total += model(part.batch, seeds, config.beta, part.weights).total * len(part.batch.view)
            count += len(part.batch.view)
    model.train(was_training)
    return float(total) / max(count, 1)
