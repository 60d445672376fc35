"""Images: views in [0, 1] by their law, moves and flips, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.adapters import ImageInputs, representations
from nearfar.encoders import SmallCNN, Standardised, resnet32
from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, installed
from nearfar.runtime import generator


def pictures(channels: int = 3, n: int = 6, size: int = 10) -> Tensor:
    return torch.rand(n, channels, size, size, generator=generator(0, "images"))


@pytest.mark.parametrize("channels", [1, 3])
def test_views_differ_stay_in_range_and_repeat(channels: int) -> None:
    x = pictures(channels)
    before, inputs = x.clone(), ImageInputs(x, noise=0.1)
    first = inputs.two_views(x, generator(3, "views"))
    again = inputs.two_views(x, generator(3, "views"))
    other = inputs.two_views(x, generator(4, "views"))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.shape == x.shape
        assert a.min() >= 0
        assert a.max() <= 1
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert not torch.equal(*first)
    assert torch.equal(x, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_draws_do_not_depend_on_the_precision(channels: int) -> None:
    x = pictures(channels)
    inputs = ImageInputs(x)
    single = (inputs.weak(x, generator(0, "w")), *inputs.two_views(x, generator(0, "v")))
    double = (inputs.weak(x.double(), generator(0, "w")), *inputs.two_views(x.double(), generator(0, "v")))
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)


def test_one_channel_is_as_three_equal_ones_without_colour() -> None:
    x = pictures(1)
    one = ImageInputs(x, grey=0).two_views(x, generator(0, "views"))
    for view in one:
        assert view.shape[1] == 1
    # A grey picture of three channels has the same crops, flips, brightness and contrast; saturation shows nothing.
    # Its jitter draws one factor more, so compare the first view only.
    wide = x.expand(-1, 3, -1, -1)
    three = ImageInputs(wide, grey=0).two_views(wide, generator(0, "views"))
    torch.testing.assert_close(three[0], one[0].expand(-1, 3, -1, -1), rtol=0, atol=1e-5)


def test_nothing_is_left_of_a_view_that_changes_nothing() -> None:
    x = pictures(1, size=8)
    inputs = ImageInputs(x, scale=(1.0, 1.0), strength=0, flips=False)
    # The crop of the whole area may still be taller or wider; where it is not, the picture is as before.
    same = 0
    for view in inputs.two_views(x, generator(1, "views")):
        same += sum(torch.allclose(a, b, atol=1e-6) for a, b in zip(view, x, strict=True))
    assert same > 0


def test_weak_changes_are_moves_and_flips() -> None:
    x = pictures(3, n=200, size=5) + 0.01
    inputs = ImageInputs(x.clamp(max=1), padding=1)
    x = inputs.rows(torch.arange(200))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    flipped, places = 0, set()
    for i, view in enumerate(inputs.weak(x, generator(0, "weak"))):
        boxes = {
            (top, left, mirrored): padded[i, :, top : top + 5, left : left + 5].flip(2)
            if mirrored
            else padded[i, :, top : top + 5, left : left + 5]
            for top in range(3)
            for left in range(3)
            for mirrored in (False, True)
        }
        found = [key for key, box in boxes.items() if torch.equal(box, view)]
        assert len(found) == 1
        places.add(found[0][:2])
        flipped += found[0][2]
    assert len(places) == 9
    assert 65 <= flipped <= 135


def test_digits_are_not_mirrored() -> None:
    x = pictures(1)
    assert torch.equal(ImageInputs(x, flips=False, padding=0).weak(x, generator(0, "weak")), x)


def test_bytes_stay_bytes_in_memory() -> None:
    x = np.arange(2 * 3 * 8 * 8, dtype=np.uint32).astype(np.uint8).reshape(2, 3, 8, 8)
    inputs = ImageInputs(x)
    assert inputs.images.dtype == torch.uint8
    batch = inputs.rows(torch.tensor([1, 0]))
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch.numpy(), x[::-1].astype(np.float32) / 255)


def test_mix() -> None:
    x, order = pictures(), torch.tensor([5, 4, 3, 2, 1, 0])
    assert torch.equal(ImageInputs(x).mix(x, order, torch.tensor(0.5)), 0.5 * x + 0.5 * x.flip(0))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8)), r"got \(2, 8, 8\); channels come first.*images\[:, None\]"),
        (np.zeros((2, 8, 8, 3)), r"got \(2, 8, 8, 3\)"),
        (np.full((2, 1, 8, 8), 16.0), "values in .0, 1. expected, got 16 to 16"),
        (np.zeros((2, 1, 8, 8), dtype=int), "floating point in .0, 1. or uint8 expected, got torch.int64"),
        (np.full((2, 1, 8, 8), np.nan), "images: nan in image 0, channel 0, row 0, column 0"),
    ],
)
def test_images_that_are_refused(images: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageInputs(images)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scale": (0.5, 0.2)}, r"scale: 0 < least <= largest <= 1 expected, got \(0.5, 0.2\)"),
        ({"strength": 3.0}, "strength: 0 to 2.5 expected, got 3.0"),
        ({"hue": 0.6}, "hue: 0 to 0.5 expected"),
        ({"grey": 2}, "grey: 0 to 1 expected"),
        ({"padding": -1}, "padding: 0 to"),
    ],
)
def test_settings_that_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageInputs(pictures(), **setting)


@pytest.mark.skipif(not installed("kornia"), reason=f"needs kornia: {PACKAGES['kornia'].command}")
def test_hue_turns_colours() -> None:
    x = pictures()
    plain = ImageInputs(x).two_views(x, generator(0, "views"))[0]
    turned = ImageInputs(x, hue=0.2).two_views(x, generator(0, "views"))[0]
    assert not torch.equal(plain, turned)


@pytest.mark.parametrize(
    "encoder", [SmallCNN(3), resnet32(), Standardised(SmallCNN(3), [0.5] * 3, [0.2] * 3)]
)
def test_end_to_end(encoder: Any) -> None:
    inputs = ImageInputs((pictures() * 255).to(torch.uint8))
    z = representations(encoder, inputs, batch_size=4)
    assert z.shape == (6, encoder.dim)
    alone = representations(encoder, inputs, torch.tensor([5]))
    torch.testing.assert_close(alone, z[5:], rtol=1e-4, atol=1e-5)
