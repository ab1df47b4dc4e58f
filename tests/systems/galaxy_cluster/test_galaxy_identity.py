"""Names and positions of galaxies stay with them, whatever is selected."""

from __future__ import annotations

import numpy as np
import torch
from astropy.table import Table

from melotte.engine import inference
from melotte.systems.galaxy_cluster.galaxy_identity import galaxy_identity
from melotte.systems.galaxy_cluster.reading import observations
from melotte.systems.galaxy_cluster.settings import DataSettings

TRAINED = DataSettings(redshift=(0.02, 0.3), apertures=("medium",), completeness=(0.5, 1.0))
SIZES = {"A1": 12, "Б2": 30, "C3": 20}


def survey():
    """Galaxies of three clusters, mixed; a name tells cluster, number and, in code, redshift."""
    rng = np.random.default_rng(8)
    rows = [
        (name, f"{name}·{k}", 20.0 * c + 0.05 * rng.normal(), 0.05 * rng.normal(),
         0.1 + 0.002 * rng.normal(), 9.0 + 0.1 * k)
        for c, (name, n) in enumerate(SIZES.items()) for k in range(n)
    ]  # fmt: skip
    order = rng.permutation(len(rows))
    names = ("cluster_id", "galaxy_id", "ra", "dec", "z", "log_stellar_mass")
    columns = [np.array([rows[i][k] for i in order]) for k in range(6)]
    made = Table(columns, names=names)
    made.meta["name"] = "survey.ecsv"
    return made


def read(table, **options):
    (found,) = observations(table, {"identity": True} | options, TRAINED)
    return found


def assert_own(observation, table):
    """Every galaxy's name is the row that has its position, cluster and velocity."""
    row = {str(name): i for i, name in enumerate(table["galaxy_id"])}
    for i, cluster in enumerate(observation.ids):
        found = galaxy_identity(observation, i)
        velocity = observation.data["galaxies"][i][:, 0].numpy()
        rows = [row[name] for name in found.name]
        assert len(set(rows)) == len(velocity) > 0
        assert all(name.startswith(cluster + "·") for name in found.name)
        np.testing.assert_array_equal(found.ra, table["ra"][rows])
        np.testing.assert_array_equal(found.dec, table["dec"][rows])
        order = np.argsort(table["z"][rows], kind="stable")
        assert (np.diff(velocity[order]) > 0).all()


def test_galaxies_keep_their_names_and_positions(monkeypatch):
    table = survey()
    whole = read(table)
    assert set(whole.ids) == set(SIZES)
    assert_own(whole, table)
    turned = whole.select(torch.tensor([2, 0]))
    assert turned.ids == (whole.ids[2], whole.ids[0])
    assert_own(turned, table)
    monkeypatch.setattr(inference, "LARGEST_BATCH_ELEMENTS", 35)
    parts = list(inference.chunks(whole, 256))
    assert len(parts) > 1
    for part in parts:
        assert_own(part, table)


def test_galaxies_that_are_left_out_take_their_names_along():
    table = survey()
    limited = read(table, log_stellar_mass_limit=9.55)
    assert_own(limited, table)
    names = np.concatenate([galaxy_identity(limited, i).name for i in range(len(limited))])
    assert min(int(name.split("·")[1]) for name in names) == 6


def test_what_a_table_does_not_give_is_unknown():
    table = survey()
    table.remove_column("galaxy_id")
    found = galaxy_identity(read(table), 0)
    assert (found.name == "").all()
    assert np.isfinite(found.ra).all()
    asked = read(table, identity=False)
    assert set(asked.data) < set(read(table).data)
    assert np.isnan(galaxy_identity(asked, 0).ra).all()


def test_identity_changes_nothing_that_networks_read():
    first, second = read(survey()), read(survey(), identity=False)
    assert torch.equal(first.data["galaxies"].values, second.data["galaxies"].values)
    assert first.header == second.header
