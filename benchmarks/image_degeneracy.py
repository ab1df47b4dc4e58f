"""Clusters whose age and extinction cannot be told apart in a few bands.

Young stars behind dust can have the integrated colours of old ones with little: for three bands two
colours are to be matched by an age and an extinction, and the mass matches the brightness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melotte.sky.isochrones import StellarGrid
from melotte.sky.populations import expected_magnitudes

AGE_STEP = 0.1
CLEAR = 0.2
"""A_V of a cluster with little dust, mag; at 0, the edge of a prior, intervals are one-sided."""
DUST_STEP, FINE_DUST_STEP = 0.25, 0.01


@dataclass(frozen=True)
class DegeneratePair:
    """Two clusters of the same integrated colours and magnitudes.

    Parameters
    ----------
    young, old : dict of str to float
        ``log_age``, ``extinction_v`` and ``log_mass``; the old one has the least dust.
    difference : tuple of float, mag
        Young minus old in each band, for populations without stochastic effects.
    """

    young: dict[str, float]
    old: dict[str, float]
    difference: tuple[float, ...]


def degenerate_pair(
    bands: Sequence[str],
    metallicity: float,
    *,
    log_mass: float = 5.3,
    log_age: tuple[float, float] = (6.6, 10.1),
    extinction_v: tuple[float, float] = (CLEAR, 3.0),
    separation: float = 1.0,
    least_dust: float = 1.0,
    grid: StellarGrid | None = None,
) -> DegeneratePair:
    """The young and dusty, and the old and clear cluster that look most alike.

    Parameters
    ----------
    bands : sequence of str
        At least two.
    metallicity : float, [Fe/H]
    log_mass : float, log10(initial mass/Msun)
        Of the old cluster; the young one needs less.
    log_age : (float, float)
        Range of log10(age/yr), searched in steps of ``AGE_STEP``.
    extinction_v : (float, float), mag
        The lowest is the old cluster's; the young one's is searched in steps of
        ``FINE_DUST_STEP``, to which magnitudes are interpolated.
    separation : float, dex
        Least difference of the ages.
    least_dust : float, mag
        Least difference of the extinctions.
    grid : StellarGrid, optional

    Returns
    -------
    DegeneratePair
        The pair whose magnitudes differ least, root mean square over the bands, with the masses
        at which their mean is the same.
    """
    grid = grid or StellarGrid.shipped(tuple(bands))
    ages = np.arange(log_age[0], log_age[1] + AGE_STEP / 2, AGE_STEP)
    low, high = extinction_v
    coarse = np.linspace(low, high, max(2, round((high - low) / DUST_STEP) + 1))
    dust = np.linspace(low, high, max(2, round((high - low) / FINE_DUST_STEP) + 1))

    def magnitudes(age: float, extinction: float) -> np.ndarray:
        return expected_magnitudes(grid, age, metallicity, bands, extinction_v=extinction).numpy()

    known = np.array([[magnitudes(age, one) for one in coarse] for age in ages])
    table = np.stack(
        [[np.interp(dust, coarse, column) for column in rows.T] for rows in known]
    ).swapaxes(1, 2)
    clear = table[:, 0]
    # Old by young by dust by band: what is left once the masses make the means agree.
    offset = table[None] - clear[:, None, None]
    mean = offset.mean(-1)
    distance = np.sqrt(((offset - mean[..., None]) ** 2).mean(-1))
    apart = ages[:, None] - ages[None] >= separation - AGE_STEP / 100
    allowed = apart[..., None] & (dust - low >= least_dust)
    if not allowed.any():
        raise ValueError(
            f"no two ages of {log_age} are {separation} dex apart, or no two extinctions of "
            f"{extinction_v} {least_dust} mag"
        )
    best = np.unravel_index(np.where(allowed, distance, np.inf).argmin(), distance.shape)
    old, young, extinction = (int(i) for i in best)
    return DegeneratePair(
        {
            "log_age": round(float(ages[young]), 4),
            "extinction_v": float(dust[extinction]),
            "log_mass": log_mass + 0.4 * float(mean[best]),
        },
        {"log_age": round(float(ages[old]), 4), "extinction_v": low, "log_mass": log_mass},
        tuple(float(one) for one in offset[best] - mean[best]),
    )


def magnitude_differences(
    pair: DegeneratePair,
    bands: Sequence[str],
    metallicity: float,
    grid: StellarGrid | None = None,
) -> dict[str, float]:
    """Young minus old cluster of a pair in any bands, mag."""
    grid = grid or StellarGrid.shipped(tuple(bands))

    def magnitudes(cluster: dict[str, float]) -> np.ndarray:
        return expected_magnitudes(
            grid,
            cluster["log_age"],
            metallicity,
            bands,
            total_mass=10 ** cluster["log_mass"],
            extinction_v=cluster["extinction_v"],
        ).numpy()

    difference = magnitudes(pair.young) - magnitudes(pair.old)
    return {band: float(one) for band, one in zip(bands, difference, strict=True)}
