"""The learned mixture: weights, their law, and gradients to the logits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.augment.series import Flip, HiddenLast, Identity, Jitter, LowPass, MixtureAugment, Reverse

OPS = (Identity(), Reverse(), Jitter())


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def test_a_weighted_sum_of_one_set_of_copies(rng: torch.Generator) -> None:
    x = torch.randn(4, 6, 2, generator=rng)
    mixture = MixtureAugment(OPS, num_views=3)
    generator = seeded()
    weights = mixture.draw_weights(generator)
    assert weights.shape == (3, 3)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    copies = [op(x, generator).apply(x) for op in OPS]
    views = mixture(x, seeded())
    assert len(views) == 3
    for view, row in zip(views, weights, strict=True):
        torch.testing.assert_close(view, sum(w * c for w, c in zip(row, copies, strict=True)))


def test_hard_weights_follow_the_softmax(fits: Callable[..., bool]) -> None:
    # The largest of logits plus Gumbel noise is distributed as the softmax of the logits, whatever the temperature.
    mixture = MixtureAugment(OPS, num_views=20_000, temperature=0.3, hard=True)
    logits = torch.tensor([0.0, 1.0, -1.0])
    mixture.logits.data = logits.expand(20_000, 3).clone()
    weights = mixture.draw_weights(seeded()).detach()
    torch.testing.assert_close(weights.amax(1), torch.ones(20_000))
    torch.testing.assert_close(weights.sum(1), torch.ones(20_000))
    law = dict(enumerate(logits.double().softmax(0).tolist()))
    assert fits(Counter(weights.argmax(1).tolist()), law)


def test_soft_weights_follow_the_concrete_distribution() -> None:
    # With two operations the weight is the sigmoid of logistic noise over the temperature.
    mixture = MixtureAugment((Identity(), Flip()), num_views=50_000, temperature=2.0)
    weight = mixture.draw_weights(seeded()).detach()[:, 0]
    noise = (2.0 * weight.logit()).sort().values
    law = torch.linspace(0, 1, 50_001)[1:].sub(1e-5).logit()
    inner = slice(1_000, 49_000)
    assert (noise[inner] - law[inner]).abs().max() < 0.15


@pytest.mark.parametrize("hard", [False, True])
def test_gradients_reach_the_logits(hard: bool, rng: torch.Generator) -> None:
    x = torch.randn(3, 5, 2, generator=rng, dtype=torch.float64)
    mixture = MixtureAugment(OPS, temperature=0.7, hard=hard).double()
    soft = MixtureAugment(OPS, temperature=0.7).double()

    def views(module: MixtureAugment, logits: Tensor) -> Tensor:
        module.logits.data = logits.data
        out = torch.func.functional_call(module, {"logits": logits}, (x, seeded()))
        return torch.stack(out)

    logits = torch.randn(2, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    if not hard:
        assert torch.autograd.gradcheck(lambda logits: views(mixture, logits), (logits,))
    got, want = (torch.autograd.grad(views(m, logits).sum(), logits)[0] for m in (mixture, soft))
    torch.testing.assert_close(got, want)
    assert got.abs().max() > 1e-3


def test_padding_stays_exactly(rng: torch.Generator) -> None:
    x = torch.randn(4, 8, 2, generator=rng)
    valid = (torch.arange(8) < 5).expand(4, -1)
    for filling in (1.1, math.nan):
        padded = x.masked_fill(~valid[..., None], filling)
        mixture = MixtureAugment((*OPS, LowPass()), num_views=40)
        for view in mixture(padded, seeded(), valid=valid):
            assert torch.equal(view[~valid].nan_to_num(9.0), padded[~valid].nan_to_num(9.0))
            assert view[valid].isfinite().all()


def test_hidden_masks_do_not_add_up() -> None:
    with pytest.raises(ValueError, match=r"^ops: HiddenLast\(p=1.0\) masks hidden states"):
        MixtureAugment((Identity(), HiddenLast()))(torch.zeros(1, 2, 1), seeded())


def test_nothing_is_read_back_from_the_device() -> None:
    x = torch.zeros(2, 5, 1, device="meta")
    assert MixtureAugment(OPS, hard=True).to("meta")(x, seeded())[0].device == x.device
