"""Encounters of neighbouring shells: deflections that stand for two-body relaxation."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy.special import erf

from melotte.sky.monte_carlo.local_conditions import relaxation_rate

BOOST_STEPS = 256
"""Entries of the table of :func:`boost_table` per unit of S."""

LARGEST_BOOSTED = 3.0


@njit(cache=True)
def random_direction():  # pragma: no cover - compiled
    """A unit vector."""
    cosine = 2 * np.random.random() - 1
    sine = math.sqrt(max(0.0, 1 - cosine * cosine))
    angle = 2 * math.pi * np.random.random()
    return sine * math.cos(angle), sine * math.sin(angle), cosine


@njit(cache=True)
def in_space(radial, tangential):  # pragma: no cover - compiled
    """A velocity (tangential, tangential, radial) of random direction about the radius."""
    angle = 2 * math.pi * np.random.random()
    return tangential * math.cos(angle), tangential * math.sin(angle), radial


@njit(cache=True)
def deflect(  # pragma: no cover - compiled
    radial, tangential, mass, i, j, density, dispersion, coulomb, interval, boosts
):
    """One encounter of shells ``i`` and ``j``, worth all of those in an interval; in place.

    sin^2(beta/2) is the sum S over the weak encounters of an interval, but at most 1, so slow pairs
    would exchange too little: S is raised by the factor with which a Maxwellian of relative speeds
    exchanges on average what it should.

    Parameters
    ----------
    radial, tangential, mass : arrays, km/s, km/s, Msun
    i, j : int
    density : float, pc^-3
    dispersion : float, km/s
        One-dimensional, of the surroundings.
    coulomb : float
    interval : float, Myr
    boosts : array
        Of :func:`boost_table`.

    References
    ----------
    Hénon 1971, Ap&SS 14, 151; Stodolkiewicz 1982, Acta Astron. 32, 63.
    """
    ax, ay, az = tangential[i], 0.0, radial[i]
    bx, by, bz = in_space(radial[j], tangential[j])
    wx, wy, wz = bx - ax, by - ay, bz - az
    speed = math.sqrt(wx * wx + wy * wy + wz * wz)
    if not speed > 0:
        return
    total = mass[i] + mass[j]
    scale = math.sqrt(2.0) * dispersion
    usual = relaxation_rate(total * total, density, scale, coulomb) * interval
    boosted = usual * boosts[min(int(usual * BOOST_STEPS), len(boosts) - 1)]
    half = min(boosted * (scale / speed) ** 3, 1.0)
    cosine = 1 - 2 * half
    sine = 2 * math.sqrt(half * (1 - half))
    angle = 2 * math.pi * np.random.random()
    across = math.sqrt(wx * wx + wy * wy)
    if across > 1e-9 * speed:
        px, py, pz = wy * speed / across, -wx * speed / across, 0.0
        qx, qy, qz = -wx * wz / across, -wy * wz / across, across
    else:
        px, py, pz = speed, 0.0, 0.0
        qx, qy, qz = 0.0, speed, 0.0
    p, q = sine * math.cos(angle), sine * math.sin(angle)
    dx = wx * (cosine - 1) + px * p + qx * q
    dy = wy * (cosine - 1) + py * p + qy * q
    dz = wz * (cosine - 1) + pz * p + qz * q
    share = mass[j] / total
    radial[i] = az - share * dz
    tangential[i] = math.sqrt((ax - share * dx) ** 2 + (ay - share * dy) ** 2)
    share = mass[i] / total
    radial[j] = bz + share * dz
    tangential[j] = math.sqrt((bx + share * dx) ** 2 + (by + share * dy) ** 2)


def boost_table() -> np.ndarray:
    """By how much to raise S so that limiting it to 1 loses nothing on average.

    For S = b / x^3, x a Maxwellian speed in units of its one-dimensional dispersion, the mean of
    x^2 min(k S, 1) is that of x^2 S where k b = c^3 and b = 3 sqrt(pi/2) erf(c / sqrt 2)
    - 3 c exp(-c^2 / 2); that needs b below 3 sqrt(pi/2).

    Returns
    -------
    array of float64, shape (n,)
        k at b = i / BOOST_STEPS; the last value is for all larger b.
    """
    limit = np.linspace(1e-3, 6, 6000)
    given = 3 * math.sqrt(math.pi / 2) * erf(limit / math.sqrt(2))
    given -= 3 * limit * np.exp(-(limit**2) / 2)
    strengths = np.arange(int(LARGEST_BOOSTED * BOOST_STEPS) + 1) / BOOST_STEPS
    table = np.interp(strengths, given, limit**3 / given)
    table[0] = 1.0
    return table
