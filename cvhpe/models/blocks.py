"""Layers, posterior heads and the networks of joints (supplementary, table 1), with adjustable sizes.

Every encoder ends in a :class:`PosteriorHead` that takes the hand side beside the features (protocol H); a side of
zeros means unknown.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvhpe.plugin.contract import ModelShape, Posterior


class FullPrecisionLinear(nn.Linear):
    """A linear layer in its weights' own precision, also under autocast, for the two ends of a network.

    bfloat16 holds two and a half digits: enough between the layers, too few for joints in fractions of a millimetre or
    of a pixel.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     FullPrecisionLinear(2, 3)(torch.zeros(1, 2)).dtype
        torch.float32
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class PosteriorHead(nn.Module):
    """Features ``[B, F]`` and hand side ``[B, 2]`` -> N(mu, exp(logvar)) ``[B, D]``: two linear layers.

    Args:
        features: F.
        latent_dim: D.
    """

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.mu = nn.Linear(features + 2, latent_dim)
        self.logvar = nn.Linear(features + 2, latent_dim)

    def init_logvar(self, logvar: float) -> None:
        """Start with a variance of about ``exp(logvar)`` for every input.

        PyTorch's default initialisation starts at variance 1, as wide as the prior: the decoder then sees mostly noise,
        and an image encoder spends its first hundreds of steps on reducing the variance.
        """
        with torch.no_grad():
            self.logvar.bias.fill_(logvar)
            self.logvar.weight.mul_(0.1)

    def forward(self, features: Tensor, side: Tensor) -> Posterior:
        # In float32 also under autocast: bfloat16 would round the posterior to two and a half digits.
        with torch.autocast(features.device.type, enabled=False):
            x = torch.cat([features.to(self.mu.weight.dtype), side.to(self.mu.weight.dtype)], 1)
            return Posterior(self.mu(x), self.logvar(x))


