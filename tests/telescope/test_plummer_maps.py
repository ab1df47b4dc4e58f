"""Maps of Plummer's spheres beside integrals, points and drawn stars."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import dblquad

from melotte.telescope.cluster_maps import MapGrid
from melotte.telescope.plummer_maps import plummer_map
from melotte.telescope.projected_stars import ARCSEC_PER_RADIAN, Pointing

GRID = MapGrid(12, 16)


def test_pixels_are_integrals_of_the_projected_density():
    pointing = Pointing.of(1, 10.0, (0.3, -0.2), 1.0, 0.5)
    pixel = 0.5 * 10_000 / ARCSEC_PER_RADIAN
    scale = 3.3 * pixel
    found = plummer_map(torch.tensor([100.0]), torch.tensor([scale]), pointing, GRID)[0]
    centre = (7.5 + 0.3 / 0.5, 5.5 - 0.2 / 0.5)
    for row, column in ((5, 8), (0, 0), (11, 3)):

        def density(y, x):
            squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
            return 100 * 3.3**2 / (torch.pi * (3.3**2 + squared) ** 2)

        ends = (column - 0.5, column + 0.5, row - 0.5, row + 0.5)
        assert float(found[row, column]) == pytest.approx(dblquad(density, *ends)[0], rel=1e-4)


def test_a_point_fills_one_pixel():
    pointing = Pointing.of(2, torch.tensor([10.0, 5000.0]), (1.3, -1.6), 1.0, 0.5)
    found = plummer_map(torch.tensor([50.0, 70.0]), torch.zeros(2), pointing, GRID)
    # Columns from 7.5 + 1.3 / 0.5 = 10.1, rows from 5.5 - 3.2 = 2.3.
    assert found[0, 2, 10] == pytest.approx(50, rel=1e-5)
    assert found[1, 2, 10] == pytest.approx(70, rel=1e-5)
    torch.testing.assert_close(found.sum((1, 2)), torch.tensor([50.0, 70.0]))


def test_a_map_holds_what_is_within_it():
    wide = MapGrid(200, 200)
    pointing = Pointing.of(1, 10.0, (0.0, 0.0), 1.0, 1.0)
    scale = 5 * 10_000 / ARCSEC_PER_RADIAN
    found = plummer_map(torch.ones(1), torch.tensor([scale]), pointing, wide)
    # Beyond a projected radius R of Plummer's sphere lies 1 / (1 + R^2 / a^2) of it.
    assert 1 - 1 / 401 < float(found.sum()) < 1 - 1 / 801
