"""The potential of stars taken as thin spherical shells (Hénon 1971).

The potential of a pair is -G m_1 m_2 / max(r_1, r_2, softening). Two shells nearer to the centre
than the radius at which one star deflects another by 90 degrees would be bound as no two stars
are; the softening is that radius.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from melotte.sky.monte_carlo.units import GRAVITY


@njit(cache=True)
def potential_of_shells(radius, mass, n, softening, potential):  # pragma: no cover - compiled
    """Fill in the potential at every shell and return the total mass.

    Parameters
    ----------
    radius : array of float64, pc, rises
    mass : array of float64, Msun
    n : int
        Number of shells; longer arrays have room to spare.
    softening : float, pc
    potential : array of float64, (km/s)^2
        Changed in place: of all shells, each with its own mass inside of it.
    """
    inside = 0.0
    for i in range(n):
        inside += mass[i]
    total = inside
    outer = 1.0 / max(radius[n - 1], softening)
    value = -GRAVITY * total * outer
    potential[n - 1] = value
    for i in range(n - 2, -1, -1):
        inside -= mass[i + 1]
        here = 1.0 / max(radius[i], softening)
        value -= GRAVITY * inside * (here - outer)
        potential[i] = value
        outer = here
    return total


@njit(cache=True)
def shell_below(value, radius, n):  # pragma: no cover - compiled
    """Number of the outermost shell whose radius is at most ``value``; -1 inside of all."""
    return shell_within(value, radius, -1, n)


@njit(cache=True)
def shell_within(value, radius, low, high):  # pragma: no cover - compiled
    """The same, where it is known to be ``low`` (from -1 on) or above, and below ``high``."""
    while high - low > 1:
        middle = (low + high) // 2
        if radius[middle] <= value:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True)
def potential_between(
    value, below, radius, softening, potential, n, total
):  # pragma: no cover - compiled
    """Potential at a radius of which the shell below is known, (km/s)^2."""
    if below < 0:
        return potential[0]
    if below >= n - 1:
        return -GRAVITY * total / max(value, softening)
    low = 1.0 / max(radius[below], softening)
    high = 1.0 / max(radius[below + 1], softening)
    if low <= high:
        return potential[below]
    share = (low - 1.0 / max(value, softening)) / (low - high)
    return potential[below] + share * (potential[below + 1] - potential[below])


@njit(cache=True)
def orbital_energy(shells, i, softening, potential):  # pragma: no cover - compiled
    """Energy of shell ``i`` by unit mass, (km/s)^2: a star does not move in its own potential."""
    energy = 0.5 * (shells[1, i] ** 2 + shells[2, i] ** 2) + potential[i]
    return energy + GRAVITY * shells[3, i] / max(shells[0, i], softening)


@njit(cache=True)
def total_energy(shells, n, softening):  # pragma: no cover - compiled
    """Kinetic energy and potential energy of all pairs of shells, Msun (km/s)^2."""
    radius, mass = shells[0], shells[3]
    potential = np.empty(n)
    potential_of_shells(radius, mass, n, softening, potential)
    kinetic = 0.0
    binding = 0.0
    for i in range(n):
        kinetic += 0.5 * mass[i] * (shells[1, i] ** 2 + shells[2, i] ** 2)
        binding += 0.5 * mass[i] * (potential[i] + GRAVITY * mass[i] / max(radius[i], softening))
    return kinetic, binding


def strong_deflection_radius(
    shells: NDArray[np.float64], n: int, heavy: int = 20, typical: int = 100
) -> float:
    """Radius at which stars of the core deflect each other by a right angle, G m / sigma^2.

    Parameters
    ----------
    shells : array, shape (4, capacity)
    n : int
    heavy : int
        The mass is the mean of as many innermost shells, weighted by mass.
    typical : int
        The dispersion follows from the median speed of as many, which few fast stars do not move.

    Returns
    -------
    float, pc
    """
    radial, tangential = shells[1, : min(n, typical)], shells[2, : min(n, typical)]
    mass = shells[3, : min(n, heavy)]
    # The median of a Maxwellian's v^2 is 2.366 times the square of its dispersion.
    square = float(np.median(radial**2 + tangential**2)) / 2.366
    return GRAVITY * float((mass**2).sum() / mass.sum()) / max(square, 1e-12)
