"""The modality under test, with seeded batches and modules to try it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from unittest import SkipTest

import torch
from torch import Tensor, nn

from cvhpe.plugin.contract import Modality
from cvhpe.testing.fakes import fake_fields, generator

BATCH = 4
LATENT = 8
MARGIN = 1.5


@dataclass(frozen=True)
class Subject:
    """``given`` is the modality as the plugin supplies it, ``m`` the same at sizes quick to try."""

    given: Modality
    m: Modality
    own_fields: Mapping[str, Tensor] | None

    def fake(self, seed: int = 0, n: int = BATCH) -> Tensor:
        """A network-ready batch."""
        return self.m.fake(n, generator(seed))

    def side(self, n: int = BATCH) -> Tensor:
        """One-hot hand sides, the last one not known."""
        side = torch.eye(2).repeat(n, 1)[:n]
        side[-1] = 0
        return side

    def encoder(self, latent_dim: int = LATENT) -> nn.Module:
        return self._seeded(lambda: self.m.encoder(latent_dim))

    def decoder(self, latent_dim: int = LATENT) -> nn.Module:
        return self._seeded(lambda: self.m.decoder(latent_dim))

    def latent(self, n: int = BATCH, latent_dim: int = LATENT) -> Tensor:
        return torch.randn(n, latent_dim, generator=generator(7))

    def fields(self, n: int = BATCH) -> dict[str, Tensor]:
        """The stored fields that the modality reads."""
        known = dict(self.own_fields) if self.own_fields is not None else fake_fields(n, generator(3))
        missing = [f for f in self.m.reads if f not in known]
        if missing:
            raise SkipTest(f"no fake data for the field {missing[0]!r}; pass fields={{...}} with a small stored batch")
        return {f: known[f] for f in self.m.reads}

    @staticmethod
    def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make()
