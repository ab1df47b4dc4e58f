"""What stars weigh as a cluster ages: isochrones while they shine, remnants afterwards."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from melotte.sky.isochrones import StellarGrid
from melotte.sky.remnant_table import Remnants

Array = NDArray[np.float64]

_KINDS_OF_PHASES = {-1: 1, 0: 1, 2: 3, 3: 4, 4: 5, 5: 6}
"""Stellar types (Hurley et al. 2000) of MIST's phases; subgiants count as giants."""

_DEEPLY_CONVECTIVE = 0.7
"""Main-sequence stars below this many Msun are of type 0."""


class StellarLives:
    """Masses and types of a cluster's stars at any age.

    Parameters
    ----------
    initial_mass : array of float64, shape (n_stars,), Msun
    metallicity : float, [Fe/H]
    remnants : Remnants
        What each star leaves behind.
    grid : StellarGrid
    """

    def __init__(
        self,
        initial_mass: Array,
        metallicity: float,
        remnants: Remnants,
        grid: StellarGrid,
    ) -> None:
        self.initial_mass = initial_mass
        self.metallicity = metallicity
        self.remnants = remnants
        self._grid = grid
        self._order = np.argsort(initial_mass)
        self._sorted = initial_mass[self._order]

    def at(self, age: float) -> tuple[Array, NDArray[np.int8]]:
        """Masses and types of all stars.

        Parameters
        ----------
        age : float, Myr, >= 0
            Below the isochrones' youngest, stars are as they began.

        Returns
        -------
        mass : array of float64, shape (n_stars,), Msun
        kind : array of int8, shape (n_stars,)
        """
        mass, kind = self.remnants.mass.copy(), self.remnants.kind.copy()
        log_age = math.log10(max(age, 1e-30)) + 6
        youngest, oldest = self._grid.log_age_range
        if log_age <= youngest:
            return self.initial_mass.copy(), types_at_birth(self.initial_mass)
        isochrone = self._grid.isochrone(min(log_age, oldest), self.metallicity)
        nodes = isochrone.initial_mass
        # Stars below the lightest node have lost nothing.
        living = int(np.searchsorted(self._sorted, nodes[-1], "right"))
        chosen = self._order[:living]
        given = self._sorted[:living]
        share = np.interp(given, nodes, isochrone.current_mass / nodes)
        mass[chosen] = given * np.where(given < nodes[0], 1.0, share)
        place = np.clip(np.searchsorted(nodes, given), 0, len(nodes) - 1)
        kind[chosen] = _types(isochrone.phase)[place]
        dwarfs = chosen[(kind[chosen] == 1) & (given < _DEEPLY_CONVECTIVE)]
        kind[dwarfs] = 0
        return mass, kind


def types_at_birth(initial_mass: Array) -> NDArray[np.int8]:
    """Stellar types of stars that begin, of initial masses in Msun; the same shape."""
    return np.where(initial_mass < _DEEPLY_CONVECTIVE, 0, 1).astype(np.int8)


def event_times(until: float, relative: float = 0.02, longest: float = 50.0) -> Array:
    """Ages at which stars are evolved.

    Parameters
    ----------
    until : float, Myr, > 0
        The last one.
    relative : float, > 0
        Steps in units of the age; the first are 0.5 Myr.
    longest : float, Myr
        No step is longer.

    Returns
    -------
    array of float64, shape (n,), Myr, rises
    """
    times = [0.0]
    while times[-1] < until:
        times.append(times[-1] + min(max(0.5, relative * times[-1]), longest))
    return np.array([*times[1:-1], until])


def _types(phase: NDArray[np.int8]) -> NDArray[np.int8]:
    found = np.zeros(len(phase), dtype=np.int8)
    for number, kind in _KINDS_OF_PHASES.items():
        found[phase == number] = kind
    return found
