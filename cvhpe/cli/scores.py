"""The metrics of a run and of the baselines, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvhpe.cli.console import print_line, print_table, within
from cvhpe.config.lists import comma_list

if TYPE_CHECKING:
    from cvhpe.data.packing.pack import Pack
    from cvhpe.evaluation.metrics import Summary
    from cvhpe.models.fusion import FusionParams
    from cvhpe.runs.run_dir import Run


@dataclass
class Scores:
    """One evaluation: the model and the baselines on the same frames.

    Attributes:
        source: The input, or several fused ones joined by commas.
        alone: The metrics of each of several inputs alone.
        weights: The fusion weights of several inputs.
    """

    source: str
    target: str
    protocol: str
    model: Summary
    baselines: dict[str, Summary]
    alone: dict[str, Summary] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


def score(run: Run, packs: list[Pack], source: str | None, target: str, protocol: str | None, tta: int = 0) -> Scores:
    """Evaluate ``source -> target`` under a protocol on packed samples; several sources are joined by commas.

    tta: number of rotations for test-time augmentation, each also flipped; 0: none.
    """
    from cvhpe.augmentation.tta import IDENTITY_VIEW, tta_views
    from cvhpe.data.loader import Batches
    from cvhpe.errors import UserError
    from cvhpe.evaluation.baselines import baseline_summaries
    from cvhpe.evaluation.evaluate import palm_of, predict, resolve_request
    from cvhpe.evaluation.metrics import summary
    from cvhpe.models.fusion import FusionParams
    from cvhpe.uncertainty.fusion import calibration_of, fusion_params

    names = list(dict.fromkeys(comma_list(source))) if source else [None]
    checked = [resolve_request(run, name, target, protocol) for name in names]
    names, protocol = [name for name, _ in checked], checked[0][1]
    other = sorted({p.layout for p in packs} - {run.metadata.layout})
    if other:
        raise UserError(f"{run.path}: trained on layout {run.metadata.layout}, the data has {other[0]}: other joints")
    reads = tuple(field for name in names for field in run.model.modalities[name].reads)
    fields = tuple(sorted({*reads, "joints3d", "joints2d"}))
    palm = palm_of(run.metadata.layout)
    common: dict[str, Any] = {"protocol": protocol, "mean_scale_mm": run.metadata.mean_scale_mm, "palm": palm}
    batches = Batches(packs, fields, 256, seed=0, shuffle=False)
    views = tta_views(run.config.augmentation, tta) if tta else [IDENTITY_VIEW]

    def of(inputs: list[str], fusion: FusionParams) -> Summary:
        rows = batches.epoch(0)
        got = predict(run.model, rows, inputs, margin=batches.margin, fusion=fusion, among=names, views=views, **common)
        return summary(got.predicted, got.truth, got.visible)

    lifted = "joints2d" if "joints2d" in names else names[0]
    baselines = baseline_summaries(run.baselines, batches.epoch(0), lifted, reads, **common)
    fusion = fusion_params(calibration_of(run.metadata.training), names) if len(names) > 1 else FusionParams()
    alone = {name: of([name], {}) for name in names} if len(names) > 1 else {}
    return Scores(",".join(names), target, protocol, of(names, fusion), baselines, alone, fusion.get("weights", {}))


def score_run(run: Run, packs: list[Pack]) -> Iterator[Scores]:
    """Evaluate every input of a run that decodes 3D joints, under its own protocol."""
    from cvhpe.models.pairs import sources, targets

    if "joints3d" not in targets(run.model.pairs):
        return
    for source in sources(run.model.pairs):
        yield score(run, packs, source, "joints3d", None)


def show(scores: Scores, tta: int = 0) -> None:
    """Print one evaluation as a table."""
    rows = []
    alone = {f"{name} alone": s for name, s in scores.alone.items()}
    for name, s in {**alone, "fused" if alone else "this run": scores.model, **scores.baselines}.items():
        share = s.epe_median / scores.baselines["mean_pose"].epe_median if "mean_pose" in scores.baselines else None
        cells = (s.epe_median, s.epe_mean, s.pa_mpjpe)
        rows.append(
            [
                {"mean_pose": "mean pose", "regression": "linear regression"}.get(name, name),
                *(f"{x:.2f}" for x in cells),
                f"{s.auc_0_50:.3f}",
                f"{s.auc_20_50:.3f}",
                "" if share is None else f"{100 * share:.0f} %",
            ]
        )
    source = " + ".join(comma_list(scores.source))
    title = f"{source} to {scores.target}, protocol {scores.protocol}, {scores.model.frames} held-out frames"
    title += f", TTA with {tta} rotations" if tta else ""
    columns = ["", "median EPE mm", "mean EPE mm", "PA-MPJPE mm", "AUC 0-50", "AUC 20-50", "of mean pose"]
    print_table(title, columns, rows)
    print_line(within(scores.model))


def show_results(path: Path, held_out: Sequence[Pack]) -> None:
    """Print the metrics of the run at ``path`` on held-out samples, and the path."""
    from cvhpe.runs.run_dir import load_run

    for scores in score_run(load_run(path), list(held_out)):
        show(scores)
    print_line(f"run: {path}")
