"""The paper's sizes, against counts worked out by hand from its tables."""

import itertools

import pytest
import torch

from cvhpe.errors import UserError
from cvhpe.models.blocks import (
    NETWORKS,
    ImageDecoder,
    ImageEncoder,
    JointDecoder,
    JointEncoder,
    LifterEncoder,
    joint_decoder,
    joint_encoder,
    parameter_count,
)
from cvhpe.plugin.contract import ModelShape

D = 30


def linear(a, b):
    return a * b + b


def test_joint_networks_have_the_sizes_of_table_1():
    hidden = 4 * linear(512, 512)
    assert parameter_count(JointEncoder(21, 3, D)) == linear(63, 512) + hidden + 2 * linear(514, D)
    assert parameter_count(JointDecoder(21, 3, D)) == linear(D, 512) + hidden + linear(512, 63)


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
@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_size_is_encoded_and_decoded(size, channels):
    q = ImageEncoder(channels, size, D)(torch.randn(2, channels, size, size), torch.zeros(2, 2))
    assert q.mu.shape == q.logvar.shape == (2, D)
    assert ImageDecoder(channels, size, D)(q.mu).shape == (2, channels, size, size)


@pytest.mark.parametrize("network", ["paper", "residual"])
def test_joint_networks_keep_their_shapes(network):
    q = JointEncoder(16, 2, 7, hidden_dim=24, num_hidden_layers=3, joint_network=network)(
        torch.randn(3, 16, 2), torch.zeros(3, 2)
    )
    assert q.mu.shape == q.logvar.shape == (3, 7)
    assert JointDecoder(16, 2, 7, hidden_dim=24, num_hidden_layers=3, joint_network=network)(q.mu).shape == (3, 16, 2)


def test_the_hand_side_reaches_the_posterior():
    encoder = JointEncoder(21, 3, D)
    x = torch.randn(1, 21, 3)
    left, right, unknown = (encoder(x, torch.tensor([s])).mu for s in ([1.0, 0], [0.0, 1], [0.0, 0]))
    assert not torch.allclose(left, right)
    assert not torch.allclose(left, unknown)


def test_resnet50_is_a_choice_and_nonsense_is_not():
    bigger, small = (parameter_count(ImageEncoder(1, 64, D, backbone=b)) for b in ("resnet50", "resnet18"))
    assert bigger > 2 * small
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        ImageEncoder(3, 64, D, backbone="resnet19")
    with pytest.raises(UserError, match="64, 128, 256"):
        ImageEncoder(3, 100, D)
    with pytest.raises(UserError, match="unknown network"):
        JointEncoder(21, 3, D, joint_network="transformer")


def test_the_posterior_stays_in_float32_under_autocast():
    encoder = ImageEncoder(3, 64, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = encoder(torch.randn(2, 3, 64, 64), torch.zeros(2, 2))
    assert q.mu.dtype == q.logvar.dtype == torch.float32


@pytest.mark.parametrize("network", NETWORKS)
def test_joints_enter_and_leave_a_bfloat16_network_in_float32(network):
    """Between its ends a network multiplies in bfloat16, and the rounding of 2D joints or of 3D ones is not seen."""
    shape = ModelShape(joints=21, hidden_dim=32, num_hidden_layers=3, joint_network=network)
    encoder, decoder = joint_encoder(7, shape=shape, k=2, centred=False), joint_decoder(7, shape=shape, k=3)
    first = next(m for m in encoder.modules() if isinstance(m, torch.nn.Linear))
    inside = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear)][1]
    seen = {}
    first.register_forward_hook(lambda _, given, made: seen.update(first=(given[0], made)))
    inside.register_forward_hook(lambda _, given, made: seen.update(inside=made))
    points = torch.rand(4, 21, 2, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        joints = decoder(encoder(points, torch.zeros(4, 2)).mu)
    assert joints.dtype == torch.float32
    assert seen["inside"].dtype == torch.bfloat16
    given, made = seen["first"]
    assert torch.equal(made, torch.nn.functional.linear(given, first.weight, first.bias))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_networks_of_joints_are_those_a_run_asks_for(network):
    shape = ModelShape(joints=16, hidden_dim=32, num_hidden_layers=3, joint_network=network)
    encoder = joint_encoder(7, shape=shape, k=2, centred=True, input_scale=5.0)
    q = encoder(torch.rand(4, 16, 2), torch.zeros(4, 2))
    assert q.mu.shape == q.logvar.shape == (4, 7)
    assert joint_decoder(7, shape=shape, k=3)(q.mu).shape == (4, 16, 3)
    assert isinstance(encoder, LifterEncoder if network == "lifter" else JointEncoder)
    assert encoder.centred if network == "lifter" else encoder.input_scale == 5.0


def test_half_a_resnet18_has_a_quarter_of_its_weights_and_takes_all_sizes():
    half, whole = (ImageEncoder(3, 64, D, backbone=b).body for b in ("resnet18-half", "resnet18"))
    assert parameter_count(half) / parameter_count(whole) == pytest.approx(0.25, abs=0.01)
    encoder = ImageEncoder(3, 128, D, backbone="resnet18-half").eval()
    for size in (64, 128, 256):
        assert encoder(torch.randn(2, 3, size, size), torch.zeros(2, 2)).mu.shape == (2, D)
