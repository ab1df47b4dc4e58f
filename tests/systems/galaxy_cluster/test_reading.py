import numpy as np
import pytest
from astropy.table import Table

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.systems.base import RowError
from melotte.systems.galaxy_cluster.mergers import has_two_peaks
from melotte.systems.galaxy_cluster.reading import observations
from melotte.systems.galaxy_cluster.settings import DataSettings

TRAINED = DataSettings(redshift=(0.02, 0.3), apertures=("medium",), completeness=(0.5, 1.0))


def table(n=60, redshift=0.1, sigma=700.0, seed=1, name="CL1"):
    """Projected radii and velocities as RCausticMass writes them."""
    rng = np.random.default_rng(seed)
    made = Table(
        {
            "CID": [name] * n,
            "dproj": rng.uniform(0.05, 1.8, n),
            "vlos": rng.normal(0, sigma, n),
            "zclus": np.full(n, redshift),
        }
    )
    made.meta["name"] = "galaxies.csv"
    return made


def read(source, **options):
    return list(observations(source, options, TRAINED))


def test_velocities_and_radii_are_read_with_their_context():
    (found,) = read(table(), velocity_centre="given")
    galaxies = found.data["galaxies"]
    assert found.ids == ("CL1",)
    assert galaxies.counts.tolist() == found.header["n_galaxies"]
    # Physical Mpc become comoving Mpc/h.
    assert float(galaxies.values[:, 1].max()) <= 1.6
    expected = table()["dproj"] * 0.6777 * 1.1
    kept = expected < 1.6
    assert np.allclose(np.sort(galaxies.values[:, 1]), np.sort(expected[kept]), rtol=1e-3)
    assert float(found.data["redshift"][0]) == pytest.approx(0.1, abs=1e-3)
    assert found.flags.tolist() == [0]
    assert "Msun/h" in found.header["conventions"]["mass"]


@pytest.mark.parametrize(
    ("change", "options", "flag"),
    [
        ({"n": 9}, {}, Flag.FEW_MEMBERS),
        ({"redshift": 0.45}, {}, Flag.OUT_OF_RANGE),
        ({}, {"aperture": 1.0}, Flag.OUT_OF_RANGE),
        ({}, {"velocity_cut": 1500}, Flag.OUT_OF_RANGE),
        ({}, {"completeness": 0.3}, Flag.OUT_OF_RANGE),
        ({}, {"lengths": "physical"}, Flag.OUT_OF_RANGE),
    ],
)
def test_what_was_not_trained_on_is_flagged(change, options, flag):
    (found,) = read(table(**change), **options)
    assert int(found.flags[0]) & flag


def test_two_clusters_in_velocity_are_a_merger():
    rng = np.random.default_rng(4)
    apart = np.concatenate([rng.normal(-900, 300, 50), rng.normal(900, 300, 35)])
    assert has_two_peaks(apart)
    assert not has_two_peaks(apart[:12])
    flags = [has_two_peaks(rng.normal(0, 800, 80)) for _ in range(200)]
    assert sum(flags) <= 2


def test_options_are_checked():
    with pytest.raises(MelotteValueError, match=r"'radius' is not an option .*aperture"):
        read(table(), radius=1)
    with pytest.raises(MelotteValueError, match="completeness 2 is outside"):
        read(table(), completeness=2)
    assert len(read(table(), release=None, min_probability=None)) == 1


def test_a_cluster_without_galaxies_is_a_row():
    empty = table(n=5)
    empty["vlos"] = 1e5
    found = read(empty, velocity_centre="given")
    assert isinstance(found[0], RowError)
    assert found[0].flags & Flag.FAILED


def test_the_real_coma_sample(shared_data):
    path = shared_data / "galaxycluster" / "rcausticmass_coma_sample.txt"
    (coma,) = read(path)
    assert 500 < coma.header["n_galaxies"][0] < 900
    assert float(coma.data["galaxies"].values[:, 0].std()) == pytest.approx(930, abs=60)
    assert not int(coma.flags[0]) & Flag.MERGER
