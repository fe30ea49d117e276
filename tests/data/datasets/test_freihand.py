from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.dataset_writers import write_freihand

from cvhpe.data.datasets.freihand import FreiHand
from cvhpe.errors import DataError


@pytest.fixture
def freihand(tmp_path):
    return tmp_path, write_freihand(tmp_path, np.random.default_rng(1), poses=3)


def test_four_versions_of_every_pose(freihand) -> None:
    root, truth = freihand
    train, test = FreiHand(root, "train"), FreiHand(root, "test")
    assert (len(train), len(test)) == (12, 2)
    for i in range(12):
        s = train[i]
        assert s.id == f"train/{i:08d}"
        assert s.side == 1
        assert s.group == i % 3
        assert np.allclose(s.joints3d_mm, truth["train"][i % 3], atol=1e-3)
        px = np.rint(s.joints2d_px).astype(int)
        assert (s.images["rgb"][px[:, 1], px[:, 0], 1] > 150).all()
        assert (s.images["mask"][px[:, 1], px[:, 0]] == 1).all()
        assert s.images["mask"].mean() < 0.2
    assert "mask" not in test[0].images


def test_the_first_release_has_no_evaluation_labels(tmp_path) -> None:
    write_freihand(tmp_path, np.random.default_rng(1), labels=False)
    s = FreiHand(tmp_path, "test")[0]
    assert s.joints3d_mm is s.joints2d_px is s.visible is None
    assert s.K.shape == (3, 3)


def test_faults(freihand) -> None:
    root, _ = freihand
    labels = root / "training_xyz.json"
    text = labels.read_text()
    labels.write_text(text[:200])
    with pytest.raises(DataError, match=r"^[^\n]*training_xyz\.json: is not JSON or truncated[^\n]*$"):
        FreiHand(root, "train")
    labels.write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not JSON or truncated"):
        FreiHand(root, "train")
    for content in ("{}", "[]", "3", "[[1, 2], [3]]", '[["a"]]', json.dumps(np.zeros((3, 20, 3)).tolist())):
        labels.write_text(content)
        with pytest.raises(DataError, match=r"training_xyz\.json: "):
            FreiHand(root, "train")
    spoilt = json.loads(text)
    spoilt[1][20][2] = float("nan")
    labels.write_text(json.dumps(spoilt))
    with pytest.raises(DataError, match=r"training_xyz\.json: it holds a number that is not finite"):
        FreiHand(root, "train")
    labels.write_text(json.dumps(json.loads(text)[:2]))
    with pytest.raises(DataError, match=r"has 2 hands, training_K\.json has 3 cameras"):
        FreiHand(root, "train")
    labels.unlink()
    with pytest.raises(DataError, match=r"lacks training_xyz\.json"):
        FreiHand(root, "train")
    (root / "evaluation" / "rgb" / "00000001.jpg").unlink()
    with pytest.raises(DataError, match=r"00000001\.jpg: is missing"):
        FreiHand(root, "test")[1]
