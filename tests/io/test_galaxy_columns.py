"""The page on inputs lists exactly the names of galaxies' quantities that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from melotte.errors import MelotteValueError
from melotte.io.gaia_columns import normalised
from melotte.io.galaxy_columns import (
    ARCHIVE_NAMES,
    OPTION_NAMES,
    galaxy_quantity,
    recognise_galaxies,
)

PAGE = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")


def listed_names() -> dict[str, tuple[str, ...]]:
    section = PAGE[PAGE.index("# Galaxies about clusters") :]
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| [^|]* \| ([^|]*) \|$", section, re.M)
    return {
        name: tuple(normalised(word) for word in re.findall(r"`([^`]+)`", names))
        for name, names in rows
    }


def test_the_page_and_the_code_agree():
    assert listed_names() == ARCHIVE_NAMES


@pytest.mark.parametrize("quantity", ARCHIVE_NAMES)
def test_every_alias_leads_to_one_quantity_alone(quantity):
    for alias in ARCHIVE_NAMES[quantity]:
        assert normalised(alias) == alias
        assert alias in OPTION_NAMES or galaxy_quantity(alias) == quantity
        assert recognise_galaxies([alias.upper()]).found == {quantity: alias.upper()}


def test_the_leftmost_name_counts_and_ambiguity_is_an_error():
    assert recognise_galaxies(["cz", "z"]).found["redshift"] == "z"
    with pytest.raises(MelotteValueError, match="could all be redshift"):
        recognise_galaxies(["Z", "z"])
    assert recognise_galaxies(["Z", "z"], {"redshift": "Z"}).found["redshift"] == "Z"


def test_a_mapped_velocity_is_that_in_the_cluster_frame():
    mapped = {"radius": "R", "velocity": "V"}
    assert recognise_galaxies(["R", "V"], mapped).found == {
        "projected_radius": "R",
        "line_of_sight_velocity": "V",
    }
    assert recognise_galaxies(["velocity"]).found == {"redshift": "velocity"}
    with pytest.raises(MelotteValueError, match=r"'parallax'.*known: cluster, .*, radius, veloc"):
        recognise_galaxies(["p"], {"parallax": "p"})
