"""The joint networks against sizes worked out by hand from the paper's table 1."""

import pytest
import torch

from cvhpe.models.blocks import JointDecoder, JointEncoder, LifterEncoder, joint_decoder, joint_encoder, parameter_count
from cvhpe.plugin.contract import ModelShape

D = 30


def linear(a, b):
    return a * b + b


def test_joint_networks_have_the_sizes_of_table_1():
    hidden = 4 * linear(512, 512)
    assert parameter_count(JointEncoder(21, 3, D)) == linear(63, 512) + hidden + 2 * linear(514, D)
    assert parameter_count(JointDecoder(21, 3, D)) == linear(D, 512) + hidden + linear(512, 63)


def test_the_hand_side_reaches_the_posterior():
    encoder = JointEncoder(21, 3, D)
    x = torch.randn(1, 21, 3)
    left, right, unknown = (encoder(x, torch.tensor([s])).mu for s in ([1.0, 0], [0.0, 1], [0.0, 0]))
    assert not torch.allclose(left, right)
    assert not torch.allclose(left, unknown)


@pytest.mark.parametrize("network", ["paper", "lifter"])
def test_joints_enter_and_leave_a_bfloat16_network_in_float32(network):
    """Under autocast the inner layers multiply in bfloat16; the first and the last one do not round the joints."""
    shape = ModelShape(joints=21, hidden_dim=32, num_hidden_layers=3, joint_network=network)
    encoder, decoder = joint_encoder(7, shape=shape, k=2, centred=False), joint_decoder(7, shape=shape, k=3)
    first = next(m for m in encoder.modules() if isinstance(m, torch.nn.Linear))
    inner = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear)][1]
    calls = {}
    first.register_forward_hook(lambda _, args, out: calls.update(first=(args[0], out)))
    inner.register_forward_hook(lambda _, args, out: calls.update(inner=out))
    points = torch.rand(4, 21, 2, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        joints = decoder(encoder(points, torch.zeros(4, 2)).mu)
    assert joints.dtype == torch.float32
    assert calls["inner"].dtype == torch.bfloat16
    x, y = calls["first"]
    assert torch.equal(y, torch.nn.functional.linear(x, first.weight, first.bias))


@pytest.mark.parametrize(("network", "cls"), [("paper", JointEncoder), ("lifter", LifterEncoder)])
def test_a_joint_without_a_label_changes_nothing_else(network, cls):
    shape = ModelShape(joints=16, hidden_dim=32, num_hidden_layers=3, joint_network=network)
    encoder = joint_encoder(7, shape=shape, k=2, centred=True, input_scale=5.0)
    assert isinstance(encoder, cls)
    x = torch.rand(4, 16, 2) - 0.5
    missing, replaced = x.clone(), x.clone()
    missing[:, 3] = torch.nan
    others = [j for j in range(16) if j != 3]
    replaced[:, 3] = 0.0 if network == "paper" else x[:, others].mean(1)
    mu, expected = (encoder(v, torch.zeros(4, 2)).mu for v in (missing, replaced))
    assert mu.isfinite().all()
    if network == "paper":
        torch.testing.assert_close(mu, expected)
    else:  # the size is that of the 15 joints, sqrt(16 / 15) times that of the 16
        assert (mu - expected).abs().max() < 0.1


def test_a_lifter_sees_the_same_shape_wherever_the_hand_is():
    """The normalised joints do not depend on position and size: a network that ignores both inputs gives one answer."""
    encoder = LifterEncoder(21, 2, 7, hidden_dim=32, num_hidden_layers=2, centred=True)
    with torch.no_grad():
        encoder.body[0].weight[:, 42:45] = 0  # mean (2) and size (1)
    x = torch.rand(1, 21, 2) - 0.5
    a, b = (encoder(v, torch.zeros(1, 2)).mu for v in (x, 0.3 * x + 0.2))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_lifter_gets_mean_and_size_as_well():
    torch.manual_seed(0)
    encoder = LifterEncoder(21, 2, 8, hidden_dim=32, num_hidden_layers=2, centred=True)
    x, side = torch.randn(6, 21, 2), torch.zeros(6, 2)
    assert not torch.allclose(encoder(x + 0.3, side).mu, encoder(x, side).mu, atol=1e-3)
    assert not torch.allclose(encoder(2 * x, side).mu, encoder(x, side).mu, atol=1e-3)
