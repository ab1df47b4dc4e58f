"""What natal kicks do to single stars and to binaries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_AU

if TYPE_CHECKING:
    from melotte.sky.monte_carlo.evolution import ClusterEvolution

Array = NDArray[np.float64]

FASTEST = 1e5
"""Kicks of remnants that do not stay at all, km/s."""


def kick(
    cluster: ClusterEvolution,
    stars: NDArray[np.int64],
    speeds: Array,
    generator: np.random.Generator,
    before: Array | None = None,
) -> None:
    """Kick remnants at birth, in place.

    Parameters
    ----------
    cluster : ClusterEvolution
        With the masses after the explosions.
    stars : array of int64, shape (n_kicked,)
        Names of stars that the cluster holds.
    speeds : array, shape (n_stars,), km/s
        By name; inf takes a star out of the cluster. Remnants of speed 0 in binaries count too:
        their orbits widen or break as the explosion takes mass away.
    generator : numpy Generator
    before : array, shape (n_stars,), Msun, optional
        Masses before the explosions; as they are now where not given.

    References
    ----------
    Hills 1983, ApJ 267, 322: binaries kicked at a random phase of their orbit.
    """
    if not len(stars):
        return
    masses = cluster.stars[0].copy() if before is None else before
    shell_of = {int(name): i for i, name in enumerate(cluster.names[: cluster.n])}
    primary_of = {
        int(cluster.companion[name]): int(name)
        for name in cluster.names[: cluster.n]
        if cluster.companion[name] >= 0
    }
    freed: list[tuple[int, int, Array]] = []
    for star in (int(one) for one in stars):
        speed = float(speeds[star])
        primary = int(primary_of.get(star, star))
        shell = shell_of[primary]
        push = _isotropic(generator) * min(speed, FASTEST)
        if cluster.companion[primary] < 0:
            if math.isinf(speed):
                cluster.stars[0, star] = 0.0
            else:
                cluster.push(shell, push)
            continue
        centre = _survives(cluster, primary, star, push, masses, generator)
        if centre is not None:
            cluster.push(shell, centre)
            continue
        other = int(cluster.companion[primary]) if star == primary else primary
        cluster.companion[primary] = -1
        cluster.names[shell] = other
        if math.isinf(speed):
            cluster.stars[0, star] = 0.0
        else:
            freed.append((shell, star, push))
    cluster.insert(freed)


def _survives(
    cluster: ClusterEvolution,
    primary: int,
    star: int,
    push: Array,
    before: Array,
    generator: np.random.Generator,
) -> Array | None:
    """What a binary's centre gains in speed if it outlives a kick; its orbit changes then.

    The explosion comes at the mean distance.
    """
    pair = [primary, int(cluster.companion[primary])]
    other = pair[1] if star == primary else pair[0]
    total, was = float(cluster.stars[0, pair].sum()), float(before[pair].sum())
    axis = float(cluster.stars[1, primary]) * PC_PER_AU
    distance = axis * (1 + 0.5 * float(cluster.stars[2, primary]) ** 2)
    speed = math.sqrt(GRAVITY * was * max(2 / distance - 1 / axis, 0.0))
    orbital = _isotropic(generator) * speed
    relative = orbital + push
    energy = 0.5 * float(relative @ relative) - GRAVITY * total / distance
    if energy >= 0:
        return None
    cluster.stars[1, primary] = -GRAVITY * total / (2 * energy) / PC_PER_AU
    cluster.stars[2, primary] = math.sqrt(generator.random())
    # The star moved at this share of the orbit's speed when it lost mass.
    lost = float(before[star] - cluster.stars[0, star]) / total
    return push * float(cluster.stars[0, star]) / total - orbital * lost * before[other] / was


def _isotropic(generator: np.random.Generator) -> Array:
    direction = generator.normal(size=3)
    return direction / math.sqrt(float(direction @ direction))
