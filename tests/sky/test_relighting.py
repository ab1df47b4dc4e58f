"""Stars relit at another metallicity: the light of a true population of it."""

import pytest
import torch

from melotte.sky.isochrones import StellarGrid
from melotte.sky.relighting import magnitude_shifts

BANDS = ("Bessell_V", "Bessell_B")
KINDS = {-1: 1, 0: 1, 2: 3, 3: 4, 4: 5, 5: 6}


@pytest.fixture(scope="module")
def grid():
    return StellarGrid.shipped(BANDS)


def one(value):
    return torch.tensor([value], dtype=torch.float64)


class Population:
    """All masses of Kroupa's law, each with its number, at one age and metallicity."""

    def __init__(self, grid, log_age, metallicity):
        # Fine enough for the giants, whose masses differ by one part in ten thousand.
        mass = torch.logspace(-1, 0.9, 400_001, dtype=torch.float64)
        number = torch.where(mass < 0.5, 2 * mass**-0.3, mass**-1.3)
        stars = grid.evolve(mass, one(log_age), one(metallicity))
        self.alive, self.number = stars.alive, number
        self.magnitude = grid.magnitudes(stars, 0.0, BANDS, one(metallicity))
        self.mass = stars.current_mass.float()
        self.kind = torch.full(mass.shape, 13)
        for phase, kind in KINDS.items():
            self.kind[stars.phase == phase] = kind

    def light(self, magnitude):
        flux = (10 ** (-0.4 * magnitude) * self.number[:, None])[self.alive].sum(0)
        return -2.5 * torch.log10(flux)


@pytest.mark.parametrize("log_age", [8.9, 9.3, 9.7, 10.12])
@pytest.mark.parametrize(("metallicity", "shift"), [(-1.5, 0.3), (-1.0, -0.3), (-0.5, -0.3)])
def test_relit_populations_have_the_light_of_true_ones(grid, log_age, metallicity, shift):
    before = Population(grid, log_age, metallicity)
    true = Population(grid, log_age, metallicity + shift)
    found = magnitude_shifts(grid, one(log_age), one(metallicity), one(metallicity + shift), BANDS)[
        0
    ].of(before.mass, before.kind, before.magnitude[:, 0].float())
    wanted = true.light(true.magnitude)
    relit = before.light(before.magnitude + found)
    assert float((relit - wanted)[0].abs()) < 0.05
    colours = [float(light[1] - light[0]) for light in (before.light(before.magnitude), wanted)]
    assert float(relit[1] - relit[0]) == pytest.approx(colours[1], abs=0.02)
    if log_age > 9:  # younger clusters' colours hardly tell their metals
        assert abs(colours[1] - colours[0]) > 0.02


def test_the_same_metallicity_changes_nothing_and_remnants_stay(grid):
    before = Population(grid, 10.0, -1.0)
    shifts = magnitude_shifts(grid, one(10.0), one(-1.0), one(-1.0), BANDS)[0]
    found = shifts.of(before.mass, before.kind, before.magnitude[:, 0].float())
    assert float(found.abs().max()) < 1e-5
    shifts = magnitude_shifts(grid, one(10.0), one(-1.0), one(-0.5), BANDS)[0]
    white_dwarfs = shifts.of(torch.ones(3), torch.tensor([10, 11, 14]), torch.zeros(3))
    assert not bool(white_dwarfs.any())
    gap = shifts.of(torch.ones(1), torch.tensor([2]), torch.tensor([3.0]))
    assert torch.equal(gap, shifts.of(torch.ones(1), torch.tensor([3]), torch.tensor([3.0])))


def test_many_clusters_at_once_are_each_by_themselves(grid):
    ages, iron = torch.tensor([9.2, 10.1]).double(), torch.tensor([-0.6, -1.8]).double()
    both = magnitude_shifts(grid, ages, iron, iron + 0.2, BANDS)
    for i in range(2):
        alone = magnitude_shifts(
            grid, ages[i : i + 1], iron[i : i + 1], iron[i : i + 1] + 0.2, BANDS
        )[0]
        torch.testing.assert_close(both[i].dwarf, alone.dwarf)
