"""The validation score of a model in training."""

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
from cvhpe.training.batching import BatchContext, make_batch

BATCH_SIZE = 256
BatchFilter = Callable[[Iterable[Fields]], Iterator[Fields]]


def validate(
    model: CrossModalVAE, config: Config, metadata: Metadata, packs: list[Pack], batch_filter: BatchFilter = iter
) -> tuple[float, dict[str, Any]]:
    """Score a model on validation samples.

    Args:
        model: the model; it is left in the mode it was in.
        config: settings of the run.
        metadata: layout and mean scale of the run.
        packs: validation samples.
        batch_filter: every pass over the batches goes through it, and it may interrupt the validation.

    Returns:
        The score, lower is better: the median EPE mm of the first input other than 3D joints, or the loss if the
        model decodes no 3D joints. And a record: the EPE of every input, or the loss.
    """
    loader = Batches(packs, model_fields(config), BATCH_SIZE, shuffle=False, seed=0)
    record: dict[str, Any] = {}
    for source in [p.source for p in model.pairs if p.target == "joints3d"]:
        predictions = predict(
            model,
            batch_filter(loader.epoch(0)),
            source,
            protocol=config.protocol,
            mean_scale_mm=metadata.mean_scale_mm,
            margin=loader.margin,
            palm=palm_of(metadata.layout),
        )
        scores = summary(predictions.predicted, predictions.truth, predictions.visible)
        record[f"{source}:joints3d"] = {"epe_median_mm": scores.epe_median, "epe_mean_mm": scores.epe_mean}
    if record:
        main = next((pair for pair in record if not pair.startswith("joints3d:")), next(iter(record)))
        return record[main]["epe_median_mm"], record
    loss = validation_loss(model, config, loader, batch_filter)
    return loss, {"loss": loss}


def validation_loss(model: CrossModalVAE, config: Config, loader: Batches, batch_filter: BatchFilter = iter) -> float:
    """The mean loss over samples, under views that are the same at every validation.

    Args:
        model: the model; it is left in the mode it was in.
        config: settings of the run.
        loader: gives the samples.
        batch_filter: see :func:`validate`.

    Returns:
        The loss.
    """
    device = next(model.parameters()).device
    context = BatchContext(config.model_copy(update={"grad_accum_steps": 1}), model, loader, device)
    was_training = model.training
    model.eval()
    total, count = torch.zeros((), device=device), 0
    with torch.inference_mode():
        for i, fields in enumerate(batch_filter(loader.epoch(0))):
            batch = make_batch(fields, torch.Generator().manual_seed(i), context)
            (samples,) = batch.micro_batches
            losses = model(samples.batch, batch.seeds, config.beta, samples.weights)
            total += losses.total * len(samples.batch.view)
            count += len(samples.batch.view)
    model.train(was_training)
    return float(total) / max(count, 1)
