"""The names and units under which galaxies' redshifts and positions appear in users' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melotte.errors import MelotteValueError, did_you_mean
from melotte.io.column_options import quantities
from melotte.io.gaia_columns import matching_name, normalised
from melotte.io.table_files import listed

ARCHIVE_NAMES: dict[str, tuple[str, ...]] = {
    "cluster": (
        "cluster_id", "cid", "cluster", "cluster_name", "clustername", "clid", "mem_match_id",
        "group_id", "igrp", "grid", "abell", "aco",
    ),
    "ra": ("ra", "raj2000", "ra_icrs", "radeg", "_raj2000", "_ra", "ra_deg", "ra(deg)"),
    "dec": ("dec", "dej2000", "de_icrs", "dedeg", "_dej2000", "_de", "dec_deg", "decl", "dec(deg)"),
    "redshift": (
        "z", "redshift", "zspec", "z_spec", "specz", "z_helio", "zhelio", "zhel", "zsp", "z_noqso",
        "cz", "czhel", "cz_hel", "helio_velocity", "velocity", "vel", "hrv", "rvel", "vh", "vhel",
    ),
    "redshift_error": (
        "z_err", "zerr", "e_z", "z_error", "redshift_error", "e_redshift", "e_zsp", "e_zspec",
        "z_err_noqso", "cz_err", "e_cz", "e_czhel", "e_vel", "e_hrv", "e_rvel", "e_vh",
        "verr", "velerr", "cz_error",
    ),
    "projected_radius": ("dproj", "projected_radius", "rproj", "r_proj", "r_mpc", "dist_mpc"),
    "line_of_sight_velocity": ("vlos", "v_los", "line_of_sight_velocity", "dv", "vpec", "v_pec"),
    "cluster_redshift": ("zclus", "z_clus", "zcl", "z_cl", "cluster_redshift", "z_lambda"),
    "weight": ("weight", "w", "wt"),
    "magnitude": (
        "mag", "rmag", "r_mag", "modelmag_r", "cmodelmag_r", "petromag_r", "dered_r", "magnitude",
        "rpmag", "rmmag",
    ),
    "log_stellar_mass": (
        "log_stellar_mass", "logmstar", "log_mstar", "logmass", "lgm_tot_p50",
    ),
    "membership": ("p_mem", "pmem", "p_memb", "pmemb", "membership", "prob", "probability"),
    "name": (
        "galaxy_id", "specobjid", "objid", "bestobjid", "object_name", "galaxy", "name", "sdss",
        "id", "source_id",
    ),
}  # fmt: skip
"""Recognised names by quantity, in lower case with ``-`` and blanks written ``_``: first melotte's
own, then those of SDSS, NED and VizieR. Where a table has several, the leftmost counts."""

UNITS: dict[str, str] = {"ra": "deg", "dec": "deg", "magnitude": "mag"}
"""Units in which melotte holds quantities; redshifts and radii are converted apart."""

OPTION_NAMES: dict[str, str] = {
    "radius": "projected_radius",
    "velocity": "line_of_sight_velocity",
}
"""Further names that a user may map: melotte's own for what they become. In a file the first says
too little to be recognised, and archives call c z the second."""

CLUSTER_QUANTITIES = ("cluster", "ra", "dec", "redshift")


@dataclass(frozen=True)
class FoundColumns:
    """Which column of a table holds which quantity.

    Parameters
    ----------
    where : str
        The file, for messages.
    names : tuple of str
        All columns of the table.
    found : mapping of str to str
        From melotte's names to the table's.
    """

    where: str
    names: tuple[str, ...]
    found: Mapping[str, str]

    def require(self, *quantities: str) -> None:
        """Refuse the table without these quantities.

        Raises
        ------
        MelotteValueError
            Names what is missing, what is recognised, near names and how to map another.
        """
        missing = [name for name in quantities if name not in self.found]
        if not missing:
            return
        name = missing[0]
        aliases = ARCHIVE_NAMES[name]
        near = next((hint for hint in (did_you_mean(a, self.names) for a in aliases) if hint), "")
        also = f" (nor for {' and '.join(missing[1:])})" if missing[1:] else ""
        raise MelotteValueError(
            f"{self.where} has no column for {name}{also}{near}; recognised names: "
            f"{', '.join(aliases[:4])}; found: {listed(self.names)}; "
            f"map yours with --column {name}=THEIRS"
        )


def galaxy_quantity(name: str) -> str:
    """Melotte's name of a quantity, given that name or any alias.

    Raises
    ------
    MelotteValueError
        When no quantity has that name; the message lists all.
    """
    spelled = normalised(name)
    if spelled in OPTION_NAMES:
        return OPTION_NAMES[spelled]
    for quantity, aliases in ARCHIVE_NAMES.items():
        if spelled == quantity or spelled in aliases:
            return quantity
    raise MelotteValueError(
        f"--column: unknown NAME {name!r}{did_you_mean(name, ARCHIVE_NAMES)}; "
        f"known: {listed((*ARCHIVE_NAMES, *OPTION_NAMES), most=40)}, and recognised names of these"
    )


def recognise_galaxies(
    names: Sequence[str], column: Mapping[str, str] | None = None, where: str = "the table"
) -> FoundColumns:
    """Which column of a table of galaxies or of clusters holds which quantity.

    Parameters
    ----------
    names : sequence of str
        Column names of the table.
    column : mapping, optional
        From melotte's names to the table's, for those not recognised by themselves.
    where : str
        The file, for messages.

    Raises
    ------
    MelotteValueError
        When a mapped column is absent, or two columns of the table differ only in case.
    """
    found = {
        name: matching_name(theirs, names, where, f"--column {name}=")
        for name, theirs in quantities(column, galaxy_quantity).items()
    }
    spelled: dict[str, list[str]] = {}
    for name in names:
        if name not in found.values():
            spelled.setdefault(normalised(name), []).append(name)
    for quantity, aliases in ARCHIVE_NAMES.items():
        present = [alias for alias in (quantity, *aliases) if alias in spelled]
        if quantity in found or not present:
            continue
        if len(spelled[present[0]]) > 1:
            raise MelotteValueError(
                f"{where}: columns {listed(spelled[present[0]])} could all be {quantity}; "
                f"choose one with --column {quantity}=THEIRS"
            )
        found[quantity] = spelled[present[0]][0]
    return FoundColumns(where, tuple(names), found)
