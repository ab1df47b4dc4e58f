"""Catalogues of simulations: the same haloes from every format, and clear refusals."""

from __future__ import annotations

import gzip
import pickle

import h5py
import numpy as np
import pytest

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.halo_catalogues import NO_PARENT, SimulatedHaloes, read_haloes
from melotte.telescope.cylinders import Box

BOX = 100.0
NAMES = ("id", "upid", "x", "y", "z", "vx", "vy", "vz", "m200c", "mpeak", "obs_sm")


def haloes(n: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    columns = {name: rng.uniform(0, BOX, n) for name in "xyz"}
    columns |= {f"v{name}": rng.normal(0, 500, n) for name in "xyz"}
    columns["id"] = 10**15 + np.arange(n)
    columns["upid"] = np.where(np.arange(n) % 3 == 0, -1, 10**15)
    columns["m200c"] = 10 ** rng.uniform(12, 15, n)
    columns["mpeak"] = columns["m200c"] * 1.1
    columns["obs_sm"] = 10 ** rng.uniform(8, 12, n)
    return {name: columns[name] for name in NAMES}


def as_hlist(columns: dict[str, np.ndarray]) -> str:
    """Rockstar's text: numbered names, comments, and columns nobody wants."""
    extra = {"scale": np.full(len(columns["id"]), 0.9), **columns}
    extra["M200b"] = 2 * columns["m200c"]
    header = "#" + " ".join(f"{name}({i})" for i, name in enumerate(extra))
    rows = [
        " ".join(repr(value) for value in row)
        for row in zip(*(array.tolist() for array in extra.values()), strict=True)
    ]
    return "\n".join([header, "#Omega_M = 0.307115; h0 = 0.677700", *rows, ""])


def structured(columns: dict[str, np.ndarray]) -> np.ndarray:
    kinds = [(name, array.dtype) for name, array in columns.items()]
    table = np.empty(len(columns["id"]), dtype=kinds)
    for name, array in columns.items():
        table[name] = array
    return table


def write(kind: str, folder, columns):
    path = folder / f"haloes.{kind}"
    if kind == "list":
        path.write_text(as_hlist(columns))
    elif kind == "list.gz":
        path.write_bytes(gzip.compress(as_hlist(columns).encode()))
    elif kind == "npy":
        np.save(path, structured(columns))
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            for name, array in columns.items():
                file[f"haloes/{name}"] = array
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["catalogue"] = structured(columns)
    else:
        rows = zip(*(array.tolist() for array in columns.values()), strict=True)
        lines = [",".join(map(repr, row)) for row in rows]
        path.write_text("\n".join([",".join(columns), *lines]))
    return path


@pytest.mark.parametrize("kind", ["list", "list.gz", "npy", "hdf5", "h5", "csv"])
def test_the_same_haloes_from_every_format(kind, tmp_path):
    columns = haloes()
    found = read_haloes(write(kind, tmp_path, columns), BOX)
    np.testing.assert_array_equal(found.id, columns["id"])
    np.testing.assert_array_equal(found.parent_id, columns["upid"])
    np.testing.assert_allclose(found.position[:, 2], columns["z"], rtol=1e-12)
    np.testing.assert_allclose(found.velocity[:, 1], columns["vy"], rtol=1e-12)
    np.testing.assert_allclose(found.log_mass, np.log10(columns["m200c"]))
    np.testing.assert_allclose(found.log_peak_mass, np.log10(columns["mpeak"]))
    np.testing.assert_allclose(found.log_stellar_mass, np.log10(columns["obs_sm"]))
    assert found.columns["mass"] == "m200c"


def test_limits_and_masses_without_h(tmp_path):
    columns = haloes(200)
    path = write("npy", tmp_path, columns)
    found = read_haloes(path, BOX, lowest={"mass": 1e13, "stellar_mass": 10**9.5}, hubble=0.7)
    wanted = (columns["m200c"] * 0.7 >= 1e13) & (columns["obs_sm"] >= 10**9.5)
    np.testing.assert_array_equal(found.id, columns["id"][wanted])
    np.testing.assert_allclose(found.log_mass, np.log10(0.7 * columns["m200c"][wanted]))
    assert 0 < len(found) < 200


def test_the_virial_mass_stands_in_where_there_is_no_other(tmp_path):
    columns = haloes()
    columns["mvir"] = columns.pop("m200c") * 1.2
    found = read_haloes(write("npy", tmp_path, columns), BOX)
    assert found.columns["mass"] == "mvir"
    path = write("npy", tmp_path, columns)
    assert read_haloes(path, BOX, column={"mass": "mpeak"}).columns["mass"] == "mpeak"


def test_universe_machine_packs_six_numbers(tmp_path):
    columns = haloes()
    kinds = [("id", "i8"), ("upid", "i8"), ("pos", "f4", 6), ("mp", "f4"), ("obs_sm", "f4")]
    table = np.zeros(20, dtype=kinds)
    table["id"], table["upid"] = columns["id"], columns["upid"]
    for i, name in enumerate(("x", "y", "z", "vx", "vy", "vz")):
        table["pos"][:, i] = columns[name]
    table["obs_sm"] = columns["obs_sm"]
    np.save(tmp_path / "sfr_catalog.npy", table)
    found = read_haloes(tmp_path / "sfr_catalog.npy", BOX)
    np.testing.assert_allclose(found.position[:, 1], columns["y"], rtol=1e-6)
    np.testing.assert_allclose(found.velocity[:, 2], columns["vz"], rtol=1e-6)
    assert np.isnan(found.log_mass).all()


def test_satellites_belong_to_their_parent_and_centrals_to_themselves(tmp_path):
    found = read_haloes(write("csv", tmp_path, haloes()), BOX)
    centrals = found.parent_id == NO_PARENT
    np.testing.assert_array_equal(found.host_id[centrals], found.id[centrals])
    assert (found.host_id[~centrals] == 10**15).all()
    box = Box.of(found.select(~centrals))
    assert box.position.shape == ((~centrals).sum(), 3)
    assert isinstance(found.select(centrals), SimulatedHaloes)


def test_positions_must_fit_the_box(tmp_path):
    columns = haloes()
    columns["x"][3] = BOX * (1 + 1e-7)
    found = read_haloes(write("npy", tmp_path, columns), BOX)
    assert found.position.max() < BOX
    assert found.position[3, 0] == pytest.approx(1e-5, rel=0.01)
    columns["x"] = columns["x"] * 1000
    with pytest.raises(MelotteValueError, match="do not fit a box of 100 Mpc/h; positions in kpc"):
        read_haloes(write("npy", tmp_path, columns), BOX)


def test_refusals_are_one_clear_line(tmp_path):
    columns = haloes()
    without = {name: array for name, array in columns.items() if name != "vx"}
    with pytest.raises(MelotteValueError, match="has no column for vx; found: id, upid"):
        read_haloes(write("npy", tmp_path, without), BOX)
    with pytest.raises(MelotteValueError, match="'massive' is not a quantity"):
        read_haloes(write("npy", tmp_path, columns), BOX, column={"massive": "mpeak"})
    with pytest.raises(MelotteValueError, match="lowest: 'age'"):
        read_haloes(write("npy", tmp_path, columns), BOX, lowest={"age": 1})
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{"id": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MelotteFileError, match="read without pickle"):
        read_haloes(objects, BOX)
    plain = tmp_path / "plain.npy"
    np.save(plain, np.zeros((5, 3)))
    with pytest.raises(MelotteFileError, match="without column names"):
        read_haloes(plain, BOX)
    pickled = tmp_path / "haloes.pkl"
    pickled.write_bytes(pickle.dumps(columns))
    with pytest.raises(MelotteFileError):
        read_haloes(pickled, BOX)
    cut = tmp_path / "cut.list"
    cut.write_text(as_hlist(columns)[:-60])
    with pytest.raises(MelotteFileError, match=r"cut\.list"):
        read_haloes(cut, BOX)
    with pytest.raises(MelotteFileError, match="does not exist"):
        read_haloes(tmp_path / "absent.list", BOX)
    damaged = tmp_path / "damaged.hdf5"
    damaged.write_bytes(write("hdf5", tmp_path, columns).read_bytes()[:400])
    with pytest.raises(MelotteFileError, match="damaged"):
        read_haloes(damaged, BOX)
