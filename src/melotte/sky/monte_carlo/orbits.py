"""Orbits in the potential of shells: where they turn, and where a star is found on one."""

from __future__ import annotations

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.potential import potential_between, shell_below, shell_within
from melotte.sky.monte_carlo.units import GRAVITY

_MARGIN = 1.2
"""By how much the largest density along an orbit may exceed those at its ends."""

_HALVINGS = 16
"""Parts of a wide orbit, each half as long as the next one outwards."""

_EDGES = np.array([0.0, *(2.0 ** (k + 1 - _HALVINGS) for k in range(1, _HALVINGS + 1))])
"""Of these, one above what :func:`_radius_at` takes."""

_ENDS = np.array([0.0, 2.0])
"""Of an orbit that has one part."""

_MOST_DRAWS = 20_000

ROOM = _HALVINGS + 1
"""Numbers in a row of what :func:`draw_position` works in."""


@njit(cache=True)
def turning_points(  # pragma: no cover - compiled
    energy, momentum, own, here, radius, softening, potential, n, total
):
    """Pericentre and apocentre of an orbit through a shell, with the slopes of v_r^2 there.

    Parameters
    ----------
    energy, momentum : float, (km/s)^2 and pc km/s
        Of unit mass, in the potential of all other shells; the energy is below 0.
    own : float, pc (km/s)^2
        G times the star's mass, which the shells' potential holds at the radius of ``here``.
    here : int
        Number of the shell at which the star stands: v_r^2 is not negative there.
    radius, potential, n, total
        The shells: see :func:`melotte.sky.monte_carlo.potential.potential_of_shells`.

    Returns
    -------
    tuple of float
        Radii, pc, and the absolute slopes of v_r^2, (km/s)^2 / pc, at the two ends.
    """
    square = momentum * momentum
    inside = energy - own / max(radius[here], softening)
    low, high = -1, here
    while high - low > 1:
        middle = (low + high) // 2
        if 2 * (inside - potential[middle]) - square / radius[middle] ** 2 >= 0:
            high = middle
        else:
            low = middle
    if low < 0:
        # No mass inside of the first shell: straight lines.
        speed = 2 * (inside - potential[0])
        inner = momentum / np.sqrt(speed) if speed > 0 else 0.0
        inner = min(inner, radius[0])
        inner_slope = 2 * square / max(inner, 1e-12) ** 3
    else:
        constant, weight = _shell(low, radius, softening, potential)
        root = np.sqrt(max(weight * weight + 2 * square * (inside - constant), 0.0))
        inner = square / (weight + root) if weight + root > 0 else radius[low]
        inner = min(max(inner, radius[low]), radius[high])
        inner_slope = abs(-2 * weight / inner**2 + 2 * square / inner**3)
    low, high = here, n
    while high - low > 1:
        middle = (low + high) // 2
        outside = energy - potential[middle] - own / max(radius[middle], softening)
        if 2 * outside - square / radius[middle] ** 2 >= 0:
            low = middle
        else:
            high = middle
    if high >= n:
        constant, weight = 0.0, GRAVITY * total
    else:
        constant, weight = _shell(low, radius, softening, potential)
    weight -= own
    root = np.sqrt(max(weight * weight + 2 * square * (energy - constant), 0.0))
    depth = 2 * (constant - energy)
    outer = (weight + root) / depth if depth > 0 else radius[low]
    outer = max(outer, radius[low])
    if high < n:
        outer = min(outer, radius[high])
    outer_slope = abs(-2 * weight / outer**2 + 2 * square / outer**3)
    return inner, outer, inner_slope, outer_slope


@njit(cache=True)
def draw_position(  # pragma: no cover - compiled
    energy, momentum, own, here, radius, softening, potential, n, total, interval, window, room
):
    """Draw where a star is found on its orbit.

    The density is that of time, 1 / v_r, over the interval between a star's moves at that radius:
    stars where intervals are long are moved rarely, so they must be put there rarely.

    Parameters
    ----------
    energy, momentum, own, here, radius, softening, potential, n, total
        As :func:`turning_points` takes them.
    interval : array of float64, shape (n_windows,), Myr, does not fall
        Of the shells ``window * k`` and the following.
    window : int
    room : array of float64, shape (2, ROOM)
        To work in.

    Returns
    -------
    (float, float, bool)
        Radius, pc; potential of all other shells there; False where no draw was taken and the
        star must stay.
    """
    inner, outer, inner_slope, outer_slope = turning_points(
        energy, momentum, own, here, radius, softening, potential, n, total
    )
    width = outer - inner
    square = momentum * momentum
    if not width > 1e-9 * outer or inner_slope <= 0 or outer_slope <= 0:
        return radius[here], 0.0, False
    bound = _MARGIN * np.sqrt(3 * width * max(1 / inner_slope, 1 / outer_slope))
    # Shells on the orbit are searched for between those that are known already.
    begin = shell_below(inner, radius, n)
    end = shell_below(outer, radius, n)
    first = interval[max(begin, 0) // window]
    last = interval[max(end, 0) // window]
    edges = _EDGES if last > 4 * first else _ENDS
    parts = len(edges) - 1
    weights, places = room[0], room[1]
    places[parts] = end
    for k in range(parts - 1, -1, -1):
        below = begin
        if k > 0:
            at = _radius_at(edges[k] - 1, inner, width)
            below = shell_within(at, radius, begin, int(places[k + 1]) + 1)
        places[k] = below
        # Intervals do not fall outwards: the density over a part is bounded by its inner edge's.
        weights[k] = 1.0 / interval[max(below, 0) // window]
    running = 0.0
    for k in range(parts):
        running += weights[k] * (edges[k + 1] - edges[k])
    for _ in range(_MOST_DRAWS):
        wanted = np.random.random() * running
        part = 0
        while part < parts - 1:
            area = weights[part] * (edges[part + 1] - edges[part])
            if wanted < area:
                break
            wanted -= area
            part += 1
        s = edges[part] + min(wanted / weights[part], edges[part + 1] - edges[part]) - 1
        at = _radius_at(s, inner, width)
        below = shell_within(at, radius, int(places[part]), int(places[part + 1]) + 1)
        value = potential_between(at, below, radius, softening, potential, n, total)
        value += own / max(at, radius[here], softening)
        speed = 2 * (energy - value) - square / (at * at)
        if speed <= 0:
            continue
        ratio = 1.0 / (weights[part] * interval[max(below, 0) // window])
        if np.random.random() * bound * np.sqrt(speed) < 0.75 * width * (1 - s * s) * ratio:
            return at, value, True
    return radius[here], 0.0, False


@njit(cache=True)
def _shell(below, radius, softening, potential):  # pragma: no cover - compiled
    """Constant and weight of potential = constant - weight / r above a shell."""
    low = 1.0 / max(radius[below], softening)
    high = 1.0 / max(radius[below + 1], softening)
    weight = 0.0
    if low > high:
        weight = (potential[below + 1] - potential[below]) / (low - high)
    return potential[below] + weight * low, weight


@njit(cache=True)
def _radius_at(s, inner, width):  # pragma: no cover - compiled
    """Hénon's substitution: even in s in [-1, 1], dense where the star is slow."""
    return inner + width * (0.5 + 0.25 * s * (3 - s * s))
