"""The names and units under which Gaia's quantities appear in users' tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError, did_you_mean
from melotte.io.column_options import quantities
from melotte.io.table_files import TableFile, listed


@dataclass(frozen=True)
class GaiaColumn:
    """One quantity of a star.

    Parameters
    ----------
    name : str
        What ``--column NAME=theirs`` and error messages call it.
    unit : str
        The unit in which melotte holds it.
    aliases : tuple of str
        Recognised names in lower case with ``-`` and blanks written ``_``, preferred ones first:
        the Gaia archive's, VizieR's, then others in use.
    """

    name: str
    unit: str
    aliases: tuple[str, ...]


GAIA_COLUMNS: tuple[GaiaColumn, ...] = (
    GaiaColumn("g", "mag", ("phot_g_mean_mag", "gmag", "g_mag", "g")),
    GaiaColumn("bp", "mag", ("phot_bp_mean_mag", "bpmag", "bp_mag", "g_bp", "bp")),
    GaiaColumn("rp", "mag", ("phot_rp_mean_mag", "rpmag", "rp_mag", "g_rp", "rp")),
    GaiaColumn("bp_rp", "mag", ("bp_rp", "bprp", "bpmag_rpmag", "g_bp_g_rp")),
    GaiaColumn("parallax", "mas", ("parallax", "plx")),
    GaiaColumn("parallax_error", "mas", ("parallax_error", "e_plx", "e_parallax", "plx_error")),
    GaiaColumn("g_error", "mag", ("phot_g_mean_mag_error", "e_gmag", "g_error")),
    GaiaColumn("bp_error", "mag", ("phot_bp_mean_mag_error", "e_bpmag", "bp_error")),
    GaiaColumn("rp_error", "mag", ("phot_rp_mean_mag_error", "e_rpmag", "rp_error")),
    GaiaColumn("bp_rp_error", "mag", ("bp_rp_error", "bprp_error")),
    GaiaColumn("g_snr", "", ("phot_g_mean_flux_over_error", "rfg")),
    GaiaColumn("bp_snr", "", ("phot_bp_mean_flux_over_error", "rfbp")),
    GaiaColumn("rp_snr", "", ("phot_rp_mean_flux_over_error", "rfrp")),
    GaiaColumn("g_flux", "", ("phot_g_mean_flux", "fg")),
    GaiaColumn("bp_flux", "", ("phot_bp_mean_flux", "fbp")),
    GaiaColumn("rp_flux", "", ("phot_rp_mean_flux", "frp")),
    GaiaColumn("g_flux_error", "", ("phot_g_mean_flux_error", "e_fg")),
    GaiaColumn("bp_flux_error", "", ("phot_bp_mean_flux_error", "e_fbp")),
    GaiaColumn("rp_flux_error", "", ("phot_rp_mean_flux_error", "e_frp")),
    GaiaColumn("ra", "deg", ("ra", "ra_icrs", "radeg", "ra_deg", "raj2000")),
    GaiaColumn("dec", "deg", ("dec", "de_icrs", "dedeg", "dec_deg", "dej2000", "dec_icrs")),
    GaiaColumn("pmra", "mas/yr", ("pmra", "pmracosdec", "pmra_cosdec")),
    GaiaColumn("pmdec", "mas/yr", ("pmdec", "pmde")),
    GaiaColumn("pmra_error", "mas/yr", ("pmra_error", "e_pmra")),
    GaiaColumn("pmdec_error", "mas/yr", ("pmdec_error", "e_pmdec", "e_pmde")),
    GaiaColumn("ruwe", "", ("ruwe",)),
    GaiaColumn(
        "membership",
        "",
        (
            "pmemb",
            "proba",
            "prob",
            "probability",
            "membership",
            "membership_probability",
            "prob_memb",
            "p_memb",
            "pmb",
            "memberprob",
        ),
    ),
    GaiaColumn("cluster", "", ("cluster", "cluster_name", "clustername", "cluster_id", "name")),
    GaiaColumn(
        "source_id",
        "",
        ("source_id", "source", "sourceid", "gaia_source_id", "gaiadr3", "gaiaedr3", "gaiadr2"),
    ),
    GaiaColumn("designation", "", ("designation", "dr3name", "edr3name", "dr2name")),
)

_BY_NAME = {column.name: column for column in GAIA_COLUMNS}

_SCALES: dict[str, dict[str, float]] = {
    "mag": {"mag": 1.0, "mags": 1.0, "magnitude": 1.0, "mmag": 1e-3, "dex(mag)": 1.0},
    "mas": {"mas": 1.0, "milliarcsec": 1.0, "arcsec": 1e3, '"': 1e3, "uas": 1e-3, "deg": 3.6e6},
    "mas/yr": {
        "mas/yr": 1.0,
        "mas.yr**-1": 1.0,
        "mas yr-1": 1.0,
        "mas yr**-1": 1.0,
        "mas / yr": 1.0,
        "mas/year": 1.0,
        "arcsec/yr": 1e3,
        "arcsec / yr": 1e3,
    },
    "deg": {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 57.29577951308232},
}


def normalised(name: str) -> str:
    """A column name as the alias lists spell it."""
    return re.sub(r"[\s-]+", "_", name.strip().rstrip("*").lower())


def canonical_name(name: str) -> str:
    """Melotte's name of a quantity, given that name or any alias.

    Raises
    ------
    MelotteValueError
        When no quantity has that name; the message lists all.
    """
    spelled = normalised(name)
    if spelled in _BY_NAME:
        return spelled
    for column in GAIA_COLUMNS:
        if spelled in column.aliases:
            return column.name
    raise MelotteValueError(
        f"--column: unknown NAME {name!r}{did_you_mean(name, _BY_NAME)}; "
        f"known: {listed(_BY_NAME, most=40)}"
    )


def recognise(
    names: Sequence[str], column: Mapping[str, str] | None = None, where: str = "the table"
) -> dict[str, str]:
    """Which column of a table holds which quantity.

    Parameters
    ----------
    names : sequence of str
        Column names of the table.
    column : mapping, optional
        From melotte's names to the table's, for those not recognised by themselves.
    where : str
        The file, for messages.

    Returns
    -------
    dict of str to str
        From melotte's names to the table's, for what was found.

    Raises
    ------
    MelotteValueError
        When a mapped column is absent, or two columns of the table differ only in case.
    """
    found = {
        name: matching_name(theirs, names, where, f"--column {name}=")
        for name, theirs in quantities(column, canonical_name).items()
    }
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(normalised(name), []).append(name)
    taken = set(found.values())
    for quantity in GAIA_COLUMNS:
        if quantity.name in found:
            continue
        for alias in quantity.aliases:
            candidates = [name for name in spelled.get(alias, []) if name not in taken]
            if len(candidates) > 1:
                raise MelotteValueError(
                    f"{where}: columns {listed(candidates)} could all be {quantity.name}; "
                    f"choose one with --column {quantity.name}=THEIRS"
                )
            if candidates:
                found[quantity.name] = candidates[0]
                break
    return found


def matching_name(wanted: str, names: Sequence[str], where: str, option: str) -> str:
    """The table's spelling of a column that the user named, in any case if that is unambiguous.

    Raises
    ------
    MelotteValueError
        When there is none, with near names and all that were found.
    """
    if wanted in names:
        return wanted
    alike = [name for name in names if name.lower() == wanted.lower()]
    if len(alike) == 1:
        return alike[0]
    raise MelotteValueError(
        f"{option}{wanted}: {where} has no such column{did_you_mean(wanted, names)}; "
        f"found: {listed(names)}"
    )


def require_photometry(found: Mapping[str, str], names: Sequence[str], where: str) -> None:
    """Refuse a table without magnitude, colour or parallax.

    Raises
    ------
    MelotteValueError
        Names what is missing, what is recognised, near names, and how to map another.
    """
    needs = {"g": "g" in found, "parallax": "parallax" in found}
    needs["bp_rp"] = "bp_rp" in found or ("bp" in found and "rp" in found)
    missing = [name for name in ("g", "bp_rp", "parallax") if not needs[name]]
    if not missing:
        return
    name = missing[0]
    aliases = _BY_NAME[name].aliases
    near = next((hint for hint in (did_you_mean(a, names) for a in aliases) if hint), "")
    also = f" (nor for {' and '.join(missing[1:])})" if missing[1:] else ""
    raise MelotteValueError(
        f"{where} has no column for {name}{also}{near}; recognised names: {', '.join(aliases[:4])}"
        f"; found: {listed(names)}; map yours with --column {name}=THEIRS"
    )


def in_unit(table: TableFile, name: str, quantity: str) -> NDArray[np.float64]:
    """A column of a table in melotte's unit of a quantity, shape (n_rows,).

    A column without a unit is taken to be in melotte's unit already.

    Raises
    ------
    MelotteValueError
        When the stated unit is of another kind, or the column holds text.
    """
    values = table.numbers(name)
    wanted = _BY_NAME[quantity].unit
    stated = table.units.get(name, "").strip().strip("[]()")
    if not wanted or not stated or stated in ("-", "---"):
        return values
    scale = _SCALES[wanted].get(stated)
    if scale is None:
        scale = _astropy_scale(stated, wanted)
    if scale is None:
        raise MelotteValueError(
            f"{table.path}: column {name!r} ({quantity}) is in {stated!r}; a unit that converts "
            f"to {wanted} is needed"
        )
    return values if scale == 1.0 else values * scale


def _astropy_scale(stated: str, wanted: str) -> float | None:
    from astropy import units

    try:
        return float(np.asarray(units.Unit(stated).to(units.Unit(wanted))))
    except (ValueError, TypeError, units.UnitsError):
        return None
