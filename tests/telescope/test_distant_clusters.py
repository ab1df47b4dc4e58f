"""Maps of clusters in other galaxies: a few pixels wide, sharper than the pixels."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.telescope.cluster_maps import MapGrid, render_light
from melotte.telescope.projected_stars import ARCSEC_PER_RADIAN, Pointing, ProjectedStars

SIZE, CELLS, BETA = 32, 15, 2.5


def direct_sum(place: torch.Tensor, light: torch.Tensor, fwhm: float, pixel: float):
    """Moffat profiles summed over fine cells of each pixel."""
    radius = fwhm / (2 * math.sqrt(2 ** (1 / BETA) - 1))
    cells = (torch.arange(SIZE * CELLS).double() + 0.5) / CELLS - SIZE / 2
    image = torch.zeros(SIZE * CELLS, SIZE * CELLS, dtype=torch.float64)
    for (x, y), one in zip(place.double(), light.double(), strict=True):
        squared = (cells * pixel - x).square() + (cells * pixel - y).square()[:, None]
        image += one * (1 + squared / radius**2) ** -BETA
    image *= (BETA - 1) / (math.pi * radius**2) * (pixel / CELLS) ** 2
    return image.view(SIZE, CELLS, SIZE, CELLS).sum((1, 3))


@pytest.mark.parametrize(("fwhm", "pixel", "error"), [(0.08, 0.1, 0.01), (0.12, 0.06, 1e-3)])
def test_a_cluster_of_a_few_pixels_at_10_mpc(fwhm, pixel, error):
    generator = torch.Generator().manual_seed(2)
    place = 1.5 * pixel * torch.randn(30, 2, generator=generator)
    light = torch.rand(30, generator=generator)
    parsec = place * 1e7 / ARCSEC_PER_RADIAN
    stars = ProjectedStars(
        parsec, light[:, None], torch.ones(30), torch.zeros(30), torch.tensor([0, 30])
    )
    pointing = Pointing.of(1, 10_000.0, (0.0, 0.0), fwhm, pixel)
    found = render_light(stars, pointing, MapGrid(SIZE, SIZE))[0, 0].double()
    expected = direct_sum(place, light, fwhm, pixel)
    assert float((found - expected).abs().max() / expected.max()) < error
    assert float(found.sum() / expected.sum()) == pytest.approx(1, abs=5e-4)
