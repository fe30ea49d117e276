"""The paper's blocks (supplementary, tables 1 and 2), with sizes that can be changed.

Every encoder ends in a :class:`PosteriorHead` that sees the hand side beside the features, which is
protocol H; a side of zeros means that it is not known.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvhpe.errors import UserError, nearest
from cvhpe.plugin.contract import ModelShape, Posterior

IMAGE_SIZES = (64, 128, 256)
BACKBONES = ("resnet18", "resnet50", "resnet18-half", "keypoints")
NETWORKS = ("paper", "residual", "lifter")


class FullLinear(nn.Linear):
    """A linear map in its weights' own precision also under autocast, for the ends of a network.

    bfloat16 has two and a half digits: enough between the layers, too few for joints that are to be known to a
    fraction of a millimetre, or to be read from a fraction of a pixel.

    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     FullLinear(2, 3)(torch.zeros(1, 2)).dtype
    torch.float32
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class PosteriorHead(nn.Module):
    """Features and hand side -> N(mu, exp(logvar)): two linear maps of ``features + 2`` inputs."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.mu = nn.Linear(features + 2, latent_dim)
        self.logvar = nn.Linear(features + 2, latent_dim)

    def begin_at(self, logvar: float) -> None:
        """Start with a variance of about ``exp(logvar)`` for every input.

        torch's initial weights start at variance 1, as wide as the prior: the decoder then sees mostly noise,
        and an image network spends its first hundreds of steps on learning to be sure of anything.
        """
        with torch.no_grad():
            self.logvar.bias.fill_(logvar)
            self.logvar.weight.mul_(0.1)

    def forward(self, features: Tensor, side: Tensor) -> Posterior:
        # In float32 also under autocast: bfloat16 would round the posterior to two and a half digits.
        with torch.autocast(features.device.type, enabled=False):
            both = torch.cat([features.to(self.mu.weight.dtype), side.to(self.mu.weight.dtype)], 1)
            return Posterior(self.mu(both), self.logvar(both))


def plain_mlp(inputs: int, outputs: int | None, hidden_dim: int, num_hidden_layers: int) -> nn.Sequential:
    """``num_hidden_layers`` times (Linear, ReLU) of ``hidden_dim``, then Linear to ``outputs`` (table 1: 5 layers)."""
    layers: list[nn.Module] = []
    for i in range(num_hidden_layers):
        layers += [FullLinear(inputs, hidden_dim) if i == 0 else nn.Linear(hidden_dim, hidden_dim), nn.ReLU()]
    if outputs is not None:
        layers.append(FullLinear(hidden_dim, outputs))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """x + Linear(GELU(Linear(LayerNorm(x)))): what the recipe ``best`` stacks instead of plain layers."""

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
    """Linear to ``hidden_dim``, ``num_hidden_layers - 1`` residual blocks, LayerNorm, then Linear to ``outputs``."""
    layers: list[nn.Module] = [FullLinear(inputs, hidden_dim)]
    layers += [ResidualBlock(hidden_dim) for _ in range(num_hidden_layers - 1)]
    layers.append(nn.LayerNorm(hidden_dim))
    if outputs is not None:
        layers.append(FullLinear(hidden_dim, outputs))
    return nn.Sequential(*layers)


def mlp(joint_network: str, inputs: int, outputs: int | None, hidden_dim: int, num_hidden_layers: int) -> nn.Sequential:
    """The stack named ``network``, one of :data:`NETWORKS`."""
    if joint_network == "paper":
        return plain_mlp(inputs, outputs, hidden_dim, num_hidden_layers)
    if joint_network in ("residual", "lifter"):
        return residual_mlp(inputs, outputs, hidden_dim, num_hidden_layers)
    raise UserError(f"unknown network {joint_network!r}; {nearest(joint_network, NETWORKS)}")


class JointEncoder(nn.Module):
    """Joints ``[B, J, k]`` and side ``[B, 2]`` -> Posterior ``[B, D]`` (table 1).

    input_scale: what the joints are multiplied by first. Plain layers with torch's initial weights learn
    several times slower from inputs far below 1, as crop fractions are.

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
        joint_network: str = "paper",
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_scale = input_scale
        self.body = mlp(joint_network, joints * k, None, hidden_dim, num_hidden_layers)
        self.head = PosteriorHead(hidden_dim, latent_dim)

    def forward(self, joints: Tensor, side: Tensor) -> Posterior:
        # A joint that is not labelled is NaN; to the network it stands at the origin.
        return self.head(self.body(joints.flatten(1).nan_to_num(nan=0.0) * self.input_scale), side)


