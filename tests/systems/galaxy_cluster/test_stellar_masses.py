"""Stellar masses of catalogued galaxies: relation, precedence, limits, flags."""

import numpy as np
import pytest
import torch
from astropy.table import Table

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.sky.cosmology import Cosmology
from melotte.systems.base import RowError
from melotte.systems.galaxy_cluster.reading import observations
from melotte.systems.galaxy_cluster.settings import DataSettings
from melotte.telescope.redshifts import magnitude_limited_mass, red_galaxy_mass

TRAINED = DataSettings(
    redshift=(0.02, 0.3), log_stellar_mass_limit=(9.0, 10.5), completeness=(0.5, 1.0)
)


def survey(n=400, redshift=0.1, limit=17.77, seed=1, **columns):
    """A cluster of a magnitude-limited survey, as positions relative to its centre."""
    rng = np.random.default_rng(seed)
    # Counts rise by 0.4 dex a magnitude up to the limit.
    magnitude = limit + np.log10(rng.random(n)) / 0.4
    made = Table(
        {
            "CID": ["A"] * n,
            "dproj": rng.uniform(0.05, 1.2, n),
            "vlos": rng.normal(0, 600, n),
            "zclus": np.full(n, redshift),
            "mag": magnitude,
            **columns,
        }
    )
    made.meta["name"] = "survey.csv"
    return made


def read(source, reads_limit=True, data=TRAINED, **options):
    return list(observations(source, options, data, reads_limit))


def masses(found) -> np.ndarray:
    return found.data["galaxies"].values[:, 3].double().numpy()


def limit(found) -> float:
    return float(found.data["log_stellar_mass_limit"][0])


def mass_of(magnitude, redshift=0.1, **cosmology) -> float:
    return float(magnitude_limited_mass(magnitude, torch.tensor(redshift), Cosmology(**cosmology)))


def test_a_tenfold_mass_is_two_and_a_half_magnitudes():
    magnitude = torch.tensor([15.0, 17.5, torch.nan])
    found = red_galaxy_mass(magnitude, torch.tensor(0.1), Cosmology())
    assert float(found[0] - found[1]) == pytest.approx(1.0, abs=1e-5)
    assert torch.isnan(found[2])
    # One solar luminosity has the mass of the mass-to-light ratio; K is one magnitude a unit z.
    modulus = float(Cosmology().distance_modulus(torch.tensor(0.1)))
    sunlike = red_galaxy_mass(4.65 + modulus + 0.1, torch.tensor(0.1), Cosmology())
    assert float(sunlike) == pytest.approx(0.35, abs=1e-5)


def test_magnitudes_become_masses_at_the_redshift_and_h_of_the_reading():
    table = survey()
    (found,) = read(table, velocity_centre="given", magnitude_limit=17.77)
    assert limit(found) == pytest.approx(mass_of(17.77), abs=1e-4)
    brightest = float(np.min(table["mag"]))
    assert masses(found).max() == pytest.approx(mass_of(brightest), abs=1e-3)
    assert masses(found).min() >= limit(found)
    (half,) = read(table, velocity_centre="given", magnitude_limit=17.77, h=0.5)
    assert limit(half) - limit(found) == pytest.approx(2 * np.log10(0.6777 / 0.5), abs=1e-3)
    (far,) = read(survey(redshift=0.2), velocity_centre="given", magnitude_limit=17.77)
    assert limit(far) == pytest.approx(mass_of(17.77, 0.2), abs=1e-3)


def test_without_an_option_the_limit_is_the_faintest_galaxy_that_is_no_outlier():
    table = survey(n=1000)
    (clean,) = read(table, velocity_centre="given")
    assert limit(clean) == pytest.approx(mass_of(17.77), abs=0.05)
    table["mag"][:20] = 21.5
    table["mag"][20:40] = -9999.0
    (dirty,) = read(table, velocity_centre="given")
    assert limit(dirty) == pytest.approx(mass_of(17.77), abs=0.05)
    assert 15 <= np.isnan(masses(dirty)).sum() <= 20


def test_the_limit_is_that_of_the_whole_table():
    poor = survey(n=15, limit=16.0, seed=2)
    poor["CID"] = "B"
    both = Table(np.concatenate([survey(n=1000).as_array(), poor.as_array()]))
    (found,) = read(both, velocity_centre="given")
    limits = found.data["log_stellar_mass_limit"]
    assert float(limits[0]) == pytest.approx(float(limits[1]), abs=1e-4)


