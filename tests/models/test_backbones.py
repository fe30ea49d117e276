"""The image networks against sizes worked out by hand from the paper's table 2."""

import itertools

import pytest
import torch

from cvhpe.errors import UserError
from cvhpe.models.backbones import ImageDecoder, ImageEncoder
from cvhpe.models.blocks import JointDecoder, JointEncoder, parameter_count

D = 30


def linear(a, b):
    return a * b + b


def test_rgb_networks_have_the_sizes_of_table_2():
    assert parameter_count(ImageEncoder(3, 256, D)) == 11_176_512 + 2 * linear(2050, D)
    widths = [256, 128, 64, 32, 16, 8]
    convs = sum(a * b * 16 + b + 2 * b for a, b in itertools.pairwise(widths)) + 8 * 3 * 16 + 3
    assert parameter_count(ImageDecoder(3, 256, D)) == linear(D, 4096) + 2 * 4096 + convs


def test_the_papers_smallest_and_largest_model():
    smallest = parameter_count(ImageEncoder(3, 256, D)) + parameter_count(JointDecoder(21, 3, D))
    assert smallest == 12_398_387
    largest = smallest + parameter_count(ImageDecoder(3, 256, D)) + parameter_count(JointEncoder(21, 3, D))
    assert largest == 14_347_346


@pytest.mark.parametrize("size", [64, 128, 256])
def test_every_image_size_is_encoded_and_decoded(size):
    q = ImageEncoder(1, size, D)(torch.randn(2, 1, size, size), torch.zeros(2, 2))
    assert ImageDecoder(1, size, D)(q.mu).shape == (2, 1, size, size)


def test_half_of_resnet18_has_a_quarter_of_its_weights_and_resnet50_twice_as_many():
    half, full, larger = (
        parameter_count(ImageEncoder(3, 64, D, backbone=b).body) for b in ("keypoints", "resnet18", "resnet50")
    )
    assert half / full == pytest.approx(0.25, abs=0.01)
    assert larger > 2 * full


def test_unknown_sizes_and_backbones_are_refused():
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        ImageEncoder(3, 64, D, backbone="resnet19")
    with pytest.raises(UserError, match="64, 128, 256"):
        ImageEncoder(3, 100, D)


def test_the_posterior_stays_in_float32_under_autocast():
    encoder = ImageEncoder(3, 64, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = encoder(torch.randn(2, 3, 64, 64), torch.zeros(2, 2))
    assert q.mu.dtype == q.logvar.dtype == torch.float32
