"""The validation score: the error of the run's own inputs, or its loss, the same at every validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.hands import joints_file

from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.runs.run_dir import Metadata, build_model
from cvhpe.training.datamodule import open_data
from cvhpe.training.validation import validate, validation_loss

SETTINGS = {"modalities": ["joints2d", "joints3d"], "hidden_dim": 16, "num_hidden_layers": 1, "latent_dim": 4}
METADATA = Metadata("hand21", "palm", 30.0)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(folder / "cache"))
        path = joints_file(folder / "hands.npz", 80, 40)
        yield open_data(checked({**SETTINGS, "pairs": ["joints2d:joints3d"], "data": [f"joints:{path}"]})).validation


def test_the_score_is_the_median_error_of_the_first_other_input(packs):
    config = checked({**SETTINGS, "pairs": ["joints3d:joints3d", "joints2d:joints3d"]})
    model = build_model(config).train()
    score, record = validate(model, config, METADATA, packs)
    assert set(record) == {"joints3d:joints3d", "joints2d:joints3d"}
    assert score == record["joints2d:joints3d"]["epe_median_mm"]
    assert model.training
    # A decoder of zeros predicts all joints at the root, so that the error is their distance from it.
    with torch.no_grad():
        for p in model.decoders["joints3d"].parameters():
            p.zero_()
    score, _ = validate(model, config, METADATA, packs)
    xyz = packs[0]["joints3d_mm"].astype(float)
    palm = (xyz[:, 0] + xyz[:, 9]) / 2
    distances = np.linalg.norm(xyz[:, 1:] - palm[:, None], axis=-1)
    visible = packs[0]["visible"][:, 1:]
    assert score == pytest.approx(np.median(distances[visible]), rel=0.1)


def test_without_3d_joints_the_score_is_the_loss_and_repeats(packs):
    config = checked({**SETTINGS, "pairs": ["joints2d:joints2d"], "beta": 0.5, "grad_accum_steps": 2})
    model = build_model(config)
    score, record = validate(model, config, METADATA, packs)
    assert record == {"loss": score}
    assert validate(model, config, METADATA, packs)[0] == score
    assert np.isfinite(score)
    weighted = config.model_copy(update={"pair_weights": {"joints2d:joints2d": 2.0}})
    loader = Batches(packs, ("joints2d", "joints3d"), 16, shuffle=False)
    assert validation_loss(model, weighted, loader) == pytest.approx(2 * validation_loss(model, config, loader))


def test_a_filter_sees_every_batch_and_may_interrupt(packs):
    config = checked({**SETTINGS, "pairs": ["joints2d:joints3d"]})

    def interrupt(batches):
        for fields in batches:
            assert len(fields["side"]) == 40
            raise InterruptedError
            yield fields

    with pytest.raises(InterruptedError):
        validate(build_model(config), config, METADATA, packs, interrupt)
