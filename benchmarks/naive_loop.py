"""Straightforward training loops with the same networks, which ``bench_step.py`` compares with.

* :class:`ImageFolder` and :func:`train_images`: PNG files, PIL, augmentation by sample in the data loader, float32;
  one pair at a time, like separate VAEs, or both pairs from one encoding.
* :func:`train_joints`: everything in memory, augmentation on the batch in plain torch.
* :class:`Jmvae`: MultiVae's JMVAE (https://pypi.org/project/multivae, Apache-2.0) with our joint networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cvhpe.models.backbones import ImageDecoder, ImageEncoder
from cvhpe.models.blocks import JointDecoder, JointEncoder, LifterEncoder

BETA, LATENT = 1e-5, 30


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return (-0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)).mean()


class ImageFolder(Dataset):
    """``index.png`` in a folder, and root-relative joints; decodes, rotates, shifts and flips one image a call."""

    def __init__(self, folder: Path, joints: np.ndarray, side: np.ndarray, size: int, margin: float) -> None:
        self.folder, self.joints, self.side, self.size, self.margin = folder, joints, side, size, margin

    def __len__(self) -> int:
        return len(self.joints)

    def __getitem__(self, i: int):
        image = Image.open(self.folder / f"{i}.png").convert("RGB")
        rng = np.random.default_rng(torch.randint(2**31, ()).item())
        angle, flip = rng.uniform(-45, 45), rng.random() < 0.5
        crop = image.width / self.margin
        shift = rng.uniform(-0.05, 0.05, 2) * crop
        joints, side = self.joints[i].copy(), int(self.side[i])
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            joints[:, 0] *= -1
            side = 1 - side
        image = image.rotate(-angle, Image.Resampling.BILINEAR)
        middle = image.width / 2
        box = (middle - shift[0] - crop / 2, middle - shift[1] - crop / 2)
        box = (*box, box[0] + crop, box[1] + crop)
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        joints[:, :2] = joints[:, :2] @ np.array([[c, s], [-s, c]], np.float32)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255 - 0.5
        return pixels, torch.from_numpy(joints), torch.eye(2)[side]


def train_images(data: ImageFolder, batch: int, *, shared: bool) -> Iterator[float]:
    """Steps on ``rgb:joints3d`` and ``rgb:rgb``, without end; yields the loss after every batch.

    shared: encode the images once for both pairs, with one update; otherwise each pair has its own encoding and update.
    """
    encoder, to_rgb = ImageEncoder(3, data.size, LATENT), ImageDecoder(3, data.size, LATENT)
    to_joints = JointDecoder(21, 3, LATENT)
    parameters = [p for m in (encoder, to_rgb, to_joints) for p in m.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-4)
    loader = DataLoader(data, batch, shuffle=True, drop_last=True)
    while True:
        for pixels, joints, side in loader:
            pairs = [(to_joints, joints), (to_rgb, pixels)]
            total = 0.0
            for group in [pairs] if shared else [[pair] for pair in pairs]:
                q = encoder(pixels, side)
                z = q.mu + torch.randn_like(q.mu) * (0.5 * q.logvar).exp()
                loss = len(group) * BETA * kl(q.mu, q.logvar)
                for decoder, truth in group:
                    loss = loss + nn.functional.mse_loss(decoder(z), truth)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
            yield total


def train_joints(points: Tensor, joints: Tensor, side: Tensor, batch: int) -> Iterator[Tensor]:
    """A step of ``joints2d:joints3d`` and ``joints2d:joints2d`` at a time, without end; yields the loss."""
    encoder = JointEncoder(21, 2, LATENT, input_scale=4.0)
    to_points, to_joints = JointDecoder(21, 2, LATENT), JointDecoder(21, 3, LATENT)
    parameters = [p for m in (encoder, to_points, to_joints) for p in m.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    while True:
        index = torch.randint(len(points), (batch,))
        angle, flip = (torch.rand(batch) * 2 - 1) * math.pi / 4, torch.rand(batch) < 0.5
        c, s, sign = angle.cos(), angle.sin(), torch.where(flip, -1.0, 1.0)
        rotation = torch.stack([torch.stack([c * sign, -s], 1), torch.stack([s * sign, c], 1)], 1)
        shift = (torch.rand(batch, 1, 2) * 2 - 1) * 0.05
        p = points[index] @ rotation.transpose(1, 2) + shift
        j = joints[index]
        j = torch.cat([j[..., :2] @ rotation.transpose(1, 2), j[..., 2:]], 2)
        j = j - (j[:, :1] + j[:, 9:10]) / 2  # a wrist becomes a palm
        hand = nn.functional.one_hot(side[index] ^ flip.long(), 2).float()
        q = encoder(p, hand)
        z = q.mu + torch.randn_like(q.mu) * (0.5 * q.logvar).exp()
        loss = nn.functional.mse_loss(to_joints(z), j) + nn.functional.mse_loss(to_points(z), p)
        loss = loss + 2 * BETA * kl(q.mu, q.logvar)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.detach()


class Jmvae:
    """JMVAE on the same joints, with our networks for each modality and for the pair."""

    def __init__(self, lr: float = 1e-3, spread: float = 0.05, network: dict[str, int] | None = None) -> None:
        """network: sizes of the joint networks of ``--recipe best``; None: the paper's networks."""
        from multivae.data.datasets.base import MultimodalBaseDataset
        from multivae.models.jmvae import JMVAE, JMVAEConfig
        from multivae.models.nn.base_architectures import BaseJointEncoder
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder

        def output(q):
            return ModelOutput(embedding=q.mu, log_covariance=q.logvar)

        def encoder(k: int) -> nn.Module:
            if network is None:
                return JointEncoder(21, k, LATENT)
            return LifterEncoder(21, k, LATENT, centred=k == 2, **network)

        class Encoder(BaseEncoder):
            def __init__(self, k: int) -> None:
                super().__init__()
                self.latent_dim, self.net = LATENT, encoder(k)

            def forward(self, x):
                return output(self.net(x, x.new_zeros(len(x), 2)))

        class Joint(BaseJointEncoder):
            def __init__(self) -> None:
                super().__init__()
                self.latent_dim, self.net = LATENT, encoder(5)

            def forward(self, x):
                both = torch.cat([x["joints2d"], x["joints3d"]], 2)
                return output(self.net(both, both.new_zeros(len(both), 2)))

        class Decoder(BaseDecoder):
            def __init__(self, k: int) -> None:
                super().__init__()
                kind = {} if network is None else {"joint_network": "lifter", **network}
                self.net = JointDecoder(21, k, LATENT, **kind)

            def forward(self, z):
                return ModelOutput(reconstruction=self.net(z))

        sizes = {"joints2d": (21, 2), "joints3d": (21, 3)}
        config = JMVAEConfig(
            n_modalities=2, input_dims=sizes, latent_dim=LATENT, warmup=1,
            decoder_dist_params={name: {"scale": spread} for name in sizes},
        )  # fmt: skip
        coders = ({n: kind(k) for n, (_, k) in sizes.items()} for kind in (Encoder, Decoder))
        self.model = JMVAE(config, *coders, joint_encoder=Joint())
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.wrap = lambda points, joints: MultimodalBaseDataset({"joints2d": points, "joints3d": joints})

    def step(self, points: Tensor, joints: Tensor) -> None:
        self.model.train()
        loss = self.model(self.wrap(points, joints), epoch=2).loss
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def lift(self, points: Tensor) -> Tensor:
        """2D joints ``[N, 21, 2]`` -> 3D ``[N, 21, 3]``, through the mean of the 2D encoder."""
        self.model.eval()
        with torch.inference_mode():
            z = self.model.encoders["joints2d"](points).embedding
            return self.model.decoders["joints3d"](z).reconstruction
