"""Line-of-sight velocity dispersion in an NFW halo, for envelopes that tell members apart.

Radii are in scale radii r_s and dispersions in V_s = sqrt(G M_s / r_s), where M(r) = M_s m(r/r_s)
and m(x) = ln(1 + x) - x/(1 + x): one function then serves all haloes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RADII = (1e-3, 50.0)
"""Range of the table, scale radii; beyond it the value at the edge holds."""
N_RADII = 80
N_STEPS = 400
LARGEST = 500.0


def nfw_mass(x: ArrayLike) -> Array:
    """Mass within x scale radii, ln(1 + x) - x/(1 + x) (Navarro, Frenk & White 1997, Eq. 3)."""
    radius = np.asarray(x, dtype=float)
    return np.log1p(radius) - radius / (1 + radius)


def line_of_sight_dispersion(x: ArrayLike) -> Array:
    """Dispersion of tracers that follow the mass, at projected radii.

    The orbits are those of Mamon & Lokas 2005, beta = r / (2 (r + r_s)): isotropic in the centre,
    radial outside, as in simulated haloes.

    Parameters
    ----------
    x : array, any shape, scale radii, >= 0

    Returns
    -------
    array, same shape, in units of V_s

    References
    ----------
    Mamon & Lokas 2005, MNRAS 363, 705, Eqs. 6, 60 and 11; Mamon, Biviano & Boue 2013, MNRAS 429,
    3079, Sect. 3.
    """
    radius, dispersion = _table()
    return np.interp(np.log(np.maximum(x, RADII[0])), np.log(radius), dispersion)


def aperture_dispersion(x: float) -> float:
    """Dispersion of all tracers within a projected radius of x scale radii, in units of V_s."""
    radius, dispersion = _table()
    edges = np.geomspace(RADII[0], max(float(x), 2 * RADII[0]), 200)
    squared = np.interp(np.log(edges), np.log(radius), dispersion) ** 2
    weight = edges**2 * _surface_density(edges)
    return float(np.sqrt((weight * squared).sum() / weight.sum()))


def _surface_density(x: Array) -> Array:
    """Projected NFW profile, any unit (Bartelmann 1996, A&A 313, 697, Eq. 7)."""
    apart = x != 1
    away = np.where(apart, x**2 - 1, 1.0)
    inside, outside = np.where(x < 1, 1 / x, 1.0), np.where(x > 1, 1 / x, 1.0)
    angle = np.where(x < 1, np.arccosh(inside), np.arccos(outside)) / np.sqrt(np.abs(away))
    return np.where(apart, (1 - angle) / away, 1 / 3)


@lru_cache(maxsize=1)
def _table() -> tuple[Array, Array]:
    """Solve the Jeans equation and project it, on a grid of projected radii."""
    from scipy.integrate import trapezoid

    r = np.geomspace(RADII[0] / 10, LARGEST, 4000)
    density = 1 / (r * (1 + r) ** 2)
    # d(nu sigma_r^2)/dr + 2 beta nu sigma_r^2 / r = -nu m(r)/r^2; the integrating factor is r + 1.
    pull = (r + 1) * density * nfw_mass(r) / r**2 * r
    steps = 0.5 * (pull[1:] + pull[:-1]) * np.diff(np.log(r))
    pressure = np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]]) / (r + 1)
    projected = np.geomspace(*RADII, N_RADII)
    # r = R cosh(t) takes away the singularity of the projection at r = R.
    t = np.linspace(0, 1, N_STEPS) * np.arccosh(LARGEST / projected)[:, None]
    at = projected[:, None] * np.cosh(t)
    share = 1 - 0.5 * at / (at + 1) / np.cosh(t) ** 2
    integrand = at * share * np.interp(at, r, pressure)
    tracers = at * np.interp(at, r, density)
    squared = trapezoid(integrand, t, axis=1) / trapezoid(tracers, t, axis=1)
    return projected, np.sqrt(squared)
