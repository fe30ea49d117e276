from __future__ import annotations

import numpy as np
import pytest
from helpers.dataset_writers import write_icvl, write_msra, write_nyu

from cvhpe.data.datasets.builtin import cvhpe_datasets
from cvhpe.errors import DataError
from cvhpe.evaluation.predictions import score_predictions

SPECS = {spec.name: spec for spec in cvhpe_datasets()}
PUBLISHED = {
    "CVPR14_LRF_Results.txt": 12.578,
    "IJCAI16_ICVL_DeepModel.txt": 11.561,
    "CVPR18_ICVL_V2V_PoseNet.txt": 6.284,
}


@pytest.mark.parametrize("file", PUBLISHED)
@pytest.mark.parametrize("truth", ["folder", "file", "data set"])
def test_published_results(shared_data, tmp_path, file, truth) -> None:
    board = shared_data / "leaderboard" / "icvl"
    labels = board / "icvl_test_groundtruth_label.txt"
    path = {"folder": board, "file": labels, "data set": tmp_path}[truth]
    if truth == "data set":  # the same labels in the data set's own form, with image names
        (tmp_path / "Testing").mkdir()
        lines = [f"test/image_{i:04d}.png {line}" for i, line in enumerate(labels.read_text().splitlines())]
        (tmp_path / "Testing" / "test_seq_1.txt").write_text("\n".join(lines[:702]))
        (tmp_path / "Testing" / "test_seq_2.txt").write_text("\n".join(lines[702:]))
    result = score_predictions(board / file, SPECS["icvl"], path)
    assert result.metrics.epe_mean == pytest.approx(PUBLISHED[file], abs=1e-3)
    assert result.metrics.frames == 1596
    assert (np.diff(result.metrics.within_max) >= 0).all()
    record = result.as_dict()
    assert len(record["per_joint"]) == 16
    assert len(record["frames_within_max_error"]["values"]) == len(record["frames_within_max_error"]["thresholds_mm"])


def save(path, uvd) -> None:
    np.savetxt(path, uvd.reshape(len(uvd), -1), fmt="%.6f")


def test_truth_scores_zero_and_a_shift_its_length(tmp_path) -> None:
    truth = write_icvl(tmp_path, np.random.default_rng(1))["test"]
    save(tmp_path / "p.txt", truth)
    assert score_predictions(tmp_path / "p.txt", SPECS["icvl"], tmp_path).metrics.epe_mean < 1e-2
    xyz = write_msra(tmp_path, np.random.default_rng(1), subjects=[0, 1], gestures=("1",))[0, "1"]
    native = xyz[:, [0, *range(5, 21), *range(1, 5)]]
    uv = native[..., :2] / native[..., 2:] * 241.42 + [160, 120]
    # Every joint 1 % further along its ray.
    save(tmp_path / "p.txt", np.concatenate([uv, native[..., 2:] * 1.01], -1))
    result = score_predictions(tmp_path / "p.txt", SPECS["msra"], tmp_path)
    expected = np.linalg.norm(native * 0.01, axis=-1).mean()
    assert result.metrics.epe_mean == pytest.approx(expected, abs=1e-3)


def test_nyu_pixels_grow_downwards(tmp_path) -> None:
    xyz = write_nyu(tmp_path, np.random.default_rng(1))["test"][0]
    uv = xyz[..., :2] / xyz[..., 2:] * [588.03, 587.07] + [320, 240]
    save(tmp_path / "p.txt", np.concatenate([uv, xyz[..., 2:]], -1))
    assert score_predictions(tmp_path / "p.txt", SPECS["nyu"], tmp_path).metrics.epe_mean < 1e-2


def test_errors_name_file_and_line(tmp_path) -> None:
    truth = write_icvl(tmp_path, np.random.default_rng(1))["test"]
    file = tmp_path / "p.txt"
    save(file, truth[:-1])
    with pytest.raises(DataError, match=r"p\.txt: has 3 lines, the test split of icvl has 4 samples"):
        score_predictions(file, SPECS["icvl"], tmp_path)
    save(file, truth[:, :14])
    with pytest.raises(DataError, match=r"p\.txt: line 1 has 42 numbers, expected 48"):
        score_predictions(file, SPECS["icvl"], tmp_path)
    truth[2, 3, 2] = 0
    save(file, truth)
    with pytest.raises(DataError, match=r"p\.txt: line 3 has a joint at depth 0"):
        score_predictions(file, SPECS["icvl"], tmp_path)
    file.write_text("\n")
    with pytest.raises(DataError, match="holds no line"):
        score_predictions(file, SPECS["icvl"], tmp_path)
    for archive in ("ICVL.zip", "ICVL.TAR"):
        (tmp_path / archive).write_bytes(b"PK\x05\x06" + bytes(18))
        with pytest.raises(DataError, match=rf"{archive}: is a packed archive; unpack it .*--data icvl:FOLDER"):
            score_predictions(file, SPECS["icvl"], tmp_path / archive)
    with pytest.raises(DataError, match=r"none\.txt: is missing"):
        score_predictions(tmp_path / "none.txt", SPECS["icvl"], tmp_path)


def test_incomplete_test_set_is_noted(tmp_path) -> None:
    truth = write_icvl(tmp_path, np.random.default_rng(1))["test"]
    (tmp_path / "Testing/test_seq_2.txt").unlink()
    save(tmp_path / "p.txt", truth[:2])
    result = score_predictions(tmp_path / "p.txt", SPECS["icvl"], tmp_path)
    (note,) = result.as_dict()["notes"]
    assert note == "icvl test is incomplete: 2 of the 1,596 published samples; lacks Testing/test_seq_2.txt"
