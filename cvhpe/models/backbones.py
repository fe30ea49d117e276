"""Encoders and decoders of images (supplementary, table 2) and their backbones."""

from __future__ import annotations

from torch import Tensor, nn

from cvhpe.config.schema import BACKBONES, IMAGE_SIZES
from cvhpe.errors import UserError, nearest
from cvhpe.models.blocks import PosteriorHead
from cvhpe.plugin.contract import Posterior


def check_image_size(image_size: int) -> None:
    """Refuse an image size that the paper's layers cannot reach by doubling.

    Args:
        image_size: Side, px.

    Raises:
        UserError: It is none of :data:`IMAGE_SIZES`.
    """
    if image_size not in IMAGE_SIZES:
        raise UserError(f"image_size {image_size}: use one of {', '.join(map(str, IMAGE_SIZES))}")


def build_backbone(name: str, channels: int) -> tuple[nn.Sequential, int]:
    """A ResNet without pooling and classifier.

    Args:
        name: One of :data:`BACKBONES`. ``keypoints`` is :func:`half_resnet18`, the trunk of
            :class:`cvhpe.models.keypoint_encoder.KeypointEncoder`.
        channels: Channels of the images.

    Returns:
        The layers, and the number of channels of their last feature map.

    Raises:
        UserError: The name is unknown.
    """
    import torchvision

    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}; {nearest(name, BACKBONES)}")
    if name == "keypoints":
        return half_resnet18(channels), 256
    net = getattr(torchvision.models, name)(weights=None)
    if channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    layers = (net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    return nn.Sequential(*layers), net.fc.in_features


def half_resnet18(channels: int) -> nn.Sequential:
    """ResNet-18 with half of its channels and a quarter of its arithmetic; its blocks start as identities."""
    from torchvision.models.resnet import BasicBlock

    stem = (nn.Conv2d(channels, 32, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
    layers: list[nn.Module] = [*stem, nn.MaxPool2d(3, stride=2, padding=1)]
    width = 32
    for out in (32, 64, 128, 256):
        if out == width:
            first = BasicBlock(width, out)
        else:
            skip = nn.Sequential(nn.Conv2d(width, out, 1, stride=2, bias=False), nn.BatchNorm2d(out))
            first = BasicBlock(width, out, stride=2, downsample=skip)
        layers.append(nn.Sequential(first, BasicBlock(out, out)))
        width = out
    net = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
    return net


class ImageEncoder(nn.Module):
    """Image ``[B, C, S, S]`` and side ``[B, 2]`` -> Posterior ``[B, D]`` (supplementary, table 2).

    A ResNet without its classifier, average-pooled to 2x2 (at the paper's 256: 7x7, stride 1, on the 8x8 map; a smaller
    image uses a smaller window), then hand side and head.

    Args:
        channels: C.
        image_size: S, one of :data:`IMAGE_SIZES`.
        latent_dim: D.
        backbone: One of :data:`BACKBONES`.
    """

    def __init__(self, channels: int, image_size: int, latent_dim: int, *, backbone: str = "resnet18") -> None:
        super().__init__()
        check_image_size(image_size)
        self.body, features = build_backbone(backbone, channels)
        self.head = PosteriorHead(4 * features, latent_dim)

    def forward(self, image: Tensor, side: Tensor) -> Posterior:
        maps = self.body(image)
        # flatten() of a channels-last map is channel-first in meaning, so weights serve both formats.
        return self.head(nn.functional.avg_pool2d(maps, maps.shape[-1] - 1, stride=1).flatten(1), side)


class BatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation that uses its running statistics for a batch of one (one hand that has an image)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class ImageDecoder(nn.Module):
    """Latent ``[B, D]`` -> image ``[B, C, S, S]`` (supplementary, table 2).

    Each transposed convolution (kernel 4, stride 2, padding 1) doubles the 4x4 start. At 256 their outputs have 128,
    64, 32, 16, 8 and C channels; a smaller image leaves out the last ones before C.

    Args:
        channels: C.
        image_size: S, one of :data:`IMAGE_SIZES`.
        latent_dim: D.
    """

    def __init__(self, channels: int, image_size: int, latent_dim: int) -> None:
        super().__init__()
        check_image_size(image_size)
        doublings = (image_size // 4).bit_length() - 1
        self.start = nn.Sequential(nn.Linear(latent_dim, 4096), BatchNorm1d(4096), nn.ReLU())
        layers: list[nn.Module] = []
        width = 256
        for out in (128, 64, 32, 16, 8)[: doublings - 1]:
            layers += [nn.ConvTranspose2d(width, out, 4, stride=2, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            width = out
        layers.append(nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(self.start(z).unflatten(1, (256, 4, 4)))
