"""Figure 1 of the supplement: t-SNE of the latent means, cross-modal training beside unimodal training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cvhpe.evaluation.eval_set import EvalSet, MissingDataError
from cvhpe.evaluation.latent_space import LatentMeans, ModalityAccuracy, latent_means, modality_accuracy, sklearn, tsne
from cvhpe.runs.run_dir import Run
from cvhpe.viz.style import display_name, empty_figure, modality_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HANDS = 400


def tsne_figure(eval_set: EvalSet, unimodal: Callable[[], Run]) -> tuple[Figure, str]:
    """Plot the latent means of a run and of the unimodal run, with the modality classification accuracies.

    Args:
        eval_set: The held-out samples.
        unimodal: Gives the unimodal run; called after all checks.

    Returns:
        The figure and its caption.

    Raises:
        MissingDataError: The run encodes one modality only.
    """
    if len(eval_set.inputs) < 2:
        raise MissingDataError(f"this run encodes only {eval_set.inputs[0]}; --variant 2 or 4 encodes the target too")
    sklearn("manifold")  # fails before the unimodal run is trained
    unimodal_run = unimodal()
    spaces = [latent_means(eval_set, HANDS), latent_means(eval_set, HANDS, unimodal_run)]
    crossed, single = (modality_accuracy(space) for space in spaces)
    titles = ("Cross-modal training", "Unimodal training")
    figure = empty_figure(3.4 * len(spaces), 3.7)
    for k, (title, space, accuracy) in enumerate(zip(titles, spaces, (crossed, single), strict=True)):
        axes = figure.add_subplot(1, len(spaces), k + 1)
        _plot_space(axes, space)
        axes.set_xlabel(f"({chr(97 + k)}) {title}\n{_accuracy(accuracy)}", labelpad=6)
    colours = modality_colours(spaces[0].names)
    handles = [axes.scatter([], [], s=28, color=c, label=display_name(n)) for n, c in colours.items()]
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), handletextpad=0.1, columnspacing=1.4)
    figure.subplots_adjust(wspace=0.06, top=0.92)
    steps = unimodal_run.metadata.training.get("step", 0)
    text = (
        f"t-SNE of the latent means of {len(np.unique(spaces[0].row))} held-out hands in {len(eval_set.inputs)} "
        "modalities. Modality classification accuracy of a k-nearest-neighbour classifier: "
        f"{crossed} after cross-modal training, {single} where each autoencoder was trained alone ({steps} steps); "
        f"chance, which is perfect mixing, is {crossed.chance:.2f}. A linear classifier in all "
        f"{spaces[0].means.shape[1]} dimensions reaches {crossed.linear:.2f} and {single.linear:.2f}."
    )
    return figure, text


def _accuracy(mixed: ModalityAccuracy) -> str:
    return f"accuracy {mixed} (chance {mixed.chance:.2f})"


def _plot_space(axes: Any, space: LatentMeans) -> None:
    points, colours = tsne(space), modality_colours(space.names)
    order = np.random.default_rng(0).permutation(len(points))  # no modality on top of all others
    point_colours = [colours[space.names[m]] for m in space.modality[order]]
    axes.scatter(*points[order].T, s=7, c=point_colours, alpha=0.85, linewidths=0)
    axes.set(xticks=[], yticks=[], xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#b8bdc9")
