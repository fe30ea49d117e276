"""A picture encoder that looks for the joints first, and can be told where they are while it learns.

A network that averages over its last map has to find out by itself, through a bottleneck, that a hand is made of
joints and where those are. This one has a map for every joint: what it says of the joint is the map's mean place
("soft-argmax") and the features there. Where a run has 2D joints, these places are learned from them directly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cvhpe.models.blocks import ImageEncoder, PosteriorHead, half_resnet18, residual_mlp
from cvhpe.plugin.contract import ModelShape, Posterior

MAP_CHANNELS = 64
TOLD = 12
"""Features that are read at the place of each joint."""


class KeypointEncoder(nn.Module):
    """Image ``[B, C, S, S]`` and side ``[B, 2]`` -> Posterior; :meth:`encode_with_keypoints` also gives the joints.

    Half of ResNet-18, whose last three maps are brought together at an eighth of the picture's size; from there
    places and features of all joints, and the mean of the last map, go through residual layers to the posterior.
    Pictures of any size that 32 divides.

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
            nn.Conv2d(MAP_CHANNELS, joints + TOLD, 1),
        )  # fmt: skip
        self.joints = joints
        self.body = residual_mlp(joints * (2 + TOLD) + 256 + 2, None, hidden_dim, num_hidden_layers)
        self.head = PosteriorHead(hidden_dim, latent_dim)

    def encode_with_keypoints(self, image: Tensor, side: Tensor) -> tuple[Posterior, Tensor]:
        """The posterior, and where in the crop the joints were seen: ``[B, J, 2]`` crop fractions."""
        early = self.early(image)
        middle = self.middle(early)
        late = self.late(middle)
        maps = self.side_of[2](late)
        for beside, wide in ((self.side_of[1], middle), (self.side_of[0], early)):
            maps = interpolate(maps, size=wide.shape[-2:], mode="nearest") + beside(wide)
        maps = self.merged(maps)
        h, w = maps.shape[-2:]
        with torch.autocast(image.device.type, enabled=False):
            flat = maps.float().flatten(2)
            attention = flat[:, : self.joints].softmax(2)
            places = torch.stack([grid(w, flat).expand(h, w), grid(h, flat)[:, None].expand(h, w)], -1).flatten(0, 1)
            points = attention @ places
            told = attention @ flat[:, self.joints :].transpose(1, 2)
            whole = late.float().mean((2, 3))
            x = self.body(torch.cat([4 * points.flatten(1), told.flatten(1), whole, side.float()], 1))
        return self.head(x, side), points

    def forward(self, image: Tensor, side: Tensor) -> Posterior:
        return self.encode_with_keypoints(image, side)[0]


def image_encoder(channels: int, latent_dim: int, shape: ModelShape) -> ImageEncoder | KeypointEncoder:
    """The encoder of pictures of a hand's joints, ``[B, channels, S, S]``, that a run's sizes ask for.

    >>> type(image_encoder(1, 30, ModelShape(backbone="keypoints", hidden_dim=64, num_hidden_layers=2))).__name__
    'KeypointEncoder'
    """
    if shape.backbone == "keypoints":
        return KeypointEncoder(
            channels,
            latent_dim,
            joints=shape.joints,
            hidden_dim=shape.hidden_dim,
            num_hidden_layers=shape.num_hidden_layers,
        )
    return ImageEncoder(channels, shape.image_size, latent_dim, backbone=shape.backbone)


def masked_keypoint_loss(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance, in crop fractions, of points ``[B, J, 2]`` from true ones; those that the crop shows count.

    >>> masked_keypoint_loss(torch.zeros(1, 2, 2), torch.tensor([[[0.3, 0.4], [0.9, 0.0]]]))
    tensor(0.5000)
    """
    shown = (truth.abs() < 0.5).all(-1)  # False where a joint is not labelled, too, for it is NaN
    apart = points - torch.where(shown[..., None], truth, points.detach())
    return torch.linalg.vector_norm(apart, dim=-1).sum() / shown.sum().clamp_min(1)


def grid(n: int, like: Tensor) -> Tensor:
    """``[n]``: the middles of ``n`` cells in crop fractions."""
    return (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) / n - 0.5
