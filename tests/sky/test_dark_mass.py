"""Velocities of stars beside dark mass: Jeans' equation, the virial theorem, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from melotte.errors import MelotteValueError
from melotte.sky.dark_mass import ForceShells, plummer_share_within
from melotte.sky.monte_carlo.equilibria import Plummer
from melotte.sky.monte_carlo.units import GRAVITY

HALF_MASS = 3.0
SCALE = HALF_MASS / 1.30477
TOTAL = 5e4


@pytest.fixture(scope="module")
def cluster():
    """Radii and squared velocities of Plummer's model in equilibrium."""
    n = 60_000
    radius, along, across = Plummer(HALF_MASS).draw(n, TOTAL, np.random.default_rng(4))
    shells = ForceShells.measure(radius, np.full(n, TOTAL / n), np.full(n, True), HALF_MASS)
    return radius, along**2 + across**2, shells


def factors(shells, radius, ratio, scale):
    found = shells.velocity_factors(
        torch.tensor([ratio]),
        torch.tensor([scale]),
        torch.from_numpy(radius).float(),
        torch.zeros(len(radius), dtype=torch.long),
    )
    return found.double().numpy()


@pytest.mark.parametrize(("ratio", "scale"), [(0.05, 0.0), (0.3, 1.0), (0.5, 6.0), (5.0, 20.0)])
def test_the_virial_theorem_holds_with_the_dark_mass(cluster, ratio, scale):
    radius, squares, shells = cluster
    found = factors(shells, radius, ratio, scale)
    order = np.argsort(radius)
    within = np.empty(len(radius))
    within[order] = (np.arange(len(radius)) + 0.5) / len(radius)
    dark = ratio * plummer_share_within(torch.from_numpy(radius), torch.tensor(scale)).numpy()
    # Twice the kinetic energy is the virial of both masses, a unit of stellar mass.
    before = squares.mean() / (GRAVITY * TOTAL * within / radius).mean()
    after = (squares * found**2).mean() / (GRAVITY * TOTAL * (within + dark) / radius).mean()
    assert before == pytest.approx(1, abs=0.01)
    assert after == pytest.approx(1, abs=0.015)
    assert (squares * found**2).mean() > 1.02 * squares.mean()


def test_mass_that_follows_the_stars_raises_all_velocities_alike(cluster):
    radius, _, shells = cluster
    found = factors(shells, radius, 0.44, SCALE)
    middle = (radius > 0.3 * HALF_MASS) & (radius < 5 * HALF_MASS)
    np.testing.assert_allclose(found[middle], 1.2, rtol=0.01)


@pytest.mark.parametrize(("ratio", "scale"), [(0.02, 0.0), (0.4, 5.0)])
def test_the_factor_is_that_of_jeans_integrals(cluster, ratio, scale):
    _, _, shells = cluster

    def integral(low, share):
        def integrand(s):
            density = (1 + (s / SCALE) ** 2) ** -2.5
            return density * share(s) / s**2

        return quad(integrand, low, math.inf, limit=200)[0]

    for radius in (0.5, 1.5, 4.0, 10.0):
        stars = integral(radius, lambda s: (1 + (SCALE / s) ** 2) ** -1.5)
        dark = integral(radius, lambda s: (1 + (scale / s) ** 2) ** -1.5)
        expected = math.sqrt(1 + ratio * dark / stars)
        found = factors(shells, np.array([radius]), ratio, scale)[0]
        assert found - 1 == pytest.approx(expected - 1, rel=0.06)


def test_a_black_hole_shows_in_the_middle_and_a_halo_outside(cluster):
    _, _, shells = cluster
    places = np.array([0.1, 20.0])
    hole = factors(shells, places, 0.02, 0.0)
    halo = factors(shells, places, 0.3, 15.0)
    assert hole[0] > 1.5 > 1.02 > hole[1] > 1
    assert halo[1] > 1.05 > 1.005 > halo[0] >= 1
    assert factors(shells, places, 0.0, 1.0).tolist() == [1, 1]


def test_beyond_the_last_bright_star_the_masses_themselves_count():
    radius = np.array([1.0, 1.0, 2.0])
    shells = ForceShells.measure(radius, np.ones(3), np.array([True, True, False]), 1.0)
    found = factors(shells, np.array([10.0, 1e-9]), 0.21, 0.0)
    assert found[0] == pytest.approx(1.1)
    assert np.isfinite(found).all()


def test_clusters_keep_their_own_factors():
    generator = np.random.default_rng(1)
    parts = []
    for size in (1.0, 4.0):
        radius, _, _ = Plummer(size).draw(4000, TOTAL, generator)
        parts.append(ForceShells.measure(radius, np.ones(4000), np.full(4000, True), size))
    both = ForceShells.join(parts)
    places = torch.tensor([0.5, 0.5, 3.0])
    found = both.velocity_factors(
        torch.tensor([0.1, 0.3]), torch.tensor([0.0, 2.0]), places, torch.tensor([0, 1, 1])
    )
    for number, (ratio, scale, chosen) in enumerate([(0.1, 0.0, [0]), (0.3, 2.0, [1, 2])]):
        alone = factors(both.select(torch.tensor([number])), places[chosen].numpy(), ratio, scale)
        np.testing.assert_allclose(found[chosen].numpy(), alone, rtol=1e-5)


def test_no_bright_star_is_an_error():
    with pytest.raises(MelotteValueError, match="bright"):
        ForceShells.measure(np.ones(3), np.ones(3), np.zeros(3, dtype=bool), 1.0)