class JointDecoder(nn.Module):
    """Latent ``[B, D]`` -> joints ``[B, J, k]`` (table 1)."""

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
        self.body = mlp(joint_network, latent_dim, joints * k, hidden_dim, num_hidden_layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z).unflatten(1, self.shape)


class LifterEncoder(nn.Module):
    """Joints ``[B, J, k]`` and side ``[B, 2]`` -> Posterior ``[B, D]``: the residual network of the recipe ``best``.

    The hand side enters at the first layer, where it can decide how everything after it is read: the same 2D
    joints are a left hand seen from the front or a right one from behind. The posterior starts narrow and
    the same for all inputs, so that the decoder learns from the first step.

    centred: give the network the joints' shape, free of place and size, with place and size beside it;
        for 2D joints, which mean the same hand wherever they are.

    >>> encoder = LifterEncoder(21, 2, latent_dim=30, hidden_dim=64, num_hidden_layers=3, centred=True)
    >>> encoder(torch.rand(4, 21, 2), torch.zeros(4, 2)).mu.shape
    torch.Size([4, 30])
    """

    def __init__(
        self, joints: int, k: int, latent_dim: int, *, hidden_dim: int, num_hidden_layers: int, centred: bool
    ) -> None:
        super().__init__()
        self.centred = centred
        beside = k + 1 if centred else 0
        self.body = residual_mlp(joints * k + beside + 2, None, hidden_dim, num_hidden_layers)
        self.head = PosteriorHead(hidden_dim, latent_dim)
        nn.init.zeros_(self.head.logvar.weight)
        nn.init.constant_(self.head.logvar.bias, -3.0)

    def forward(self, joints: Tensor, side: Tensor) -> Posterior:
        # A joint that is not labelled is NaN; to the network it stands in the middle of the others.
        known = joints.isfinite().all(-1, keepdim=True)
        x = torch.where(known, joints, 0.0)
        parts = [x.flatten(1), side.to(x.dtype)]
        if self.centred:
            many = known.sum(1, keepdim=True).clamp_min(1).to(x.dtype)
            middle = x.sum(1, keepdim=True) / many
            x = torch.where(known, x - middle, 0.0)
            size = (x.square().sum((1, 2), keepdim=True) / (x.shape[2] * many)).sqrt().clamp_min(1e-6)
            parts = [(x / size).flatten(1), 4 * middle.flatten(1), (4 * size.flatten(1)).log(), parts[1]]
        return self.head(self.body(torch.cat(parts, 1)), side)


def joint_encoder(
    latent_dim: int, *, shape: ModelShape, k: int, centred: bool, input_scale: float = 1.0
) -> JointEncoder | LifterEncoder:
    """The encoder of joints ``[B, J, k]`` that a run's sizes ask for.

    centred: of :class:`LifterEncoder`. input_scale: of :class:`JointEncoder`.

    >>> type(joint_encoder(30, shape=ModelShape(joint_network="lifter"), k=2, centred=True)).__name__
    'LifterEncoder'
    """
    sizes = {"hidden_dim": shape.hidden_dim, "num_hidden_layers": shape.num_hidden_layers}
    if shape.joint_network == "lifter":
        return LifterEncoder(shape.joints, k, latent_dim, centred=centred, **sizes)
    return JointEncoder(
        shape.joints, k, latent_dim, joint_network=shape.joint_network, input_scale=input_scale, **sizes
    )


def joint_decoder(latent_dim: int, *, shape: ModelShape, k: int) -> JointDecoder:
    """The decoder to joints ``[B, J, k]`` that a run's sizes ask for."""
    return JointDecoder(
        shape.joints,
        k,
        latent_dim,
        hidden_dim=shape.hidden_dim,
        num_hidden_layers=shape.num_hidden_layers,
        joint_network=shape.joint_network,
    )


