"""The cross-modal bound, against the same sum written out by hand, and samples that lack a modality."""

import pytest
import torch
from torch import nn

from cvhpe.models.pairs import Pair, parse_pairs
from cvhpe.models.vae import Batch, CrossModalVAE, shared_rows
from cvhpe.plugin.contract import Modality, Posterior, View

D, B = 5, 7


class Encoder(nn.Module):
    def __init__(self, size, latent_dim):
        super().__init__()
        self.map = nn.Linear(size + 2, 2 * latent_dim)
        self.calls = 0

    def forward(self, x, side):
        self.calls += 1
        mu, logvar = self.map(torch.cat([x, side], 1)).chunk(2, 1)
        return Posterior(mu, logvar)


def modality(name, size):
    return Modality(
        name=name,
        shape=(size,),
        units="none",
        encoder=lambda d: Encoder(size, d),
        decoder=lambda d: nn.Linear(d, size),
        loss=lambda p, t: (p - t).square().mean(1),
        augment=lambda x, view: x * view.scale[:, None],
        fake=lambda n, g: torch.randn(n, size, generator=g),
    )


MODALITIES = {"a": modality("a", 3), "b": modality("b", 4), "c": modality("c", 2)}


def build(text, **options):
    torch.manual_seed(0)
    return CrossModalVAE(MODALITIES, parse_pairs(text, list(MODALITIES)), D, **options)


def batch(rows=None):
    g = torch.Generator().manual_seed(1)
    v = View.identity(B)
    v = View(v.angle, torch.linspace(0.5, 2, B), v.shift, v.flip, v.root_shift_weight)
    stored = {n: m.fake(B, g) for n, m in MODALITIES.items()}
    return Batch(stored, v, torch.eye(2)[torch.arange(B) % 2], rows or {})


def by_hand(model, b, seeds, beta, weights, has):
    """Pair by pair, sample by sample."""
    from cvhpe.ops import sample_kl

    total = torch.zeros(())
    for k, source in enumerate(dict.fromkeys(p.source for p in model.pairs)):
        rows = [i for i in range(B) if i in has.get(source, range(B))]
        if not rows:
            continue
        x = (b.stored[source] * b.view.scale[:, None])[rows]
        q = model.encoders[source](x, b.side[rows])
        z, _ = sample_kl(q.mu, q.logvar, seeds[k : k + 1])
        kls = (-0.5 * (1 + q.logvar - q.mu**2 - q.logvar.exp())).sum(1)
        for pair in model.pairs:
            if pair.source != source:
                continue
            both = [i for i in rows if i in has.get(pair.target, range(B))]
            rec = [
                (model.decoders[pair.target](z[rows.index(i)]) - b.stored[pair.target][i] * b.view.scale[i]) ** 2
                for i in both
            ]
            if not both:
                continue
            mean = torch.stack([r.mean() for r in rec]).mean()
            kl = torch.stack([kls[rows.index(i)] for i in both]).mean()
            total = total + weights.get(pair, 1.0) * (mean + beta * kl)
    return total


@pytest.mark.parametrize("text", ["a:b", "a:a,a:b,b:b", "a:b,b:a,c:a,c:c"])
@pytest.mark.parametrize("has", [{}, {"b": [1, 2, 5]}, {"a": [0, 1, 2], "b": [2, 3]}, {"b": []}])
def test_the_loss_is_the_sum_over_pairs(text, has):
    model = build(text)
    seeds = torch.arange(11, 11 + len(model.encoders))
    b = batch({n: torch.tensor(r, dtype=torch.long) for n, r in has.items()})
    weights = {Pair("a", "b"): 0.25}
    got = model(b, seeds, 0.1, weights)
    torch.testing.assert_close(got.total, by_hand(model, b, seeds, 0.1, weights, has), rtol=1e-5, atol=1e-6)
    served = {p for p in model.pairs if set(has.get(p.source, range(B))) & set(has.get(p.target, range(B)))}
    assert set(got.reconstruction) == served
    got.total.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_each_input_is_encoded_once_a_step():
    model = build("a:a,a:b,b:b,b:a")
    model(batch(), torch.tensor([1, 2]), 0.1, {})
    assert [e.calls for e in model.encoders.values()] == [1, 1]


