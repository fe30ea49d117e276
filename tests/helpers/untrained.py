"""Runs that were never trained, for tests of what is done with a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cvhpe.config.schema import checked
from cvhpe.runs.run_dir import Metadata, Run, build_model, load_run, save_run


def untrained_run(
    path: Path, *pairs: str, layout: str = "hand21", training: dict | None = None, **settings: Any
) -> Run:
    """Write a small untrained run folder and open it."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair.split(":")))
    small = {"hidden_dim": 24, "num_hidden_layers": 2, "latent_dim": 6, "image_size": 64}
    config = checked({**small, "modalities": names, "pairs": list(pairs), **settings})
    model = build_model(config, layout)
    with torch.no_grad():  # posteriors that know something, so that fusing and sampling show
        for encoder in model.encoders.values():
            encoder.head.logvar.bias -= 3.0
    save_run(path, model, config, Metadata(layout, "palm", 30.0, training or {}), {})
    return load_run(path)
