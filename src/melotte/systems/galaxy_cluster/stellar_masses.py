"""Stellar masses of the galaxies in users' lists, and down to which mass a list is complete."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.io.galaxy_lists import GalaxyList
from melotte.sky.cosmology import Cosmology
from melotte.telescope.redshifts import red_galaxy_mass

Array = NDArray[np.float64]

OUTLIERS = 0.05
"""Share of galaxies, the faintest, that may be beyond the limit of their catalogue."""

MAGNITUDE_RANGE = (5.0, 30.0)
"""r magnitudes of galaxies that are measurements and no placeholders, mag."""

CONVENTION = (
    "log10(Msun): as catalogued, else of a red galaxy from r (AB, corrected for dust) at the "
    "cluster's redshift, log M/L_r = 0.35 in solar units, K correction z"
)


@dataclass(frozen=True)
class StellarMasses:
    """Stellar masses in one cluster's list.

    Parameters
    ----------
    log_mass : array, shape (n_galaxies,), log10(Msun)
        NaN where neither mass nor magnitude is known, or the cluster's redshift is not.
    log_limit : float, log10(Msun)
        Lowest mass of a galaxy that the list would hold; NaN where nothing tells.
    """

    log_mass: Array
    log_limit: float


def faintest_magnitudes(lists: Sequence[GalaxyList]) -> dict[str, float]:
    """Faint limit of each table, in r, from all its galaxies in cylinders.

    Returns
    -------
    dict of str to float, mag
        By ``source``: the faintest galaxy that is no outlier. The faintest 5 % count as outliers,
        because galaxies beyond a survey's limit (other surveys' redshifts, errors) lie within a
        magnitude or two of it, where no other rule tells them. NaN without magnitudes.
    """
    found: dict[str, list[Array]] = {}
    for one in lists:
        found.setdefault(one.source, []).append(_measured(one.magnitude))
    return {
        source: _quantile(np.concatenate(parts), 1 - OUTLIERS) for source, parts in found.items()
    }


def stellar_masses(
    one: GalaxyList, faintest: float, log_limit: float | None = None
) -> StellarMasses:
    """Stellar masses of a list's galaxies, and its limit.

    Parameters
    ----------
    one : GalaxyList
        Its ``selection`` gives h, the density of matter, and perhaps a ``magnitude_limit``.
    faintest : float, mag
        Limit of its table, of :func:`faintest_magnitudes`, where none was given.
    log_limit : float, log10(Msun), optional
        The limit, where the user knows it.

    Returns
    -------
    StellarMasses
        Catalogued masses go before magnitudes, galaxy by galaxy. The limit is, the first that is
        known: ``log_limit``; the mass of a red galaxy of the ``magnitude_limit``; the lowest
        catalogued mass but for 5 % of the galaxies; the mass of a red galaxy of ``faintest``.
    """
    selection = one.selection
    cosmology = Cosmology(h=selection.h, omega_m=selection.omega_m)

    def mass(magnitude: Array) -> Array:
        at = torch.tensor(one.redshift, dtype=torch.float64)
        return red_galaxy_mass(torch.from_numpy(magnitude), at, cosmology).numpy()

    catalogued = one.log_stellar_mass
    known = np.isfinite(catalogued)
    log_mass = np.where(known, catalogued, mass(_measured(one.magnitude)))
    if log_limit is not None:
        return StellarMasses(log_mass, log_limit)
    if selection.magnitude_limit is not None:
        return StellarMasses(log_mass, float(mass(np.array(selection.magnitude_limit))))
    if known.any():
        return StellarMasses(log_mass, _quantile(catalogued, OUTLIERS))
    return StellarMasses(log_mass, float(mass(np.array(faintest))))


def _measured(magnitude: Array) -> Array:
    low, high = MAGNITUDE_RANGE
    return np.where((magnitude > low) & (magnitude < high), magnitude, np.nan)


def _quantile(values: Array, share: float) -> float:
    """The known value at a share of the way up, one that occurs; NaN where none is known."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share, method="nearest")) if len(known) else math.nan
