"""An image encoder that predicts the joints' 2D positions on its way, and the auxiliary loss that supervises them.

An encoder that averages over its last feature map has to learn through the latent that a hand is made of joints. This
one has a heat map for every joint and passes on the map's mean position ("soft-argmax") and the features there. A run
with 2D joints can supervise these positions directly (``aux_keypoint_weight``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cvhpe.models.backbones import ImageEncoder, half_resnet18
from cvhpe.models.blocks import PosteriorHead, residual_mlp
from cvhpe.plugin.contract import ModelShape, Posterior

MAP_CHANNELS = 64
JOINT_FEATURES = 12
"""Features that are read at the position of each joint."""


class KeypointEncoder(nn.Module):
    """Image ``[B, C, S, S]`` and side ``[B, 2]`` -> Posterior ``[B, D]``, with 2D joints on the way.

    Half of ResNet-18, whose last three feature maps are merged at an eighth of the image's size (a feature pyramid).
    Positions and features of all joints, and the mean of the last map, go through residual layers to the posterior.
    Images of any size that 32 divides.

    Args:
        channels: C.
        latent_dim: D.
        joints: J.
        hidden_dim: Features of the residual layers.
        num_hidden_layers: Number of residual layers.

    Example:
        >>> encoder = KeypointEncoder(3, 30, joints=21, hidden_dim=64, num_hidden_layers=2)
        >>> posterior, points = encoder.encode_with_keypoints(torch.zeros(2, 3, 128, 128), torch.zeros(2, 2))
        >>> posterior.mu.shape, points.shape
        (torch.Size([2, 30]), torch.Size([2, 21, 2]))
    """

    def __init__(self, channels: int, latent_dim: int, *, joints: int, hidden_dim: int, num_hidden_layers: int) -> None:
        super().__init__()
        layers = list(half_resnet18(channels))
        self.early, self.middle, self.late = nn.Sequential(*layers[:6]), layers[6], layers[7]
        self.side_of = nn.ModuleList([nn.Conv2d(c, MAP_CHANNELS, 1) for c in (64, 128, 256)])
        self.merged = nn.Sequential(
            nn.BatchNorm2d(MAP_CHANNELS), nn.ReLU(),
            nn.Conv2d(MAP_CHANNELS, MAP_CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(MAP_CHANNELS), nn.ReLU(),
            nn.Conv2d(MAP_CHANNELS, joints + JOINT_FEATURES, 1),
        )  # fmt: skip
        self.joints = joints
        self.body = residual_mlp(joints * (2 + JOINT_FEATURES) + 256 + 2, None, hidden_dim, num_hidden_layers)
        self.head = PosteriorHead(hidden_dim, latent_dim)

    def encode_with_keypoints(self, image: Tensor, side: Tensor) -> tuple[Posterior, Tensor]:
        """The posterior and the joints' positions.

        Args:
            image: ``[B, C, S, S]``.
            side: ``[B, 2]`` one-hot hand side, zeros where unknown.

        Returns:
            The posterior ``[B, D]``, and 2D joints ``[B, J, 2]`` in crop fractions.
        """
        early = self.early(image)
        middle = self.middle(early)
        late = self.late(middle)
        maps = self.side_of[2](late)
        for lateral, larger in ((self.side_of[1], middle), (self.side_of[0], early)):
            maps = interpolate(maps, size=larger.shape[-2:], mode="nearest") + lateral(larger)
        maps = self.merged(maps)
        h, w = maps.shape[-2:]
        with torch.autocast(image.device.type, enabled=False):
            flat = maps.float().flatten(2)
            attention = flat[:, : self.joints].softmax(2)
            x, y = _cell_centres(w, flat).expand(h, w), _cell_centres(h, flat)[:, None].expand(h, w)
            points = attention @ torch.stack([x, y], -1).flatten(0, 1)
            features = attention @ flat[:, self.joints :].transpose(1, 2)
            pooled = late.float().mean((2, 3))
            inputs = [4 * points.flatten(1), features.flatten(1), pooled, side.float()]
            hidden = self.body(torch.cat(inputs, 1))
        return self.head(hidden, side), points

    def forward(self, image: Tensor, side: Tensor) -> Posterior:
        return self.encode_with_keypoints(image, side)[0]


def image_encoder(channels: int, latent_dim: int, shape: ModelShape) -> ImageEncoder | KeypointEncoder:
    """The encoder of hand images for a run's sizes.

    Args:
        channels: Channels of the images.
        latent_dim: Size of the latent.
        shape: Sizes of the run; its ``backbone`` chooses the class.

    Returns:
        A module from images ``[B, channels, S, S]`` and side ``[B, 2]`` to a posterior.

    Example:
        >>> type(image_encoder(1, 30, ModelShape(backbone="keypoints", hidden_dim=64, num_hidden_layers=2))).__name__
        'KeypointEncoder'
    """
    if shape.backbone != "keypoints":
        return ImageEncoder(channels, shape.image_size, latent_dim, backbone=shape.backbone)
    hidden = {"hidden_dim": shape.hidden_dim, "num_hidden_layers": shape.num_hidden_layers}
    return KeypointEncoder(channels, latent_dim, joints=shape.joints, **hidden)


def masked_keypoint_loss(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance from predicted to true 2D joints, over the labelled joints inside the crop.

    Args:
        points: ``[B, J, 2]`` predictions, crop fractions.
        truth: ``[B, J, 2]`` labels, crop fractions; NaN where a joint is not labelled.

    Returns:
        A scalar, crop fractions.

    Example:
        >>> masked_keypoint_loss(torch.zeros(1, 2, 2), torch.tensor([[[0.3, 0.4], [0.9, 0.0]]]))
        tensor(0.5000)
    """
    inside = (truth.abs() < 0.5).all(-1)  # False for NaN, too
    error = points - torch.where(inside[..., None], truth, points.detach())
    return torch.linalg.vector_norm(error, dim=-1).sum() / inside.sum().clamp_min(1)


def _cell_centres(n: int, like: Tensor) -> Tensor:
    """``[n]``: the centres of ``n`` cells in crop fractions."""
    return (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) / n - 0.5
