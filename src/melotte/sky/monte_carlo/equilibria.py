"""Clusters in equilibrium to begin from: Plummer's and King's models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid, solve_ivp
from scipy.special import erf

from melotte.errors import MelotteValueError
from melotte.sky.monte_carlo.units import GRAVITY

Array = NDArray[np.float64]

PLUMMER_HALF_MASS = (2 ** (2 / 3) - 1) ** -0.5
"""Half-mass radius of Plummer's model in units of its scale radius: 1.3048."""

_LARGEST_SHARE = 0.999
"""Of Plummer's infinite model, so that no star begins hundreds of scale radii away."""


class Equilibrium(Protocol):
    """Where stars begin."""

    def draw(self, n: int, total_mass: float, generator: np.random.Generator) -> Array:
        """Draw stars.

        Parameters
        ----------
        n : int
        total_mass : float, Msun
        generator : numpy Generator

        Returns
        -------
        array of float64, shape (3, n)
            Radius (pc), radial and tangential velocity (km/s).
        """
        ...


@dataclass(frozen=True)
class Plummer:
    """Plummer's sphere.

    Parameters
    ----------
    half_mass_radius : float, pc, > 0

    References
    ----------
    Plummer 1911, MNRAS 71, 460; Aarseth, Hénon & Wielen 1974, A&A 37, 183 (drawing).
    """

    half_mass_radius: float

    def __post_init__(self) -> None:
        _require_size(self.half_mass_radius)

    def draw(self, n: int, total_mass: float, generator: np.random.Generator) -> Array:
        """Draw stars; see :meth:`Equilibrium.draw`."""
        scale = self.half_mass_radius / PLUMMER_HALF_MASS
        share = _LARGEST_SHARE * (1 - generator.random(n))
        radius = scale / np.sqrt(share ** (-2 / 3) - 1)
        escape = np.sqrt(2 * GRAVITY * total_mass / np.hypot(radius, scale))

        speed = np.empty(n)
        todo = np.arange(n)
        while len(todo):
            trial = generator.random(len(todo))
            # The density of speeds is highest, 0.0924, at sqrt(2) / 3 of the escape speed.
            density = trial**2 * (1 - trial**2) ** 3.5
            taken = 0.093 * generator.random(len(todo)) < density
            speed[todo[taken]] = trial[taken] * escape[todo[taken]]
            todo = todo[~taken]
        return _with_directions(radius, speed, generator)


@dataclass(frozen=True)
class King:
    """King's model: a lowered Maxwellian, of finite extent.

    Parameters
    ----------
    half_mass_radius : float, pc, > 0
    central_potential : float, in [1, 12]
        W0: depth of the centre in units of the velocity parameter squared.

    References
    ----------
    King 1966, AJ 71, 64, Eqs. 1-17.
    """

    half_mass_radius: float
    central_potential: float = 5.0

    def __post_init__(self) -> None:
        _require_size(self.half_mass_radius)
        if not 1 <= self.central_potential <= 12:
            raise MelotteValueError(
                f"central_potential (W0) must be in [1, 12], found {self.central_potential:g}"
            )

    def draw(self, n: int, total_mass: float, generator: np.random.Generator) -> Array:
        """Draw stars; see :meth:`Equilibrium.draw`."""
        place, depth, mass = self._profile()
        half = float(np.interp(0.5 * mass[-1], mass, place))
        core = self.half_mass_radius / half
        at = np.interp(mass[-1] * (1 - generator.random(n)), mass, place)
        deep = np.maximum(np.interp(at, place, depth), 1e-9)

        speed = np.empty(n)
        todo = np.arange(n)
        while len(todo):
            deep_now = deep[todo]
            trial = generator.random(len(todo))
            density = trial**2 * np.expm1(deep_now * (1 - trial**2))
            # v^2 (e^(W (1 - v^2)) - 1) <= e^W max(v^2 e^(-W v^2)) and W max(v^2 (1 - v^2)) e^W.
            bound = np.exp(deep_now) * np.minimum(1 / (np.e * deep_now), 0.25 * deep_now)
            taken = generator.random(len(todo)) * bound < density
            speed[todo[taken]] = trial[taken] * np.sqrt(2 * deep_now[taken])
            todo = todo[~taken]
        parameter = math.sqrt(4 * math.pi * GRAVITY * total_mass / (9 * core * mass[-1]))
        return _with_directions(core * at, parameter * speed, generator)

    @property
    def truncation_radius(self) -> float:
        """Radius where the density ends, pc."""
        place, _, mass = self._profile()
        return self.half_mass_radius * place[-1] / float(np.interp(0.5 * mass[-1], mass, place))

    def _profile(self) -> tuple[Array, Array, Array]:
        """Radius in core radii, W and the mass inside in units of rho_0 r_c^3."""
        central = _lowered_density(np.array(self.central_potential))

        def slopes(x: float, state: Array) -> Array:
            density = _lowered_density(np.array(max(state[0], 0.0))) / central
            return np.array([state[1], -9 * density - 2 * state[1] / max(x, 1e-10)])

        def edge(x: float, state: Array) -> float:
            return state[0]

        edge.terminal = True  # type: ignore[attr-defined]
        start = np.array([self.central_potential, 0.0])
        solved = solve_ivp(
            slopes, (1e-6, 1e4), start, "LSODA", rtol=1e-8, atol=1e-10, events=edge,
            dense_output=True,
        )  # fmt: skip
        end = float(solved.t_events[0][0])
        place = np.concatenate([[0.0], np.geomspace(1e-4, end, 4000)])
        depth = np.clip(solved.sol(np.maximum(place, 1e-6))[0], 0.0, None)
        shells = 4 * math.pi * place**2 * _lowered_density(depth) / central
        return place, depth, cumulative_trapezoid(shells, place, initial=0.0)


def _lowered_density(depth: Array) -> Array:
    """Density of a lowered Maxwellian, up to a constant, at W >= 0 (King 1966, Eq. 14)."""
    root = np.sqrt(depth)
    return np.exp(depth) * erf(root) - 2 * root / math.sqrt(math.pi) * (1 + 2 * depth / 3)


def _with_directions(radius: Array, speed: Array, generator: np.random.Generator) -> Array:
    """Radius, radial and tangential velocity of isotropic directions."""
    cosine = 2 * generator.random(len(radius)) - 1
    return np.stack([radius, speed * cosine, speed * np.sqrt(1 - cosine**2)])


def _require_size(half_mass_radius: float) -> None:
    if not 0 < half_mass_radius < math.inf:
        raise MelotteValueError(f"half_mass_radius must be above 0 pc, found {half_mass_radius:g}")