def test_catalogued_masses_win_and_the_rest_comes_from_magnitudes():
    catalogued = np.linspace(9.6, 11.5, 400)
    catalogued[:100] = -99.0
    (found,) = read(
        survey(log_stellar_mass=catalogued), velocity_centre="given", magnitude_limit=None
    )
    expected = np.sort(catalogued[100:])
    both = masses(found)
    assert np.isin(np.round(expected, 3), np.round(both, 3)).all()
    assert np.isfinite(both).all()
    assert limit(found) == pytest.approx(np.quantile(expected, 0.05), abs=0.01)


def test_a_limit_that_is_given_leaves_lighter_galaxies_out():
    table = survey(log_stellar_mass=np.linspace(9.0, 11.0, 400))
    (found,) = read(table, velocity_centre="given", log_stellar_mass_limit=10.0)
    assert limit(found) == 10.0
    assert masses(found).min() >= 10.0
    assert found.header["n_dropped"]["A"]["below log stellar mass 10"] == pytest.approx(200, abs=1)
    assert len(masses(found)) == found.header["n_galaxies"][0] == pytest.approx(200, abs=1)
    (row,) = read(table, velocity_centre="given", log_stellar_mass_limit=13)
    assert isinstance(row, RowError)
    assert "below log stellar mass 13" in row.reason


def test_a_limit_serves_tables_without_masses_too():
    table = survey()
    table.remove_column("mag")
    (found,) = read(table, log_stellar_mass_limit=9.5)
    assert limit(found) == 9.5
    assert np.isnan(masses(found)).all()
    assert not int(found.flags[0]) & Flag.OUT_OF_RANGE
    (bare,) = read(table)
    assert np.isnan(limit(bare))
    assert int(bare.flags[0]) & Flag.OUT_OF_RANGE
    (unread,) = read(table, reads_limit=False)
    assert not int(unread.flags[0]) & Flag.OUT_OF_RANGE
    silent = TRAINED.model_copy(update={"stellar_masses_known": 0.5})
    (trained,) = read(table, data=silent)
    assert not int(trained.flags[0]) & Flag.OUT_OF_RANGE


@pytest.mark.parametrize(
    ("given", "flagged"), [(8.9, True), (9.0, False), (10.52, False), (10.7, True)]
)
def test_a_limit_not_trained_on_is_flagged_where_it_is_read(given, flagged):
    table = survey()
    table.remove_column("mag")
    (found,) = read(table, log_stellar_mass_limit=given)
    assert bool(int(found.flags[0]) & Flag.OUT_OF_RANGE) == flagged
    (unread,) = read(table, reads_limit=False, log_stellar_mass_limit=given)
    assert not int(unread.flags[0]) & Flag.OUT_OF_RANGE


def test_mocks_of_a_magnitude_limit_reach_the_limits_that_it_makes():
    trained = TRAINED.model_copy(update={"magnitude_limit": 17.77})
    far = survey(redshift=0.25)
    assert mass_of(17.77, 0.25) > 10.6
    (within,) = read(far, data=trained, velocity_centre="given", magnitude_limit=17.77)
    assert not int(within.flags[0]) & Flag.OUT_OF_RANGE
    (beyond,) = read(far, velocity_centre="given", magnitude_limit=17.77)
    assert int(beyond.flags[0]) & Flag.OUT_OF_RANGE


def test_conventions_and_limits_are_in_the_header():
    (found,) = read(survey(), magnitude_limit=17.77)
    assert "Msun" in found.header["conventions"]["stellar_mass"]
    assert "17.77" in found.header["conventions"]["log_stellar_mass_limit"]
    assert found.header["log_stellar_mass_limit"][0] == pytest.approx(limit(found), abs=1e-5)


def test_masses_that_are_no_logarithms_are_refused():
    with pytest.raises(MelotteValueError, match=r"log_stellar_mass.*log10 of Msun"):
        read(survey(log_stellar_mass=np.full(400, 3e10)))
    with pytest.raises(MelotteValueError, match=r"log_stellar_mass_limit 3 is outside \(4, 14\]"):
        read(survey(), log_stellar_mass_limit=3)
