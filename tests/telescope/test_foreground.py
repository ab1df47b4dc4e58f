"""Field stars in front of and behind clusters."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.sky.apparent_field_stars import ApparentFieldStars
from melotte.sky.isochrones import StellarGrid
from melotte.telescope.cluster_maps import MapGrid, mass_map, render_light, star_sums
from melotte.telescope.foreground import field_stars, placed_field_stars
from melotte.telescope.map_noise import apparent_flux
from melotte.telescope.projected_stars import Pointing

BANDS = ["Bessell_V", "Bessell_B"]


@pytest.fixture(scope="module")
def library() -> ApparentFieldStars:
    seeded = torch.Generator().manual_seed(4)
    return ApparentFieldStars.of_the_disc(StellarGrid.shipped(BANDS), BANDS, 20_000, seeded)


def test_the_library_is_sorted_and_within_its_limit(library: ApparentFieldStars) -> None:
    v, b = library.magnitude.unbind(1)
    assert bool((v.diff() >= 0).all())
    assert float(v[-1]) < 24
    # Disc stars near V = 18 are G and K dwarfs.
    near = (v > 17) & (v < 19)
    assert 0.5 < float((b - v)[near].median()) < 1.5


def test_counts_rise_as_those_of_the_disc(library: ApparentFieldStars) -> None:
    counts = [library.count_brighter(m) for m in (14.0, 16.0, 18.0, 20.0)]
    steps = [one / two for one, two in zip(counts[1:], counts[:-1], strict=True)]
    # In an endless even field each 2 mag would bring 10^1.2 = 16 times as many; the disc ends.
    assert all(1.2 < step < 16 for step in steps)
    assert steps[0] > steps[1] > steps[2]


def test_low_latitudes_look_deeper_into_the_disc() -> None:
    grid, brightness = StellarGrid.shipped(BANDS), []
    for latitude in (10.0, 80.0):
        seeded = torch.Generator().manual_seed(5)
        one = ApparentFieldStars.of_the_disc(grid, BANDS, 4000, seeded, latitude)
        brightness.append(float(one.magnitude[: len(one.magnitude) // 2, 0].median()))
    assert brightness[0] > brightness[1]
    with pytest.raises(MelotteValueError, match="latitude"):
        ApparentFieldStars.of_the_disc(grid, BANDS, 10, seeded, 0.0)


def test_their_number_is_that_of_the_density(
    library: ApparentFieldStars, generator: torch.Generator
) -> None:
    grid, n = MapGrid(160, 160), 300
    pointing = Pointing.of(n, 30.0, (3.0, -2.0))
    density = torch.full((n,), 5.0)
    stars = field_stars(library, density, 20.0, pointing, grid, generator)
    bright = apparent_flux(stars.luminosity[:, :, None, None], pointing.distance[stars.cluster])
    below = (bright[:, :1, 0, 0] > 10**2).float()
    counts = star_sums(below, stars, pointing, grid).sum((1, 2, 3))
    expected = 5 * (160 * 0.25 / 60) ** 2
    assert float(counts.mean()) == pytest.approx(expected, rel=0.15)
    assert float(counts.var()) == pytest.approx(expected, rel=0.35)


def test_they_are_as_bright_as_they_are_and_weigh_nothing(generator: torch.Generator) -> None:
    magnitudes = Ragged(torch.tensor([[18.0, 19.0], [21.0, 21.5]]), torch.tensor([0, 1, 2]))
    grid = MapGrid(64, 64, surroundings=0)
    pointing = Pointing.of(2, torch.tensor([10.0, 80.0]), psf_fwhm=0.5)
    stars = placed_field_stars(magnitudes, pointing, grid, generator)
    # Were they in the middle, all but the wings would be on the map.
    stars.position.zero_()
    flux = apparent_flux(render_light(stars, pointing, grid), pointing.distance)
    found = 25 - 2.5 * torch.log10(flux.sum((2, 3)))
    assert torch.allclose(found, magnitudes.values, atol=5e-3)
    assert float(mass_map(stars, pointing, grid).sum()) == 0


def test_densities_must_not_be_negative(
    library: ApparentFieldStars, generator: torch.Generator
) -> None:
    with pytest.raises(MelotteValueError, match="densities must be 0 or more"):
        field_stars(library, torch.tensor([-1.0]), 20.0, Pointing.of(1, 30.0), MapGrid(), generator)
    with pytest.raises(MelotteValueError, match="no field star of the library is brighter"):
        library.draw(torch.ones(1), -10.0, generator)
