"""Views against the definition in loops, and their composition against doing one after the other."""

from __future__ import annotations

import cmath
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nearfar.augment.series import ViewParams

B, T, F = 3, 7, 2


def read(row: list[float], u: float) -> float:
    low = math.floor(u)
    return row[low] if u == low else row[low] + (u - low) * (row[low + 1] - row[low])


def slow(x: list[float], view: dict[str, list[complex]]) -> list[float]:
    """The definition for one row and feature, one number at a time."""
    steps = range(len(x))
    y = [(view["gain"][t] * read(x, view["index"][t].real) + view["offset"][t]).real for t in steps]
    half = len(x) // 2 + 1
    spectrum = [sum(y[t] * cmath.exp(-2j * cmath.pi * k * t / len(x)) for t in steps) for k in range(half)]
    out = []
    for t in steps:
        total = 0.0
        for k in range(half):
            twice = 1 if k == 0 or 2 * k == len(x) else 2
            wave = cmath.exp(2j * cmath.pi * k * t / len(x))
            total += twice * (view["phi"][k] * spectrum[k] * wave).real / len(x)
        out.append(total)
    return out


def draw(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def random_view(rng: torch.Generator, *, whole: bool, steps: int = T) -> ViewParams:
    index = torch.randint(0, steps, (B, steps), generator=rng)
    fraction = torch.rand(B, steps, generator=rng, dtype=torch.float64)
    return ViewParams(
        index=index if whole else (index - fraction).clamp(min=0),
        gain=draw(rng, B, steps, 1),
        offset=draw(rng, B, steps, F),
        hidden_mask=torch.rand(B, steps, 1, generator=rng) < 0.5,
    )


def same(a: Tensor | None, b: Tensor | None) -> bool:
    assert a is not None
    assert b is not None
    return torch.equal(a, b)


def gains(rng: torch.Generator, steps: int = T) -> Tensor:
    phi = torch.complex(draw(rng, B, steps // 2 + 1, 1), draw(rng, B, steps // 2 + 1, 1))
    phi.imag[:, 0] = 0
    phi.imag[:, -1] *= steps % 2
    return phi


@pytest.mark.parametrize("steps", [6, 7])
def test_equals_the_definition(steps: int, rng: torch.Generator) -> None:
    x = draw(rng, B, steps, F)
    view = replace(random_view(rng, whole=False, steps=steps), frequency_gain=gains(rng, steps))
    got = view.apply(x)
    assert view.index is not None
    assert view.gain is not None
    assert view.offset is not None
    assert view.frequency_gain is not None
    for b in range(B):
        for f in range(F):
            row = {
                "index": view.index[b].tolist(),
                "gain": view.gain[b, :, 0].tolist(),
                "offset": view.offset[b, :, f].tolist(),
                "phi": view.frequency_gain[b, :, 0].tolist(),
            }
            assert got[b, :, f].tolist() == pytest.approx(slow(x[b, :, f].tolist(), row), abs=1e-12)


def test_nothing_to_do_is_the_same_tensor(rng: torch.Generator) -> None:
    x = torch.randn(B, T, F, generator=rng)
    assert ViewParams().apply(x) is x
    neutral = ViewParams(
        index=torch.arange(T).expand(B, T).float(),
        gain=torch.ones(1, 1, 1),
        offset=torch.zeros(1, 1, 1),
        frequency_gain=torch.ones(1, T // 2 + 1, 1),
    )
    assert torch.equal(neutral.apply(x), x)


@pytest.mark.parametrize("left", ["index", "gain", "offset", "hidden_mask", None])
@pytest.mark.parametrize("right", ["index", "gain", "offset", "hidden_mask", None])
def test_composition_is_exact_for_whole_maps(
    left: str | None, right: str | None, rng: torch.Generator
) -> None:
    x = draw(rng, B, T, F)
    first, second = random_view(rng, whole=True), random_view(rng, whole=True)
    first = replace(first, **({left: None} if left else {}))  # each field missing once, on either side
    second = replace(second, **({right: None} if right else {}))
    both = first.then(second)
    assert both.previous is None
    torch.testing.assert_close(both.apply(x), second.apply(first.apply(x)), rtol=0, atol=1e-13)
    masks = [view.hidden_mask for view in (first, second) if view.hidden_mask is not None]
    if masks:
        assert same(both.hidden_mask, torch.stack(masks).all(0))
    else:
        assert both.hidden_mask is None


def test_whole_maps_in_floating_point_compose_alike(rng: torch.Generator) -> None:
    x = draw(rng, B, T, F)
    first, second = random_view(rng, whole=True), random_view(rng, whole=True)
    assert second.index is not None
    assert first.index is not None
    floating = replace(second, index=second.index.double())
    assert torch.equal(first.then(second).apply(x), first.then(floating).apply(x))
    fractional = replace(first, index=(first.index - 0.25).clamp(min=0))
    one_after_the_other = second.apply(fractional.apply(x))
    torch.testing.assert_close(fractional.then(second).apply(x), one_after_the_other, rtol=0, atol=1e-13)


def test_composition_is_associative_for_whole_maps(rng: torch.Generator) -> None:
    x = draw(rng, B, T, F)
    a, b, c = (random_view(rng, whole=True) for _ in range(3))
    b = replace(b, frequency_gain=gains(rng))
    one, other = a.then(b).then(c), a.then(b.then(c))
    torch.testing.assert_close(one.apply(x), other.apply(x), rtol=0, atol=1e-12)
    assert same(one.hidden_mask, other.hidden_mask)


def test_fractional_composition_is_the_documented_formula(rng: torch.Generator) -> None:
    first, second = random_view(rng, whole=False), random_view(rng, whole=False)
    both = first.then(second)
    for b in range(B):
        u1, u2 = first.index[b].tolist(), second.index[b].tolist()  # type: ignore[index]
        g1, g2 = first.gain[b, :, 0].tolist(), second.gain[b, :, 0].tolist()  # type: ignore[index]
        assert both.index[b].tolist() == pytest.approx([read(u1, u) for u in u2])  # type: ignore[index]
        expected = [read(g1, u) * g for u, g in zip(u2, g2, strict=True)]
        assert both.gain[b, :, 0].tolist() == pytest.approx(expected)  # type: ignore[index]
        for f in range(F):
            o1, o2 = first.offset[b, :, f].tolist(), second.offset[b, :, f].tolist()  # type: ignore[index]
            expected = [read(o1, u) * g + o for u, g, o in zip(u2, g2, o2, strict=True)]
            assert both.offset[b, :, f].tolist() == pytest.approx(expected)  # type: ignore[index]


def test_fractional_composition_is_not_the_sequence() -> None:
    # Interp(G1 x, 1/2) = (1 * 1 + 3 * 3) / 2, but Interp(G1, 1/2) Interp(x, 1/2) = 2 * 2.
    x = torch.tensor([[[1.0], [3.0]]])
    first = ViewParams(gain=torch.tensor([[[1.0], [3.0]]]))
    second = ViewParams(index=torch.tensor([[0.5, 0.5]]))
    assert second.apply(first.apply(x)).flatten().tolist() == [5.0, 5.0]
    assert first.then(second).apply(x).flatten().tolist() == [4.0, 4.0]


def test_frequency_gains_multiply_or_start_a_stage(rng: torch.Generator) -> None:
    x = draw(rng, B, T, F)
    low, high = ViewParams(frequency_gain=gains(rng)), ViewParams(frequency_gain=gains(rng))
    timed = random_view(rng, whole=True)
    assert low.then(high).previous is None
    assert timed.then(low).previous is None
    staged = low.then(timed)
    assert staged.previous is not None
    assert same(staged.hidden_mask, timed.hidden_mask)
    hidden = random_view(rng, whole=True).hidden_mask
    assert hidden is not None
    assert timed.hidden_mask is not None
    assert same(replace(low, hidden_mask=hidden).then(timed).hidden_mask, hidden & timed.hidden_mask)
    chain = timed.then(low).then(timed).then(high).then(low).then(timed)
    expected = x
    for view in (timed, low, timed, high, low, timed):
        expected = view.apply(expected)
    for got, want in ((low.then(high), high.apply(low.apply(x))), (staged, timed.apply(low.apply(x)))):
        torch.testing.assert_close(got.apply(x), want, rtol=0, atol=1e-12)
    torch.testing.assert_close(chain.apply(x), expected, rtol=0, atol=1e-11)


def test_filters_beside_padding_do_not_fuse(rng: torch.Generator) -> None:
    x = draw(rng, B, T, F)
    valid = torch.arange(T).expand(B, T) < 5
    low = ViewParams(frequency_gain=gains(rng), valid=valid)
    high = ViewParams(frequency_gain=gains(rng), valid=valid)
    torch.testing.assert_close(low.then(high).apply(x), high.apply(low.apply(x)), rtol=0, atol=1e-12)
    moved = ViewParams(gain=draw(rng, B, T, 1)).then(low)
    assert moved.valid is valid
    x[~valid] = torch.nan
    assert moved.apply(x)[valid].isfinite().all()


def test_hide_puts_zeros_in_place_of_nan() -> None:
    states = torch.tensor([[[torch.nan, 1.0], [2.0, 3.0]]])
    view = ViewParams(hidden_mask=torch.tensor([[[False], [True]]]))
    assert view.hide(states).tolist() == [[[0.0, 0.0], [2.0, 3.0]]]
    assert ViewParams().hide(states) is states


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_gradients_of_every_field(kind: str, rng: torch.Generator) -> None:
    x = draw(rng, B, T, F)
    index = (torch.rand(B, T, generator=rng, dtype=torch.float64) * 0.8 + 0.1) + 3
    gain, offset = draw(rng, B, T, 1), draw(rng, B, T, F)
    phi = gains(rng) if kind == "complex" else draw(rng, B, T // 2 + 1, 1)

    def apply(*fields: Tensor) -> Tensor:
        view = ViewParams(index=fields[1], gain=fields[2], offset=fields[3], frequency_gain=fields[4])
        return view.apply(fields[0])

    inputs = [tensor.requires_grad_() for tensor in (x, index, gain, offset, phi)]
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradcheck(lambda x: apply(x, *[t.detach() for t in inputs[1:]]), (inputs[0],))


def test_fields_that_do_not_fit_are_named(rng: torch.Generator) -> None:
    x = torch.zeros(B, T, F)
    for name, field in (
        ("index", torch.zeros(B, T + 1)),
        ("gain", torch.zeros(B, T - 1, 1)),
        ("offset", torch.zeros(T, F)),
        ("frequency_gain", torch.zeros(B, T, 1)),
        ("valid", torch.ones(B, F, dtype=torch.bool)),
    ):
        with pytest.raises(ValueError, match=f"^{name}: "):
            ViewParams(**{name: field}).apply(x)  # type: ignore[arg-type]
    for wrong in (torch.zeros(B, T), torch.zeros(B, T, F, dtype=torch.int64), torch.zeros(B, 0, F)):
        with pytest.raises(ValueError, match="^x: "):
            ViewParams().apply(wrong)
