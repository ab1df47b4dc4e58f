"""Binaries: made by three single stars, hardened, exchanged and broken by encounters.

A binary is one shell. It is named by its first star; ``companion`` gives its second (-1 for single
stars), ``semi_major`` (AU) and ``eccentricity`` its orbit. Outcomes of encounters are drawn from
fits to scattering experiments, not integrated.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.encounters import in_space, random_direction
from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_AU, PC_PER_MYR

FORMATION_RATE = 0.75
"""Of surviving binaries in units of G^5 m^5 n^3 / sigma^9 (Goodman & Hut 1993, ApJ 403, 271)."""

HARDNESS = 5.0
"""Least binding energy of a new binary, in m sigma^2; the number falls as its power -4.5."""

MEAN_HARDENING = 0.4
"""Mean relative gain of binding energy in an encounter of equal masses (Spitzer 1987, Eq. 6-25)."""

REACH = 2.0
"""Pericentre of a close encounter in units of the semi-major axis times (1 + e)."""

HEAT, FORMED, ENCOUNTERS, EXCHANGES, IONISED, PAIRS_OF_BINARIES = range(6)
"""What the ledger holds: energy given to the cluster, Msun (km/s)^2, and numbers of events."""

EVENTS = slice(1, 6)
"""Numbers of events in the ledger."""


@njit(cache=True)
def binding_energy(first, second, semi_major):  # pragma: no cover - compiled
    """Binding energy of a binary, Msun (km/s)^2, of masses in Msun and an orbit in AU."""
    return GRAVITY * first * second / (2 * semi_major * PC_PER_AU)


@njit(cache=True)
def formation_probability(  # pragma: no cover - compiled
    first, second, density, dispersion, interval
):
    """Probability that a pair of single stars becomes a binary within an interval.

    Parameters
    ----------
    first, second : float, Msun
    density : float, pc^-3
    dispersion : float, km/s
    interval : float, Myr
    """
    mean = GRAVITY * 0.5 * (first + second)
    rate = 2 * FORMATION_RATE * mean**5 * density**2 / dispersion**9 * PC_PER_MYR
    return rate * interval


@njit(cache=True)
def encounter_probability(  # pragma: no cover - compiled
    total_mass, reach, density, speed, interval
):
    """Expected number of passages within ``reach`` (AU), with gravitational focusing."""
    distance = reach * PC_PER_AU
    area = math.pi * distance * (distance + 2 * GRAVITY * total_mass / (speed * speed))
    return density * speed * area * interval * PC_PER_MYR


@njit(cache=True)
def form_binary(  # pragma: no cover - compiled
    i,
    j,
    k,
    radial,
    tangential,
    mass,
    name,
    star_mass,
    companion,
    semi_major,
    eccentricity,
    dispersion,
    ledger,
):
    """Bind the stars of shells ``i`` and ``j``; ``k`` takes part of the energy. In place.

    Shell ``i`` becomes the binary; shell ``j`` is left with mass 0, to be removed.
    """
    vi = in_space(radial[i], tangential[i])
    vj = in_space(radial[j], tangential[j])
    vk = in_space(radial[k], tangential[k])
    pair = mass[i] + mass[j]
    total = pair + mass[k]
    inner = 0.0
    kinetic = 0.0
    centre = np.empty(3)
    for axis in range(3):
        joint = (mass[i] * vi[axis] + mass[j] * vj[axis]) / pair
        centre[axis] = (pair * joint + mass[k] * vk[axis]) / total
        inner += 0.5 * mass[i] * mass[j] / pair * (vi[axis] - vj[axis]) ** 2
        kinetic += 0.5 * pair * mass[k] / total * (vk[axis] - joint) ** 2
    scale = HARDNESS * total / 3 * dispersion**2
    energy = scale * np.random.random() ** (-1 / 3.5)
    ledger[HEAT] += energy
    ledger[FORMED] += 1
    _part(i, k, pair, mass[k], centre, inner + kinetic + energy, radial, tangential)
    first, second = name[i], name[j]
    companion[first] = second
    semi_major[first] = GRAVITY * mass[i] * mass[j] / (2 * energy * PC_PER_AU)
    eccentricity[first] = math.sqrt(np.random.random())
    mass[i] = star_mass[first] + star_mass[second]
    mass[j] = 0.0


@njit(cache=True)
def meet_single(  # pragma: no cover - compiled
    i,
    j,
    number,
    radial,
    tangential,
    mass,
    name,
    star_mass,
    companion,
    semi_major,
    eccentricity,
    ledger,
):
    """A close encounter of the binary in shell ``i`` with the single star in ``j``; in place.

    Parameters
    ----------
    number : float
        Expected encounters that this one stands for; where above 1 it gains as much as those.

    Returns
    -------
    (int, int)
        Name of a star set free from a soft binary, -1 where that survives, and the shell whose
        velocity it has.
    """
    first, intruder = name[i], name[j]
    second = companion[first]
    one, two, three = star_mass[first], star_mass[second], star_mass[intruder]
    pair, total = one + two, one + two + three
    vi = in_space(radial[i], tangential[i])
    vj = in_space(radial[j], tangential[j])
    centre, kinetic = _relative_motion(vi, vj, pair, three)
    bound = binding_energy(one, two, semi_major[first])
    ledger[ENCOUNTERS] += 1
    if bound < kinetic and np.random.random() < 0.5:
        ledger[IONISED] += 1
        ledger[HEAT] -= bound
        _part(i, j, pair, three, centre, kinetic - bound, radial, tangential)
        companion[first] = -1
        mass[i] = one
        return second, i
    # The gain falls with the intruder's mass as for encounters of a heavy binary with light stars.
    gain = _hardening() * min(3 * three / total, 1.5) * max(number, 1.0)
    gain = min(gain, 2.0)
    released = gain * bound
    ledger[HEAT] += released
    bound += released
    leaving = three
    if np.random.random() < 0.5:
        # A resonance: the lightest is the likeliest to leave.
        chances = (one**-3, two**-3, three**-3)
        draw = np.random.random() * (chances[0] + chances[1] + chances[2])
        if draw < chances[0]:
            leaving = one
            name[i], name[j] = second, first
            companion[second], companion[first] = intruder, -1
            ledger[EXCHANGES] += 1
        elif draw < chances[0] + chances[1]:
            leaving = two
            name[j] = second
            companion[first] = intruder
            ledger[EXCHANGES] += 1
    staying = name[i]
    other = companion[staying]
    product = star_mass[staying] * star_mass[other]
    semi_major[staying] = GRAVITY * product / (2 * bound * PC_PER_AU)
    eccentricity[staying] = math.sqrt(np.random.random())
    _part(i, j, total - leaving, leaving, centre, kinetic + released, radial, tangential)
    mass[i], mass[j] = total - leaving, leaving
    return -1, i


@njit(cache=True)
def meet_binary(  # pragma: no cover - compiled
    i, j, radial, tangential, mass, name, star_mass, companion, semi_major, eccentricity, ledger
):
    """A close encounter of two binaries: the softer one breaks; in place.

    The harder one takes up its binding energy and gains what such encounters give on average
    (Mikkola 1983, MNRAS 203, 1107: 0.4 of the sum).

    Returns
    -------
    (int, int)
        Name of the star set free, and the shell whose velocity it has.
    """
    if binding_energy(
        star_mass[name[i]], star_mass[companion[name[i]]], semi_major[name[i]]
    ) < binding_energy(star_mass[name[j]], star_mass[companion[name[j]]], semi_major[name[j]]):
        i, j = j, i
    hard, soft = name[i], name[j]
    vi = in_space(radial[i], tangential[i])
    vj = in_space(radial[j], tangential[j])
    centre, kinetic = _relative_motion(vi, vj, mass[i], mass[j])
    one, two = star_mass[hard], star_mass[companion[hard]]
    freed = companion[soft]
    weak = binding_energy(star_mass[soft], star_mass[freed], semi_major[soft])
    strong = binding_energy(one, two, semi_major[hard])
    released = _hardening() * (strong + weak)
    ledger[HEAT] += released
    ledger[PAIRS_OF_BINARIES] += 1
    semi_major[hard] = GRAVITY * one * two / (2 * (strong + weak + released) * PC_PER_AU)
    eccentricity[hard] = math.sqrt(np.random.random())
    _part(i, j, mass[i], mass[j], centre, kinetic + released, radial, tangential)
    companion[soft] = -1
    mass[j] = star_mass[soft]
    return freed, j


@njit(cache=True)
def _hardening():  # pragma: no cover - compiled
    """Relative gain of binding energy, of density (1 + x)^-4.5: its mean is 0.4."""
    return np.random.random() ** (-1 / 3.5) - 1


@njit(cache=True)
def _relative_motion(one, two, first, second):  # pragma: no cover - compiled
    """Velocity of the centre of two masses, and the energy of their relative motion."""
    total = first + second
    centre = np.empty(3)
    kinetic = 0.0
    for axis in range(3):
        centre[axis] = (first * one[axis] + second * two[axis]) / total
        kinetic += 0.5 * first * second / total * (one[axis] - two[axis]) ** 2
    return centre, kinetic


@njit(cache=True)
def _part(  # pragma: no cover - compiled
    i, j, first, second, centre, kinetic, radial, tangential
):
    """Give shells of masses ``first`` and ``second`` a relative motion of given energy."""
    total = first + second
    speed = math.sqrt(2 * max(kinetic, 0.0) * total / (first * second))
    x, y, z = random_direction()
    share = second / total * speed
    radial[i] = centre[2] + share * z
    tangential[i] = math.hypot(centre[0] + share * x, centre[1] + share * y)
    share = first / total * speed
    radial[j] = centre[2] - share * z
    tangential[j] = math.hypot(centre[0] - share * x, centre[1] - share * y)
