"""Many steps of the inner stars for one of the outer ones."""

from __future__ import annotations

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.local_conditions import WINDOW
from melotte.sky.monte_carlo.potential import shell_below

THICK_SHELLS = 1000
"""About as many stand for the outer stars."""

_LONGER = 5.0
"""Outer stars' intervals are at least as many times as long as a block."""

_MOST_PARTS = 8192

_FIXED_COST = 200
"""Of a step, in units of what one shell costs."""


@njit(cache=True)
def block_of(found, n, span, left):  # pragma: no cover - compiled
    """How many steps to take as one block, and the first shell that stands still meanwhile.

    Parameters
    ----------
    found : array
        Of :func:`melotte.sky.monte_carlo.local_conditions.local_conditions`.
    n : int
    span : float, Myr
        Of a step.
    left : float, Myr
        A block is no longer.

    Returns
    -------
    (int, int)
        1 and ``n`` where blocks save nothing.
    """
    best, parts, edge = float(n), 1, n
    windows = n // WINDOW
    count = 4
    while count <= _MOST_PARTS and count * span <= left:
        low, high = 0, windows
        while low < high:
            middle = (low + high) // 2
            if found[3, middle] >= _LONGER * count * span:
                high = middle
            else:
                low = middle + 1
        if low >= windows:
            break
        first = max(low, 3) * WINDOW
        outer = min((n - first) / WINDOW, THICK_SHELLS)
        cost = n / count + first + outer + _FIXED_COST
        if cost < best and first < n:
            best, parts, edge = cost, count, first
        count *= 2
    return parts, edge


@njit(cache=True)
def intervals_of(radius, n, found):  # pragma: no cover - compiled
    """Radius (pc) and interval (Myr) at the beginning of each window, shape (2, n_windows)."""
    windows = (n + WINDOW - 1) // WINDOW
    table = np.empty((2, windows))
    for k in range(windows):
        table[0, k] = radius[k * WINDOW]
        table[1, k] = found[3, k]
    return table


@njit(cache=True)
def continue_intervals(  # pragma: no cover - compiled
    radius, inside, n, table, spent, interval
):
    """Fill in the intervals of windows of shells that stand still until a block ends.

    A star put there now waits for the end of the block, where all others there have waited since
    its beginning: its interval counts as that much longer.
    """
    begin = (inside + WINDOW - 1) // WINDOW
    for window in range(begin, (n + WINDOW - 1) // WINDOW):
        k = max(shell_below(radius[window * WINDOW], table[0], table.shape[1]), 0)
        value = max(table[1, k] - spent, 0.5 * table[1, k])
        interval[window] = max(value, interval[window - 1]) if window > 0 else value


@njit(cache=True)
def gather(shells, name, n, first, inner, inner_name):  # pragma: no cover - compiled
    """Copy the shells below ``first``, and behind them the others as thick shells.

    A thick shell has the mass of its stars, and the radius at which that gives them the same
    potential inside of all. Its name is -1.

    Returns
    -------
    int
        Number of shells.
    """
    inner[:, :first] = shells[:, :first]
    inner_name[:first] = name[:first]
    group = max(WINDOW, (n - first + THICK_SHELLS - 1) // THICK_SHELLS)
    filled = first
    for begin in range(first, n, group):
        mass = 0.0
        depth = 0.0
        for i in range(begin, min(begin + group, n)):
            mass += shells[3, i]
            depth += shells[3, i] / shells[0, i]
        inner[0, filled] = mass / depth
        inner[1, filled] = 0.0
        inner[2, filled] = 0.0
        inner[3, filled] = mass
        inner_name[filled] = -1
        filled += 1
    return filled


@njit(cache=True)
def join(  # pragma: no cover - compiled
    shells, name, n, first, inner, inner_name, count, then, then_name
):
    """Merge the inner stars with the outer ones that stood still, into ``then``.

    Returns
    -------
    int
        Number of shells.
    """
    filled = 0
    k = 0
    i = first
    while True:
        while k < count and inner_name[k] < 0:
            k += 1
        if k >= count and i >= n:
            return filled
        if i >= n or (k < count and inner[0, k] < shells[0, i]):
            for row in range(4):
                then[row, filled] = inner[row, k]
            then_name[filled] = inner_name[k]
            k += 1
        else:
            for row in range(4):
                then[row, filled] = shells[row, i]
            then_name[filled] = name[i]
            i += 1
        filled += 1
