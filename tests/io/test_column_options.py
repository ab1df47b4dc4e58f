"""Options that map columns: their form; which names there are is for the readers to say."""

from __future__ import annotations

import pytest

from melotte.errors import MelotteValueError
from melotte.io.column_options import parse_column_options, quantities
from melotte.io.galaxy_columns import galaxy_quantity


def test_options_are_pairs():
    assert parse_column_options(["g=my mag", "Plx = p", "phot_bp_mean_mag=b=c"]) == {
        "g": "my mag",
        "Plx": "p",
        "phot_bp_mean_mag": "b=c",
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["g"], "not of the form NAME=theirs"),
        (["=mag"], "not of the form"),
        (["g="], "not of the form"),
        (["z=a", "z=b"], "gives z twice: 'a' and 'b'"),
    ],
)
def test_bad_options(options, expected):
    with pytest.raises(MelotteValueError, match=expected):
        parse_column_options(options)


def test_names_become_quantities_once():
    assert quantities({"z": "a", "p_mem": "b"}, galaxy_quantity) == {
        "redshift": "a",
        "membership": "b",
    }
    assert quantities(None, galaxy_quantity) == {}
    with pytest.raises(MelotteValueError, match="gives redshift twice"):
        quantities({"z": "a", "cz": "b"}, galaxy_quantity)
