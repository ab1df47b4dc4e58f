"""One step of a cluster: encounters, escape, new positions, and velocities that keep the energy."""

from __future__ import annotations

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.binaries import EVENTS
from melotte.sky.monte_carlo.blocks import block_of, continue_intervals, gather, intervals_of, join
from melotte.sky.monte_carlo.local_conditions import WINDOW, local_conditions, room_for_windows
from melotte.sky.monte_carlo.meetings import encounter
from melotte.sky.monte_carlo.moves import move
from melotte.sky.monte_carlo.potential import orbital_energy, potential_of_shells, shell_below
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
    settings,
    seed,
    step,
    ledger,
    counters,
    energies,
):
    """Advance a cluster until a time; in place.

    Stars far out move rarely. Where that saves time they are let meet and move once for many
    steps of the inner ones, during which they stand still as few, thick shells.

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
    inner, inner_then = np.empty_like(shells), np.empty_like(shells)
    inner_named, inner_then_named = np.empty_like(name), np.empty_like(name)
    potential, later = np.empty(capacity), np.empty(capacity)
    found = room_for_windows(capacity, WINDOW)
    inside_found = room_for_windows(capacity, WINDOW)
    moved = np.empty(capacity, dtype=np.bool_)
    swapped = False
    # Of ``now``, whose potential the last step left; 0 where it is not known.
    total = 0.0
    while time < until and n > 2:
        _conditions(now, n, settings, found)
        span = min(found[3, 0], until - time)
        parts, edge = block_of(found, n, span, until - time)
        step += 1
        np.random.seed((seed * 1_000_003 + step) % 4_294_967_296)
        if parts == 1:
            n, total = one_step(
                now,
                named,
                n,
                0,
                n,
                span,
                found,
                stars,
                companion,
                settings,
                moved,
                total,
                potential,
                later,
                then,
                then_named,
                ledger,
                counters,
                energies,
            )
            now, then = then, now
            named, then_named = then_named, named
            potential, later = later, potential
            swapped = not swapped
            time += span
            continue
        block = parts * span
        radius = now[0, edge]
        table = intervals_of(now[0], n, found)
        n, total = one_step(
            now,
            named,
            n,
            edge,
            n,
            block,
            found,
            stars,
            companion,
            settings,
            moved,
            total,
            potential,
            later,
            then,
            then_named,
            ledger,
            counters,
            energies,
        )
        now, then = then, now
        named, then_named = then_named, named
        swapped = not swapped
        if n < 3:
            break
        first = shell_below(radius, now[0], n) + 1
        count = gather(now, named, n, first, inner, inner_named)
        spent = 0.0
        total = 0.0
        while spent < block and count > 2:
            inside = shell_below(radius, inner[0], count) + 1
            if inside < 3:
                break
            _conditions(inner, inside, settings, inside_found)
            continue_intervals(inner[0], inside, count, table, spent, inside_found[3])
            part = min(inside_found[3, 0], block - spent)
            step += 1
            np.random.seed((seed * 1_000_003 + step) % 4_294_967_296)
            count, total = one_step(
                inner,
                inner_named,
                count,
                0,
                inside,
                part,
                inside_found,
                stars,
                companion,
                settings,
                moved,
                total,
                potential,
                later,
                inner_then,
                inner_then_named,
                ledger,
                counters,
                energies,
            )
            inner, inner_then = inner_then, inner
            inner_named, inner_then_named = inner_then_named, inner_named
            potential, later = later, potential
            spent += part
        n = join(now, named, n, first, inner, inner_named, count, then, then_named)
        now, then = then, now
        named, then_named = then_named, named
        swapped = not swapped
        total = 0.0
        time += block
    if swapped:
        shells[:, :n] = now[:, :n]
        name[:n] = named[:n]
    return n, time, step


@njit(cache=True)
def one_step(  # pragma: no cover - compiled
    now,
    named,
    n,
    low,
    high,
    span,
    found,
    stars,
    companion,
    settings,
    moved,
    total,
    potential,
    later,
    then,
    then_named,
    ledger,
    counters,
    energies,
):
    """Let shells ``low`` to ``high`` meet, escape and move; the outcome is in ``then``.

    Parameters
    ----------
    total : float, Msun
        Mass of all shells where ``potential`` holds theirs; 0 where it does not.

    Returns
    -------
    (int, float)
        Shells that are left, and their mass; ``later`` holds their potential.
    """
    softening = settings[5]
    if total == 0:
        total = potential_of_shells(now[0], now[3], n, softening, potential)
    moved[:n] = False
    events = ledger[EVENTS].sum()
    freed = encounter(
        now,
        named,
        low,
        high,
        stars,
        companion,
        found,
        span,
        settings[1],
        settings[4] > 0,
        moved,
        ledger,
    )
    if ledger[EVENTS].sum() > events:
        # Binaries form and exchange stars: masses went from shell to shell.
        total = potential_of_shells(now[0], now[3], n, softening, potential)
    escaped = _escape(now, n, moved, softening, potential, settings[3], counters, energies)
    if escaped or len(freed) or _any_empty(now[3], n):
        known = (n + WINDOW - 1) // WINDOW
        n = _rebuilt(now, named, n, stars, moved, freed, then, then_named, later)
        # Stars set free may begin windows of which nothing is known yet.
        for window in range(known, (n + WINDOW - 1) // WINDOW):
            found[3, window] = found[3, known - 1]
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
    counters[STEPS] += 1
    return n, total


@njit(cache=True)
def _conditions(shells, n, settings, found):  # pragma: no cover - compiled
    local_conditions(
        shells[0],
        shells[1],
        shells[2],
        shells[3],
        n,
        WINDOW,
        settings[0],
        settings[1],
        settings[2],
        found,
    )


@njit(cache=True)
def _escape(  # pragma: no cover - compiled
    shells, n, moved, softening, potential, limit, counters, energies
):
    """Empty the shells of stars above an energy; returns how many."""
    escaped = 0
    gone = np.empty((2, n))
    for i in range(n):
        mass = shells[3, i]
        if not moved[i] or mass == 0:
            continue
        energy = orbital_energy(shells, i, softening, potential)
        # Nor does a star move in the potential of one that has left.
        for k in range(escaped):
            energy += GRAVITY * gone[0, k] / max(gone[1, k], shells[0, i], softening)
        if energy >= limit:
            energies[ESCAPED_ENERGY] += mass * energy
            counters[ESCAPED] += 1
            gone[0, escaped], gone[1, escaped] = mass, shells[0, i]
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
            for row in range(4):
                spare[row, filled] = shells[row, i]
            spare_name[filled] = name[i]
            room[filled] = 1.0 if moved[i] else 0.0
            filled += 1
        for row in range(len(freed)):
            if freed[row, 0] == i:
                star = int(freed[row, 1])
                spare[0, filled] = shells[0, i]
                spare[1, filled], spare[2, filled] = freed[row, 2], freed[row, 3]
                spare[3, filled] = stars[0, star]
                spare_name[filled] = star
                room[filled] = 1.0
                filled += 1
    shells[:, :filled] = spare[:, :filled]
    name[:filled] = spare_name[:filled]
    for i in range(filled):
        moved[i] = room[i] > 0
    return filled