def plain_mlp(inputs: int, outputs: int | None, hidden_dim: int, num_hidden_layers: int) -> nn.Sequential:
    """Linear and ReLU layers (supplementary, table 1 with 5 hidden layers of 512).

    Args:
        inputs: Input features.
        outputs: Features of a last linear layer; None leaves it out.
        hidden_dim: Features of the hidden layers.
        num_hidden_layers: Number of (Linear, ReLU).

    Returns:
        The layers; ``[B, inputs]`` -> ``[B, outputs or hidden_dim]``.
    """
    layers: list[nn.Module] = []
    for i in range(num_hidden_layers):
        linear = FullPrecisionLinear(inputs, hidden_dim) if i == 0 else nn.Linear(hidden_dim, hidden_dim)
        layers += [linear, nn.ReLU()]
    if outputs is not None:
        layers.append(FullPrecisionLinear(hidden_dim, outputs))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """x + Linear(GELU(Linear(LayerNorm(x)))), starting as the identity; ``hidden_dim`` features."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim)
        self.up = nn.Linear(hidden_dim, hidden_dim)
        self.act = nn.GELU()
        self.down = nn.Linear(hidden_dim, hidden_dim)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(self.norm(x))))


def residual_mlp(inputs: int, outputs: int | None, hidden_dim: int, num_hidden_layers: int) -> nn.Sequential:
    """A linear layer, residual blocks and a LayerNorm.

    Args:
        inputs: Input features.
        outputs: Features of a last linear layer; None leaves it out.
        hidden_dim: Features of the hidden layers.
        num_hidden_layers: The first linear layer and ``num_hidden_layers - 1`` blocks.

    Returns:
        The layers; ``[B, inputs]`` -> ``[B, outputs or hidden_dim]``.
    """
    layers: list[nn.Module] = [FullPrecisionLinear(inputs, hidden_dim)]
    layers += [ResidualBlock(hidden_dim) for _ in range(num_hidden_layers - 1)]
    layers.append(nn.LayerNorm(hidden_dim))
    if outputs is not None:
        layers.append(FullPrecisionLinear(hidden_dim, outputs))
    return nn.Sequential(*layers)


class JointEncoder(nn.Module):
    """Joints ``[B, J, k]`` and side ``[B, 2]`` -> Posterior ``[B, D]``: the paper's (table 1).

    Args:
        joints: J.
        k: Coordinates of a joint.
        latent_dim: D.
        hidden_dim: Features of the hidden layers.
        num_hidden_layers: Number of hidden layers.
        input_scale: Factor on the joints. PyTorch's default initialisation learns several times slower from inputs far
            below 1, such as crop fractions.

    Example:
        >>> q = JointEncoder(21, 3, latent_dim=30)(torch.zeros(4, 21, 3), torch.zeros(4, 2))
        >>> q.mu.shape
        torch.Size([4, 30])
    """

    def __init__(
        self,
        joints: int,
        k: int,
        latent_dim: int,
        *,
        hidden_dim: int = 512,
        num_hidden_layers: int = 5,
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_scale = input_scale
        self.body = plain_mlp(joints * k, None, hidden_dim, num_hidden_layers)
        self.head = PosteriorHead(hidden_dim, latent_dim)

    def forward(self, joints: Tensor, side: Tensor) -> Posterior:
        # A joint without a label is NaN; the network gets the origin.
        return self.head(self.body(joints.flatten(1).nan_to_num(nan=0.0) * self.input_scale), side)


class JointDecoder(nn.Module):
    """Latent ``[B, D]`` -> joints ``[B, J, k]``.

    Args:
        joints: J.
        k: Coordinates of a joint.
        latent_dim: D.
        hidden_dim: Features of the hidden layers.
        num_hidden_layers: Number of hidden layers.
        joint_network: ``paper`` (table 1) or ``lifter`` (:func:`residual_mlp`).
    """

    def __init__(
        self,
        joints: int,
        k: int,
        latent_dim: int,
        *,
        hidden_dim: int = 512,
        num_hidden_layers: int = 5,
        joint_network: str = "paper",
    ) -> None:
        super().__init__()
        self.shape = (joints, k)
        layers = {"paper": plain_mlp, "lifter": residual_mlp}[joint_network]
        self.body = layers(latent_dim, joints * k, hidden_dim, num_hidden_layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z).unflatten(1, self.shape)


class LifterEncoder(nn.Module):
    """Joints ``[B, J, k]`` and side ``[B, 2]`` -> Posterior ``[B, D]``: the residual network of the recipe ``best``.

    The hand side enters at the first layer, because the same 2D joints are a left hand seen from the front or a right
    hand seen from behind. The posterior starts with the same small variance for all inputs, so that the decoder learns
    from the first step.

    Args:
        joints: J.
        k: Coordinates of a joint.
        latent_dim: D.
        hidden_dim: Features of the hidden layers.
        num_hidden_layers: Number of hidden layers.
        centred: Normalise the joints by their mean and their RMS size and append both; for 2D joints, which show the
            same hand wherever they are.

    Example:
        >>> encoder = LifterEncoder(21, 2, latent_dim=30, hidden_dim=64, num_hidden_layers=3, centred=True)
        >>> encoder(torch.rand(4, 21, 2), torch.zeros(4, 2)).mu.shape
        torch.Size([4, 30])
    """

    def __init__(
        self, joints: int, k: int, latent_dim: int, *, hidden_dim: int, num_hidden_layers: int, centred: bool
    ) -> None:
        super().__init__()
        self.centred = centred
        extra = k + 1 if centred else 0  # mean and size
        self.body = residual_mlp(joints * k + extra + 2, None, hidden_dim, num_hidden_layers)
        self.head = PosteriorHead(hidden_dim, latent_dim)
        nn.init.zeros_(self.head.logvar.weight)
        nn.init.constant_(self.head.logvar.bias, -3.0)

    def forward(self, joints: Tensor, side: Tensor) -> Posterior:
        # A joint without a label is NaN; the network gets the mean of the others.
        labelled = joints.isfinite().all(-1, keepdim=True)
        x = torch.where(labelled, joints, 0.0)
        inputs = [x.flatten(1), side.to(x.dtype)]
        if self.centred:
            count = labelled.sum(1, keepdim=True).clamp_min(1).to(x.dtype)
            mean = x.sum(1, keepdim=True) / count
            x = torch.where(labelled, x - mean, 0.0)
            size = (x.square().sum((1, 2), keepdim=True) / (x.shape[2] * count)).sqrt().clamp_min(1e-6)
            inputs = [(x / size).flatten(1), 4 * mean.flatten(1), (4 * size.flatten(1)).log(), inputs[1]]
        return self.head(self.body(torch.cat(inputs, 1)), side)


def joint_encoder(
    latent_dim: int, *, shape: ModelShape, k: int, centred: bool, input_scale: float = 1.0
) -> JointEncoder | LifterEncoder:
    """The encoder of joints for a run's sizes.

    Args:
        latent_dim: Size of the latent.
        shape: Sizes of the run; its ``joint_network`` chooses the class.
        k: Coordinates of a joint.
        centred: Of :class:`LifterEncoder`.
        input_scale: Of :class:`JointEncoder`.

    Returns:
        A module from joints ``[B, J, k]`` and side ``[B, 2]`` to a posterior.

    Example:
        >>> type(joint_encoder(30, shape=ModelShape(joint_network="lifter"), k=2, centred=True)).__name__
        'LifterEncoder'
    """
    hidden = {"hidden_dim": shape.hidden_dim, "num_hidden_layers": shape.num_hidden_layers}
    if shape.joint_network == "lifter":
        return LifterEncoder(shape.joints, k, latent_dim, centred=centred, **hidden)
    return JointEncoder(shape.joints, k, latent_dim, input_scale=input_scale, **hidden)


def joint_decoder(latent_dim: int, *, shape: ModelShape, k: int) -> JointDecoder:
    """The decoder to joints for a run's sizes.

    Args:
        latent_dim: Size of the latent.
        shape: Sizes of the run.
        k: Coordinates of a joint.

    Returns:
        A module from latents ``[B, D]`` to joints ``[B, J, k]``.
    """
    return JointDecoder(
        shape.joints,
        k,
        latent_dim,
        hidden_dim=shape.hidden_dim,
        num_hidden_layers=shape.num_hidden_layers,
        joint_network=shape.joint_network,
    )


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values of a module."""
    return sum(p.numel() for p in module.parameters())
