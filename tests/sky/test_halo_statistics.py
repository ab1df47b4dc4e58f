"""Abundance, clustering and structure of haloes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.cosmology import Cosmology
from melotte.sky.halo_statistics import (
    HaloStatistics,
    circular_velocity,
    concentration,
    growth_factor,
    virial_radius,
)


@pytest.fixture(scope="module")
def statistics() -> HaloStatistics:
    return HaloStatistics(Cosmology(), (0.0, 0.6))


def test_massive_haloes_are_as_many_as_in_a_simulation(
    statistics: HaloStatistics, shared_data: Path
) -> None:
    path = shared_data / "galaxycluster" / "tng300_z0_clusters_M200c.csv"
    table = np.genfromtxt(path, delimiter=",", names=True)
    name = next(name for name in table.dtype.names if "m200" in name.lower())
    log_mass = table[name] if table[name].max() < 20 else np.log10(table[name])
    log_mass = log_mass + math.log10(0.6774)  # Msun to Msun/h
    volume = 205.0**3
    for threshold in (14.0, 14.2):
        counted = int((log_mass > threshold).sum())
        haloes = statistics.masses(threshold, 15.8)
        expected = float(haloes.density(torch.zeros(1))) * volume
        assert expected == pytest.approx(counted, abs=3 * math.sqrt(counted))


def test_abundances_add_up(statistics: HaloStatistics) -> None:
    z = torch.tensor([0.0, 0.3, 0.6])
    parts = statistics.masses(12, 13).density(z) + statistics.masses(13, 15).density(z)
    torch.testing.assert_close(parts, statistics.masses(12, 15).density(z), rtol=1e-3, atol=0)


def test_clusters_were_rarer_and_more_biased(statistics: HaloStatistics) -> None:
    z = torch.linspace(0, 0.6, 7)
    assert (statistics.masses(14, 15.8).density(z).diff() < 0).all()
    assert (statistics.bias(torch.full_like(z, 14.5), z).diff() > 0).all()
    assert (statistics.bias(torch.linspace(11.5, 15.5, 9), torch.zeros(9)).diff() > 0).all()


def test_drawn_masses_follow_the_abundance(
    statistics: HaloStatistics, generator: torch.Generator
) -> None:
    z = torch.full((40_000,), 0.22)
    drawn = statistics.masses(13, 15).draw(z, generator)
    assert float(drawn.min()) >= 13
    assert float(drawn.max()) <= 15
    total = statistics.masses(13, 15).density(z[:1])
    for threshold in (13.2, 13.7, 14.3):
        share = statistics.masses(threshold, 15).density(z[:1]) / total
        error = math.sqrt(float(share * (1 - share)) / len(z))
        assert float((drawn > threshold).float().mean()) == pytest.approx(
            float(share), abs=4 * error
        )


def test_masses_above_a_limit_are_those_of_the_range_above(
    statistics: HaloStatistics, generator: torch.Generator
) -> None:
    z = torch.full((40_000,), 0.22)
    whole, above = statistics.masses(11.2, 12.0), statistics.masses(11.6, 12.0)
    limit = torch.full_like(z, 11.6)
    torch.testing.assert_close(
        whole.density(z[:1], limit[:1]), above.density(z[:1]), rtol=0.01, atol=0
    )
    drawn, direct = whole.draw(z, generator, limit), above.draw(z, generator)
    assert float(drawn.min()) >= 11.6
    error = float(direct.std()) * math.sqrt(2 / len(z))
    assert float(drawn.mean()) == pytest.approx(float(direct.mean()), abs=4 * error)


def test_tables_reach_lower_masses_if_asked(statistics: HaloStatistics) -> None:
    deep = HaloStatistics(Cosmology(), (0.0, 0.6), log_lowest_mass=10.0)
    z = torch.tensor([0.1])
    torch.testing.assert_close(
        deep.masses(12, 15).density(z), statistics.masses(12, 15).density(z), rtol=1e-4, atol=0
    )
    assert float(deep.masses(10, 11).density(z)) > float(deep.masses(11, 15).density(z))
    with pytest.raises(MelotteValueError, match=r"log_lowest_mass 8.*\[9, 13\]"):
        HaloStatistics(Cosmology(), (0.0, 0.6), log_lowest_mass=8.0)


def test_biased_masses_are_heavier_by_their_bias(
    statistics: HaloStatistics, generator: torch.Generator
) -> None:
    z = torch.full((40_000,), 0.1)
    plain, biased = statistics.masses(12, 15), statistics.masses(12, 15, biased=True)
    bias = statistics.bias(plain.draw(z, generator), z)
    ratio = biased.density(z[:1]) / plain.density(z[:1])
    assert float(bias.mean()) == pytest.approx(float(ratio), rel=0.01)


def test_mean_correlation_is_the_mean_of_the_correlation(statistics: HaloStatistics) -> None:
    radius = torch.linspace(0.5, 40, 80)
    z = torch.full_like(radius, 0.25)
    enclosed = statistics.mean_correlation(radius, z).double() * radius**3 / 3
    slope = enclosed.diff() / radius.diff()
    middle = 0.5 * (radius[1:] + radius[:-1])
    there = statistics.correlation(middle, z[1:]) * middle**2
    torch.testing.assert_close(slope[2:], there[2:].double(), rtol=0.02, atol=0.02)


def test_correlations_grow_as_the_growth_factor_squared(statistics: HaloStatistics) -> None:
    radius = torch.tensor([5.0, 5.0])
    now, then = statistics.correlation(radius, torch.tensor([0.0, 0.4]))
    assert float(then / now) == pytest.approx(growth_factor(Cosmology(), 0.4) ** 2, rel=1e-3)


def test_the_integral_along_a_radius_inverts(statistics: HaloStatistics) -> None:
    radius = torch.tensor([0.3, 1.0, 4.0, 20.0])
    integral = statistics.correlation_along(radius)
    torch.testing.assert_close(statistics.radius_of_integral(integral), radius, rtol=0.01, atol=0)


def test_a_halo_is_two_hundred_times_denser_than_critical() -> None:
    cosmology = Cosmology()
    log_mass, z = torch.tensor([13.5, 15.3]), torch.tensor([0.0, 0.5])
    volume = 4 / 3 * math.pi * virial_radius(log_mass, z, cosmology) ** 3
    density = torch.pow(10.0, log_mass) / volume
    torch.testing.assert_close(density, 200 * cosmology.critical_density(z), rtol=1e-4, atol=0)


def test_circular_velocity_is_the_closed_form() -> None:
    # V200^3 = 10 G H M, independent of the route through the radius.
    velocity = circular_velocity(torch.tensor([15.0]), torch.zeros(1), Cosmology())
    assert float(velocity) == pytest.approx((10 * 4.300917e-9 * 100 * 1e15) ** (1 / 3), rel=1e-4)


def test_concentrations_fall_with_mass_and_redshift() -> None:
    z = torch.full((3,), 0.117)
    values = concentration(torch.tensor([13.0, 14.0, 15.0]), z)
    assert (values.diff() < 0).all()
    assert float(values[1]) == pytest.approx(4.9)
    assert float(concentration(torch.tensor([14.0]), torch.tensor([0.6]))) < 4.9


def test_impossible_ranges_are_refused(statistics: HaloStatistics) -> None:
    with pytest.raises(MelotteValueError, match=r"\[11\.0, 15\.8\]"):
        statistics.masses(9, 15)
    with pytest.raises(MelotteValueError, match="redshift range"):
        HaloStatistics(Cosmology(), (0.3, 0.1))


def test_tables_leave_no_trace_and_no_cosmology_behind(tmp_path: Path) -> None:
    program = (
        "from colossus.cosmology import cosmology\n"
        "cosmology.setCosmology('planck18', persistence='')\n"
        "from melotte.sky.cosmology import Cosmology\n"
        "from melotte.sky.halo_statistics import HaloStatistics\n"
        "HaloStatistics(Cosmology(), (0.1, 0.1))\n"
        "print(cosmology.getCurrent().name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert done.stdout.strip() == "planck18"
    assert not list(tmp_path.rglob("*colossus*"))
