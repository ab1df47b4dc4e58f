"""The potential of shells and orbits in it, against sums and laws."""

import numpy as np
import pytest

pytest.importorskip("numba")

from melotte.sky.monte_carlo.equilibria import King, Plummer
from melotte.sky.monte_carlo.orbits import ROOM, draw_position, turning_points
from melotte.sky.monte_carlo.potential import (
    potential_between,
    potential_of_shells,
    shell_below,
    shell_within,
    strong_deflection_radius,
    total_energy,
)
from melotte.sky.monte_carlo.units import GRAVITY


@pytest.fixture(scope="module")
def cluster():
    """Two thousand stars of a Plummer sphere: shells and their potential."""
    generator = np.random.default_rng(3)
    mass = generator.uniform(0.5, 1.5, 2000)
    begin = Plummer(1.0).draw(2000, mass.sum(), generator)
    order = np.argsort(begin[0])
    shells = np.vstack([begin, mass])[:, order]
    potential = np.empty(2000)
    total = potential_of_shells(shells[0], shells[3], 2000, 0.0, potential)
    return np.ascontiguousarray(shells), potential, total


@pytest.mark.parametrize("softening", [0.0, 0.05])
def test_the_potential_is_the_sum_over_pairs(cluster, softening):
    shells, _, _ = cluster
    radius, mass = shells[0], shells[3]
    potential = np.empty(2000)
    total = potential_of_shells(radius, mass, 2000, softening, potential)
    larger = np.maximum(np.maximum(radius[:, None], radius[None]), softening)
    summed = -GRAVITY * (mass[None] / larger).sum(1)
    np.testing.assert_allclose(potential, summed, rtol=1e-12)
    assert total == pytest.approx(mass.sum())
    for place in (0.01, 0.3, 2.0, 1e3):
        below = shell_below(place, radius, 2000)
        found = potential_between(place, below, radius, softening, potential, 2000, total)
        exact = -GRAVITY * (mass / np.maximum(np.maximum(radius, place), softening)).sum()
        assert found == pytest.approx(exact, rel=1e-12)


