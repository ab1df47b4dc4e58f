"""Which neighbouring shells meet in a step, and what happens when they do."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.binaries import (
    REACH,
    encounter_probability,
    form_binary,
    formation_probability,
    meet_binary,
    meet_single,
)
from melotte.sky.monte_carlo.encounters import boost_table, deflect
from melotte.sky.monte_carlo.local_conditions import WINDOW

BOOSTS = boost_table()


@njit(cache=True)
def encounter(  # pragma: no cover - compiled
    shells, name, low, high, stars, companion, found, span, coulomb, binding, moved, ledger
):
    """Let pairs of neighbours meet, each with probability span / interval; in place.

    Only shells from ``low``, a multiple of the window, up to ``high`` take part.

    Returns
    -------
    array of int64, shape (n_freed, 2)
        Stars set free: the shell beside which each starts, and its name.
    """
    freed = np.empty((max(high - low, 1), 2), dtype=np.int64)
    n_freed = 0
    mass = shells[3]
    begin = int(np.random.random() * 2)
    target = -math.log(1.0 - np.random.random())
    for window in range(low // WINDOW, (high + WINDOW - 1) // WINDOW):
        interval = found[3, window]
        chance = min(span / interval, 1.0)
        hazard = -math.log1p(-chance) if chance < 1 else 0.0
        first = window * WINDOW + begin
        last = min(window * WINDOW + WINDOW, high - 1)
        i = first
        while i < last:
            if hazard > 0:
                skipped = int(target / hazard)
                if i + 2 * skipped >= last:
                    target -= hazard * ((last - i + 1) // 2)
                    break
                i += 2 * skipped
                target = -math.log(1.0 - np.random.random())
            j = i + 1
            if mass[i] > 0 and mass[j] > 0:
                star, beside = _meet(
                    i,
                    j,
                    high,
                    shells,
                    name,
                    stars,
                    companion,
                    found,
                    window,
                    coulomb,
                    binding,
                    moved,
                    ledger,
                )
                if star >= 0:
                    freed[n_freed, 0] = beside
                    freed[n_freed, 1] = star
                    n_freed += 1
            i += 2
    return freed[:n_freed]


@njit(cache=True)
def _meet(  # pragma: no cover - compiled
    i, j, high, shells, name, stars, companion, found, window, coulomb, binding, moved, ledger
):
    """What happens between two shells in an interval; a star set free (or -1) and its shell."""
    radial, tangential, mass = shells[1], shells[2], shells[3]
    density, dispersion, interval = found[0, window], found[1, window], found[3, window]
    moved[i] = True
    moved[j] = True
    one, two = companion[name[i]] >= 0, companion[name[j]] >= 0
    if not one and not two:
        k = i + 2
        if binding and k < high and mass[k] > 0 and companion[name[k]] < 0:
            chance = formation_probability(mass[i], mass[j], density, dispersion, interval)
            if np.random.random() < chance:
                form_binary(
                    i,
                    j,
                    k,
                    radial,
                    tangential,
                    mass,
                    name,
                    stars[0],
                    companion,
                    stars[1],
                    stars[2],
                    dispersion,
                    ledger,
                )
                moved[k] = True
                return -1, i
        deflect(radial, tangential, mass, i, j, density, dispersion, coulomb, interval, BOOSTS)
        return -1, i
    speed = math.sqrt((radial[i] - radial[j]) ** 2 + tangential[i] ** 2 + tangential[j] ** 2)
    reach = 0.0
    if one:
        reach += REACH * stars[1, name[i]] * (1 + stars[2, name[i]])
    if two:
        reach += REACH * stars[1, name[j]] * (1 + stars[2, name[j]])
    number = encounter_probability(mass[i] + mass[j], reach, density, speed, interval)
    if np.random.random() >= number:
        deflect(radial, tangential, mass, i, j, density, dispersion, coulomb, interval, BOOSTS)
        return -1, i
    if one and two:
        return meet_binary(
            i, j, radial, tangential, mass, name, stars[0], companion, stars[1], stars[2], ledger
        )
    if two:
        i, j = j, i
    return meet_single(
        i,
        j,
        number,
        radial,
        tangential,
        mass,
        name,
        stars[0],
        companion,
        stars[1],
        stars[2],
        ledger,
    )
