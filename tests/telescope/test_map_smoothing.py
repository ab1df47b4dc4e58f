"""Smoothing of maps: a Gaussian that keeps what it smooths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from melotte.errors import MelotteValueError
from melotte.telescope.map_smoothing import smoothed


@pytest.mark.parametrize(("boundary", "mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_it_is_scipys_filter(boundary: str, mode: str, generator: torch.Generator) -> None:
    maps = torch.rand(2, 30, 47, generator=generator, dtype=torch.float64)
    ours = smoothed(maps, 2.5, boundary)  # pyright: ignore[reportArgumentType]
    for found, one in zip(ours, maps, strict=True):
        assert np.allclose(found, ndimage.gaussian_filter(one.numpy(), 2.5, mode=mode))


def test_the_total_is_conserved_by_mirrors_alone(generator: torch.Generator) -> None:
    maps = torch.zeros(1, 160, 160)
    maps[0, 3, 100] = 5.0
    assert float(smoothed(maps).sum()) == pytest.approx(5, rel=1e-5)
    assert float(smoothed(maps, boundary="zero").sum()) < 4.5


def test_variances_of_kernels_add(generator: torch.Generator) -> None:
    maps = torch.rand(1, 60, 60, generator=generator, dtype=torch.float64)
    twice = smoothed(smoothed(maps, 3.0), 4.0)
    assert torch.allclose(twice, smoothed(maps, 5.0), atol=1e-4)


def test_a_kernel_wider_than_the_map_leaves_its_mean(generator: torch.Generator) -> None:
    maps = torch.rand(1, 9, 7, generator=generator, dtype=torch.float64)
    assert torch.allclose(smoothed(maps, 40.0), maps.mean().expand(1, 9, 7), rtol=1e-3)
    assert torch.equal(smoothed(maps, 0.0), maps)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(MelotteValueError, match="sigma must be 0"):
        smoothed(torch.ones(1, 4, 4), -1.0)
    with pytest.raises(MelotteValueError, match="boundary must be"):
        smoothed(torch.ones(1, 4, 4), 1.0, "wrap")  # pyright: ignore[reportArgumentType]
