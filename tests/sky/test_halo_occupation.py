"""Numbers and stellar masses of haloes' galaxies."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.cosmology import Cosmology
from melotte.sky.halo_occupation import SURVEY_CENTRALS, HaloOccupation, Occupation
from melotte.sky.halo_statistics import HaloStatistics


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
    masses = occupation.stellar_masses(torch.full_like(limit, 14.0), limit, generator)
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
    log_mass = torch.full_like(limit, 14.0)
    assert (occupation.stellar_masses(log_mass, limit, generator) >= limit).all()


def test_centrals_reach_the_peak_efficiency_of_moster(generator: torch.Generator) -> None:
    # At M = 10^11.59 Msun the relation is N = 0.0351 by definition (their table 1).
    h = 0.6777
    log_mass = torch.full((20_000,), 11.590 + math.log10(h))
    masses = HaloOccupation(Occupation(), h).central_masses(log_mass, generator)
    assert float(masses.mean()) == pytest.approx(11.590 + math.log10(0.0351), abs=0.005)
    assert float(masses.std()) == pytest.approx(0.15, abs=0.005)


@pytest.fixture(scope="module")
def survey() -> HaloOccupation:
    return HaloOccupation(Occupation().of_surveys(), Cosmology().h)


@pytest.fixture(scope="module")
def statistics() -> HaloStatistics:
    return HaloStatistics(Cosmology(), (0.04, 0.04), log_lowest_mass=10.0)


def baldry_density(log_limit: float) -> float:
    """Galaxies above a stellar mass per (Mpc/h)^3 (Baldry et al. 2012, Eq. 6)."""
    own_h, h = 0.7, Cosmology().h
    log_knee = 10.66 + 2 * math.log10(own_h / h)
    m = torch.linspace(log_limit, 12.5, 4000, dtype=torch.float64) - log_knee
    x = torch.pow(10.0, m)
    per_dex = (3.96e-3 * x**0.65 + 0.79e-3 * x**-0.47) * torch.exp(-x) * math.log(10)
    return float(torch.trapezoid(per_dex, m)) / own_h**3


def model_density(
    occupation: HaloOccupation, statistics: HaloStatistics, log_limit: float, lowest: float = 10.0
) -> tuple[float, float]:
    """Centrals and satellites above a stellar mass in haloes above a mass, per (Mpc/h)^3."""
    edges = torch.arange(lowest, 15.6, 0.04, dtype=torch.float64).tolist()
    z = torch.tensor([0.04])
    number = torch.tensor([float(statistics.masses(low, low + 0.04).density(z)) for low in edges])
    middle = torch.tensor(edges) + 0.02
    excess = (occupation.mean_central_mass(middle) - log_limit) / SURVEY_CENTRALS.scatter
    centrals = number * torch.special.ndtr(excess)
    satellites = number * occupation.mean(middle, torch.tensor(log_limit))
    return float(centrals.sum()), float(satellites.sum())


@pytest.mark.parametrize("log_limit", [9.0, 9.5, 10.0, 10.5, 11.0])
def test_a_survey_has_as_many_galaxies_as_gama(
    survey: HaloOccupation, statistics: HaloStatistics, log_limit: float
) -> None:
    centrals, satellites = model_density(survey, statistics, log_limit)
    # 5 % of the fit and 2 % of the sums.
    assert centrals + satellites == pytest.approx(baldry_density(log_limit), rel=0.07)
    assert 0.1 < satellites / (centrals + satellites) < 0.3


def test_the_published_centrals_would_be_too_many(
    occupation: HaloOccupation, statistics: HaloStatistics
) -> None:
    assert sum(model_density(occupation, statistics, 9.0)) > 1.4 * baldry_density(9.0)


@pytest.mark.parametrize("log_limit", [7.5, 9.0, 9.5, 10.5])
def test_no_central_is_missed(
    survey: HaloOccupation, statistics: HaloStatistics, log_limit: float
) -> None:
    lowest = float(survey.lowest_halo_mass(torch.tensor([log_limit])))
    assert lowest > 10.0
    every = model_density(survey, statistics, log_limit)[0]
    assert model_density(survey, statistics, log_limit, lowest)[0] > 0.995 * every
    assert model_density(survey, statistics, log_limit, lowest + 0.4)[0] < 0.97 * every


def test_satellites_of_a_survey_follow_their_host(
    survey: HaloOccupation, occupation: HaloOccupation, generator: torch.Generator
) -> None:
    clusters = torch.linspace(13.5, 15.5, 9)
    for limit in (9.0, 10.5):
        at = torch.tensor(limit)
        torch.testing.assert_close(survey.mean(clusters, at), occupation.mean(clusters, at))
    log_mass = torch.full((40_000,), 12.0)
    limit = torch.full_like(log_mass, 9.0)
    masses = survey.stellar_masses(log_mass, limit, generator)
    assert float(masses.min()) >= 9.0
    for threshold in (9.5, 10.2):
        share = survey.mean(log_mass[:1], torch.tensor(threshold)) / survey.mean(
            log_mass[:1], torch.tensor(9.0)
        )
        error = math.sqrt(float(share * (1 - share)) / len(limit))
        assert float((masses > threshold).float().mean()) == pytest.approx(
            float(share), abs=4 * error
        )
    host = survey.mean_central_mass(log_mass[:1])
    assert float((masses > host).float().mean()) < 0.03
    usual = occupation.stellar_masses(log_mass, limit, generator)
    assert float((usual > host).float().mean()) > 0.08


def test_a_stellar_mass_function_without_galaxies_is_refused() -> None:
    with pytest.raises(MelotteValueError, match=r"log_stellar_mass_knee 5.*9\.5"):
        HaloOccupation(Occupation(log_stellar_mass_knee=5.0), 0.7)
