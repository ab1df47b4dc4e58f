"""Gaia's quantities are recognised by their names and converted from their units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from melotte.errors import MelotteValueError
from melotte.io.gaia_columns import (
    GAIA_COLUMNS,
    canonical_name,
    in_unit,
    recognise,
    require_photometry,
)
from melotte.io.table_files import TableFile

ARCHIVE = [
    "solution_id",
    "designation",
    "source_id",
    "ra",
    "ra_error",
    "dec",
    "dec_error",
    "parallax",
    "parallax_error",
    "parallax_over_error",
    "pmra",
    "pmra_error",
    "pmdec",
    "pmdec_error",
    "ruwe",
    "phot_g_mean_flux",
    "phot_g_mean_flux_error",
    "phot_g_mean_flux_over_error",
    "phot_g_mean_mag",
    "phot_bp_mean_mag",
    "phot_rp_mean_mag",
    "phot_bp_rp_excess_factor",
    "bp_rp",
    "bp_g",
    "g_rp",
]
VIZIER = [
    "RA_ICRS",
    "DE_ICRS",
    "Source",
    "e_RA_ICRS",
    "e_DE_ICRS",
    "Plx",
    "e_Plx",
    "PM",
    "pmRA",
    "e_pmRA",
    "pmDE",
    "e_pmDE",
    "RUWE",
    "FG",
    "e_FG",
    "Gmag",
    "e_Gmag",
    "BPmag",
    "e_BPmag",
    "RPmag",
    "e_RPmag",
    "BP-RP",
    "E(BP/RP)",
    "RV",
    "Pmemb",
    "Cluster",
]


def test_archive_names():
    found = recognise(ARCHIVE)
    assert found["g"] == "phot_g_mean_mag"
    assert found["bp_rp"] == "bp_rp"
    assert found["parallax"] == "parallax"
    assert found["parallax_error"] == "parallax_error"
    assert found["g_snr"] == "phot_g_mean_flux_over_error"
    assert found["source_id"] == "source_id"
    assert "rp" in found
    assert found["rp"] == "phot_rp_mean_mag"


def test_vizier_names():
    found = recognise(VIZIER)
    assert found["g"] == "Gmag"
    assert found["bp_rp"] == "BP-RP"
    assert found["parallax"] == "Plx"
    assert found["g_error"] == "e_Gmag"
    assert found["membership"] == "Pmemb"
    assert found["cluster"] == "Cluster"
    assert found["dec"] == "DE_ICRS"


def test_excess_factor_and_reddening_are_no_colour_errors():
    for name in ("E(BP/RP)", "E(BP-RP)", "E_BP_RP_", "ebpminrp_gspphot"):
        assert recognise([name]) == {}


def test_no_alias_serves_two_quantities():
    aliases = [alias for column in GAIA_COLUMNS for alias in column.aliases]
    assert len(aliases) == len(set(aliases))
    for column in GAIA_COLUMNS:
        for alias in column.aliases:
            assert canonical_name(alias) == canonical_name(alias.upper()) == column.name


def test_archive_name_is_preferred():
    assert recognise(["Gmag", "phot_g_mean_mag"])["g"] == "phot_g_mean_mag"


def test_names_that_differ_in_case_only_are_ambiguous():
    with pytest.raises(MelotteValueError, match=r"Gmag, gmag could all be g; .*--column g="):
        recognise(["Gmag", "gmag"])
    assert recognise(["Gmag", "gmag"], {"g": "Gmag"})["g"] == "Gmag"


def test_mapping_wins_and_frees_the_name_for_nothing_else():
    found = recognise(["mymag", "bp", "Plx", "Gmag"], {"g": "mymag", "bp_rp": "bp"})
    assert found["g"] == "mymag"
    assert found["bp_rp"] == "bp"
    assert "bp" not in found


def test_mapping_to_an_absent_column():
    with pytest.raises(MelotteValueError, match=r"--column g=mymg: .*did you mean 'mymag'"):
        recognise(["mymag"], {"g": "mymg"})


def test_a_mapping_of_unknown_or_repeated_names_is_refused():
    with pytest.raises(MelotteValueError, match=r"NAME 'paralax' \(did you mean 'parallax'"):
        recognise(["p"], {"paralax": "p"})
    with pytest.raises(MelotteValueError, match="gives g twice: 'a' and 'b'"):
        recognise(["a", "b"], {"g": "a", "Gmag": "b"})
    assert recognise(["p"], {"Plx": "p"}) == {"parallax": "p"}


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["BP-RP", "Plx"], r"column for g\b"),
        (["Gmag", "Plx", "BPmag"], r"column for bp_rp\b"),
        (["Gmag", "BP-RP", "paralax"], r"column for parallax \(did you mean 'paralax'"),
        (["a"], r"column for g \(nor for bp_rp and parallax\)"),
    ],
)
def test_missing_photometry_says_how_to_map(names, missing):
    with pytest.raises(MelotteValueError, match=missing) as caught:
        require_photometry(recognise(names), names, "t.csv")
    assert "--column" in str(caught.value)
    assert "found: " + ", ".join(names) in str(caught.value)


def table(unit: str) -> TableFile:
    return TableFile(Path("t.fits"), "fits", {"x": np.array([2.0])}, {"x": unit} if unit else {})


@pytest.mark.parametrize(
    ("quantity", "unit", "expected"),
    [
        ("parallax", "", 2.0),
        ("parallax", "mas", 2.0),
        ("parallax", "arcsec", 2000.0),
        ("parallax", "uas", 0.002),
        ("parallax", "[mas]", 2.0),
        ("parallax", "10**-3.arcsec", 2.0),
        ("g", "mag", 2.0),
        ("g", "mmag", 0.002),
        ("pmra", "mas.yr**-1", 2.0),
        ("pmra", "arcsec/yr", 2000.0),
        ("pmra", "deg / yr", 7.2e6),
        ("ra", "rad", 114.59155902616465),
        ("ruwe", "nonsense", 2.0),
    ],
)
def test_units(quantity, unit, expected):
    np.testing.assert_allclose(in_unit(table(unit), "x", quantity), [expected], rtol=1e-12)


@pytest.mark.parametrize(("quantity", "unit"), [("parallax", "km/s"), ("g", "Jy"), ("ra", "?!")])
def test_units_of_another_kind(quantity, unit):
    with pytest.raises(MelotteValueError, match="a unit that converts to"):
        in_unit(table(unit), "x", quantity)
