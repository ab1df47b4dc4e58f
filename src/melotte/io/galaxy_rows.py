"""Rows of tables of galaxies: their quantities in melotte's units, and why some are unusable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.io.gaia_columns import normalised
from melotte.io.galaxy_columns import UNITS, FoundColumns
from melotte.io.projected_distances import SPEED_OF_LIGHT
from melotte.io.table_files import TableFile

Array = NDArray[np.float64]
RedshiftKind = Literal["auto", "z", "cz"]

REDSHIFT_RANGE = (-0.01, 10.0)
LARGEST_REDSHIFT = 20.0
"""A median above it can only be c z in km/s; that of galaxies beyond the Local Group is larger."""
LARGEST_REDSHIFT_ERROR = 0.5
"""A median error above it is in km/s; redshifts known worse would be of no use."""

LOG_STELLAR_MASS_RANGE = (4.0, 14.0)
"""Of galaxies, log10(Msun); placeholders for unknown masses lie outside."""

_VELOCITY_NAMES = (
    "cz", "czhel", "cz_hel", "helio_velocity", "velocity", "vel", "hrv", "rvel", "vh", "vhel",
)  # fmt: skip
_RADIUS_SCALES = {"mpc": 1.0, "mpc/h": 1.0, "kpc": 1e-3, "kpc/h": 1e-3}


def redshifts(table: TableFile, name: str, kind: RedshiftKind = "auto") -> Array:
    """A column of redshifts given as z or as c z in km/s, shape (n_rows,), as z.

    Parameters
    ----------
    table : TableFile
    name : str
        The column.
    kind : {"auto", "z", "cz"}
        ``auto`` tells by the unit, then by the column's name, then by the values.

    Raises
    ------
    MelotteValueError
        When the unit is one of neither, or the column holds text.
    """
    values = table.numbers(name)
    if kind == "z":
        return values
    if kind == "cz":
        return values / SPEED_OF_LIGHT
    stated = table.units.get(name, "").strip().strip("[]()")
    if stated and stated not in ("-", "---"):
        speed = _speed_scale(stated)
        if speed is None:
            raise MelotteValueError(
                f"{table.path}: column {name!r} (redshift) is in {stated!r}; no unit, or one that "
                "converts to km/s, is needed"
            )
        return values if speed == 0 else values * speed / SPEED_OF_LIGHT
    known = np.abs(values[np.isfinite(values)])
    large = len(known) > 0 and float(np.median(known)) > LARGEST_REDSHIFT
    return values / SPEED_OF_LIGHT if large or normalised(name) in _VELOCITY_NAMES else values


def redshift_errors(table: TableFile, name: str) -> Array:
    """A column of errors of z or c z as errors of z, shape (n_rows,); not positive is NaN."""
    values = table.numbers(name)
    stated = table.units.get(name, "").strip().strip("[]()")
    speed = _speed_scale(stated) if stated and stated not in ("-", "---") else None
    known = values[np.isfinite(values)]
    if speed is None and len(known) and float(np.median(np.abs(known))) > LARGEST_REDSHIFT_ERROR:
        speed = 1.0
    values = values * speed / SPEED_OF_LIGHT if speed else values
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def radii(table: TableFile, name: str, unit: str, h: float) -> Array:
    """A column of projected radii in Mpc/h, shape (n_rows,).

    Parameters
    ----------
    table : TableFile
    name : str
    unit : {"Mpc", "Mpc/h", "kpc", "kpc/h"}
        Of a column that states none.
    h : float
        Turns Mpc into Mpc/h.

    Raises
    ------
    MelotteValueError
        When the column states another unit.
    """
    stated = table.units.get(name, "").strip().strip("[]()").lower()
    stated = stated.replace("h**-1", "/h").replace("h-1", "/h").replace(" ", "")
    chosen = stated if stated and stated not in ("-", "---") else unit.lower()
    if chosen not in _RADIUS_SCALES:
        raise MelotteValueError(
            f"{table.path}: column {name!r} (projected_radius) is in {chosen!r}; "
            "Mpc, Mpc/h, kpc or kpc/h is needed"
        )
    scale = _RADIUS_SCALES[chosen]
    return table.numbers(name) * (scale if chosen.endswith("/h") else scale * h)


def log_masses(table: TableFile, name: str) -> Array:
    """A column of log10(stellar mass/Msun), shape (n_rows,); NaN outside [4, 14].

    Raises
    ------
    MelotteValueError
        When no value lies within, as where masses are no logarithms.
    """
    values = table.numbers(name)
    low, high = LOG_STELLAR_MASS_RANGE
    within = (values >= low) & (values <= high)
    known = values[np.isfinite(values)]
    if len(known) and not within.any():
        raise MelotteValueError(
            f"{table.path}: column {name!r} (log_stellar_mass) goes from {known.min():g} to "
            f"{known.max():g}; log10 of Msun, {low:g} to {high:g}, is needed"
        )
    return np.where(within, values, np.nan)


def galaxy_values(
    table: TableFile, columns: FoundColumns, kind: RedshiftKind, radius_unit: str, h: float
) -> dict[str, NDArray[Any]]:
    """Quantities of all rows; what the table does not give is NaN (weights: 1, names: "").

    Returns
    -------
    dict of array, shape (n_rows,)
        ``ra``, ``dec`` (deg), ``redshift``, ``redshift_error``, ``radius`` (Mpc/h, comoving or
        physical as the table counts), ``velocity`` (km/s), ``cluster_redshift``, ``weight``,
        ``magnitude`` (mag), ``log_stellar_mass`` (log10(Msun)), ``membership`` (0 to 1), ``name``.
    """
    found, nothing = columns.found, np.full(table.n_rows, np.nan)
    values: dict[str, NDArray[Any]] = {}
    for quantity in ("ra", "dec", "magnitude"):
        given = found.get(quantity)
        values[quantity] = nothing if given is None else table.numbers_in(given, UNITS[quantity])
    for quantity in ("redshift", "cluster_redshift"):
        given = found.get(quantity)
        values[quantity] = nothing if given is None else redshifts(table, given, kind)
    given = found.get("redshift_error")
    values["redshift_error"] = nothing if given is None else redshift_errors(table, given)
    given = found.get("projected_radius")
    values["radius"] = nothing if given is None else radii(table, given, radius_unit, h)
    given = found.get("line_of_sight_velocity")
    values["velocity"] = nothing if given is None else table.numbers_in(given, "km/s")
    given = found.get("weight")
    values["weight"] = np.ones(table.n_rows) if given is None else table.numbers(given)
    values["membership"] = nothing
    if "membership" in found:
        share = table.numbers(found["membership"])
        known = share[np.isfinite(share)]
        values["membership"] = share / 100 if len(known) and known.max() > 1.0 + 1e-6 else share
    given = found.get("log_stellar_mass")
    values["log_stellar_mass"] = nothing if given is None else log_masses(table, given)
    given = found.get("name")
    blank = np.full(table.n_rows, "", dtype=object)
    values["name"] = blank if given is None else table.text(given)
    return values


def galaxy_faults(
    values: Mapping[str, NDArray[Any]],
    projected: bool,
    min_probability: float | None,
    magnitude_limit: float | None,
) -> tuple[NDArray[np.int64], list[str]]:
    """Why each row is unusable.

    Parameters
    ----------
    values : mapping
        What :func:`galaxy_values` returns.
    projected : bool
        Whether rows give radius and velocity, not position and redshift.
    min_probability : float, 0 to 1, optional
    magnitude_limit : float, mag, optional
        Faint limit.

    Returns
    -------
    reason : array of int64, shape (n_rows,)
        The number of the first reason against a row, or -1 for a usable one.
    texts : list of str
    """
    low, high = REDSHIFT_RANGE
    if projected:
        radius = values["radius"]
        checks = [
            ("radius missing", ~np.isfinite(radius)),
            ("velocity missing", ~np.isfinite(values["velocity"])),
            ("radius below 0", radius < 0),
        ]
    else:
        redshift, dec = values["redshift"], values["dec"]
        checks = [
            ("position missing", ~(np.isfinite(values["ra"]) & np.isfinite(dec))),
            ("redshift missing", ~np.isfinite(redshift)),
            ("declination outside [-90, 90] deg", np.abs(dec) > 90),
            (f"redshift outside [{low:g}, {high:g}]", (redshift < low) | (redshift > high)),
        ]
    weight = values["weight"]
    checks.append(("weight not above 0", ~(np.isfinite(weight) & (weight > 0))))
    if min_probability is not None:
        membership = values["membership"]
        checks.append(("membership missing", ~np.isfinite(membership)))
        checks.append((f"membership below {min_probability:g}", membership < min_probability))
    if magnitude_limit is not None:
        magnitude = values["magnitude"]
        checks.append(("magnitude missing", ~np.isfinite(magnitude)))
        checks.append((f"fainter than {magnitude_limit:g} mag", magnitude > magnitude_limit))
    reason = np.full(len(weight), -1, dtype=np.int64)
    for number, (_, faulty) in enumerate(checks):
        reason[faulty & (reason < 0)] = number
    return reason, [text for text, _ in checks]


def mark_repeats(
    values: Mapping[str, NDArray[Any]],
    codes: NDArray[np.int64],
    reason: NDArray[np.int64],
    texts: list[str],
) -> None:
    """Mark later rows of one position and redshift in one cluster as unusable, in place."""
    texts.append("listed twice")
    usable = np.flatnonzero(reason < 0)
    keys = [values[name][usable] for name in ("redshift", "dec", "ra")]
    order = usable[np.lexsort((*keys, codes[usable]))]
    same = np.diff(codes[order]) == 0
    for name in ("redshift", "dec", "ra"):
        same &= np.diff(values[name][order]) == 0
    reason[order[1:][same]] = len(texts) - 1


def _speed_scale(stated: str) -> float | None:
    """Factor to km/s, 0 for a dimensionless unit, None for any other."""
    from astropy import units

    try:
        unit = units.Unit(stated)
        if unit == units.dimensionless_unscaled:
            return 0.0
        return float(np.asarray(unit.to(units.Unit("km/s"))))
    except (ValueError, TypeError, units.UnitsError):
        return None
