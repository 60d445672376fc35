"""Crops against resizing one image at a time, colours against formulas by hand and the standard library."""

from __future__ import annotations

import colorsys
import math
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.augment import images as augment
from nearfar.augment.images import color_jitter, flip, grayscale, padded_crop, resized_crop, two_views
from nearfar.optional import installed

needs_kornia = pytest.mark.skipif(
    not installed("kornia"), reason='needs kornia: pip install "nearfar[images]"'
)
QUIET = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def batch(num: int = 6, height: int = 9, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(num, 3, height, width, generator=generator, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [None, (5, 20)])
def test_crop_equals_cutting_and_resizing_each(
    size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = batch()
    boxes = []

    def spy(*args: object) -> tuple[Tensor, ...]:
        boxes.append(original(*args))  # type: ignore[arg-type]
        return boxes[-1]

    original = augment._boxes
    monkeypatch.setattr(augment, "_boxes", spy)
    out = resized_crop(x, seeded(), size=size)
    target = size or (9, 12)
    assert out.shape == (6, 3, *target)
    for image, view, *box in zip(x, out, *boxes[0], strict=True):
        top, left, height, width = (int(value) for value in box)
        cut = image[:, top : top + height, left : left + width]
        assert cut.shape == (3, height, width)
        expected = F.interpolate(cut[None], target, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-12)


def test_boxes_follow_the_law() -> None:
    # Large, so that rounding to pixels does not show.
    x = torch.empty(1, 1, 1, 1).expand(4_000, 1, 1_000, 1_000)
    top, left, height, width = augment._boxes(x, seeded(), (0.2, 0.5), (3 / 4, 4 / 3))
    area, log_aspect = (height * width / 1e6).flatten(), (width / height).log().flatten()
    assert area.min() >= 0.199
    assert area.max() <= 0.501
    assert area.mean().item() == pytest.approx(0.35, abs=5 * 0.3 / 12**0.5 / 4_000**0.5)
    assert area.var().item() == pytest.approx(0.09 / 12, rel=0.06)
    assert log_aspect.mean().item() == pytest.approx(0, abs=5 * 2 * math.log(4 / 3) / 12**0.5 / 4_000**0.5)
    assert log_aspect.abs().max().item() == pytest.approx(math.log(4 / 3), abs=0.01)
    assert torch.corrcoef(torch.stack([area, log_aspect]))[0, 1].abs() < 0.08
    for start, extent in ((top, height), (left, width)):
        place = start / (1_000 - extent)
        assert place.min() >= 0
        assert place.max() <= 1
        assert place.mean().item() == pytest.approx(0.5, abs=5 / 12**0.5 / 4_000**0.5)


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 30), (0, 9, 8, 12)), ((30, 6), (11, 0, 8, 6)), ((10, 10), (0, 0, 10, 10))]
)
def test_what_remains_if_no_box_fits(shape: tuple[int, int], expected: tuple[int, ...]) -> None:
    # The whole area in an allowed shape fits into none of these; of the square, a little less than all.
    aspect = (1.2, 1.5) if shape == (8, 30) else (0.75, 0.8) if shape == (30, 6) else (1.0, 1.0)
    box = augment._boxes(torch.zeros(3, 1, *shape), seeded(), (1.0, 1.0), aspect)
    assert [int(value[0]) for value in box] == list(expected)


def test_boxes_stay_inside_small_images() -> None:
    x = torch.zeros(5_000, 1, 3, 2)
    top, left, height, width = augment._boxes(x, seeded(), (0.08, 1.0), (3 / 4, 4 / 3))
    for start, extent, whole in ((top, height, 3), (left, width, 2)):
        assert (start >= 0).all()
        assert (extent >= 1).all()
        assert (start + extent <= whole).all()


def test_whole_crop_is_the_image() -> None:
    x = batch(height=8, width=8)
    assert torch.equal(resized_crop(x, seeded(), scale=(1.0, 1.0), aspect=(1.0, 1.0)), x)
    mixed = resized_crop(x, seeded(), p=torch.tensor([0.0, 1.0] * 3))
    assert torch.equal(mixed[::2], x[::2])
    assert not torch.equal(mixed[1::2], x[1::2])


def test_flip() -> None:
    x = batch()
    assert torch.equal(flip(x, seeded(), p=1.0), x.flip(-1))
    many = torch.tensor([0.0, 1.0]).expand(20_000, 1, 1, 2)
    share = (flip(many, seeded())[:, 0, 0, 0] == 1).double().mean().item()
    assert share == pytest.approx(0.5, abs=5 * 0.5 / 20_000**0.5)


def test_grayscale_weights() -> None:
    x = batch()
    expected = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    out = grayscale(x, seeded(), p=1.0)
    for channel in range(3):
        torch.testing.assert_close(out[:, channel], expected, rtol=0, atol=1e-7)


