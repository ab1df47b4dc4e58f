"""Pan-STARRS magnitudes as Johnson's."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.isochrones import StellarGrid
from melotte.telescope.panstarrs import (
    KOSTOV_BONEV_2018,
    KOSTOV_BONEV_2018_QUADRATIC,
    TONRY_2012,
    johnson_maps,
)

RELATIONS = (KOSTOV_BONEV_2018, KOSTOV_BONEV_2018_QUADRATIC, TONRY_2012)
COLOUR = torch.linspace(0.0, 1.2, 25, dtype=torch.float64)


@pytest.mark.parametrize("relation", RELATIONS)
def test_there_and_back(relation) -> None:
    r = torch.full_like(COLOUR, 17.0)
    g, back = relation.panstarrs(*relation.johnson(r + COLOUR, r))
    assert torch.allclose(g, r + COLOUR, atol=1e-9)
    assert torch.allclose(back, r, atol=1e-9)


@pytest.mark.parametrize("relation", RELATIONS[1:])
def test_published_relations_agree(relation) -> None:
    r = torch.full_like(COLOUR, 17.0)
    b, v = relation.johnson(r + COLOUR, r)
    other_b, other_v = KOSTOV_BONEV_2018.johnson(r + COLOUR, r)
    assert float((b - other_b).abs().max()) < 0.055
    assert float((v - other_v).abs().max()) < 0.045


@pytest.mark.parametrize("relation", RELATIONS)
def test_stars_of_an_old_isochrone_follow_them(relation) -> None:
    bands = ["Bessell_B", "Bessell_V", "PS_g", "PS_r"]
    isochrone = StellarGrid.shipped(bands).isochrone(10.08, -1.5)
    b, v, g, r = torch.tensor(isochrone.magnitudes(bands)).unbind(1)
    found_b, found_v = relation.johnson(g, r)
    assert abs(float((found_b - b).median())) < 0.07
    assert abs(float((found_v - v).median())) < 0.05
    # Magnitudes of the other system, about 0.1 mag off in either band, would be noticed.
    assert abs(float((relation.johnson(g + 0.1, r - 0.15)[0] - b).median())) > 0.07


def test_errors_are_those_of_perturbed_magnitudes(generator: torch.Generator) -> None:
    relation = KOSTOV_BONEV_2018_QUADRATIC
    n = 40_000
    g, r = torch.full((n,), 17.6), torch.full((n,), 17.0)
    noise = torch.randn(2, n, generator=generator)
    drawn = relation.johnson(g + 0.03 * noise[0], r + 0.02 * noise[1])
    stated = relation.johnson_errors(g[:1], r[:1], torch.full((1,), 0.03), torch.full((1,), 0.02))
    for values, error, scatter in zip(
        drawn, stated, (relation.scatter_b, relation.scatter_v), strict=True
    ):
        expected = (float(values.std()) ** 2 + scatter**2) ** 0.5
        assert float(error) == pytest.approx(expected, rel=0.02)


def test_maps_of_one_colour_turn_like_stars(generator: torch.Generator) -> None:
    shape = torch.rand(1, 30, 30, generator=generator) + 0.2
    g, r = torch.tensor(20.4), torch.tensor(19.8)
    flux = torch.stack([shape * 10 ** (-0.4 * (m - 25)) for m in (g, r)], 1)
    found = johnson_maps(flux)
    b, v = KOSTOV_BONEV_2018.johnson(g, r)
    for band, magnitude in enumerate((v, b)):
        expected = shape * 10 ** (-0.4 * (magnitude - 25))
        assert torch.allclose(found[:, band], expected, rtol=1e-4)


def test_colours_are_local_and_noise_does_not_make_them_wild(generator: torch.Generator) -> None:
    flux = torch.ones(1, 2, 60, 60)
    flux[:, 1, :, 30:] *= 2
    found = johnson_maps(flux)[0, 0]
    blue, red = found[:, 0].mean(), found[:, -1].mean()
    assert float(red / blue) == pytest.approx(10 ** (0.4 * 0.508 * 0.7526), rel=1e-3)
    noisy = flux + 2 * torch.randn(flux.shape, generator=generator)
    spread = (johnson_maps(noisy)[0, 0] - noisy[0, 0]).std() / noisy[0, 0].std()
    assert float(spread) < 0.5
    assert bool(johnson_maps(torch.zeros(1, 2, 8, 8)).isfinite().all())
    with pytest.raises(MelotteValueError, match="maps in g and r"):
        johnson_maps(torch.ones(1, 3, 8, 8))