def test_the_shell_below_a_radius_is_found_from_any_start(cluster):
    radius = cluster[0][0]
    places = np.r_[0.0, radius[0], radius[700], np.geomspace(1e-3, 1e3, 50)]
    expected = np.searchsorted(radius, places, "right") - 1
    for place, below in zip(places, expected, strict=True):
        assert shell_below(place, radius, 2000) == below
        for low in (-1, below // 2, below):
            for high in (below + 1, min(below + 30, 2000), 2000):
                assert shell_within(place, radius, low, high) == below


def test_the_energy_is_that_of_pairs(cluster):
    shells, _, _ = cluster
    kinetic, binding = total_energy(shells, 2000, 0.0)
    larger = np.maximum(shells[0][:, None], shells[0][None])
    pairs = GRAVITY * shells[3][:, None] * shells[3][None] / larger
    np.fill_diagonal(pairs, 0.0)
    assert binding == pytest.approx(-0.5 * pairs.sum(), rel=1e-12)
    assert kinetic == pytest.approx(0.5 * (shells[3] * (shells[1] ** 2 + shells[2] ** 2)).sum())


def test_shells_of_no_mass_of_their_own_orbit_a_point_as_kepler_says():
    # A heavy star at the centre and light ones far out: an orbit in between is an ellipse.
    radius = np.array([1e-6, 1.0, 500.0, 1000.0])
    mass = np.array([1000.0, 1e-9, 1e-9, 1e-9])
    potential = np.empty(4)
    total = potential_of_shells(radius, mass, 4, 0.0, potential)
    axis, eccentricity = 1.25, 0.6
    energy = -GRAVITY * 1000 / (2 * axis)
    momentum = np.sqrt(GRAVITY * 1000 * axis * (1 - eccentricity**2))
    inner, outer, inner_slope, outer_slope = turning_points(
        energy, momentum, 0.0, 1, radius, 0.0, potential, 4, total
    )
    assert inner == pytest.approx(axis * (1 - eccentricity), rel=1e-6)
    assert outer == pytest.approx(axis * (1 + eccentricity), rel=1e-6)
    # v_r^2 = 2 E + 2 G M / r - J^2 / r^2.
    for place, slope in ((inner, inner_slope), (outer, outer_slope)):
        exact = -2 * GRAVITY * 1000 / place**2 + 2 * momentum**2 / place**3
        assert slope == pytest.approx(abs(exact), rel=1e-5)


@pytest.mark.parametrize("star", [5, 700, 1900])
def test_a_star_is_found_where_its_orbit_dwells(cluster, star):
    shells, potential, total = cluster
    radius = shells[0]
    own = GRAVITY * shells[3, star]
    energy = 0.5 * (shells[1, star] ** 2 + shells[2, star] ** 2) + potential[star]
    energy += own / radius[star]
    momentum = radius[star] * shells[2, star]
    # Intervals rise outwards by a factor of 3,000.
    interval = np.geomspace(1, 3000, 101)
    windows = np.minimum(np.arange(2000) // 20, 100)
    room = np.empty((2, ROOM))
    drawn = np.array(
        [
            draw_position(
                energy, momentum, own, star, radius, 0.0, potential, 2000, total, interval, 20, room
            )[0]
            for _ in range(20_000)
        ]
    )
    inner, outer, _, _ = turning_points(
        energy, momentum, own, star, radius, 0.0, potential, 2000, total
    )
    assert inner <= radius[star] <= outer
    angle = np.linspace(0, np.pi, 200_001)
    place = 0.5 * (inner + outer) - 0.5 * (outer - inner) * np.cos(0.5 * (angle[1:] + angle[:-1]))
    below = np.searchsorted(radius, place, "right") - 1
    larger = np.interp(place, radius, potential) * 0
    for i, k in enumerate(below):
        larger[i] = potential_between(place[i], k, radius, 0.0, potential, 2000, total)
    larger += own / np.maximum(place, radius[star])
    speed = np.sqrt(np.maximum(2 * (energy - larger) - (momentum / place) ** 2, 1e-12))
    dwell = np.sin(0.5 * (angle[1:] + angle[:-1])) / speed
    dwell /= interval[windows[np.maximum(below, 0)]]
    expected = np.interp([0.1, 0.5, 0.9], np.cumsum(dwell) / dwell.sum(), place)
    found = [(drawn < value).mean() for value in expected]
    np.testing.assert_allclose(found, [0.1, 0.5, 0.9], atol=0.012)


@pytest.mark.parametrize("model", [Plummer(2.0), King(2.0, 5.0), King(2.0, 9.0)])
def test_models_begin_in_virial_equilibrium_at_their_size(model):
    mass = np.full(20_000, 0.5)
    begin = model.draw(20_000, mass.sum(), np.random.default_rng(1))
    shells = np.vstack([begin, mass])[:, np.argsort(begin[0])]
    kinetic, binding = total_energy(np.ascontiguousarray(shells), 20_000, 0.0)
    assert -2 * kinetic / binding == pytest.approx(1, abs=0.02)
    assert np.median(shells[0]) == pytest.approx(2.0, rel=0.02)
    # Isotropic: two of three directions are across the radius.
    assert (shells[2] ** 2).mean() / (shells[1] ** 2).mean() == pytest.approx(2, rel=0.04)


def test_kings_model_ends_where_the_literature_says():
    # King 1966: log r_t / r_c is 1.03 at W0 = 5; the half-mass radius is 0.186 of r_t there.
    assert King(1.0, 5.0).truncation_radius == pytest.approx(1 / 0.186, rel=0.02)
    place, _, _ = King(1.0, 5.0)._profile()
    assert np.log10(place[-1]) == pytest.approx(1.03, abs=0.01)
    place, _, _ = King(1.0, 7.0)._profile()
    assert np.log10(place[-1]) == pytest.approx(1.53, abs=0.01)


def test_the_softening_is_the_radius_of_strong_deflections():
    generator = np.random.default_rng(6)
    velocity = generator.normal(0, 4.0, (3, 400))
    shells = np.stack([
        np.arange(400.0), velocity[0], np.hypot(velocity[1], velocity[2]), np.full(400, 2.0)
    ])  # fmt: skip
    found = strong_deflection_radius(shells, 400, 20, 400)
    assert found == pytest.approx(2 * GRAVITY / 16, rel=0.1)
    # Few fast stars do not matter, heavy ones do.
    shells[1, :3] = 1e4
    assert strong_deflection_radius(shells, 400, 20, 400) == pytest.approx(found, rel=0.05)
    shells[3, 0] = 100.0
    assert strong_deflection_radius(shells, 400, 20, 400) > 30 * found