def test_a_model_in_bfloat16_gives_out_float32():
    """Whatever the encoders and decoders of a plugin leave in bfloat16."""
    model, exact_model = build("a:a,a:b", precision=torch.bfloat16), build("a:a,a:b")
    x, side = model.modalities["a"].fake(B, torch.Generator().manual_seed(0)), torch.zeros(B, 2)
    exact = exact_model.encode("a", x, side).mu
    q = model.encode("a", x, side)
    assert q.mu.dtype == q.logvar.dtype == model.decode("b", q.mu).dtype == torch.float32
    assert not torch.equal(q.mu, exact)
    torch.testing.assert_close(q.mu, exact, rtol=0.05, atol=0.05)


def test_only_what_the_pairs_need_is_built():
    model = build("a:b")
    assert list(model.encoders) == ["a"]
    assert list(model.decoders) == ["b"]


def test_a_fused_loss_serves_where_the_modality_is_only_a_target():
    calls = []

    def fused(pred, stored, view):
        calls.append(len(stored))
        return (pred - stored * view.scale[:, None]).square().mean(1)

    import dataclasses

    model = build("a:b")
    want = model(batch(), torch.tensor([1]), 0.1, {}).total
    model.modalities["b"] = dataclasses.replace(MODALITIES["b"], fused_loss=fused)
    torch.testing.assert_close(model(batch(), torch.tensor([1]), 0.1, {}).total, want)
    assert calls == [B]


@pytest.mark.parametrize(
    ("a", "b"), [(None, None), ([0, 2], None), (None, [1]), ([0, 3, 4], [4, 0, 2]), ([1], [2]), ([], [1])]
)
def test_shared_rows_name_the_same_samples(a, b):
    ta, tb = (None if x is None else torch.tensor(x, dtype=torch.long) for x in (a, b))
    in_a, in_b = shared_rows(ta, tb, 6)
    whole_a, whole_b = (list(range(6)) if x is None else x for x in (a, b))
    got_a = whole_a if in_a is None else [whole_a[i] for i in in_a]
    got_b = whole_b if in_b is None else [whole_b[i] for i in in_b]
    assert got_a == got_b
    assert set(got_a) == set(whole_a) & set(whole_b)


def test_in_the_low_resolution_warm_up_only_encoders_see_half_size_images():
    sizes, g = [], torch.Generator().manual_seed(1)

    class ImageStub(nn.Module):
        def __init__(self, latent_dim):
            super().__init__()
            self.map = nn.Linear(3, 2 * latent_dim)

        def forward(self, x, side):
            sizes.append(tuple(x.shape[2:]))
            assert torch.equal(
                x[:, :, 0, 0], whole[:, :, :2, :2].mean((2, 3)) if x.shape[2] == 4 else whole[:, :, 0, 0]
            )
            return Posterior(*self.map(x.mean((2, 3))).chunk(2, 1))

    whole = torch.randint(0, 9, (B, 3, 8, 8), generator=g).float()
    see = Modality(
        name="see",
        shape=(3, 8, 8),
        units="none",
        geometry="image",
        encoder=ImageStub,
        decoder=lambda d: nn.Sequential(nn.Linear(d, 192), nn.Unflatten(1, (3, 8, 8))),
        loss=lambda p, t: (p - t).square().mean((1, 2, 3)),
        augment=lambda x, view: x,
        fake=lambda n, g: torch.rand(n, 3, 8, 8, generator=g),
    )
    model = CrossModalVAE({"see": see}, [Pair("see", "see")], D)
    b = Batch({"see": whole}, View.identity(B), torch.zeros(B, 2), {})
    model(b, torch.tensor([1]), 0.1, {})
    model(b, torch.tensor([1]), 0.1, {}, low_res=True).total.backward()
    model.encode("see", whole, torch.zeros(B, 2))
    assert sizes == [(8, 8), (4, 4), (8, 8)]
