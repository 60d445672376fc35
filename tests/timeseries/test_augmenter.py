"""Views by mask and gain: what they must leave alone and what can be had back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.augment.series import Jitter
from nearfar.timeseries.autotcl.augmenter import SMALLEST_GAIN, Augmenter
from nearfar.timeseries.autotcl.config import AugmenterConfig
from nearfar.timeseries.autotcl.views import Pair, fixed_pair, hidden_mask


def augmenter(num_channels: int = 5, num_covariates: int = 2, **settings: Any) -> Augmenter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AugmenterConfig(hidden=8, dim=4, **settings)
        return Augmenter(num_channels, config, num_covariates=num_covariates).double().eval()


def series(*shape: int) -> Tensor:
    return torch.randn(shape, generator=rng(1), dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("gain", ["exp", "softplus", "sigmoid", "none"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_what_is_kept_can_be_had_back(gain: str, per_channel: bool) -> None:
    x = series(3, 20, 5)
    drawn = augmenter(gain=gain, per_channel=per_channel)(x, rng())
    view, channels = drawn.params.apply(x), slice(2, 5)
    assert torch.equal(view[..., :2], x[..., :2])  # the calendar
    kept = drawn.mask.expand(3, 20, 3) == 1
    assert 0 < kept.double().mean() < 1
    assert ((drawn.mask == 0) | (drawn.mask == 1)).all()
    back = view[..., channels] / drawn.gain
    assert torch.allclose(back[kept], x[..., channels][kept], rtol=1e-12)
    assert (view[..., channels][~kept] == 0).all()
    informative = drawn.mask * x[..., channels]
    assert torch.equal(informative + (x[..., channels] - informative), x[..., channels])


def test_gains_keep_away_from_zero() -> None:
    x = 100 * series(4, 30, 5)
    log_gain = augmenter(gain="exp", largest_gain=0.5)(x).gain.log()
    assert log_gain.abs().max() <= 0.5 + 1e-12
    assert log_gain.std() > 0
    assert augmenter(gain="softplus")(x).gain.min() >= SMALLEST_GAIN


def test_without_mask_and_gain_the_view_is_the_series() -> None:
    x = series(2, 10, 5)
    drawn = augmenter(mask=False, gain="none")(x, rng())
    assert torch.equal(drawn.params.apply(x), x)
    assert torch.equal(drawn.pi, torch.ones(2, 10, 1, dtype=torch.float64))


def test_released_views_mask_the_calendar_as_well() -> None:
    x = series(3, 40, 5)
    drawn = augmenter(covariates=True, per_channel=True, gain="sigmoid", gate="released")(x, rng())
    assert drawn.mask.shape == (3, 40, 5)
    assert (drawn.params.apply(x)[..., :2] == 0).any()


def test_masks_repeat_under_a_seed_and_without_chance() -> None:
    x, network = series(3, 30, 5), augmenter()
    one, again, other = (network(x, rng(seed)).mask for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(network(x).mask, network(x).mask)


def test_a_learnt_view_composes_with_other_operations() -> None:
    x = series(3, 30, 5)
    drawn, noise = augmenter()(x, rng()).params, Jitter(std=0.1)(x, rng())
    assert torch.allclose(drawn.then(noise).apply(x), noise.apply(drawn.apply(x)))


def test_missing_steps_do_not_spread() -> None:
    x = series(2, 20, 5)
    x[0, 7] = torch.nan
    view = augmenter()(x, rng()).params.apply(x)
    assert view[0, 7].isnan().all()
    assert view.isnan().sum() == 5


@pytest.mark.parametrize("kind", ["none", "jitter", "cutout", "random"])
def test_fixed_views_have_the_shape_and_the_calendar_of_the_series(kind: str) -> None:
    x = series(4, 50, 5)
    pair = fixed_pair(x, kind, rng(), num_covariates=2)  # type: ignore[arg-type]
    assert pair.anchor.shape == pair.view.shape == x.shape
    assert torch.equal(pair.anchor, x)
    assert torch.equal(pair.view[..., :2], x[..., :2])
    assert torch.equal(pair.view, x) == (kind == "none")


@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 50])
def test_crops_overlap_where_they_say(steps: int) -> None:
    x, generator = series(3, steps, 2), rng()
    view = -x
    seen = set()
    for _ in range(300):
        pair = Pair(x, view).cropped(generator)
        size = pair.anchor.shape[1]
        assert pair.view.shape == pair.anchor.shape
        assert size - pair.shift >= min(8, steps)
        begin = int((x == pair.anchor[:, :1]).all(2).all(0).int().argmax())
        assert torch.equal(pair.anchor, x[:, begin : begin + size])
        assert torch.equal(pair.view, view[:, begin + pair.shift : begin + pair.shift + size])
        assert torch.equal(pair.anchor[:, pair.shift :], -pair.view[:, : size - pair.shift])
        seen.add((begin, size, pair.shift))
    assert (len(seen) > 50) == (steps == 50)
    assert max(begin + size + shift for begin, size, shift in seen) == steps


def test_unknown_views_are_refused() -> None:
    with pytest.raises(ValueError, match="'blur'"):
        fixed_pair(series(2, 5, 1), "blur", rng())  # type: ignore[arg-type]


def test_hidden_masks_of_every_mode() -> None:
    x = series(200, 40, 2)
    assert hidden_mask(x, "all_true", rng()) is None
    found = {
        mode: hidden_mask(x, mode, rng()) for mode in ("binomial", "continuous", "mask_last", "all_false")
    }
    share = {mode: float(mask.double().mean()) for mode, mask in found.items() if mask is not None}
    assert share["binomial"] == pytest.approx(0.5, abs=0.02)
    assert share["continuous"] == pytest.approx(1 - 5 * 4 / 40, abs=0.12)  # spans overlap
    assert share["mask_last"] == pytest.approx(39 / 40)
    assert share["all_false"] == 0
