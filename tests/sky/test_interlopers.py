"""Haloes around clusters: their density, clustering, exclusion and infall."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.sky.cosmology import Cosmology
from melotte.sky.halo_statistics import HaloStatistics, growth_factor, virial_radius
from melotte.sky.interlopers import MARGIN_ACROSS, Environment, Neighbours, Surroundings

Z, LOG_MASS, APERTURE, CUT = 0.117, 14.7, 1.6, 2500.0


@pytest.fixture(scope="module")
def surroundings() -> Surroundings:
    return Surroundings(Environment(), HaloStatistics(Cosmology(), (0.0, 0.6)))


def around(
    surroundings: Surroundings, n: int, seed: int, density: float = 1.0, redshift: float = Z
) -> Neighbours:
    """Haloes around ``n`` equal clusters."""
    return surroundings.draw(
        torch.full((n,), LOG_MASS),
        torch.full((n,), redshift),
        torch.full((n,), APERTURE),
        torch.full((n,), CUT),
        torch.full((n,), density),
        torch.Generator().manual_seed(seed),
    )


def mean_excess(surroundings: Surroundings, low: float, high: float) -> float:
    """Mean number of haloes in a slab of depth, from the density and clustering law."""
    statistics = surroundings.statistics
    z = torch.full((200_000,), Z)
    generator = torch.Generator().manual_seed(3)
    uniform = torch.rand(2, len(z), generator=generator)
    radius = (APERTURE + MARGIN_ACROSS) * uniform[0].sqrt()
    depth = low + (high - low) * uniform[1]
    plain = statistics.masses(12, 15.6).density(z[:1])
    biased = statistics.masses(12, 15.6, biased=True).density(z[:1])
    xi = statistics.correlation(torch.sqrt(radius**2 + depth**2), z).mean()
    bias = statistics.bias(torch.tensor([LOG_MASS]), z[:1])
    boost = surroundings.environment.correlation_boost
    volume = 2 * (high - low) * math.pi * (APERTURE + MARGIN_ACROSS) ** 2
    return float(volume * (plain + boost * bias * biased * xi))


def test_far_haloes_have_the_mean_density(surroundings: Surroundings) -> None:
    n = 3000
    found = around(surroundings, n, 1)
    depth = found.position[:, 2].abs()
    count = int(((depth > 33) & (depth < 40)).sum())
    volume = 2 * 7 * math.pi * (APERTURE + MARGIN_ACROSS) ** 2 * n
    mean = float(surroundings.statistics.masses(12, 15.6).density(torch.tensor([Z])))
    clustered = mean_excess(surroundings, 33, 40) * n
    assert count == pytest.approx(clustered, abs=4 * math.sqrt(clustered))
    assert 1 <= clustered / (mean * volume) < 1.25


@pytest.mark.parametrize(("low", "high"), [(3.5, 5.0), (6.0, 9.0), (12.0, 18.0)])
def test_near_haloes_cluster_as_the_correlation_function(
    surroundings: Surroundings, low: float, high: float
) -> None:
    n = 3000
    depth = around(surroundings, n, 2).position[:, 2].abs()
    expected = mean_excess(surroundings, low, high) * n
    count = int(((depth > low) & (depth < high)).sum())
    assert count == pytest.approx(expected, abs=4 * math.sqrt(expected))


@pytest.fixture(scope="module")
def crowded() -> Surroundings:
    statistics = HaloStatistics(Cosmology(), (0.0, 0.6), log_lowest_mass=10.0)
    return Surroundings(Environment(log_lightest_mass=10.0), statistics)


def light_around(crowded: Surroundings, n: int, lightest: list[float]) -> Neighbours:
    """Light haloes around clusters that are equal but for the lightest one."""
    found = crowded.draw(
        torch.full((n,), LOG_MASS),
        torch.full((n,), Z),
        torch.full((n,), APERTURE),
        torch.full((n,), CUT),
        torch.ones(n),
        torch.Generator().manual_seed(10),
        torch.tensor(lightest).repeat(n // len(lightest)),
    )
    return found.select(found.log_mass < 12)


@pytest.mark.parametrize(("low", "high"), [(4.0, 8.0), (30.0, 38.0)])
def test_light_haloes_have_their_density_and_clustering(
    crowded: Surroundings, low: float, high: float
) -> None:
    n, statistics = 400, crowded.statistics
    found = light_around(crowded, n, [11.0, 11.5])
    depth = found.position[:, 2].abs()
    inside = (depth > low) & (depth < high) & (found.position[:, :2].norm(dim=1) < APERTURE)
    z = torch.tensor([Z])
    at = torch.linspace(low, high, 200)
    xi = statistics.correlation(torch.sqrt(at**2 + APERTURE**2 / 2), z).mean()
    bias = statistics.bias(torch.tensor([LOG_MASS]), z)
    volume = 2 * (high - low) * math.pi * APERTURE**2 * n / 2
    for which, lightest in enumerate((11.0, 11.5)):
        own = found.select(inside & (found.cluster % 2 == which))
        assert float(own.log_mass.min()) >= lightest
        plain = statistics.masses(lightest, 12).density(z)
        biased = statistics.masses(lightest, 12, biased=True).density(z)
        boost = crowded.environment.correlation_boost
        expected = float(volume * (plain + boost * bias * biased * xi))
        count = len(own.cluster)
        assert count == pytest.approx(expected, abs=4 * math.sqrt(expected) + 0.01 * expected)


def test_light_haloes_leave_the_massive_ones_as_they_were(
    surroundings: Surroundings, crowded: Surroundings
) -> None:
    massive = len(around(surroundings, 3000, 11).cluster)
    found = around(crowded, 300, 11)
    among = int((found.log_mass > 12).sum())
    assert among * 10 == pytest.approx(massive, abs=4 * math.sqrt(11 * massive))
    assert len(found.cluster) > 4 * among


def test_no_halo_is_inside_the_cluster_or_much_heavier(surroundings: Surroundings) -> None:
    found = around(surroundings, 2000, 4)
    cosmology = surroundings.statistics.cosmology
    z = torch.full_like(found.log_mass, Z)
    least = 1.3 * virial_radius(torch.full_like(z, LOG_MASS), z, cosmology)
    least = least + 0.3 * virial_radius(found.log_mass, z, cosmology)
    assert (found.position.norm(dim=1) > least).all()
    assert float(found.log_mass.max()) < LOG_MASS + math.log10(3)
    assert (found.position[:, :2].norm(dim=1) <= APERTURE + MARGIN_ACROSS + 1e-4).all()


def test_the_density_factor_scales_the_number(surroundings: Surroundings) -> None:
    one = len(around(surroundings, 2000, 5).cluster)
    two = len(around(surroundings, 2000, 6, density=2.0).cluster)
    assert len(around(surroundings, 2000, 7, density=0.0).cluster) == 0
    assert two / one == pytest.approx(2, abs=8 / math.sqrt(one))


def test_haloes_fall_in_with_the_random_motion(surroundings: Surroundings) -> None:
    found = around(surroundings, 4000, 8)
    distance = found.position.norm(dim=1)
    radial = (found.velocity * found.position).sum(1) / distance
    statistics = surroundings.statistics
    for low, high in ((3.0, 5.0), (8.0, 12.0), (25.0, 35.0)):
        here = (distance > low) & (distance < high)
        at = distance[here]
        alike = torch.ones_like(at)
        bias = statistics.bias(LOG_MASS * alike, Z * alike)
        infall = surroundings.infall_velocity(at, LOG_MASS * alike, Z * alike, bias)
        residual = radial[here] + infall
        error = 4 * 250 / math.sqrt(len(at))
        assert float(residual.mean()) == pytest.approx(0, abs=error)
        assert float(residual.std()) == pytest.approx(250, rel=0.06)
        assert float(infall.mean()) > 2 * error


def test_infall_is_linear_theory_far_away(surroundings: Surroundings) -> None:
    statistics = surroundings.statistics
    distance, z, mass = torch.tensor([45.0]), torch.tensor([0.3]), torch.tensor([14.0])
    bias = statistics.bias(mass, z)
    overdensity = bias * statistics.mean_correlation(distance, z)
    linear = statistics.cosmology.comoving_hubble_rate(z) * distance / 3 * overdensity
    linear = linear * statistics.cosmology.growth_rate(z)
    speed = surroundings.infall_velocity(distance, mass, z, bias)
    assert float(speed / linear) == pytest.approx(1, abs=0.06)


def test_random_motions_grow_with_time(surroundings: Surroundings) -> None:
    def spread(redshift: float) -> float:
        found = around(surroundings, 3000, 9, redshift=redshift)
        across = found.velocity[:, 0][found.position[:, 2].abs() > 20]
        return float(across.std())

    cosmology = surroundings.statistics.cosmology

    def linear(redshift: float) -> float:
        z = torch.tensor(redshift)
        rate = cosmology.comoving_hubble_rate(z) * cosmology.growth_rate(z)
        return float(rate) * growth_factor(cosmology, redshift)

    assert spread(0.117) == pytest.approx(250, rel=0.015)
    assert spread(0.6) == pytest.approx(250 * linear(0.6) / linear(0.117), rel=0.015)
    assert linear(0.6) < 0.97 * linear(0.117)
