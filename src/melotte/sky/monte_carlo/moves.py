"""New places of stars on their orbits, at speeds that keep the energy of all."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.local_conditions import WINDOW
from melotte.sky.monte_carlo.orbits import ROOM, draw_position
from melotte.sky.monte_carlo.potential import (
    orbital_energy,
    potential_between,
    potential_of_shells,
    shell_below,
)
from melotte.sky.monte_carlo.units import GRAVITY

MOVES, STUCK, SHORT = 1, 2, 3
"""Counters: moves of stars, stars that found no place, stars short of energy."""

SHORT_ENERGY = 1
"""Energy, Msun (km/s)^2, that stars short of it could not pay."""


@njit(cache=True)
def move(  # pragma: no cover - compiled
    shells,
    name,
    n,
    moved,
    softening,
    potential,
    total,
    interval,
    then,
    then_name,
    later,
    counters,
    energies,
):
    """Put moved stars elsewhere on their orbits and keep everybody's energy.

    Fills ``then``, ``then_name`` and ``later``, its potential, whose total mass is returned.

    The new speed is that of a star whose energy changed by the mean of the potential's changes at
    its old and its new place (Stodolkiewicz 1982, Eq. 42): the energy of all is then exact.
    """
    radius = shells[0]
    count = 0
    for i in range(n):
        if moved[i]:
            count += 1
    movers = np.empty(count, dtype=np.int64)
    place = np.empty(count)
    value = np.empty(count)
    settled = np.empty(count, dtype=np.bool_)
    room = np.empty((2, ROOM))
    count = 0
    for i in range(n):
        if moved[i]:
            movers[count] = i
            own = GRAVITY * shells[3, i]
            energy = orbital_energy(shells, i, softening, potential)
            at, there, drawn = draw_position(
                energy,
                radius[i] * shells[2, i],
                own,
                i,
                radius,
                softening,
                potential,
                n,
                total,
                interval,
                WINDOW,
                room,
            )
            place[count], value[count], settled[count] = at, there, drawn
            if not drawn:
                counters[STUCK] += 1
            count += 1
    counters[MOVES] += count
    order = np.argsort(place)
    target = np.empty(count, dtype=np.int64)
    nearest = 0
    filled = 0
    for i in range(n):
        if moved[i]:
            continue
        while nearest < count and place[order[nearest]] < radius[i]:
            filled = _put(
                order[nearest], filled, movers, place, shells, name, then, then_name, target
            )
            nearest += 1
        for row in range(4):
            then[row, filled] = shells[row, i]
        then_name[filled] = name[i]
        filled += 1
    while nearest < count:
        filled = _put(order[nearest], filled, movers, place, shells, name, then, then_name, target)
        nearest += 1
    new_radius = then[0]
    total = potential_of_shells(new_radius, then[3], n, softening, later)
    carried = 0.0
    for k in range(count):
        mover = order[k]
        if not settled[mover]:
            continue
        i, new = movers[mover], target[mover]
        own = GRAVITY * then[3, new]
        below = shell_below(radius[i], new_radius, n)
        left = potential_between(radius[i], below, new_radius, softening, later, n, total)
        left += own / max(radius[i], place[mover], softening)
        square = shells[1, i] ** 2 + shells[2, i] ** 2 + carried / then[3, new]
        square += potential[i] + own / max(radius[i], softening) + left
        square -= value[mover] + later[new] + own / max(place[mover], softening)
        across = radius[i] * shells[2, i] / place[mover]
        rest = square - across * across
        carried = 0.0
        if rest < 0:
            carried = rest * then[3, new]
            rest = 0.0
            counters[SHORT] += 1
        speed = math.sqrt(rest)
        then[1, new] = speed if np.random.random() < 0.5 else -speed
        then[2, new] = across
    for k in range(count - 1, -1, -1):
        if carried >= 0:
            break
        # What the last could not pay, the others share: at most half of their radial motion.
        new = target[order[k]]
        paid = min(0.5 * then[1, new] ** 2 * then[3, new], -carried)
        then[1, new] *= math.sqrt(1 - paid / max(then[1, new] ** 2 * then[3, new], 1e-30))
        carried += paid
    energies[SHORT_ENERGY] += 0.5 * carried
    return total


@njit(cache=True)
def _put(  # pragma: no cover - compiled
    mover, filled, movers, place, shells, name, then, then_name, target
):
    """Write one moved star into the next shell."""
    i = movers[mover]
    then[0, filled] = place[mover]
    for row in range(1, 4):
        then[row, filled] = shells[row, i]
    then_name[filled] = name[i]
    target[mover] = filled
    return filled + 1
