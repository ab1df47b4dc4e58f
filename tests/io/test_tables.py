"""Tables come back the same from every format, whatever their names, order and gaps."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.tables import read_table

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
texts = st.sampled_from(["NGC 188", "M67", "a,b", 'quo"te', "x;y", "bar|bar", "#1", "it's", "-"])
names = st.lists(
    st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,9}", fullmatch=True),
    min_size=4,
    max_size=8,
    unique_by=str.lower,
)


@st.composite
def tables(draw) -> Table:
    n_rows = draw(st.integers(1, 12))
    table = Table()
    for number, name in enumerate(draw(st.permutations(draw(names)))):
        kind = number % 4
        if kind == 0:
            elements = st.floats(-1e6, 1e6, width=64) | st.just(np.nan)
        elif kind == 1:
            elements = st.integers(2**60, 2**63 - 1)
        elif kind == 2:
            elements = texts
        else:
            elements = st.integers(-1000, 1000)
        column = draw(st.lists(elements, min_size=n_rows, max_size=n_rows))
        table[name] = np.array(column, dtype=(float, np.int64, str, np.int32)[kind])
    return table


def write(table: Table, path: Path) -> Path:
    if path.name.split(".")[1] in ("csv", "tsv"):
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if ".tsv" in path.name else ",")
        writer.writerow(table.colnames)
        writer.writerows(
            ["" if isinstance(v, float) and np.isnan(v) else v for v in row]
            for row in zip(*(table[name].tolist() for name in table.colnames), strict=True)
        )
        path.write_bytes(text.getvalue().encode())
    elif path.suffix == ".vot":
        table.write(path, format="votable", overwrite=True)
    else:
        table.write(path, overwrite=True)
    return path


FORMATS = {
    "t.csv": "csv",
    "t.tsv": "csv",
    "t.ecsv": "ecsv",
    "t.fits": "fits",
    "t.vot": "votable",
    "t.parquet": "parquet",
}


@quick
@given(tables())
def test_formats_agree(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("t")
    for name, kind in FORMATS.items():
        read = read_table(write(table, folder / name))
        assert read.format == kind
        assert list(read.columns) == table.colnames
        for column in table.colnames:
            expected = np.asarray(table[column])
            if expected.dtype.kind == "U":
                np.testing.assert_array_equal(read.text(column), expected.astype(object))
            elif expected.dtype == np.int64:
                np.testing.assert_array_equal(read.integers(column), expected)
            else:
                np.testing.assert_array_equal(read.numbers(column), expected)
            assert read.columns[column].dtype.isnative


@pytest.mark.parametrize("name", FORMATS)
def test_content_decides_not_the_name(tmp_path, name):
    table = Table({"g": [14.5, 15.5], "name": ["a", "b"]})
    content = write(table, tmp_path / name).read_bytes()
    odd = tmp_path / "members.dat"
    odd.write_bytes(content)
    assert read_table(odd).format == FORMATS[name]
    odd.write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(read_table(odd).numbers("g"), [14.5, 15.5])


@pytest.mark.parametrize("name", ["t.ecsv", "t.fits", "t.vot", "t.parquet"])
def test_units_and_masks_survive(tmp_path, name):
    table = Table({"plx": MaskedColumn([1.5, 2.5, 3.5], mask=[0, 1, 0], unit="mas")})
    table["n"] = MaskedColumn([1, 2, 3], mask=[0, 0, 1])
    table["long"] = MaskedColumn([2**62 + 1, 5, 7], mask=[0, 1, 0])
    read = read_table(write(table, tmp_path / name))
    assert read.units["plx"] == "mas"
    np.testing.assert_array_equal(read.numbers("plx"), [1.5, np.nan, 3.5])
    np.testing.assert_array_equal(read.numbers("n"), [1, 2, np.nan])
    np.testing.assert_array_equal(read.integers("long"), [2**62 + 1, -1, 7])


def test_only_chosen_columns_are_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,x,3\n")
    assert list(read_table(path, ["c", "a"]).columns) == ["c", "a"]
    upper = read_table(path, lambda found: [name for name in found if name > "a"])
    assert list(upper.columns) == ["b", "c"]
    with pytest.raises(MelotteValueError, match=r"no column 'bb' \(did you mean 'b'\?\)"):
        read_table(path, ["bb"])


def test_whole_numbers_may_turn_into_fractions_far_down(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("g,h\n" + "14,1\n" * 400_000 + "14.5,1\n")
    assert read_table(path).numbers("g")[-1] == 14.5


def test_vizier_tsv(tmp_path):
    path = tmp_path / "asu.tsv"
    path.write_text(
        "#RESOURCE=yCat\n#Name: I/355/gaiadr3\n\nRA_ICRS;Plx;Gmag;BP-RP\n"
        "deg;mas;mag;mag\n-------;------;----;----\n"
        " 12.5; 1.25;14.50;  0.75\n 12.6;     ;15.25;  0.80\n\n#END#\n"
    )
    read = read_table(path)
    assert read.units == {"RA_ICRS": "deg", "Plx": "mas", "Gmag": "mag", "BP-RP": "mag"}
    np.testing.assert_array_equal(read.numbers("Plx"), [1.25, np.nan])
    np.testing.assert_array_equal(read.numbers("BP-RP"), [0.75, 0.80])
    assert "gaiadr3" in read.metadata["comments"]


def test_names_may_stand_in_a_comment(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("# made by hand\n# g, bp_rp\n14.5, 0.5\n15.5, 0.7\n")
    read = read_table(path)
    np.testing.assert_array_equal(read.numbers("g"), [14.5, 15.5])
    assert list(read.columns) == ["g", "bp_rp"]


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfg,name\r\n14.5,\xce\xb1 Per\r\n15.5,\r\n")
    read = read_table(path)
    np.testing.assert_array_equal(read.numbers("g"), [14.5, 15.5])
    assert read.text("name").tolist() == ["α Per", ""]


@pytest.mark.parametrize("word", ["", "NaN", "nan", "null", "NULL", "--", "N/A", "None"])
def test_words_for_a_missing_number(tmp_path, word):
    path = tmp_path / "t.csv"
    path.write_text(f"g,h\n14.5,1\n{word},2\n")
    np.testing.assert_array_equal(read_table(path).numbers("g"), [14.5, np.nan])


def test_text_in_a_number_column_names_row_and_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("g,h\n14.5,1\n?,2\nbright,3\n")
    with pytest.raises(MelotteValueError, match=r"row 2, column 'g': '\?' is not a number"):
        read_table(path).numbers("g")


def test_identifiers_must_be_whole(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,h\n14.5,1\n")
    with pytest.raises(MelotteValueError, match=r"row 1, column 'id': 14\.5 is not a whole"):
        read_table(path).integers("id")


def test_array_columns_are_no_numbers(tmp_path):
    path = tmp_path / "t.fits"
    Table({"g": [14.5, 15.5], "v": np.zeros((2, 3))}).write(path)
    with pytest.raises(MelotteValueError, match=r"'v' holds arrays of shape \(3,\)"):
        read_table(path).numbers("v")


def test_an_error_is_one_line_and_an_os_error(tmp_path):
    with pytest.raises(OSError, match="does not exist") as caught:
        read_table(tmp_path / "absent.csv")
    assert isinstance(caught.value, MelotteFileError)
    assert "\n" not in str(caught.value)
