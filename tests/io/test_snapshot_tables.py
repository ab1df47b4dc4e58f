"""Simulated clusters from tables of any format, with the user's names and units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import snapshot_writers as written
from astropy import units
from astropy.table import Table

from melotte.errors import MelotteValueError
from melotte.io.snapshot_files import read_snapshots
from melotte.io.snapshot_tables import NAMES, UNITS, snapshot_quantity


@pytest.fixture
def table() -> Table:
    stars = written.cluster()
    columns = {
        "M": stars.mass,
        **{name: stars.position[:, k] / 1e3 for k, name in enumerate("xyz")},
        **{f"v{name}": stars.velocity[:, k] for k, name in enumerate("xyz")},
        "kw": stars.kind,
        "L": stars.luminosity,
        "ID": stars.name,
        "pair": np.array(["a", "a"] + [f"s{i}" for i in range(len(stars) - 2)]),
    }
    made = Table(columns)
    made["M"].unit = units.Msun
    for name in "xyz":
        made[name].unit = units.kpc
        made[f"v{name}"].unit = units.km / units.s
    return made


@pytest.mark.parametrize("name", ["a.ecsv", "a.fits", "a.parquet", "a.vot"])
def test_tables_with_units(tmp_path: Path, table: Table, name: str) -> None:
    path = tmp_path / name
    table.write(path, format="votable" if name.endswith("vot") else None)
    stars = written.cluster()
    (found,) = read_snapshots(path, time=100.0, metallicity=-1.2)
    assert found.time == 100.0
    assert found.metallicity == -1.2
    np.testing.assert_allclose(found.mass, stars.mass, rtol=1e-6)
    np.testing.assert_array_equal(found.kind, stars.kind)
    np.testing.assert_array_equal(found.ids, stars.name)
    assert found.position is not None
    shift = found.position - stars.position
    np.testing.assert_allclose(shift, shift[0] + 0 * shift, atol=1e-9)
    assert found.system[0] == found.system[1]
    assert len(np.unique(found.system)) == len(stars) - 1
    assert np.isnan(found.temperature).all()


def test_csv_with_the_users_names_and_units(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("weight,dist,out,across,hot\n0.5,2000,1,2,5000\n0.8,500,-1,0,6000\n")
    (found,) = read_snapshots(
        path,
        column={"mass": "weight", "r": "dist", "vr": "out", "vt": "across", "teff": "hot"},
        unit={"radius": "AU", "vt": "m/s"},
    )
    assert found.radius is not None
    np.testing.assert_allclose(found.radius * 206264.806, [2000, 500], rtol=1e-6)
    np.testing.assert_allclose(found.tangential_velocity, [0.002, 0.0])
    np.testing.assert_array_equal(found.temperature, [5000, 6000])
    np.testing.assert_array_equal(found.kind, [0, 1])
    assert "main sequence" in found.provenance["assumed"]


def test_metadata_tell_time_and_metallicity(tmp_path: Path, table: Table) -> None:
    path = tmp_path / "a.ecsv"
    table.meta.update(time_myr=12_000.0, metallicity=-0.7)
    table.write(path)
    (found,) = read_snapshots(path)
    assert (found.time, found.metallicity) == (12_000.0, -0.7)
    (found,) = read_snapshots(path, time=1.0)
    assert (found.time, found.metallicity) == (1.0, -0.7)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,r\n1,1\n", {}, "no column for mass; found: a, r"),
        ("m,x\n1,1\n", {}, "no column for x, y and z, nor for radius"),
        ("m,r\n1,1\n", {"unit": {"r": "kg"}}, "'r' is in 'kg'; a unit that converts to pc"),
        ("m,r\n1,1\n", {"unit": {"r": "parsnip"}}, "a unit that converts to pc"),
        ("m,r\n1,1\n", {"unit": {"vr": "m/s"}}, "a unit is given for vr, which has no column"),
        ("m,r\n1,1\n", {"column": {"weight": "m"}}, "unknown NAME 'weight'"),
        ("m,r\n1,1\n", {"column": {"mass": "mm"}}, "no such column"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, text: str, options: dict, message: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(MelotteValueError, match=message):
        next(read_snapshots(path, **options))


def test_every_name_means_one_quantity() -> None:
    spelled = [name for quantity, aliases in NAMES.items() for name in (quantity, *aliases)]
    assert len(spelled) == len(set(spelled))
    assert all(snapshot_quantity(name) in NAMES for name in spelled)
    assert set(UNITS) <= set(NAMES)
