"""What every operation on series promises, checked for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.augment import series
from nearfar.augment.series import SeriesOp

Make = Callable[..., SeriesOp]

OPS: dict[str, Make] = {
    "BandStop": lambda **k: series.BandStop(ratio=0.4, **k),
    "ChannelDropout": lambda **k: series.ChannelDropout(ratio=0.5, **k),
    "Compose": lambda **k: series.Compose((series.Scaling(), series.LowPass(), series.TimeWarp()), **k),
    "Cutout": lambda **k: series.Cutout(ratio=0.4, **k),
    "Flip": series.Flip,
    "FrequencyJitter": series.FrequencyJitter,
    "FrequencyMask": lambda **k: series.FrequencyMask(ratio=0.5, **k),
    "HiddenBinomial": series.HiddenBinomial,
    "HiddenContinuous": series.HiddenContinuous,
    "HiddenLast": series.HiddenLast,
    "HighPass": series.HighPass,
    "Identity": series.Identity,
    "Jitter": series.Jitter,
    "LowPass": series.LowPass,
    "MagnitudeWarp": series.MagnitudeWarp,
    "Mixup": lambda **k: series.Mixup(alpha=2.0, **k),
    "OneOf": lambda **k: series.OneOf((series.Jitter(), series.Reverse(), series.BandStop(ratio=0.5)), **k),
    "Permutation": series.Permutation,
    "PhaseShift": series.PhaseShift,
    "Reverse": series.Reverse,
    "Scaling": series.Scaling,
    "Subsequence": series.Subsequence,
    "TimeMask": lambda **k: series.TimeMask(ratio=0.5, **k),
    "TimeShift": lambda **k: series.TimeShift(ratio=0.5, **k),
    "TimeWarp": series.TimeWarp,
    "WindowSlice": series.WindowSlice,
    "WindowWarp": series.WindowWarp,
}
FIXED = {"Flip", "HiddenLast", "HighPass", "Identity", "LowPass", "Reverse"}
# Strengths by name, with two values that are allowed.
STRENGTHS: list[tuple[str, str, float, float]] = [
    ("BandStop", "ratio", 0.2, 0.5),
    ("ChannelDropout", "ratio", 0.2, 0.5),
    ("Cutout", "ratio", 0.2, 0.5),
    ("FrequencyJitter", "std", 0.2, 0.5),
    ("FrequencyMask", "ratio", 0.2, 0.5),
    ("HiddenBinomial", "keep", 0.2, 0.5),
    ("HiddenContinuous", "ratio", 0.2, 0.5),
    ("HighPass", "cutoff", 0.2, 0.5),
    ("Jitter", "std", 0.2, 0.5),
    ("LowPass", "cutoff", 0.2, 0.5),
    ("MagnitudeWarp", "std", 0.2, 0.5),
    ("Mixup", "alpha", 0.2, 0.5),
    ("PhaseShift", "max_angle", 0.2, 0.5),
    ("Scaling", "std", 0.2, 0.5),
    ("TimeMask", "ratio", 0.2, 0.5),
    ("TimeShift", "ratio", 0.2, 0.5),
    ("TimeWarp", "max_ratio", 2.0, 5.0),
    ("WindowSlice", "ratio", 0.2, 0.5),
    ("WindowWarp", "ratio", 0.2, 0.5),
]
B, T, F = 12, 20, 3

every = pytest.mark.parametrize("name", OPS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(B, T, F, generator=seeded(9)).to(dtype)


def windows() -> Tensor:
    """Right, left and two-sided padding, a single step, a whole row and none at all."""
    valid = torch.zeros(B, T, dtype=torch.bool)
    for row, (begin, end) in enumerate([(0, 15), (4, T), (3, 17), (7, 8), (0, T), (0, 0)] * 2):
        valid[row, begin:end] = True
    return valid


def equal(a: Tensor | None, b: Tensor | None) -> bool:
    return b is None if a is None else b is not None and torch.equal(a, b)


def test_every_operation_is_here() -> None:
    found = {
        name
        for name in series.__all__
        if isinstance(getattr(series, name), type) and issubclass(getattr(series, name), SeriesOp)
    }
    assert found - {"SeriesOp"} == set(OPS)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_input_untouched(name: str, dtype: torch.dtype) -> None:
    x = data(dtype)
    before = x.clone()
    view = OPS[name]()(x, seeded())
    out = view.apply(x)
    assert out.shape == x.shape
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert torch.equal(x, before)
    if view.hidden_mask is not None:
        assert view.hidden_mask.dtype == torch.bool
        assert view.hidden_mask.shape == (B, T, 1)


@every
def test_the_generator_decides(name: str) -> None:
    x = data()
    one, again, other = (OPS[name]()(x, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.apply(x), again.apply(x))
    assert equal(one.hidden_mask, again.hidden_mask)
    same = torch.equal(one.apply(x), other.apply(x)) and equal(one.hidden_mask, other.hidden_mask)
    assert same == (name in FIXED)


@every
def test_precision_does_not_change_the_view(name: str) -> None:
    single, double = (OPS[name]()(data(dtype), seeded()) for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(
        single.apply(data(torch.float32)).double(), double.apply(data()), rtol=0, atol=1e-4
    )
    assert equal(single.hidden_mask, double.hidden_mask)


@every
def test_probability(name: str) -> None:
    x = data()
    never = OPS[name](p=0.0)(x, seeded())
    assert torch.equal(never.apply(x), x)
    assert never.hidden_mask is None or bool(never.hidden_mask.all())
    some = OPS[name](p=torch.arange(B) % 2 * 1.0)(x, seeded())
    out = some.apply(x)
    assert torch.equal(out[::2], x[::2])
    if some.hidden_mask is not None:
        assert some.hidden_mask[::2].all()
        assert not some.hidden_mask[1::2].all()
    elif name != "Identity":
        assert not torch.equal(out[1::2], x[1::2])


def test_probability_is_that_share() -> None:
    x = torch.ones(20_000, 1, 1)
    share = (series.Flip(p=0.3)(x, seeded()).apply(x) < 0).double().mean().item()
    assert share == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 20_000) ** 0.5)


@every
def test_samples_are_independent(name: str) -> None:
    x = data()
    changed = x.clone()
    changed[0] += 1
    rest, same = OPS[name]()(x, seeded()).apply(x)[1:], OPS[name]()(changed, seeded()).apply(changed)[1:]
    assert torch.equal(rest, same) == (name != "Mixup")
    if name not in FIXED:  # equal rows, different views
        alike = x[:1].expand(B, T, F)
        view = OPS[name]()(alike, seeded())
        out = view.apply(alike) if view.hidden_mask is None else view.hide(alike)
        if name != "Mixup":
            assert not torch.equal(out[0].expand_as(out), out)


@every
@pytest.mark.parametrize("filling", [0.0, 1e6, math.nan])
def test_padding_stays_and_never_moves_in(name: str, filling: float) -> None:
    valid, clean = windows(), data()
    padded = clean.masked_fill(~valid[..., None], filling)
    view = OPS[name]()(padded, seeded(), valid=valid)
    out = view.apply(padded)
    assert torch.equal(out[~valid].nan_to_num(7.0), padded[~valid].nan_to_num(7.0))
    assert out[valid].isfinite().all()
    # Inside, nothing depends on what is outside.
    other = clean.masked_fill(~valid[..., None], -55.0)
    assert torch.equal(out[valid], OPS[name]()(other, seeded(), valid=valid).apply(other)[valid])
    if view.index is not None:
        length, first = valid.sum(1, keepdim=True), valid.int().argmax(1, keepdim=True)
        inside = (view.index >= first) & (view.index <= first + length - 1)
        assert inside[valid].all()
    if view.hidden_mask is not None:
        assert view.hidden_mask[~valid].all()
    if name != "Identity":
        changed = out[valid] != clean[valid]
        assert changed.any() or view.hidden_mask is not None


@every
def test_a_mask_of_ones_changes_nothing(name: str) -> None:
    x = data()
    free, masked = (
        OPS[name]()(x, seeded()),
        OPS[name]()(x, seeded(), valid=torch.ones(B, T, dtype=torch.bool)),
    )
    torch.testing.assert_close(free.apply(x), masked.apply(x), rtol=0, atol=1e-12)
    assert equal(free.hidden_mask, masked.hidden_mask)


@every
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_series(name: str, steps: int) -> None:
    x = data()[:, :steps]
    assert OPS[name]()(x, seeded()).apply(x).isfinite().all()


@every
def test_gradient_with_respect_to_the_series(name: str) -> None:
    x = data()[:6, :7].requires_grad_()
    valid = windows()[:6, :7]

    def apply(x: Tensor) -> Tensor:
        return OPS[name]()(x, seeded(), valid=valid).apply(x)

    assert torch.autograd.gradcheck(apply, (x,))


@every
def test_padding_sends_no_nan_back(name: str) -> None:
    valid = windows()
    x = data().masked_fill(~valid[..., None], math.nan).requires_grad_()
    out = OPS[name]()(x, seeded(), valid=valid).apply(x)
    torch.where(valid[..., None], out, 0.0).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[~valid] == 0).all()


@pytest.mark.parametrize(("name", "field", "weak", "strong"), STRENGTHS)
def test_strengths_are_per_sample(name: str, field: str, weak: float, strong: float) -> None:
    x, make = data(), getattr(series, name)
    halves = torch.tensor([weak] * 6 + [strong] * 6, dtype=torch.float64)
    mixed, low, high = (make(**{field: value})(x, seeded()) for value in (halves, weak, strong))
    if mixed.hidden_mask is not None:
        assert torch.equal(mixed.hidden_mask[:6], low.hidden_mask[:6])
        assert torch.equal(mixed.hidden_mask[6:], high.hidden_mask[6:])
        assert not torch.equal(low.hidden_mask, high.hidden_mask)
        return
    if name != "Mixup":  # the gamma sampler takes as many numbers as it needs
        torch.testing.assert_close(mixed.apply(x)[:6], low.apply(x)[:6], rtol=0, atol=1e-7)
        torch.testing.assert_close(mixed.apply(x)[6:], high.apply(x)[6:], rtol=0, atol=1e-7)
    assert not torch.equal(low.apply(x), high.apply(x))
    with pytest.raises(ValueError, match=f"^{field}: one value for each of {B} samples"):
        make(**{field: torch.tensor([weak, strong])})(x, seeded())
    with pytest.raises(ValueError, match=f"^{field}: "):
        make(**{field: -1.0})
    with pytest.raises(ValueError, match=f"^{field}: "):
        make(**{field: math.nan})


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: series.Flip(p=1.5), "p"),
        (lambda: series.MagnitudeWarp(num_knots=1), "num_knots"),
        (lambda: series.MagnitudeWarp(spline="round"), "spline"),  # type: ignore[arg-type]
        (lambda: series.Subsequence(min_length=0), "min_length"),
        (lambda: series.WindowWarp(speeds=()), "speeds"),
        (lambda: series.WindowWarp(speeds=(1.0, 0.0)), "speeds"),
        (lambda: series.TimeWarp(num_changes=-1), "num_changes"),
        (lambda: series.Permutation(max_segments=1), "max_segments"),
        (lambda: series.HiddenContinuous(num_spans=0), "num_spans"),
        (lambda: series.OverlappingCrops(min_length=0), "min_length"),
        (lambda: series.Compose(()), "ops"),
        (lambda: series.Compose([series.Flip()]), "ops"),  # type: ignore[arg-type]
        (lambda: series.OneOf((series.Flip(),), weights=(1.0, 2.0)), "weights"),
        (lambda: series.OneOf((series.Flip(),), weights=(0.0,)), "weights"),
        (lambda: series.OneOf((series.Flip(), series.Flip()), weights=(2.0, -1.0)), "weights"),
        (lambda: series.MixtureAugment(()), "ops"),
        (lambda: series.MixtureAugment((series.Flip(),), num_views=0), "num_views"),
        (lambda: series.MixtureAugment((series.Flip(),), temperature=0.0), "temperature"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        make()


def test_bad_input_is_refused() -> None:
    x, op = data(), series.Jitter()
    gap = windows()
    gap[4, 9] = False
    for valid in (gap, windows().int(), windows()[:, :-1]):
        with pytest.raises(ValueError, match="^valid: "):
            op(x, seeded(), valid=valid)
    for wrong in (x[0], x.long(), x.half()):
        with pytest.raises(ValueError, match="^x: "):
            op(wrong, seeded())


@every
def test_nothing_is_read_back_from_the_device(name: str) -> None:
    # Tensors of the meta device have no values: reading one, or mixing devices, raises.
    x = data().to("meta")
    for valid in (None, windows().to("meta")):
        for p in (0.5, torch.full((B,), 0.5)):
            view = OPS[name](p=p)(x, seeded(), valid=valid)
            assert view.apply(x).device == x.device
            assert view.hide(x).device == x.device
    pair = series.OverlappingCrops()(x, seeded(), valid=windows().to("meta"))
    assert pair.overlap(pair.first.apply(x), pair.second.apply(x))[0].shape == x.shape
