"""Which neighbouring shells meet in a step, and what happens when they do."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.binaries import (
    EVENTS,
    REACH,
    encounter_probability,
    form_binary,
    formation_probability,
    meet_binary,
    meet_single,
)
from melotte.sky.monte_carlo.encounters import boost_table, deflect
from melotte.sky.monte_carlo.local_conditions import WINDOW, relaxation_rate

BOOSTS = boost_table()

STRONGEST = 1.0
"""Largest S, at a relative speed of one dispersion, that one encounter stands for."""

MOST_PARTNERS = 400
"""Of a heavy star in an interval."""


@njit(cache=True)
def encounter(  # pragma: no cover - compiled
    shells, name, low, high, stars, companion, found, span, coulomb, binding, moved, ledger
):
    """Let pairs of neighbours meet, each with probability span / interval; in place.

    Only shells from ``low``, a multiple of the window, up to ``high`` take part.

    Returns
    -------
    array of float64, shape (n_freed, 4)
        Stars set free: the shell beside which each starts, its name, its radial and its tangential
        velocity (km/s); the shell may meet others after the star has left it.
    """
    freed = np.empty((max(high - low, 1), 4))
    n_freed = 0
    # Slices are made here, once: making one in a loop counts references, which takes time.
    radial, tangential, mass = shells[1], shells[2], shells[3]
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
                # Before any division: for the shortest spans the quotient exceeds every integer.
                remaining = (last - i + 1) // 2
                if target >= hazard * remaining:
                    target -= hazard * remaining
                    break
                i += 2 * min(int(target / hazard), remaining - 1)
                target = -math.log(1.0 - np.random.random())
            j = i + 1
            if mass[i] > 0 and mass[j] > 0:
                star, beside = _meet(
                    i,
                    j,
                    low,
                    high,
                    radial,
                    tangential,
                    mass,
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
                    freed[n_freed, 2] = shells[1, beside]
                    freed[n_freed, 3] = shells[2, beside]
                    n_freed += 1
            i += 2
    return freed[:n_freed]


@njit(cache=True)
def _meet(  # pragma: no cover - compiled
    i,
    j,
    low,
    high,
    radial,
    tangential,
    mass,
    name,
    stars,
    companion,
    found,
    window,
    coulomb,
    binding,
    moved,
    ledger,
):
    """What happens between two shells in an interval; a star set free (or -1) and its shell."""
    density, dispersion, interval = found[0, window], found[1, window], found[3, window]
    moved[i] = True
    moved[j] = True
    k = i + 2
    single = companion[name[i]] < 0 and companion[name[j]] < 0
    if binding and single and k < high and mass[k] > 0 and companion[name[k]] < 0:
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
    parts = _partners(mass[i], found, window, coulomb)
    others = _partners(mass[j], found, window, coulomb)
    if parts == 1 and others == 1:
        return _pass(
            i,
            j,
            1,
            radial,
            tangential,
            mass,
            name,
            stars,
            companion,
            found,
            window,
            coulomb,
            ledger,
        )
    # A heavy star meets as many of its neighbours as it takes to exchange what it should with
    # each; they stay where they are.
    for heavy, count in ((i, parts), (j, others)):
        if count == 1:
            continue
        met = 0
        offset = 1
        while met < count and offset <= 2 * count:
            reach = (offset + 1) // 2
            other = heavy + reach if offset % 2 else heavy - reach
            offset += 1
            if other < low or other >= high or mass[other] <= 0 or mass[heavy] <= 0:
                continue
            met += 1
            if other < heavy and _partners(mass[other], found, window, coulomb) > 1:
                # Two heavy stars meet at the turn of the inner one; at both they would meet twice.
                continue
            before = ledger[EVENTS].sum()
            star, beside = _pass(
                heavy,
                other,
                count,
                radial,
                tangential,
                mass,
                name,
                stars,
                companion,
                found,
                window,
                coulomb,
                ledger,
            )
            if ledger[EVENTS].sum() > before:
                moved[other] = True
                return star, beside
    return -1, i


@njit(cache=True)
def _partners(mass, found, window, coulomb):  # pragma: no cover - compiled
    """How many stars one of this mass should meet in an interval, none of them too strongly."""
    total = mass + found[2, window]
    scale = math.sqrt(2.0) * found[1, window]
    strength = relaxation_rate(total * total, found[0, window], scale, coulomb) * found[3, window]
    if strength <= STRONGEST:
        return 1
    return min(int(2 * strength / STRONGEST) + 1, MOST_PARTNERS)


@njit(cache=True)
def _pass(  # pragma: no cover - compiled
    i,
    j,
    parts,
    radial,
    tangential,
    mass,
    name,
    stars,
    companion,
    found,
    window,
    coulomb,
    ledger,
):
    """One passage worth a part of an interval: a binary's close encounter, or a deflection."""
    density, dispersion = found[0, window], found[1, window]
    interval = found[3, window] / parts
    one, two = companion[name[i]] >= 0, companion[name[j]] >= 0
    if one or two:
        speed = math.sqrt((radial[i] - radial[j]) ** 2 + tangential[i] ** 2 + tangential[j] ** 2)
        reach = 0.0
        if one:
            reach += REACH * stars[1, name[i]] * (1 + stars[2, name[i]])
        if two:
            reach += REACH * stars[1, name[j]] * (1 + stars[2, name[j]])
        number = encounter_probability(mass[i] + mass[j], reach, density, speed, interval)
        if np.random.random() < number:
            if one and two:
                return meet_binary(
                    i,
                    j,
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
            binary, intruder = (i, j) if one else (j, i)
            return meet_single(
                binary,
                intruder,
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
    deflect(radial, tangential, mass, i, j, density, dispersion, coulomb, interval, BOOSTS)
    return -1, i
