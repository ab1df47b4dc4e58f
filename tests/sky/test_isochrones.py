from __future__ import annotations

import pytest
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky import isochrone_tables
from melotte.sky.isochrones import Stars, StellarGrid
from melotte.sky.stars import DEAD

GRID = StellarGrid.shipped()


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def assert_same(first: Stars, second: Stars, tolerance: float = 1e-5) -> None:
    assert torch.equal(first.alive, second.alive)
    assert torch.equal(first.phase, second.phase)
    for name in ("log_luminosity", "log_teff", "log_g", "current_mass"):
        a, b = getattr(first, name), getattr(second, name)
        assert torch.allclose(a, b, atol=tolerance, rtol=0), name


def test_ranges() -> None:
    assert GRID.log_age_range == pytest.approx((5.0, 10.3))
    assert GRID.metallicity_range == pytest.approx((-2.5, 0.5))
    assert len(GRID.bands) == 33


def test_the_sun() -> None:
    """1 Msun at 4.57 Gyr: MIST's Sun, calibrated to 5772 K and 1 Lsun without rotation."""
    sun = GRID.evolve(column(1.0), column(9.66), column(0.0))
    assert float(sun.log_luminosity) == pytest.approx(0, abs=0.04)
    assert float(10**sun.log_teff) == pytest.approx(5772, abs=80)
    assert float(sun.log_g) == pytest.approx(4.438, abs=0.02)
    assert int(sun.phase) == 0


@pytest.mark.parametrize(
    ("log_age", "tip"), [(7.0, 19.3026), (8.0, 5.3127), (9.0, 2.3064), (10.0, 1.0366)]
)
def test_lifetimes(log_age: float, tip: float) -> None:
    """Heaviest living stars, as in PARSEC 1.2S (CMD 3.7, [M/H] = 0)."""
    found = float(GRID.maximum_mass(column(log_age), column(0.0)))
    assert found == pytest.approx(tip, rel=0.03)
    assert float(GRID.isochrone(log_age, 0.0).initial_mass[-1]) == pytest.approx(found)


