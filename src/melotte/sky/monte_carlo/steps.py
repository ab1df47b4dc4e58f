"""One step of a cluster: encounters, escape, new positions, and velocities that keep the energy."""

from __future__ import annotations

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.local_conditions import WINDOW, local_conditions
from melotte.sky.monte_carlo.meetings import encounter
from melotte.sky.monte_carlo.moves import move
from melotte.sky.monte_carlo.potential import potential_of_shells
from melotte.sky.monte_carlo.units import GRAVITY

STEPS, ESCAPED = 0, 4
"""Counters: steps and escapers; see :mod:`melotte.sky.monte_carlo.moves` for the others."""

ESCAPED_ENERGY = 0
"""Energy of the escapers, Msun (km/s)^2."""


@njit(cache=True)
def advance(  # pragma: no cover - compiled
    shells,
    name,
    n,
    stars,
    companion,
    time,
    until,
    most_steps,
    settings,
    seed,
    step,
    ledger,
    counters,
    energies,
):
    """Advance a cluster by steps until a time; in place.

    Parameters
    ----------
    shells : array of float64, shape (4, capacity)
        Radius (pc), radial and tangential velocity (km/s), mass (Msun), in order of radius.
    name : array of int64, shape (capacity,)
        The first star of each shell.
    n : int
        Number of shells.
    stars : array of float64, shape (3, n_stars)
        Mass (Msun), semi-major axis (AU) and eccentricity of the binary whose first star it is.
    companion : array of int64, shape (n_stars,)
    time, until : float, Myr
    most_steps : int
    settings : array of float64
        Mean sin^2(beta/2) of an interval, Coulomb logarithm, longest interval (Myr), energy of
        escape ((km/s)^2), 1 where binaries form, else 0, softening (pc).
    seed, step : int
        Step ``k`` draws from a stream of its own.
    ledger, counters, energies : arrays
        Added to: see :mod:`melotte.sky.monte_carlo.binaries` and the constants here.

    Returns
    -------
    (int, float, int)
        Shells, time (Myr) and number of the last step.
    """
    capacity = len(name)
    now, then = shells, np.empty_like(shells)
    named, then_named = name, np.empty_like(name)
    potential, later = np.empty(capacity), np.empty(capacity)
    found = np.empty((4, capacity // WINDOW + 2))
    moved = np.empty(capacity, dtype=np.bool_)
    softening = settings[5]
    total = potential_of_shells(now[0], now[3], n, softening, potential)
    taken = 0
    while time < until and n > 2 and taken < most_steps:
        np.random.seed((seed * 1_000_003 + step) % 4_294_967_296)
        taken += 1
        step += 1
        local_conditions(
            now[0], now[1], now[2], now[3], n, WINDOW, settings[0], settings[1], settings[2], found
        )
        span = min(found[3, 0], until - time)
        moved[:n] = False
        freed = encounter(
            now,
            named,
            n,
            stars,
            companion,
            found,
            span,
            settings[1],
            settings[4] > 0,
            moved,
            ledger,
        )
        escaped = _escape(now, n, moved, softening, potential, settings[3], counters, energies)
        if escaped or len(freed) or _any_empty(now[3], n):
            n = _rebuilt(now, named, n, stars, moved, freed, then, then_named, later)
            if n < 3:
                break
            total = potential_of_shells(now[0], now[3], n, softening, potential)
        total = move(
            now,
            named,
            n,
            moved,
            softening,
            potential,
            total,
            found[3],
            then,
            then_named,
            later,
            counters,
            energies,
        )
        now, then = then, now
        named, then_named = then_named, named
        potential, later = later, potential
        counters[STEPS] += 1
        time += span
    if taken % 2 and n >= 3:
        # The caller's arrays are the spare ones now.
        then[:, :n] = now[:, :n]
        then_named[:n] = named[:n]
    return n, time, step


@njit(cache=True)
def _escape(  # pragma: no cover - compiled
    shells, n, moved, softening, potential, limit, counters, energies
):
    """Empty the shells of stars above an energy; returns how many."""
    escaped = 0
    for i in range(n):
        mass = shells[3, i]
        if not moved[i] or mass == 0:
            continue
        energy = 0.5 * (shells[1, i] ** 2 + shells[2, i] ** 2) + potential[i]
        # A star does not move in its own shell's potential.
        energy += GRAVITY * mass / max(shells[0, i], softening)
        if energy >= limit:
            energies[ESCAPED_ENERGY] += mass * energy
            counters[ESCAPED] += 1
            shells[3, i] = 0.0
            escaped += 1
    return escaped


@njit(cache=True)
def _any_empty(mass, n):  # pragma: no cover - compiled
    empty = 0
    for i in range(n):
        if mass[i] == 0:
            empty += 1
    return empty > 0


@njit(cache=True)
def _rebuilt(  # pragma: no cover - compiled
    shells, name, n, stars, moved, freed, spare, spare_name, room
):
    """Leave out empty shells and put in stars set free; in place; the number of shells."""
    filled = 0
    for i in range(n):
        if shells[3, i] > 0:
            spare[:, filled] = shells[:, i]
            spare_name[filled] = name[i]
            room[filled] = 1.0 if moved[i] else 0.0
            filled += 1
        for row in range(len(freed)):
            if freed[row, 0] == i:
                spare[:3, filled] = shells[:3, i]
                spare[3, filled] = stars[0, freed[row, 1]]
                spare_name[filled] = freed[row, 1]
                room[filled] = 1.0
                filled += 1
    shells[:, :filled] = spare[:, :filled]
    name[:filled] = spare_name[:filled]
    for i in range(filled):
        moved[i] = room[i] > 0
    return filled
