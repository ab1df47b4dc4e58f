"""What a table says of each star, in one set of units, and which rows are unusable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.io.gaia_columns import in_unit
from melotte.io.table_files import TableFile

G_RANGE = (0.0, 25.0)
"""Magnitudes a Gaia source can have, mag."""
COLOUR_RANGE = (-10.0, 10.0)
"""BP-RP a Gaia source can have, mag."""
PARALLAX_RANGE = (-50.0, 1000.0)
"""Parallaxes of believable members, mas; placeholders such as -99 lie outside."""

_MAG_PER_FLUX = 2.5 / np.log(10.0)
_ZERO_POINT_ERROR = {
    "DR2": (0.0018, 0.0014, 0.0019),
    "EDR3": (0.0027553202, 0.0027901700, 0.0027901700),
}
_LARGEST_FRACTION = 1.5


def star_quantities(
    table: TableFile, found: Mapping[str, str], release: str | None
) -> dict[str, NDArray[Any]]:
    """All quantities of all rows; NaN (``source_id``: -1) where the file has none.

    Parameters
    ----------
    table : TableFile
    found : mapping of str to str
        From melotte's names to the table's, as :func:`~melotte.io.gaia_columns.recognise` gives.
    release : str or None
        ``"DR2"`` has zero points of its own; anything else counts as EDR3.

    Returns
    -------
    dict of str to array, each of shape (n_rows,)
        Magnitudes and colours in mag, parallaxes in mas, proper motions in mas/yr, positions in
        deg, membership from 0 to 1. Errors that are not positive are NaN.

    Raises
    ------
    MelotteValueError
        When a column holds text or a unit does not convert.

    References
    ----------
    Zero-point errors: Evans et al. 2018, A&A 616, A4 (DR2); Riello et al. 2021, A&A 649, A3 (EDR3),
    but for RP, 3.779 mmag there: catalogues with ready-made errors add BP's 2.790 mmag to RP too
    (the smallest ``e_RPmag`` of 213,168 members of Almeida et al. 2022 is 2.791 mmag), and the same
    star must get the same error whichever columns a table has.
    """
    nothing = np.full(table.n_rows, np.nan)

    def get(name: str) -> NDArray[np.float64]:
        return in_unit(table, found[name], name) if name in found else nothing

    def positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isfinite(values) & (values > 0), values, np.nan)

    def magnitude_error(band: str, zero_point_error: float) -> NDArray[np.float64]:
        if f"{band}_error" in found:
            return positive(get(f"{band}_error"))
        signal = get(f"{band}_snr")
        if f"{band}_snr" not in found:
            signal = get(f"{band}_flux") / positive(get(f"{band}_flux_error"))
        return np.hypot(_MAG_PER_FLUX / positive(signal), zero_point_error)

    zero_points = _ZERO_POINT_ERROR["DR2" if release == "DR2" else "EDR3"]
    g_error, bp_error, rp_error = (
        magnitude_error(band, zero_point)
        for band, zero_point in zip(("g", "bp", "rp"), zero_points, strict=True)
    )
    colour = get("bp_rp")
    if "bp" in found and "rp" in found:
        colour = np.where(np.isfinite(colour), colour, get("bp") - get("rp"))
    colour_error = np.hypot(bp_error, rp_error)
    if "bp_rp_error" in found:
        colour_error = positive(get("bp_rp_error"))
    membership = get("membership")
    if "membership" in found:
        membership = _as_fraction(membership, table.units.get(found["membership"], ""))
    values: dict[str, NDArray[Any]] = {
        "g": get("g"),
        "bp_rp": colour,
        "parallax": get("parallax"),
        "parallax_error": positive(get("parallax_error")),
        "g_error": g_error,
        "bp_rp_error": colour_error,
        "membership": membership,
        "source_id": np.full(table.n_rows, -1, dtype=np.int64),
    }
    if "source_id" in found:
        values["source_id"] = _identifiers(table, found["source_id"])
    for name in ("ra", "dec", "pmra", "pmdec", "pmra_error", "pmdec_error", "ruwe"):
        values[name] = get(name)
    return values


def _as_fraction(membership: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    """Probabilities from 0 to 1, also where the file gives per cent; anything else is NaN."""
    known = membership[np.isfinite(membership)]
    if unit.strip() in ("%", "percent") or (len(known) and known.max() > _LARGEST_FRACTION):
        membership = membership / 100.0
    sensible = (membership >= 0.0) & (membership <= _LARGEST_FRACTION)
    return np.where(sensible, np.minimum(membership, 1.0), np.nan)


def _identifiers(table: TableFile, name: str) -> NDArray[np.int64]:
    """Source identifiers; those written ``Gaia DR3 1234`` lose the words."""
    values = table.columns[name]
    if values.dtype.kind != "O":
        return table.integers(name)
    last = [str(v).split()[-1] if v is not None and str(v).strip() else None for v in values]
    shorn = np.array(last, dtype=object)
    return replace(table, columns={name: shorn}).integers(name)


def star_faults(
    values: Mapping[str, NDArray[Any]], min_probability: float | None
) -> tuple[NDArray[np.int64], list[str]]:
    """Why each row is unusable.

    Parameters
    ----------
    values : mapping
        What :func:`star_quantities` returns.
    min_probability : float, 0 to 1, optional

    Returns
    -------
    reason : array of int64, shape (n_rows,)
        The number of the first reason against a row, or -1 for a usable one.
    texts : list of str
        The reasons.
    """
    g, colour, parallax = values["g"], values["bp_rp"], values["parallax"]
    checks = [
        ("G missing", ~np.isfinite(g)),
        ("BP-RP missing", ~np.isfinite(colour)),
        ("parallax missing", ~np.isfinite(parallax)),
        (f"G outside [{G_RANGE[0]:g}, {G_RANGE[1]:g}] mag", _outside(g, G_RANGE)),
        (
            f"BP-RP outside [{COLOUR_RANGE[0]:g}, {COLOUR_RANGE[1]:g}] mag",
            _outside(colour, COLOUR_RANGE),
        ),
        (
            f"parallax outside [{PARALLAX_RANGE[0]:g}, {PARALLAX_RANGE[1]:g}] mas",
            _outside(parallax, PARALLAX_RANGE),
        ),
    ]
    if min_probability is not None:
        membership = values["membership"]
        checks.append(("membership missing", ~np.isfinite(membership)))
        checks.append((f"membership below {min_probability:g}", membership < min_probability))
    reason = np.full(len(g), -1, dtype=np.int64)
    for number, (_, faulty) in enumerate(checks):
        reason[faulty & (reason < 0)] = number
    return reason, [text for text, _ in checks]


def _outside(values: NDArray[np.float64], allowed: tuple[float, float]) -> NDArray[np.bool_]:
    return (values < allowed[0]) | (values > allowed[1])
