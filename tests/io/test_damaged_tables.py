"""Every damaged or foreign table is refused with one line that names the file and the fault."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from pyarrow import parquet

from melotte.errors import MelotteError
from melotte.io.gaia_members import read_members
from melotte.io.tables import read_table


def stars(n: int = 400) -> Table:
    return Table({"g": np.linspace(10, 18, n), "plx": np.ones(n)})


def written(name: str) -> Callable[[Path], bytes]:
    def build(folder: Path) -> bytes:
        path = folder / f"whole_{name}"
        stars().write(path, format="votable" if name.endswith("vot") else None)
        return path.read_bytes()

    return build


def cut(name: str, fraction: float = 0.6) -> Callable[[Path], bytes]:
    def build(folder: Path) -> bytes:
        content = written(name)(folder)
        return content[: int(len(content) * fraction)]

    return build


def twice_named(folder: Path) -> bytes:
    path = folder / "twice.parquet"
    parquet.write_table(pa.Table.from_arrays([pa.array([1.0])] * 2, names=["g", "g"]), path)
    return path.read_bytes()


def image(folder: Path) -> bytes:
    path = folder / "image_only.fits"
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(path)
    return path.read_bytes()


def no_rows_fits(folder: Path) -> bytes:
    path = folder / "no_rows_whole.fits"
    stars()[:0].write(path)
    return path.read_bytes()


FAILED_QUERY = b"""<?xml version="1.0"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<RESOURCE type="results"><INFO name="QUERY_STATUS" value="ERROR">Cannot parse query: WHERE</INFO>
</RESOURCE></VOTABLE>"""

ECSV = b"# %ECSV 1.0\n# ---\n# datatype:\n"

CASES: dict[str, tuple[str, bytes | Callable[[Path], bytes], str]] = {
    "empty": ("t.csv", b"", "is empty"),
    "blank": ("t.csv", b" \n\n", "is empty"),
    "comments only": ("t.csv", b"# g,plx\n", "comments only"),
    "prose": ("t.txt", b"the stars are bright\n", "no comma, tab, semicolon or bar"),
    "no header": ("t.csv", b"14.5,0.5\n15.5,0.7\n", "line of column names is needed"),
    "header only": ("t.csv", b"g,plx\n", "no rows"),
    "too many values": ("t.csv", b"g,plx\n1,2\n1,2,3\n", "line 3 holds 3 values but there are 2"),
    "too few values": ("t.csv", b"#c\ng,plx\n1\n1,2\n", "line 3 holds 1 values but there are 2"),
    "duplicate names": ("t.csv", b"g,plx,g\n1,2,3\n", "more than one g"),
    "latin-1 header": ("t.csv", "g,größe\n1,2\n".encode("latin-1"), "line 1 is not UTF-8"),
    "latin-1 data": ("t.csv", b"g,name\n" + b"1,x\n" * 9 + b"1,\xe9\n", "line 11 is not UTF-8"),
    "utf-16": ("t.csv", "g,plx\n1,2\n".encode("utf-16"), "UTF-16"),
    "html": ("t.csv", b"<!DOCTYPE html><html>404</html>", "web page"),
    "html after xml": ("t.vot", b"<?xml version='1.0'?><html></html>", "web page"),
    "other xml": ("t.xml", b"<?xml version='1.0'?><kml></kml>", "XML without a VOTABLE"),
    "json": ("t.csv", b'{"g": [1, 2]}', "looks like JSON"),
    "binary garbage": ("t.csv", bytes(range(256)) * 8, "is binary"),
    "binary garbage named FITS": ("t.fits", b"\x01\x02\x00" * 999, "no FITS file"),
    "text named FITS": ("t.fits", b"g,plx\n1,2\n", "text and no FITS file"),
    "text named parquet": ("t.parquet", b"g,plx\n1,2\n", "text and no parquet file"),
    "hdf5": ("t.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "an HDF5 file"),
    "zip": ("t.xlsx", b"PK\x03\x04" + b"\0" * 99, "a zip or spreadsheet"),
    "pdf": ("t.csv", b"%PDF-1.4", "a PDF"),
    "png": ("t.csv", b"\x89PNG\r\n", "a PNG"),
    "cut gzip": ("t.csv.gz", gzip.compress(b"g,plx\n" + b"1,2\n" * 999)[:-9], "gzip stream"),
    "empty gzip": ("t.csv.gz", gzip.compress(b""), "unpacks to nothing"),
    "cut FITS": ("t.fits", cut("a.fits"), "FITS file is truncated"),
    "cut FITS header": ("t.fits", cut("a.fits", 0.1), "FITS"),
    "FITS image": ("t.fits", image, "without a table"),
    "FITS without rows": ("t.fits", no_rows_fits, "no rows"),
    "cut parquet": ("t.parquet", cut("a.parquet"), "parquet file is truncated"),
    "parquet magic only": ("t.parquet", b"PAR1", "parquet file is truncated"),
    "parquet names twice": ("t.parquet", twice_named, "more than one g"),
    "cut VOTable": ("t.vot", cut("a.vot"), "VOTable is truncated"),
    "VOTable without table": ("t.vot", b"<?xml version='1.0'?><VOTABLE/>", "without a table"),
    "failed query": ("t.vot", FAILED_QUERY, "archive said: Cannot parse query"),
    "ECSV of bad YAML": ("t.ecsv", ECSV + b"# - {name: g\ng\n1\n", "ECSV header is broken"),
    "ECSV without datatype": ("t.ecsv", b"# %ECSV 1.0\ng plx\n1 2\n", "ECSV header is broken"),
    "ECSV of other names": (
        "t.ecsv",
        ECSV + b"# - {name: g, datatype: float64}\nx\n1\n",
        "ECSV header describes",
    ),
    "ECSV cut before data": (
        "t.ecsv",
        ECSV + b"# - {name: g, datatype: float64}\n",
        "comments only",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(tmp_path, case):
    name, content, expected = CASES[case]
    path = tmp_path / name
    path.write_bytes(content(tmp_path) if callable(content) else content)
    with pytest.raises(MelotteError) as caught:
        read_table(path)
    message = str(caught.value)
    assert expected in message
    assert str(path) in message
    assert "\n" not in message
    assert message.isprintable()


@pytest.fixture(scope="module")
def whole_tables(tmp_path_factory) -> dict[str, bytes]:
    """A small table of members in every format."""
    table = Table({"cluster": ["a", "b"] * 9, "source_id": 2**60 + np.arange(18)})
    for name in ("g", "bp_rp", "parallax"):
        table[name] = np.linspace(1, 18, 18)
    table["parallax"].unit = "mas"
    folder = tmp_path_factory.mktemp("whole")
    for name in ("t.csv", "t.ecsv", "t.fits", "t.parquet", "t.vot"):
        table.write(folder / name, format="votable" if name == "t.vot" else None)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["t.csv", "t.ecsv", "t.fits", "t.parquet", "t.vot"])
def test_random_damage_is_an_error_or_a_table(whole_tables, name, tmp_path):
    """Bytes changed, lost or inserted anywhere: never another exception, never a second line."""
    rng = np.random.default_rng(len(name))
    path = tmp_path / name
    refused = 0
    for _ in range(150):
        content = bytearray(whole_tables[name])
        for _ in range(rng.choice([1, 2, 5, 30])):
            at = int(rng.integers(len(content)))
            kind = rng.integers(3)
            if kind == 0:
                content[at] = int(rng.integers(256))
            elif kind == 1:
                del content[at : at + int(rng.integers(1, 40))]
            else:
                content[at:at] = rng.bytes(5)
        path.write_bytes(content)
        try:
            read_members(path)
            message = ""
        except MelotteError as error:
            message = str(error)
            refused += 1
        assert "\n" not in message
        assert len(message) < 1500
    assert 0 < refused <= 150


def test_folder_and_odd_paths(tmp_path):
    for path, expected in (
        (tmp_path, "is a folder"),
        (tmp_path / "absent.fits", "does not exist"),
        (tmp_path / "file" / "below.csv", "does not exist"),
        ("nul\0byte.csv", "cannot be read"),
    ):
        with pytest.raises(MelotteError, match=expected):
            read_table(path)


@pytest.mark.parametrize("name", ["a.fits", "a.parquet", "a.vot", "a.ecsv"])
@pytest.mark.parametrize("fraction", [0.02, 0.2, 0.4, 0.8, 0.97])
def test_a_cut_file_never_passes_silently(tmp_path, name, fraction):
    """Whatever is cut off, either one line says so or (text, cut between rows) rows are fewer."""
    path = tmp_path / name.replace("a.", "t.")
    path.write_bytes(cut(name, fraction)(tmp_path))
    try:
        n_rows = read_table(path).n_rows
        message = ""
    except MelotteError as error:
        n_rows = 0
        message = str(error)
    assert "\n" not in message
    assert (str(path) in message) == (n_rows == 0)
    assert n_rows == 0 or (name == "a.ecsv" and n_rows < 400)
