"""Density, dispersion and the interval between a star's encounters, by windows of shells."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_MYR

WINDOW = 20
"""Shells a window."""

_USUAL = 4.0
"""Stars of more than as many mean masses count as of that mass for the usual star."""


@njit(cache=True)
def local_conditions(  # pragma: no cover - compiled
    radius, radial, tangential, mass, n, window, deflection, coulomb, longest, found
):
    """Fill in the conditions in every window of consecutive shells; returns their number.

    The interval is that in which the mean sin^2(beta/2) of a pair of usual stars, by Hénon's
    encounter, reaches ``deflection``, or, where that is shorter, in which the heaviest star slows
    down by twice that share; it is made not to fall outwards.

    Parameters
    ----------
    radius, radial, tangential, mass : arrays, pc, km/s, km/s, Msun
    n : int
    window : int
        Shells a window; densities are over twice as many.
    deflection : float, in (0, 1)
    coulomb : float
        Coulomb logarithm.
    longest : float, Myr
        No interval is longer.
    found : array, shape (4, >= n_windows)
        Changed in place: number density (pc^-3), one-dimensional velocity dispersion weighted by
        mass (km/s), mean mass of usual stars (Msun), interval (Myr).
    """
    n_windows = (n + window - 1) // window
    for k in range(n_windows):
        start = k * window
        low = max(0, start - window // 2)
        high = min(n - 1, start + window + window // 2)
        sums = 0.0
        motion = 0.0
        for i in range(low, high + 1):
            sums += mass[i]
            motion += mass[i] * (radial[i] * radial[i] + tangential[i] * tangential[i])
        count = high - low + 1
        inner = radius[low] if low > 0 else 0.0
        volume = 4.0 / 3.0 * math.pi * (radius[high] ** 3 - inner**3)
        # Shells on the faces of the volume count half.
        between = count - 1.0 if low > 0 else count - 0.5
        mean = sums / count
        # A few black holes among stars must not set everybody's pace.
        heaviest = 0.0
        usual = 0.0
        squares = 0.0
        for i in range(low, high + 1):
            light = min(mass[i], _USUAL * mean)
            usual += light / count
            squares += light * light / count
            heaviest = max(heaviest, mass[i])
        together = 2 * squares + 2 * usual * usual
        together = max(together, (heaviest + usual) ** 2 * usual / heaviest)
        found[0, k] = between / max(volume, 1e-30)
        found[1, k] = math.sqrt(max(motion / (3 * sums), 1e-12))
        found[2, k] = usual
        rate = relaxation_rate(together, found[0, k], math.sqrt(6.0) * found[1, k], coulomb)
        found[3, k] = min(deflection / max(rate, 1e-30), longest)
    for k in range(n_windows - 2, -1, -1):
        found[3, k] = min(found[3, k], found[3, k + 1])
    return n_windows


@njit(cache=True)
def relaxation_rate(square_of_masses, density, speed, coulomb):  # pragma: no cover - compiled
    """Rate of sin^2(beta/2) of a pair, 1/Myr.

    Parameters
    ----------
    square_of_masses : float, Msun^2
        (m_1 + m_2)^2.
    density : float, pc^-3
    speed : float, km/s
        Relative.
    coulomb : float

    References
    ----------
    Hénon 1971, Ap&SS 14, 151; Joshi et al. 2000, ApJ 540, 969, Eq. 13.
    """
    factor = 2 * math.pi * GRAVITY * GRAVITY * PC_PER_MYR
    return factor * square_of_masses * density * coulomb / max(speed, 1e-6) ** 3


@njit(cache=True)
def room_for_windows(n, window):  # pragma: no cover - compiled
    """An array that :func:`local_conditions` can fill for ``n`` shells."""
    return np.empty((4, (n + window - 1) // window + 1))
