"""Velocity dispersions of clusters: robust scales, with the redshift errors taken out."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError

Array = NDArray[np.float64]
Scale = Literal["biweight", "gapper", "standard"]

TUNING = 9.0
"""Median absolute deviations at which the biweight scale stops counting a velocity."""


def biweight_scale(velocity: Array) -> float:
    """Biweight estimate of scale about the median.

    Parameters
    ----------
    velocity : array, shape (n,), km/s

    Returns
    -------
    float, km/s
        NaN for fewer than two; 0 where half of the velocities are alike.

    References
    ----------
    Beers, Flynn & Gebhardt 1990, AJ 100, 32, Eq. 9, tuning constant 9.
    """
    if len(velocity) < 2:
        return np.nan
    offset = velocity - np.median(velocity)
    spread = float(np.median(np.abs(offset)))
    if spread == 0:
        return 0.0
    u = (offset / (TUNING * spread)) ** 2
    inside = u < 1
    u, offset = u[inside], offset[inside]
    above = (offset**2 * (1 - u) ** 4).sum()
    below = abs(((1 - u) * (1 - 5 * u)).sum())
    return float(np.sqrt(len(velocity) * above) / below)


def gapper_scale(velocity: Array) -> float:
    """Scale from the gaps between ordered velocities, good for few galaxies.

    Parameters
    ----------
    velocity : array, shape (n,), km/s

    Returns
    -------
    float, km/s
        NaN for fewer than two.

    References
    ----------
    Wainer & Thissen 1976; Beers, Flynn & Gebhardt 1990, AJ 100, 32, Eq. 8.
    """
    n = len(velocity)
    if n < 2:
        return np.nan
    gaps = np.diff(np.sort(velocity))
    i = np.arange(1, n)
    return float(np.sqrt(np.pi) / (n * (n - 1)) * (i * (n - i) * gaps).sum())


def standard_scale(velocity: Array) -> float:
    """Standard deviation about the mean (divided by n), km/s; NaN without velocities.

    With n and not n - 1 below, as in the relation that Ho et al. 2019 publish.
    """
    return float(np.std(velocity)) if len(velocity) else np.nan


SCALES = {"biweight": biweight_scale, "gapper": gapper_scale, "standard": standard_scale}


def velocity_dispersions(
    velocity: ArrayLike,
    offsets: ArrayLike,
    scale: Scale = "standard",
    velocity_error: ArrayLike | None = None,
    keep: ArrayLike | None = None,
) -> Array:
    """Dispersion of each cluster, without the part that redshift errors add.

    Parameters
    ----------
    velocity : array, shape (n_galaxies,), km/s, in the cluster's frame
    offsets : array of int, shape (n_clusters + 1,)
        Cluster ``i`` is ``velocity[offsets[i]:offsets[i + 1]]``.
    scale : {"biweight", "gapper", "standard"}
    velocity_error : array, shape (n_galaxies,), km/s, in the cluster's frame, optional
        Standard deviations; their mean square is taken from the variance. NaN counts as 0.
    keep : array of bool, shape (n_galaxies,), optional
        Galaxies that count, such as those that an interloper removal leaves.

    Returns
    -------
    array, shape (n_clusters,), km/s
        NaN without enough galaxies; 0 where the errors explain all of the scatter.

    References
    ----------
    Danese, de Zotti & di Tullio 1980, A&A 82, 322, Eq. 10, for the errors.

    Raises
    ------
    MelotteValueError
        When shapes do not fit or the scale is unknown.
    """
    if scale not in SCALES:
        raise MelotteValueError(f"scale {scale!r} is not one of {', '.join(SCALES)}")
    values, starts = checked_sets(velocity, offsets)
    kept = np.ones(len(values), dtype=bool) if keep is None else np.asarray(keep, dtype=bool)
    error = np.zeros(len(values)) if velocity_error is None else np.asarray(velocity_error, float)
    for name, array in (("keep", kept), ("velocity_error", error)):
        if array.shape != values.shape:
            raise MelotteValueError(f"{name} has shape {array.shape}, velocities {values.shape}")
    noise = np.nan_to_num(error) ** 2
    found = np.full(len(starts) - 1, np.nan)
    for i, (begin, end) in enumerate(pairwise(starts)):
        chosen = slice(begin, end)
        mine = kept[chosen]
        observed = SCALES[scale](values[chosen][mine])
        added = float(noise[chosen][mine].mean()) if mine.any() else 0.0
        found[i] = np.sqrt(max(observed**2 - added, 0.0)) if np.isfinite(observed) else np.nan
    return found


def checked_sets(values: ArrayLike, offsets: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """Numbers of sets end to end, and where each set begins.

    Raises
    ------
    MelotteValueError
        When the offsets do not rise from 0 to the number of values.
    """
    table, starts = np.asarray(values, dtype=float), np.asarray(offsets, dtype=np.int64)
    if table.ndim != 1 or starts.ndim != 1 or len(starts) < 1:
        raise MelotteValueError("values and offsets must have one dimension")
    if starts[0] != 0 or starts[-1] != len(table) or (np.diff(starts) < 0).any():
        raise MelotteValueError(f"offsets must rise from 0 to {len(table)}")
    return table, starts


def chosen_members(
    keep: ArrayLike, offsets: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Some galaxies of every cluster, such as the true members of the pure catalogue.

    Parameters
    ----------
    keep : array of bool, shape (n_galaxies,)
    offsets : array of int, shape (n_clusters + 1,)

    Returns
    -------
    rows : array of int64
        Numbers of the galaxies that stay.
    offsets : array of int64, shape (n_clusters + 1,)
        Of the rows; a cluster may be left without galaxies.
    """
    kept = np.asarray(keep, dtype=bool)
    _, starts = checked_sets(kept, offsets)
    before = np.concatenate([[0], np.cumsum(kept)])
    return np.flatnonzero(kept), before[starts].astype(np.int64)
