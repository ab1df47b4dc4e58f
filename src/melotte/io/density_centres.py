"""Where a simulated cluster has its centre, and how the centre moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 6
MOST_DENSITIES = 100_000
"""Of more stars, only every so many-th has its density measured, among all the others."""

Array = NDArray[np.float64]


def density_centre(position: Array, mass: Array, neighbours: int = NEIGHBOURS) -> Array:
    """Mean place of the stars, each weighted by the density of mass around it.

    Parameters
    ----------
    position : array, shape (n, 3), pc
    mass : array, shape (n,), Msun
    neighbours : int
        The sphere around a star reaches to this neighbour, whose own mass is left out.

    Returns
    -------
    array, shape (3,), pc
        The centre of mass where there are no more stars than neighbours.

    References
    ----------
    Casertano & Hut 1985, ApJ 298, 80, Eqs. II.2 and II.4, with masses in place of numbers.
    """
    from scipy.spatial import KDTree

    heavy = mass > 0
    position, mass = position[heavy], mass[heavy]
    if len(mass) <= neighbours:
        return np.average(position, axis=0, weights=mass) if len(mass) else np.zeros(3)
    some = slice(None, None, -(-len(mass) // MOST_DENSITIES))
    found = KDTree(position).query(position[some], k=neighbours + 1)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    within = mass[index[:, 1:-1]].sum(axis=1)
    outermost = np.maximum(distance[:, -1], 1e-9 * np.median(distance[:, -1]) + 1e-300)
    return np.average(position[some], axis=0, weights=within / outermost**3)


def bulk_velocity(position: Array, velocity: Array, mass: Array) -> Array:
    """Mean velocity, by mass, of the inner half of the stars about the origin, shape (3,), km/s."""
    distance = np.linalg.norm(position, axis=1)
    inner = (distance <= np.median(distance)) & (mass > 0)
    if not inner.any():
        return np.zeros(3)
    return np.average(velocity[inner], axis=0, weights=mass[inner])


def centred(
    position: Array, velocity: Array | None, mass: Array, centre: Array | None = None
) -> tuple[Array, Array | None]:
    """Positions from the centre and velocities in the frame of the cluster.

    Parameters
    ----------
    position : array, shape (n, 3), pc
    velocity : array, shape (n, 3), km/s, optional
    mass : array, shape (n,), Msun
    centre : array, shape (3,), pc, optional
        As a simulation gives it; found by :func:`density_centre` without.
    """
    position = position - (density_centre(position, mass) if centre is None else centre)
    if velocity is not None:
        velocity = velocity - bulk_velocity(position, velocity, mass)
    return position, velocity
