"""Black holes in binaries that spiral in by gravitational waves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from melotte.sky.monte_carlo.units import GRAVITY, LIGHT_SPEED, PC_PER_AU, PC_PER_MYR

if TYPE_CHECKING:
    from melotte.sky.monte_carlo.evolution import ClusterEvolution

RADIATED = 0.05
"""Share of the mass that a merger of equal black holes without spin radiates."""


HEAVIEST_NEUTRON_STAR = 3.0
"""Msun, as in the table of remnants; what is heavier after a merger is a black hole."""


def inspiral_time(first: float, second: float, semi_major: float, eccentricity: float) -> float:
    """Time until two point masses merge, Myr.

    Parameters
    ----------
    first, second : float, Msun
    semi_major : float, AU
    eccentricity : float, in [0, 1)

    References
    ----------
    Peters 1964, Phys. Rev. 136, B1224, Eq. 5.10, with the limit of high eccentricity: within a
    factor 1.8 at any.
    """
    axis = semi_major * PC_PER_AU
    product = first * second * (first + second) * GRAVITY**3
    circular = 5 / 256 * LIGHT_SPEED**5 * axis**4 / product / PC_PER_MYR
    return circular * (1 - eccentricity**2) ** 3.5


def recoil_speed(first: float, second: float) -> float:
    """Recoil of a merger of black holes without spin, km/s.

    References
    ----------
    González et al. 2007, Phys. Rev. Lett. 98, 091101.
    """
    symmetric = first * second / (first + second) ** 2
    return 1.2e4 * symmetric**2 * np.sqrt(max(1 - 4 * symmetric, 0.0)) * (1 - 0.93 * symmetric)


def merge_inspiralling(
    cluster: ClusterEvolution, span: float, generator: np.random.Generator
) -> None:
    """Merge pairs of compact remnants that would within a time (Myr), in place.

    The orbits of the others shrink by as much as brings them nearer to their merger by that time;
    their eccentricity stays.
    """
    for shell in np.nonzero(cluster.companion[cluster.names[: cluster.n]] >= 0)[0].tolist():
        primary = int(cluster.names[shell])
        second = int(cluster.companion[primary])
        if min(cluster.kind[primary], cluster.kind[second]) < 13:
            continue
        one, two = float(cluster.stars[0, primary]), float(cluster.stars[0, second])
        axis, eccentricity = cluster.stars[1, primary], cluster.stars[2, primary]
        left = inspiral_time(one, two, float(axis), float(eccentricity))
        if left > span:
            cluster.stars[1, primary] = axis * (1 - max(span, 0.0) / left) ** 0.25
            continue
        symmetric = one * two / (one + two) ** 2
        cluster.stars[0, primary] = (one + two) * (1 - RADIATED * 16 * symmetric**2)
        cluster.stars[0, second] = 0.0
        cluster.companion[primary] = -1
        heavy = cluster.stars[0, primary] > HEAVIEST_NEUTRON_STAR
        cluster.kind[primary] = 14 if heavy else 13
        cluster.merged[primary] = True
        cluster.shells[3, shell] = cluster.stars[0, primary]
        direction = generator.normal(size=3)
        push = recoil_speed(one, two) * direction / np.sqrt(direction @ direction)
        cluster.push(shell, push)