def test_both_algorithms_agree(generator: torch.Generator) -> None:
    """Whole isochrones searched at once, against bisection star by star."""
    n = isochrone_tables.SHARED_FROM
    log_age = column(6.63, 7.0, 8.137, 9.41, 10.1)
    metallicity = column(-0.6, 0.0, 0.44, -2.31, -1.0)
    tip = GRID.maximum_mass(log_age, metallicity)
    mass = 0.09 + (1.05 * tip - 0.09) * torch.rand(5, n, generator=generator, dtype=torch.float64)
    mass[:, : n // 2] = tip * (1 - 0.1 * torch.rand(5, n // 2, generator=generator) ** 4)
    shared = GRID.evolve(mass, log_age, metallicity)
    each = GRID.evolve(mass, log_age.expand_as(mass).contiguous(), metallicity)
    assert_same(shared, each)
    assert 0.5 < float(shared.alive.double().mean()) < 1
    assert set(shared.phase.unique().tolist()) >= {0, 2, 3, 4, 5, DEAD}


def test_batched_is_single(generator: torch.Generator) -> None:
    mass = 0.1 + 3 * torch.rand(3, 700, generator=generator, dtype=torch.float64)
    log_age, metallicity = column(8.2, 8.9, 9.77), column(0.1, -1.1, -0.3)
    together = GRID.evolve(mass, log_age, metallicity)
    for i in range(3):
        alone = GRID.evolve(mass[i], log_age[i], metallicity[i])
        assert_same(together.select(i), alone, 1e-6)


def test_field_stars_with_own_ages(generator: torch.Generator) -> None:
    """(n, 1) masses with (n, 1) ages give each star what it gets alone."""
    mass = 0.2 + torch.rand(40, 1, generator=generator, dtype=torch.float64)
    log_age = 8 + 2 * torch.rand(40, 1, generator=generator, dtype=torch.float64)
    metallicity = -1 + torch.rand(40, 1, generator=generator, dtype=torch.float64)
    together = GRID.evolve(mass, log_age, metallicity)
    assert together.shape == (40, 1)
    for i in (0, 17, 39):
        assert_same(together.select(i), GRID.evolve(mass[i], log_age[i], metallicity[i]), 1e-6)


def test_isochrone_points_are_found_again() -> None:
    isochrone = GRID.isochrone(8.77, -0.13)
    mass = torch.from_numpy(isochrone.initial_mass)
    stars = GRID.evolve(mass, column(8.77)[0], column(-0.13)[0])
    assert bool(stars.alive.all())
    for name in ("log_luminosity", "log_teff", "current_mass", "log_g"):
        expected = torch.from_numpy(getattr(isochrone, name))
        assert torch.allclose(getattr(stars, name), expected, atol=1e-4), name
    assert (isochrone.phase[:-1] == stars.phase[:-1].numpy()).mean() > 0.99


@pytest.mark.parametrize(("age_step", "metallicity_step"), [(0.05, 0.0), (0.0, 0.25)])
def test_linear_between_nodes(age_step: float, metallicity_step: float) -> None:
    """At fixed EEP, a star midway between nodes is the mean of those at the nodes."""
    age, metallicity = 8.5, -0.5
    low = GRID.isochrone(age, metallicity)
    high = GRID.isochrone(age + age_step, metallicity + metallicity_step)
    middle = GRID.isochrone(age + age_step / 2, metallicity + metallicity_step / 2)
    for eep in (300, 450, 600, 700, 1000):
        at = [int((one.eep == eep).argmax()) for one in (low, middle, high)]
        for name in ("initial_mass", "log_luminosity", "log_teff"):
            a, b, c = (
                float(getattr(one, name)[i]) for one, i in zip((low, middle, high), at, strict=True)
            )
            assert b == pytest.approx((a + c) / 2, abs=1e-5), (eep, name)


def test_continuous_in_age_and_metallicity() -> None:
    """No jump where a node is crossed: main-sequence stars move smoothly."""
    mass = column(0.3, 0.7, 0.9).T
    ages = torch.linspace(8.9, 9.6, 1401, dtype=torch.float64)[:, None]
    stars = GRID.evolve(mass, ages, torch.full_like(ages, 0.07))
    assert stars.log_luminosity.diff(dim=0).abs().max() < 1e-3
    metallicities = torch.linspace(-2.5, 0.5, 3001, dtype=torch.float64)[:, None]
    stars = GRID.evolve(mass, torch.full_like(metallicities, 9.0), metallicities)
    assert stars.log_luminosity.diff(dim=0).abs().max() < 2e-3


@pytest.mark.parametrize("n_stars", [3, 500])
def test_death_at_the_tip(n_stars: int) -> None:
    log_age, metallicity = column(8.0), column(0.0)
    tip = float(GRID.maximum_mass(log_age, metallicity))
    mass = torch.full((1, n_stars), 0.5, dtype=torch.float64)
    mass[0, :3] = torch.tensor([tip * 0.9999, tip, tip * 1.001], dtype=torch.float64)
    stars = GRID.evolve(mass, log_age, metallicity)
    assert stars.alive[0, :3].tolist() == [True, True, False]
    assert stars.log_luminosity[0, 2] == -torch.inf
    assert stars.current_mass[0, 2] == 0
    assert int(stars.phase[0, 2]) == DEAD
    assert torch.isfinite(stars.log_teff).all()
    magnitudes = GRID.magnitudes(stars, column(0.3), ["V", "I"], metallicity)
    assert torch.isinf(magnitudes[0, 2]).all()
    assert (magnitudes[0, 2] > 0).all()
    assert torch.isfinite(magnitudes[0, :2]).all()


def test_single_precision_tip_is_alive() -> None:
    """A tip mass rounded to float32 must not count as beyond the tip."""
    log_age = torch.linspace(6.5, 10.2, 60)[:, None]
    metallicity = torch.zeros_like(log_age)
    tip = GRID.maximum_mass(log_age, metallicity).float()
    assert bool(GRID.evolve(tip, log_age, metallicity).alive.all())


@pytest.mark.parametrize("n_stars", [2, 400])
def test_below_the_lowest_mass(n_stars: int) -> None:
    """Luminosity goes on falling, with slope 2 in the mass; the star lives."""
    log_age, metallicity = column(9.0), column(0.0)
    lowest = float(GRID.minimum_mass(log_age, metallicity))
    assert lowest == pytest.approx(0.1)
    mass = torch.full((1, n_stars), lowest, dtype=torch.float64)
    mass[0, 1] = 0.08
    stars = GRID.evolve(mass, log_age, metallicity)
    assert bool(stars.alive.all())
    fall = float(stars.log_luminosity[0, 0] - stars.log_luminosity[0, 1])
    assert fall == pytest.approx(2 * float(torch.log10(torch.tensor(lowest / 0.08))), abs=1e-6)
    assert float(stars.current_mass[0, 1]) == pytest.approx(0.08, rel=1e-3)


@pytest.mark.parametrize("metallicity", [-2.5, -1.1, 0.0, 0.37, 0.5])
@pytest.mark.parametrize("log_age", [6.6, 7.33, 8.0, 9.27, 10.12])
def test_masses_rise_and_start_low(log_age: float, metallicity: float) -> None:
    """Every isochrone of use reaches down to 0.15 Msun, [Fe/H] = 0.5 included."""
    isochrone = GRID.isochrone(log_age, metallicity)
    assert (isochrone.initial_mass[1:] > isochrone.initial_mass[:-1]).all()
    assert isochrone.initial_mass[0] < 0.15
    assert (isochrone.current_mass <= isochrone.initial_mass * 1.001).all()


@pytest.mark.parametrize("n_stars", [1, 500])
@pytest.mark.parametrize(
    ("log_age", "metallicity", "message"),
    [
        (10.4, 0.0, r"log_age 10\.4 is outside the isochrones' range, \[5, 10\.3\]"),
        (4.0, 0.0, "log_age 4 is outside"),
        (8.0, 0.7, r"metallicity \[Fe/H\] 0\.7 is outside .* \[-2\.5, 0\.5\]"),
        (float("nan"), 0.0, "log_age nan is outside"),
        (8.0, float("nan"), r"metallicity \[Fe/H\] nan is outside"),
    ],
)
def test_outside_the_grid(n_stars: int, log_age: float, metallicity: float, message: str) -> None:
    with pytest.raises(MelotteValueError, match=message):
        GRID.evolve(torch.ones(1, n_stars), column(log_age), column(metallicity))


def test_shipped_grid_is_shared_and_restricted() -> None:
    bands = ["Gaia_G_EDR3", "V"]
    assert StellarGrid.shipped(bands) is StellarGrid.shipped(bands)
    assert StellarGrid.shipped(bands).bands == ("Gaia_G_EDR3", "Bessell_V")
    stars = GRID.evolve(column(1.0), column(9.0), column(0.0))
    with pytest.raises(MelotteValueError, match="no band 'B'"):
        StellarGrid.shipped(bands).magnitudes(stars, 0.0, ["B"], 0.0)
