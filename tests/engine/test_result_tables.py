"""Result tables survive every format whole: ids, units, NaN, flags, descriptions, provenance."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from linear_gaussian import PARAMETERS

from melotte.engine.result_tables import (
    check_result_path,
    check_samples_path,
    read_result_table,
    result_table,
    write_result_table,
)
from melotte.engine.results import InferenceResult, ResultColumn
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.flags import Flag

SUFFIXES = (".ecsv", ".fits", ".parquet", ".vot")
IDS = ("4295806720123456789", "NGC 188", 'a,"b" <c> & d', "007", "", "2")


def make_result(ids=IDS, n_samples=4):
    rng = np.random.default_rng(1)
    n = len(ids)
    quantiles = np.sort(rng.random((n, 3, 3)), axis=1)
    flags = np.zeros(n, dtype=np.int64)
    samples = rng.random((n, n_samples, 3)).astype(np.float32)
    if n > 1:
        quantiles[1], samples[1], flags[1] = np.nan, np.nan, int(Flag.FAILED)
    return InferenceResult(
        ids=tuple(ids),
        parameters=PARAMETERS,
        quantiles=quantiles,
        flags=flags,
        samples=samples,
        columns={"n_members": ResultColumn(np.arange(n), "", "listed stars")},
        reasons={"NGC 188": "no stars"},
        provenance={"model": "toy", "seed": 3, "inputs": ["béta.csv"], "bad": float("nan")},
    )


def test_columns_are_in_the_documented_order():
    table = result_table(make_result())
    assert table.colnames == [
        "id",
        *(f"{p.name}_{q}" for p in PARAMETERS for q in (16, 50, 84)),
        "n_members",
        "flags",
    ]
    assert str(table["distance_50"].unit) == "kpc"
    assert table["log_age_50"].unit is None
    assert "log10(age/yr)" in table["log_age_50"].description


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(suffix, tmp_path):
    result = make_result()
    written = result_table(result)
    path = result.write(tmp_path / f"result{suffix}")
    table = read_result_table(path)
    assert table.colnames == written.colnames
    assert [str(name) for name in table["id"]] == list(IDS)
    assert table["flags"].dtype.kind == "i"
    for name in written.colnames[1:]:
        np.testing.assert_array_equal(np.asarray(table[name]), np.asarray(written[name]))
        assert table[name].unit == written[name].unit
        assert table[name].description == written[name].description
    assert table.meta["melotte"] == written.meta["melotte"]
    assert table.meta["melotte"]["provenance"]["bad"] is None
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_tools_read_the_same(suffix, tmp_path):
    """The formats as astropy and pandas users open them, without melotte."""
    import pandas as pd
    from astropy.table import Table

    path = make_result().write(tmp_path / f"result{suffix}")
    if suffix == ".parquet":
        frame = pd.read_parquet(path)
        assert frame["id"][0] == IDS[0]
        assert np.isnan(frame["log_age_50"][1])
        return
    formats = {".ecsv": "ascii.ecsv", ".fits": "fits", ".vot": "votable"}
    table = Table.read(path, format=formats[suffix])
    assert str(table["extinction_v_50"].unit) == "mag"
    assert str(np.asarray(table["id"]).astype(str)[0]) == IDS[0]
    assert len(table) == len(IDS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_letters_beyond_ascii(suffix, tmp_path):
    ids = ("Collinder 70β", "line\nbreak\t", "Ω")
    table = read_result_table(make_result(ids).write(tmp_path / f"r{suffix}"))
    names = [str(name) for name in table["id"]]
    wanted = ["Collinder 70β", "line break", "Ω"]
    if suffix == ".fits":
        wanted = [name.encode("ascii", "backslashreplace").decode() for name in wanted]
    assert [name.rstrip() for name in names] == wanted


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_result_is_a_table_without_rows(suffix, tmp_path):
    table = read_result_table(make_result(()).write(tmp_path / f"empty{suffix}"))
    assert len(table) == 0
    assert "log_age_16" in table.colnames


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_result_same_bytes(suffix, tmp_path):
    first = make_result().write(tmp_path / f"a{suffix}").read_bytes()
    assert make_result().write(tmp_path / f"b{suffix}").read_bytes() == first


def test_unknown_suffix_names_the_allowed_and_writes_nothing(tmp_path):
    with pytest.raises(MelotteValueError, match=r"'\.csv'.*\.ecsv, \.fits, \.parquet, \.vot"):
        write_result_table(make_result(), tmp_path / "result.csv")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = make_result().write(tmp_path / "result.fits")
    before = path.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MelotteFileError, match="No space"):
        make_result(("x", "y")).write(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.fits"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_and_foreign_tables_are_refused_in_one_line(suffix, tmp_path):
    path = tmp_path / f"bad{suffix}"
    with pytest.raises(MelotteFileError, match="cannot be read"):
        read_result_table(path)
    path.write_bytes(b"\x00\x01nonsense\xff" * 50)
    with pytest.raises(MelotteFileError) as caught:
        read_result_table(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_system_column_must_not_hide_a_table_column():
    result = make_result()
    clash = InferenceResult(
        result.ids,
        PARAMETERS,
        result.quantiles,
        result.flags,
        columns={"flags": ResultColumn(result.flags)},
    )
    with pytest.raises(MelotteValueError, match="clashes"):
        clash.table()


def test_samples_file(tmp_path):
    result = make_result()
    path = result.write_samples(tmp_path / "samples.h5")
    with h5py.File(path) as file:
        assert file["samples"].dtype == np.float32
        np.testing.assert_array_equal(file["samples"][:], result.samples)
        assert [name.decode() for name in file["id"][:]] == list(IDS)
        assert [name.decode() for name in file["parameters"][:]] == [p.name for p in PARAMETERS]
        assert [name.decode() for name in file["units"][:]] == ["", "mag", "kpc"]
        assert json.loads(file.attrs["melotte"])["seed"] == 3
    first = path.read_bytes()
    assert result.write_samples(tmp_path / "again.h5").read_bytes() == first
    with pytest.raises(MelotteFileError, match="cannot be written"):
        result.write_samples(tmp_path / "missing" / "samples.h5")
    bare = InferenceResult(result.ids, PARAMETERS, result.quantiles, result.flags)
    with pytest.raises(MelotteValueError, match="--samples"):
        bare.write_samples(tmp_path / "none.h5")


def test_paths_are_checked_before_the_work(tmp_path):
    check_result_path(tmp_path / "a.FITS")
    check_samples_path(tmp_path / "a.h5")
    with pytest.raises(MelotteValueError, match=r"\.h5, \.hdf5"):
        check_samples_path(tmp_path / "a.npy")
    with pytest.raises(MelotteValueError, match=r"\.ecsv"):
        check_result_path(tmp_path / "a")
    with pytest.raises(MelotteFileError, match="does not exist"):
        check_result_path(tmp_path / "missing" / "a.fits")
    (tmp_path / "folder.vot").mkdir()
    with pytest.raises(MelotteFileError, match="is a folder"):
        check_result_path(tmp_path / "folder.vot")
