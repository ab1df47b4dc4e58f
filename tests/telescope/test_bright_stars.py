"""The brightest stars of maps, and the noise that their small number makes."""

from __future__ import annotations

import pytest
import torch

from melotte.ragged import Ragged
from melotte.telescope.bright_stars import brightest_stars, sampling_noise
from melotte.telescope.cluster_maps import MapGrid
from melotte.telescope.projected_stars import Pointing, ProjectedStars

GRID = MapGrid(40, 40)


def stars_of(*lights: list[float], spread: float = 0.0) -> ProjectedStars:
    """Clusters whose stars stand in a row, one pixel apart (at 206.3 kpc, 0.25 arcsec: 0.25 pc)."""
    sets = []
    for light in lights:
        rows = torch.zeros(len(light), 5)
        rows[:, 0] = 0.25 * torch.arange(len(light)) + spread
        rows[:, 2] = torch.tensor(light)
        rows[:, 3] = 1
        sets.append(rows)
    return ProjectedStars.of(Ragged.pack(sets))


POINTING = Pointing.of(2, 206.265)


def test_they_are_found_in_order_and_on_the_map_alone() -> None:
    stars = stars_of([1.0, 8.0, 2.0, 4.0], [3.0])
    far = stars.position.clone()
    far[1, 0] = 1e3
    stars = ProjectedStars(far, stars.luminosity, stars.mass, stars.velocity, stars.offsets)
    found = brightest_stars(stars, POINTING, GRID, n_bright=4)
    assert found.star.tolist() == [[3, 2, 0, -1], [4, -1, -1, -1]]
    assert found.luminosity[0].tolist() == [4, 2, 1, 0]
    assert found.share[0].tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])
    assert found.share[1, 0] == 1
    assert found.pixel[0, 0].tolist() == pytest.approx([22.5, 19.5], abs=1e-4)
    assert found.pixel[1, 1].isnan().all()


def test_the_mask_covers_circles_around_them() -> None:
    found = brightest_stars(stars_of([1.0, 2.0], []), POINTING, GRID, n_bright=2)
    mask = found.mask(GRID, torch.tensor([3.0, 3.0]))
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    expected = torch.zeros(40, 40, dtype=torch.bool)
    for column in (19.5, 20.5):
        expected |= (rows - 19.5) ** 2 + (columns - column) ** 2 <= 9
    assert torch.equal(mask[0], expected)
    assert not mask[1].any()
    each = found.mask(GRID, torch.tensor([[0.0, 3.0], [0.0, 3.0]]))
    assert 0 < int(each.sum()) < int(mask.sum())


def test_the_stated_noise_is_that_of_new_draws(generator: torch.Generator) -> None:
    light = 10 ** torch.randn(60, generator=generator)
    stated = float(sampling_noise(stars_of(light.tolist()))[0, 0])
    # Each star is there a Poisson number of times.
    times = torch.poisson(torch.ones(4000, 60), generator=generator)
    totals = (times * light).sum(1)
    assert stated == pytest.approx(float(totals.std() / light.sum()), rel=0.06)
    # Equal stars scatter as the root of their number, unequal ones more.
    equal = float(sampling_noise(stars_of([1.0] * 60))[0, 0])
    assert equal == pytest.approx(60**-0.5, rel=1e-5)
    assert stated > 1.3 * equal


def test_chosen_stars_alone_make_the_noise() -> None:
    stars = stars_of([1.0, 1.0, 10.0, 10.0])
    noise = sampling_noise(stars, torch.tensor([True, True, False, False]))
    assert float(noise) == pytest.approx(2**-0.5)
    assert sampling_noise(stars_of([])).isnan().all()
