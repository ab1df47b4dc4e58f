"""Masks cover what they are meant to, and nothing far from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.telescope.masks import circle_mask, ellipse_mask, saturated_mask, sky_mask

SHAPE = (60, 80)


def distance(x: float, y: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    return torch.hypot(columns - x, rows - y)


def test_circles_hold_every_pixel_within_their_radius() -> None:
    x, y = torch.tensor([20.3, 78.0, -2.0]), torch.tensor([30.0, 2.0, 20.0])
    radius = torch.tensor([7.5, 4.0, 5.0])
    wanted = torch.stack([distance(a, b) <= r for a, b, r in zip(x, y, radius, strict=True)]).any(0)
    assert torch.equal(circle_mask(SHAPE, x, y, radius), wanted)
    assert wanted.sum() > 150


def test_circles_outside_unknown_or_of_no_size_mask_nothing() -> None:
    x = torch.tensor([-50.0, math.nan, 30.0, 200.0])
    radius = torch.tensor([9.0, 9.0, 0.0, 9.0])
    assert not circle_mask(SHAPE, x, torch.full((4,), 30.0), radius).any()
    with pytest.raises(MelotteValueError, match="-1 px; it must be at least 0"):
        circle_mask(SHAPE, x, x, torch.tensor(-1.0))


def test_an_ellipse_turns_with_its_angle_and_has_its_area() -> None:
    one = [torch.tensor([40.0]), torch.tensor([30.0]), torch.tensor(20.0), torch.tensor(5.0)]
    for angle in (0.0, 0.6, math.pi / 2):
        mask = ellipse_mask(SHAPE, *one, torch.tensor(angle))
        assert mask.sum().item() == pytest.approx(math.pi * 100, rel=0.04)
        rows, columns = mask.nonzero().T.double()
        covariance = np.cov(torch.stack([columns, rows]).numpy())
        turned = 0.5 * math.atan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1])
        assert math.sin(2 * (turned - angle)) == pytest.approx(0, abs=0.02)
        assert math.cos(turned - angle) ** 2 == pytest.approx(1, abs=0.01)


def test_sky_positions_are_masked_by_angle() -> None:
    def to_pixel(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (ra - 10) * 3600 / 0.05, (dec - 41) * 3600 / 0.05

    ra = torch.tensor([10 + 40 * 0.05 / 3600], dtype=torch.float64)
    dec = torch.tensor([41 + 30 * 0.05 / 3600], dtype=torch.float64)
    mask = sky_mask(SHAPE, ra, dec, torch.tensor(0.51), to_pixel, 0.05)
    assert torch.equal(mask, distance(40, 30) <= 10.2)
    with pytest.raises(MelotteValueError, match="pixel_scale 0 arcsec"):
        sky_mask(SHAPE, ra, dec, torch.tensor(0.5), to_pixel, 0.0)


def test_saturation_in_any_band_is_masked_with_its_surroundings() -> None:
    images = torch.zeros(2, *SHAPE)
    images[1, 30, 40] = 500.0
    images[0, 10, 10] = 90.0
    images[0, 5, 70] = math.nan
    assert torch.equal(saturated_mask(images, (100.0, 400.0), grow=4), distance(40, 30) <= 4)
    both = saturated_mask(images, 80.0, grow=0)
    assert both.nonzero().tolist() == [[10, 10], [30, 40]]
    assert not saturated_mask(images, 1000.0).any()
    with pytest.raises(MelotteValueError, match="one for each of 2 bands"):
        saturated_mask(images, (1.0, 2.0, 3.0))
    with pytest.raises(MelotteValueError, match="grow -1 px"):
        saturated_mask(images, 80.0, grow=-1)


def test_larger_cores_lose_wider_surroundings() -> None:
    image = torch.zeros(SHAPE)
    image[distance(20, 30) <= 2] = 100.0
    image[distance(60, 30) <= 6] = 100.0
    plain = saturated_mask(image, 50.0, grow=2)
    wide = saturated_mask(image, 50.0, grow=2, core_factor=1.0)
    assert (wide | plain).equal(wide)
    grown = (wide & ~plain).float()
    assert grown[:, 40:].sum() > 2 * grown[:, :40].sum() > 0
