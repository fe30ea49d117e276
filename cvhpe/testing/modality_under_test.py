"""The modality that the conformance kit checks, with seeded batches and modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cvhpe.plugin.contract import Modality
from cvhpe.testing.check import skip_check
from cvhpe.testing.fakes import fake_fields, generator

BATCH = 4
LATENT = 8
MARGIN = 1.5


@dataclass(frozen=True)
class ModalityUnderTest:
    """A modality under test.

    Attributes:
        original: The modality as the plugin supplies it.
        modality: The same modality in sizes that are fast to test.
        stored_fields: A small stored batch, where the modality reads fields of its own data set.
    """

    original: Modality
    modality: Modality
    stored_fields: Mapping[str, Tensor] | None

    def fake(self, seed: int = 0, n: int = BATCH) -> Tensor:
        """Make a network-ready batch.

        Args:
            seed: Seed of the generator.
            n: Batch size.

        Returns:
            ``[n, *shape]`` float32.
        """
        return self.modality.fake(n, generator(seed))

    def side(self, n: int = BATCH) -> Tensor:
        """Make one-hot hand sides ``[n, 2]``; the last one is unknown."""
        side = torch.eye(2).repeat(n, 1)[:n]
        side[-1] = 0
        return side

    def encoder(self, latent_dim: int = LATENT) -> nn.Module:
        """Make the encoder with seeded weights."""
        return self._seeded(lambda: self.modality.encoder(latent_dim))

    def decoder(self, latent_dim: int = LATENT) -> nn.Module:
        """Make the decoder with seeded weights."""
        return self._seeded(lambda: self.modality.decoder(latent_dim))

    def latent(self, n: int = BATCH, latent_dim: int = LATENT) -> Tensor:
        """Sample latents from N(0, I).

        Args:
            n: Batch size.
            latent_dim: Number of dimensions.

        Returns:
            ``[n, latent_dim]`` float32.
        """
        return torch.randn(n, latent_dim, generator=generator(7))

    def fields(self, n: int = BATCH) -> dict[str, Tensor]:
        """Make ``n`` samples of the stored fields that the modality reads; skip the check if one is unknown."""
        known = dict(self.stored_fields) if self.stored_fields is not None else fake_fields(n, generator(3))
        missing = [f for f in self.modality.reads if f not in known]
        if missing:
            skip_check(f"no fake data for the field {missing[0]!r}; pass fields={{...}} with a small stored batch")
        return {f: known[f] for f in self.modality.reads}

    @staticmethod
    def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make()