def check_image_size(image_size: int) -> None:
    """Refuse a picture size for which the paper's layers have no whole number of steps."""
    if image_size not in IMAGE_SIZES:
        raise UserError(f"image_size {image_size}: use one of {', '.join(map(str, IMAGE_SIZES))}")


def backbone_of(name: str, channels: int) -> tuple[nn.Sequential, int]:
    """A ResNet without pooling and classifier for pictures of ``channels``, and how many features a place has.

    ``resnet18-half`` has half of ResNet-18's channels everywhere, and so a quarter of its arithmetic: where minutes
    are short, four times the pictures teach more than twice the channels. ``keypoints`` is the same here: what it has
    beside (:mod:`cvhpe.models.keypoint_encoder`) is for modalities that show joints.
    """
    import torchvision

    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}; {nearest(name, BACKBONES)}")
    if name in ("resnet18-half", "keypoints"):
        return half_resnet18(channels), 256
    net = getattr(torchvision.models, name)(weights=None)
    if channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    layers = (net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    return nn.Sequential(*layers), net.fc.in_features


def half_resnet18(channels: int) -> nn.Sequential:
    """ResNet-18's layers, in torchvision's blocks, with 32, 64, 128 and 256 channels; blocks begin as identities."""
    from torchvision.models.resnet import BasicBlock

    stem = (nn.Conv2d(channels, 32, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
    layers: list[nn.Module] = [*stem, nn.MaxPool2d(3, stride=2, padding=1)]
    hidden_dim = 32
    for out in (32, 64, 128, 256):
        if out == hidden_dim:
            first = BasicBlock(hidden_dim, out)
        else:
            skip = nn.Sequential(nn.Conv2d(hidden_dim, out, 1, stride=2, bias=False), nn.BatchNorm2d(out))
            first = BasicBlock(hidden_dim, out, stride=2, downsample=skip)
        layers.append(nn.Sequential(first, BasicBlock(out, out)))
        hidden_dim = out
    net = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
    return net


class ImageEncoder(nn.Module):
    """Image ``[B, C, S, S]`` and side ``[B, 2]`` -> Posterior (supplementary, table 2).

    A ResNet without its classifier, average-pooled to 2x2 (at the paper's 256: 7x7, stride 1, on the
    8x8 map; smaller pictures pool with a smaller window to the same 2x2), hand side, heads.
    """

    def __init__(self, channels: int, image_size: int, latent_dim: int, *, backbone: str = "resnet18") -> None:
        super().__init__()
        check_image_size(image_size)
        self.body, features = backbone_of(backbone, channels)
        self.head = PosteriorHead(4 * features, latent_dim)

    def forward(self, image: Tensor, side: Tensor) -> Posterior:
        places = self.body(image)
        # flatten() of a channels-last map is channel-first in meaning, so weights serve both formats.
        return self.head(nn.functional.avg_pool2d(places, places.shape[-1] - 1, stride=1).flatten(1), side)


class BatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation that takes a single sample: a batch may hold only one hand that has a picture."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class ImageDecoder(nn.Module):
    """Latent ``[B, D]`` -> image ``[B, C, S, S]`` (supplementary, table 2).

    Each transposed convolution (kernel 4, stride 2, padding 1) doubles the 4x4 start; at 256 they are
    128, 64, 32, 16, 8, C, and a smaller picture leaves out the last ones before C.
    """

    def __init__(self, channels: int, image_size: int, latent_dim: int) -> None:
        super().__init__()
        check_image_size(image_size)
        doublings = (image_size // 4).bit_length() - 1
        self.start = nn.Sequential(nn.Linear(latent_dim, 4096), BatchNorm1d(4096), nn.ReLU())
        layers: list[nn.Module] = []
        hidden_dim = 256
        for out in (128, 64, 32, 16, 8)[: doublings - 1]:
            layers += [nn.ConvTranspose2d(hidden_dim, out, 4, stride=2, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            hidden_dim = out
        layers.append(nn.ConvTranspose2d(hidden_dim, channels, 4, stride=2, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(self.start(z).unflatten(1, (256, 4, 4)))


def parameter_count(module: nn.Module) -> int:
    """FusionParams many numbers of ``module`` are learned."""
    return sum(p.numel() for p in module.parameters())
