"""Draw what unlabelled frames are worth: error over the share of frames with 3D labels, alone and with a teacher.

    python benchmarks/labels_curve.py

Reads ``benchmarks/reproduction.json``, which ``reproduce.py run labels-5 labels-10 labels-25 labels-100`` fills, and
writes ``docs/images/labels-curve.png``.
"""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import numpy as np
from cells import SHARES
from matplotlib import pyplot as plt
from reproduce import ROOT, load
from tables import by_seed

WHAT = {"alone": ("labelled frames alone", "#c03a2b"), "taught": ("with a teacher that knows cameras", "#1f5fbf")}


def main() -> None:
    results = load()
    figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for column, (said, colour) in WHAT.items():
        found = {s: by_seed(f"labels-{s}-{column}", results) for s in (*SHARES, 100)}
        shares = [s for s, seeds in found.items() if seeds]
        if not shares:
            raise SystemExit(f"nothing was measured of labels-*-{column}")
        values = [list(found[s].values()) for s in shares]
        axes.plot(shares, [np.mean(v) for v in values], color=colour, label=said)
        for share, seeds in zip(shares, values, strict=True):
            axes.plot([share] * len(seeds), seeds, ".", color=colour, markersize=5)
    axes.set_xscale("log")
    axes.set_xticks([*SHARES, 100], [f"{s} %" for s in (*SHARES, 100)])
    axes.minorticks_off()
    axes.set_xlabel("training frames with 3D labels, of 1,140")
    axes.set_ylabel("held-out median error, mm")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(ROOT / "docs" / "images" / "labels-curve.png", dpi=150)


if __name__ == "__main__":
    main()
