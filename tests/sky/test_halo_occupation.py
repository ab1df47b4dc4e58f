"""Numbers and stellar masses of haloes' galaxies."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.halo_occupation import HaloOccupation, Occupation


@pytest.fixture(scope="module")
def occupation() -> HaloOccupation:
    return HaloOccupation(Occupation(), 0.6777)


def test_the_mean_is_the_power_law_with_its_cutoff(occupation: HaloOccupation) -> None:
    mean = occupation.mean(torch.tensor([12.0, 14.0, 15.0]), torch.tensor(9.5))
    expected = [28 * 0.01**0.9 * math.exp(-1), 28 * math.exp(-0.01), 28 * 10**0.9]
    torch.testing.assert_close(mean, torch.tensor(expected), rtol=2e-3, atol=0)


def test_numbers_scatter_as_poisson_times_lognormal(
    occupation: HaloOccupation, generator: torch.Generator
) -> None:
    n = 40_000
    log_mass = torch.full((n,), 14.6)
    counts = occupation.counts(log_mass, torch.full((n,), 9.5), generator).double()
    mean = float(occupation.mean(log_mass[:1], torch.tensor([9.5]))) * math.exp(0.12**2 / 2)
    variance = mean + mean**2 * math.expm1(0.12**2)
    assert float(counts.mean()) == pytest.approx(mean, rel=0.005)
    assert float(counts.var()) == pytest.approx(variance, rel=0.04)


def test_stellar_masses_thin_out_as_the_numbers_do(
    occupation: HaloOccupation, generator: torch.Generator
) -> None:
    limit = torch.full((40_000,), 9.0)
    masses = occupation.stellar_masses(limit, generator)
    assert float(masses.min()) >= 9.0
    halo = torch.tensor([14.0])
    for threshold in (9.5, 10.3, 11.0):
        share = occupation.mean(halo, torch.tensor(threshold)) / occupation.mean(
            halo, torch.tensor(9.0)
        )
        error = math.sqrt(float(share * (1 - share)) / len(limit))
        above = float((masses > threshold).float().mean())
        assert above == pytest.approx(float(share), abs=4 * error)


def test_every_galaxy_is_above_its_own_limit(
    occupation: HaloOccupation, generator: torch.Generator
) -> None:
    limit = torch.linspace(7.5, 11.8, 5000)
    assert (occupation.stellar_masses(limit, generator) >= limit).all()


def test_centrals_reach_the_peak_efficiency_of_moster(generator: torch.Generator) -> None:
    # At M = 10^11.59 Msun the relation is N = 0.0351 by definition (their table 1).
    h = 0.6777
    log_mass = torch.full((20_000,), 11.590 + math.log10(h))
    masses = HaloOccupation(Occupation(), h).central_masses(log_mass, generator)
    assert float(masses.mean()) == pytest.approx(11.590 + math.log10(0.0351), abs=0.005)
    assert float(masses.std()) == pytest.approx(0.15, abs=0.005)


def test_a_stellar_mass_function_without_galaxies_is_refused() -> None:
    with pytest.raises(MelotteValueError, match=r"log_stellar_mass_knee 5.*9\.5"):
        HaloOccupation(Occupation(log_stellar_mass_knee=5.0), 0.7)