def test_brightness_is_one_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    x = batch(num=4_000, height=2, width=2) * 0.5
    out = color_jitter(x, seeded(), **(QUIET | {"brightness": 0.8}), p=1.0)
    factor = (out / x).flatten(1)
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert factor.min() >= 0.2
    assert factor.max() <= 1.8
    assert factor[:, 0].mean().item() == pytest.approx(1, abs=5 * 1.6 / 12**0.5 / 4_000**0.5)
    assert factor[:, 0].var().item() == pytest.approx(1.6**2 / 12, rel=0.06)
    strong = color_jitter(x, seeded(), **(QUIET | {"brightness": 2.0}), p=1.0)
    assert strong.min() >= 0  # from 0 to 3
    assert strong.max() == 1


def gray(x: Tensor) -> Tensor:
    return 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]


@pytest.mark.parametrize("which", ["contrast", "saturation"])
def test_contrast_and_saturation_are_distances_from_grey(which: str) -> None:
    x = 0.4 + 0.2 * batch(num=500)  # far from the ends: nothing is clamped
    out = color_jitter(x, seeded(), **(QUIET | {which: 0.5}), p=1.0)
    centre = gray(x)[:, None] if which == "saturation" else gray(x).mean((1, 2))[:, None, None, None]
    factor = ((out - centre) * (x - centre)).sum((1, 2, 3)) / (x - centre).square().sum((1, 2, 3))
    torch.testing.assert_close(out, centre + factor[:, None, None, None] * (x - centre), rtol=0, atol=1e-6)
    assert factor.min() >= 0.5
    assert factor.max() <= 1.5
    assert factor.std().item() == pytest.approx(1 / 12**0.5, rel=0.1)


@needs_kornia
def test_hue_is_that_of_the_standard_library() -> None:
    x = batch(num=20, height=3, width=3)
    out = color_jitter(x, seeded(), **(QUIET | {"hue": 0.5}), p=1.0)
    turns = []
    for image, view in zip(x, out, strict=True):
        pixels = list(zip(image.flatten(1).T.tolist(), view.flatten(1).T.tolist(), strict=True))
        old, new = ([colorsys.rgb_to_hsv(*pixel[side]) for pixel in pixels] for side in (0, 1))
        turn = [(b[0] - a[0] + 0.5) % 1 - 0.5 for a, b in zip(old, new, strict=True)]
        spread = [(value - turn[0] + 0.5) % 1 - 0.5 for value in turn]
        assert max(map(abs, spread)) < 1e-5  # one turn an image
        for before, after in zip(old, new, strict=True):
            assert after[1:] == pytest.approx(before[1:], abs=1e-5)
        turns.append(turn[0])
    assert max(turns) - min(turns) > 0.3


@needs_kornia
def test_jitter_by_hand_in_its_order() -> None:
    x = batch(num=8)
    generator = seeded(3)
    out = color_jitter(x, seeded(3), p=0.5)
    applied = torch.rand(8, 1, 1, 1, generator=generator) < 0.5

    def factor() -> Tensor:
        return 0.2 + 1.6 * torch.rand(8, 1, 1, 1, generator=generator).double()

    view = (x * factor()).clamp(0, 1)
    mean = gray(view).mean((1, 2))[:, None, None, None]
    view = (mean + factor() * (view - mean)).clamp(0, 1)
    view = (gray(view)[:, None] + factor() * (view - gray(view)[:, None])).clamp(0, 1)
    turn = (2 * torch.rand(8, generator=generator).double() - 1) * 0.2
    for row in range(8):
        if not applied[row]:
            assert torch.equal(out[row], x[row])
            continue
        for i in range(9):
            for j in range(12):
                hue, saturation, value = colorsys.rgb_to_hsv(*view[row, :, i, j].tolist())
                expected = colorsys.hsv_to_rgb((hue + turn[row].item()) % 1, saturation, value)
                assert out[row, :, i, j].tolist() == pytest.approx(expected, abs=1e-5)
    assert 0 < applied.sum() < 8


@needs_kornia
def test_two_views() -> None:
    x = batch(num=50, height=16, width=16).float()
    before = x.clone()
    first, second = two_views(x, seeded(), size=(8, 10))
    again = two_views(x, seeded(), size=(8, 10))
    assert first.shape == second.shape == (50, 3, 8, 10)
    assert torch.equal(x, before)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)
    for view in (first, second):
        assert view.dtype == torch.float32
        assert view.min() >= 0
        assert view.max() <= 1
    colourless = (first.amax(1) - first.amin(1)).amax((1, 2)) < 1e-6
    assert 0 < colourless.double().mean() < 0.5
    weak, _ = two_views(x, seeded(), strength=0.0, scale=(1.0, 1.0))
    straight = (weak - x).abs().amax((1, 2, 3)) < 1e-6
    mirrored = (weak - x.flip(3)).abs().amax((1, 2, 3)) < 1e-6
    grey = (weak.amax(1) - weak.amin(1)).amax((1, 2)) < 1e-6
    assert (straight | mirrored | grey).double().mean() > 0.2


