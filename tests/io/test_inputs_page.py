"""The page on inputs lists exactly the names and the query of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from melotte.io.adql import cone_query
from melotte.io.gaia_columns import GAIA_COLUMNS, canonical_name, normalised

PAGE = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")


def rows_of_names() -> dict[str, list[str]]:
    rows = re.findall(r"^\| `(\w+)` \| [^|]*\| (`[^|]*`) \|$", PAGE, re.M)
    return {name: re.findall(r"`([^`]+)`", names) for name, names in rows}


@pytest.mark.parametrize("column", GAIA_COLUMNS, ids=lambda column: column.name)
def test_every_recognised_name_is_listed_and_nothing_else(column):
    listed = rows_of_names()[column.name]
    assert tuple(dict.fromkeys(normalised(name) for name in listed)) == column.aliases
    assert all(canonical_name(name) == column.name for name in listed)


def test_no_quantity_is_listed_that_the_code_does_not_know():
    assert set(rows_of_names()) == {column.name for column in GAIA_COLUMNS}


def test_the_query_shown_is_the_query_made():
    assert f"```sql\n{cone_query('M67')}```" in PAGE
