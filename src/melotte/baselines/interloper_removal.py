"""Which galaxies about a cluster belong to it, by three classical cuts in projected phase space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.baselines.nfw_dispersion import (
    aperture_dispersion,
    line_of_sight_dispersion,
    nfw_mass,
)
from melotte.baselines.velocity_dispersion import checked_sets, gapper_scale
from melotte.errors import MelotteValueError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Removal = Literal["none", "three_sigma", "shifting_gapper", "clean"]

MOST_ROUNDS = 50
FEWEST = 3
"""Galaxies below which nothing more is cut."""

SCALE_FROM_DEVIATION = 1.4826
CRITICAL_OVERDENSITY = 200.0


@dataclass(frozen=True)
class CleanSettings:
    """How the Clean cut is made.

    Parameters
    ----------
    n_sigma : float
        Half-width of the envelope in line-of-sight dispersions; 2.7 keeps nearly all members of
        simulated clusters (Mamon, Biviano & Murante 2010, A&A 520, A30).
    weighted_gap : float
        Weighted gaps larger than this split the velocities before the first round (Girardi et al.
        1993 after Wainer & Thissen 1976).
    omega_m : float
        Of a flat universe; sets the critical density.
    lengths : {"comoving", "physical"}
        In which radii are given, Mpc/h.
    """

    n_sigma: float = 2.7
    weighted_gap: float = 4.0
    omega_m: float = 0.307115
    lengths: Literal["comoving", "physical"] = "comoving"


def three_sigma(velocity: Array, n_sigma: float = 3.0) -> Mask:
    """Galaxies left when those beyond 3 sigma about the mean are cut, in rounds.

    Parameters
    ----------
    velocity : array, shape (n,), km/s
    n_sigma : float

    References
    ----------
    Yahil & Vidal 1977, ApJ 214, 347.
    """
    kept = np.ones(len(velocity), dtype=bool)
    for _ in range(MOST_ROUNDS):
        if kept.sum() < FEWEST:
            break
        offset = np.abs(velocity - velocity[kept].mean())
        left = kept & (offset <= n_sigma * velocity[kept].std())
        if left.sum() < FEWEST or (left == kept).all():
            break
        kept = left
    return kept


def shifting_gapper(
    velocity: Array, radius: Array, gap: float = 1000.0, width: float = 0.4, least: int = 15
) -> Mask:
    """Galaxies not parted by a velocity gap from the body of those at like radii.

    In each ring, from the body's median outwards, the first gap larger than ``gap`` parts galaxies
    off; rounds are made until none is cut.

    Parameters
    ----------
    velocity : array, shape (n,), km/s
    radius : array, shape (n,), Mpc/h
    gap : float, km/s
    width : float, Mpc/h
        Width of a ring; it grows until it holds ``least`` galaxies.
    least : int

    References
    ----------
    Fadda et al. 1996, ApJ 473, 670, Sect. 3: gaps of 1000 km/s, rings of 0.4 Mpc/h or 15 galaxies.
    """
    kept = np.ones(len(velocity), dtype=bool)
    for _ in range(MOST_ROUNDS):
        rows = np.flatnonzero(kept)
        rings = [rows[ring] for ring in _rings(radius[rows], width, least)]
        removed = [ring[_beyond_gap(velocity[ring], gap)] for ring in rings]
        rejected = np.concatenate(removed) if removed else np.zeros(0, dtype=np.int64)
        if not len(rejected) or kept.sum() - len(rejected) < FEWEST:
            break
        kept[rejected] = False
    return kept


def clean(
    velocity: Array, radius: Array, redshift: float, settings: CleanSettings | None = None
) -> Mask:
    """Galaxies within 2.7 sigma_los(R) of the NFW halo that their own dispersion asks for.

    First the largest weighted gaps part the velocities. Then, in rounds: the dispersion of the
    galaxies gives r200 of an NFW halo (concentration by Maccio et al. 2008, orbits of Mamon &
    Lokas 2005), and galaxies beyond ``n_sigma`` dispersions of that halo at their radius are cut.

    Parameters
    ----------
    velocity : array, shape (n,), km/s, in the cluster's frame
    radius : array, shape (n,), Mpc/h
    redshift : float
        Of the cluster.
    settings : CleanSettings, optional

    References
    ----------
    Mamon, Biviano & Boue 2013, MNRAS 429, 3079, Sect. 4.2 and App. B.
    """
    chosen = settings or CleanSettings()
    physical = radius / (1 + redshift) if chosen.lengths == "comoving" else radius
    kept = _main_group(velocity, chosen.weighted_gap)
    r200 = math.inf
    for step in range(MOST_ROUNDS):
        inside = kept & (physical <= r200)
        if inside.sum() < FEWEST:
            break
        centre = float(np.median(velocity[inside]))
        offset = velocity[inside] - centre
        # The first round is not yet rid of interlopers: a robust scale.
        sigma = SCALE_FROM_DEVIATION * np.median(np.abs(offset)) if step == 0 else offset.std()
        if sigma <= 0:
            break
        reach = float(physical[inside].max())
        r200, concentration = virial_radius(float(sigma), reach, redshift, chosen.omega_m)
        v200 = math.sqrt(CRITICAL_OVERDENSITY / 2) * _hubble(redshift, chosen.omega_m) * r200
        unit = v200 * math.sqrt(concentration / float(nfw_mass(concentration)))
        envelope = chosen.n_sigma * unit * line_of_sight_dispersion(physical * concentration / r200)
        left = np.abs(velocity - centre) <= envelope
        if left.sum() < FEWEST or (left == kept).all():
            break
        kept = left
    return kept


def virial_radius(
    sigma: float, reach: float, redshift: float, omega_m: float
) -> tuple[float, float]:
    """r200 and concentration of the NFW halo with a velocity dispersion within an aperture.

    Parameters
    ----------
    sigma : float, km/s, > 0
    reach : float, physical Mpc/h, > 0
        Radius of the aperture; it counts only up to r200.
    redshift, omega_m : float

    Returns
    -------
    r200 : float, physical Mpc/h
    concentration : float
        6.76 (M200/10^12 Msun/h)^-0.098 (Maccio, Dutton & van den Bosch 2008, MNRAS 391, 1940,
        Eq. 10, for relaxed haloes at redshift 0), over 1 + z.
    """
    hubble = _hubble(redshift, omega_m)
    r200 = sigma * math.sqrt(3) / (10 * hubble)
    concentration = 4.0
    for _ in range(MOST_ROUNDS):
        mass = 100 * hubble**2 * r200**3 / 4.300917e-9
        concentration = 6.76 * (mass / 1e12) ** -0.098 / (1 + redshift)
        ratio = aperture_dispersion(min(reach, r200) * concentration / r200)
        ratio *= math.sqrt(concentration / float(nfw_mass(concentration)))
        found = sigma / ratio / (10 * hubble)
        if abs(found - r200) < 1e-4 * r200:
            return found, concentration
        r200 = found
    return r200, concentration


def members_after(
    removal: Removal,
    velocity: ArrayLike,
    radius: ArrayLike,
    offsets: ArrayLike,
    redshift: ArrayLike,
    settings: CleanSettings | None = None,
) -> Mask:
    """Galaxies that a removal leaves, in all clusters.

    Parameters
    ----------
    removal : {"none", "three_sigma", "shifting_gapper", "clean"}
    velocity : array, shape (n_galaxies,), km/s
    radius : array, shape (n_galaxies,), Mpc/h
    offsets : array of int, shape (n_clusters + 1,)
    redshift : array, shape (n_clusters,), or one number
    settings : CleanSettings, optional

    Returns
    -------
    array of bool, shape (n_galaxies,)

    Raises
    ------
    MelotteValueError
        When shapes do not fit or the removal is unknown.
    """
    values, starts = checked_sets(velocity, offsets)
    radii, _ = checked_sets(radius, offsets)
    at = np.broadcast_to(np.asarray(redshift, dtype=float), (len(starts) - 1,))
    kept = np.ones(len(values), dtype=bool)
    if removal == "none":
        return kept
    if removal not in ("three_sigma", "shifting_gapper", "clean"):
        raise MelotteValueError(
            f"removal {removal!r} is not one of none, three_sigma, shifting_gapper, clean"
        )
    for i, (begin, end) in enumerate(pairwise(starts)):
        mine = slice(begin, end)
        if removal == "three_sigma":
            kept[mine] = three_sigma(values[mine])
        elif removal == "shifting_gapper":
            kept[mine] = shifting_gapper(values[mine], radii[mine])
        else:
            kept[mine] = clean(values[mine], radii[mine], float(at[i]), settings)
    return kept


def _hubble(redshift: float, omega_m: float) -> float:
    """H(z) in km/s/(Mpc/h)."""
    return 100 * math.sqrt(omega_m * (1 + redshift) ** 3 + 1 - omega_m)


def _rings(radius: Array, width: float, least: int) -> list[NDArray[np.int64]]:
    """Numbers of the galaxies of each ring, from the centre outwards."""
    order = np.argsort(radius, kind="stable")
    rings: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        by_width = int(np.searchsorted(radius[order], radius[order[start]] + width, side="right"))
        end = min(max(by_width, start + least), len(order))
        if len(order) - end < least:
            end = len(order)
        rings.append(order[start:end])
        start = end
    return rings


def _beyond_gap(velocity: Array, gap: float) -> NDArray[np.int64]:
    """Numbers of the galaxies beyond the first large gap on either side of the median."""
    order = np.argsort(velocity, kind="stable")
    wide = np.flatnonzero(np.diff(velocity[order]) > gap)
    middle = (len(order) - 1) / 2
    below = wide[wide < middle]
    above = wide[wide >= middle]
    first = below[-1] + 1 if len(below) else 0
    last = above[0] + 1 if len(above) else len(order)
    return np.concatenate([order[:first], order[last:]])


def _main_group(velocity: Array, largest: float) -> Mask:
    """Galaxies of the most populous group between large weighted gaps.

    A gap is weighted by sqrt(i (n - i)) and compared with the mid-mean of all weighted gaps.
    """
    n = len(velocity)
    if n < FEWEST + 1 or gapper_scale(velocity) == 0:
        return np.ones(n, dtype=bool)
    order = np.argsort(velocity, kind="stable")
    i = np.arange(1, n)
    weighted = np.sqrt(i * (n - i) * np.diff(velocity[order]))
    middle = np.sort(weighted)[n // 4 : max(3 * n // 4, n // 4 + 1)]
    scale = float(middle.mean())
    edges = np.flatnonzero(weighted > largest * scale) + 1 if scale > 0 else np.zeros(0, int)
    groups = np.split(order, edges)
    kept = np.zeros(n, dtype=bool)
    kept[max(groups, key=len)] = True
    return kept