OPS: dict[str, Callable[..., Tensor]] = {
    "resized_crop": resized_crop,
    "flip": flip,
    "grayscale": grayscale,
    "color_jitter": lambda *args, **options: color_jitter(*args, hue=0.0, **options),
}


@pytest.mark.parametrize("name", OPS)
def test_promises_of_all(name: str) -> None:
    x = batch()
    before = x.clone()
    some = OPS[name](x, seeded(), p=0.5)
    assert torch.equal(x, before)
    assert torch.equal(some, OPS[name](x, seeded(), p=0.5))
    assert any(not torch.equal(some, OPS[name](x, seeded(seed), p=0.5)) for seed in range(1, 9))
    assert torch.equal(OPS[name](x, seeded(), p=0.0), x)
    single = OPS[name](x.float(), seeded(), p=0.5)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), some, rtol=0, atol=1e-5)
    small = 0.3 + 0.2 * x[:2, :, :4, :5]
    small.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: OPS[name](x, seeded(2), p=1.0), (small,))
    for wrong in (x[0], x.mul(255).byte(), x[:, :, :0]):
        with pytest.raises(ValueError, match="^images: "):
            OPS[name](wrong, seeded())
    with pytest.raises(ValueError, match="^p: "):
        OPS[name](x, seeded(), p=-0.5)
    if name in ("grayscale", "color_jitter"):
        with pytest.raises(ValueError, match=r"^images: .*\(B, 3, H, W\)"):
            OPS[name](x[:, :2], seeded())


@needs_kornia
def test_nothing_is_read_back_from_the_device() -> None:
    # Tensors of the meta device have no values: reading one, or mixing devices, raises.
    first, _ = two_views(batch().to("meta"), seeded(), jitter_p=torch.full((6,), 0.5))
    assert first.device.type == "meta"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("scale", lambda x: resized_crop(x, seeded(), scale=(0.0, 1.0))),
        ("scale", lambda x: resized_crop(x, seeded(), scale=(0.5, 1.1))),
        ("aspect", lambda x: resized_crop(x, seeded(), aspect=(2.0, 1.0))),
        ("size", lambda x: resized_crop(x, seeded(), size=(0, 3))),
        ("brightness", lambda x: color_jitter(x, seeded(), brightness=-0.1)),
        ("hue", lambda x: color_jitter(x, seeded(), hue=0.6)),
        ("strength", lambda x: two_views(x, seeded(), strength=3.0)),
    ],
)
def test_bad_settings_are_refused(name: str, call: Callable[[Tensor], object]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        call(batch())


def test_kornia_is_imported_only_for_hue() -> None:
    program = (
        "import sys, torch; from nearfar.augment import images\n"
        "x = torch.rand(2, 3, 4, 4, generator=torch.Generator())\n"
        "images.color_jitter(images.resized_crop(x, torch.Generator()), torch.Generator(), hue=0.0)\n"
        "assert not {'kornia', 'torchvision'} & set(sys.modules)\n"
    )
    if installed("kornia"):
        program += (
            "images.two_views(x, torch.Generator())\nassert 'kornia' in sys.modules\n"
            "assert 'torchvision' not in sys.modules\n"
        )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_padded_crop_equals_padding_and_cutting() -> None:
    x = batch(num=400, height=3, width=4)
    padded = F.pad(x, (2, 2, 2, 2))
    places = []
    for i, view in enumerate(padded_crop(x, seeded(), padding=2)):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(padded[i, :, top : top + 3, left : left + 4], view)
        ]
        assert len(found) == 1
        places += found
    # 25 places, 16 images each on average.
    counts = torch.bincount(torch.tensor([top * 5 + left for top, left in places]), minlength=25)
    assert (counts > 0).all()
    assert ((counts - 16).double().square() / 16).sum() < 24 + 5 * 48**0.5


def test_padded_crop_of_nothing_and_of_less() -> None:
    x = batch()
    before = x.clone()
    assert torch.equal(padded_crop(x, seeded(), padding=0), x)
    padded_crop(x, seeded(), padding=3)
    assert torch.equal(x, before)
    single = padded_crop(x.float(), seeded(5), padding=3)
    torch.testing.assert_close(single.double(), padded_crop(x, seeded(5), padding=3), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="padding: at least 0 expected, got -1"):
        padded_crop(x, seeded(), padding=-1)
