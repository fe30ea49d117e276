import pytest
import torch
from cvhpe_silhouette import cvhpe_modalities, derive, iou

from cvhpe import View
from cvhpe.testing import modality_checks

[SILHOUETTE] = cvhpe_modalities()


@pytest.mark.parametrize("check", modality_checks(SILHOUETTE))
def test_contract(check):
    check()


def test_every_part_of_the_hand_is_in_the_silhouette():
    mask = torch.tensor([[[0, 1], [2, 33]]], dtype=torch.uint8)
    stored = derive({"mask": mask})
    assert stored.tolist() == [[[0, 255], [255, 255]]]
    assert SILHOUETTE.augment(stored.repeat(1, 8, 8), View.identity(1)).unique().numel() > 2  # the outline is soft


def test_iou_of_known_silhouettes():
    full, half = torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), 0.5)
    half[:, :, 2:] = -0.5
    assert iou(half, full).item() == pytest.approx(0.5)
    assert iou(-full, -full).item() == 1
