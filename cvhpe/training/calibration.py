"""Calibration of a trained run: on validation samples, or by cross-validation on training samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cvhpe.config.schema import Config
from cvhpe.data.loader import Batches
from cvhpe.data.splits import DataSplits
from cvhpe.runs.run_dir import Run
from cvhpe.training.callbacks import Reporter
from cvhpe.training.step import count_steps
from cvhpe.training.trainer import train
from cvhpe.uncertainty.calibration import calibrate, calibrate_folds, save_calibration
from cvhpe.uncertainty.cross_validation import has_enough_groups, run_folds


def calibrate_trained_run(run: Run, config: Config, data: DataSplits, report: Reporter | None = None) -> Run:
    """Calibrate a run and write the calibration beside its weights.

    Args:
        run: a trained run.
        config: its settings; ``calibration_num_folds`` chooses how it is calibrated.
        data: its packed samples.
        report: gets a note on what is done.

    Returns:
        The run with its calibration.
    """
    report = report or Reporter()
    if not has_enough_groups(config, data):
        if config.calibration_num_folds:
            report.note("too few groups of training hands for folds: calibrating on validation hands")
        return save_calibration(run, calibrate(run, data.validation))

    def fit(config: Config, data: DataSplits, out: Path) -> None:
        train(config, data, out)

    report.note(f"calibrating on training hands by {config.calibration_num_folds}-fold cross-validation")
    steps = count_steps(config, len(Batches(data.train, ("joints3d",), config.batch_size)))
    parts = list(run_folds(config, data, steps, fit))
    calibration = calibrate_folds(parts, "training", (run, data.train))
    fused = calibrate(run, data.validation) if calibration and len(calibration.scalings) > 1 else None
    if calibration and fused:
        scalings = {**fused.scalings, **calibration.scalings}
        calibration = replace(calibration, fusions=fused.fusions, scalings=scalings)
    return save_calibration(run, calibration)
