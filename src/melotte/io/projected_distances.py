"""From angles and redshifts to projected radii and velocities about a cluster."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Lengths = Literal["comoving", "physical"]

SPEED_OF_LIGHT = 299_792.458
"""km/s."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def comoving_distance(redshift: float, omega_m: float) -> float:
    """Line-of-sight comoving distance in a flat universe, Mpc/h (Hogg 1999, Eq. 15).

    Parameters
    ----------
    redshift : float, >= 0
    omega_m : float, 0 to 1
        Density of matter today; the rest is a cosmological constant.
    """
    at = 0.5 * redshift * (_NODES + 1)
    expansion = np.sqrt(omega_m * (1 + at) ** 3 + 1 - omega_m)
    return SPEED_OF_LIGHT / 100 * 0.5 * redshift * float((_WEIGHTS / expansion).sum())


def length_per_radian(redshift: float, omega_m: float, lengths: Lengths) -> float:
    """Length across one radian at a redshift, comoving or physical Mpc/h."""
    distance = comoving_distance(redshift, omega_m)
    return distance if lengths == "comoving" else distance / (1 + redshift)


def unit_vectors(ra: Array, dec: Array) -> Array:
    """Directions on the sky as unit vectors, shape (n, 3), from degrees."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    return np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        axis=-1,
    )


def angle_from(vectors: Array, centre: Array) -> Array:
    """Angle of directions (n, 3) from another (3,), radian; exact for small and large angles."""
    chord = np.linalg.norm(vectors - centre, axis=-1)
    return 2 * np.arcsin(np.clip(0.5 * chord, 0, 1))


def sky_position(vector: Array) -> tuple[float, float]:
    """Right ascension and declination, deg, of a direction (3,) of any length."""
    x, y, z = vector.tolist()
    return math.degrees(math.atan2(y, x)) % 360, math.degrees(math.atan2(z, math.hypot(x, y)))


def cluster_frame(redshift: Array, cluster_redshift: float) -> Array:
    """Line-of-sight velocity c (z - z_c)/(1 + z_c), km/s (Danese et al. 1980, A&A 82, 322)."""
    return SPEED_OF_LIGHT * (redshift - cluster_redshift) / (1 + cluster_redshift)
