"""Speeds that remnants are born with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.sky.remnant_table import BLACK_HOLE, NEUTRON_STAR, Remnants

BLACK_HOLE_KICKS = ("fallback", "none", "full", "momentum")

NEUTRON_STAR_MASS = 1.44
"""Msun; kicks of equal momentum give a black hole this mass over its own, times the speed."""


def natal_kick_speeds(
    remnants: Remnants,
    generator: np.random.Generator,
    *,
    neutron_star_dispersion: float = 265.0,
    electron_capture_dispersion: float = 20.0,
    black_hole: str = "fallback",
    white_dwarf_dispersion: float = 0.0,
) -> NDArray[np.float64]:
    """Draw the speed of each remnant's natal kick; its direction is isotropic.

    Each is the length of a vector of three normal components, a Maxwellian. Black holes draw
    from the neutron stars' Maxwellian and are slowed by what falls back.

    Parameters
    ----------
    remnants : Remnants of n stars
    generator : numpy.random.Generator
        The same one gives the same kicks; three normal deviates a remnant are drawn, whatever
        the remnants are, so that one star's kind moves no other star's kick.
    neutron_star_dispersion : float, km/s, >= 0
        Dispersion in one dimension; the mean speed is 1.596 times as much.
    electron_capture_dispersion : float, km/s, >= 0
        Likewise for neutron stars of electron-capture supernovae.
    black_hole : str
        ``"fallback"``: times one minus the fraction that falls back; ``"none"``: no kick;
        ``"full"``: as neutron stars; ``"momentum"``: times 1.44 Msun over the black hole's mass.
    white_dwarf_dispersion : float, km/s, >= 0
        Likewise for white dwarfs; 0 gives them none.

    Returns
    -------
    array of float64, shape (n,), km/s

    Raises
    ------
    MelotteValueError
        For a negative dispersion or another word for the black holes.

    References
    ----------
    Hobbs et al. 2005, MNRAS 360, 974 (265 km/s); Kiel et al. 2008, MNRAS 388, 393 (20 km/s);
    Fryer et al. 2012, ApJ 749, 91, Eq. 21 (fallback); Kremer et al. 2020, ApJS 247, 48 (the
    choice of these three).
    """
    dispersions = {
        "neutron_star_dispersion": neutron_star_dispersion,
        "electron_capture_dispersion": electron_capture_dispersion,
        "white_dwarf_dispersion": white_dwarf_dispersion,
    }
    for name, value in dispersions.items():
        if not 0 <= value < np.inf:
            raise MelotteValueError(f"{name} is {value:g} km/s, must be finite and 0 or more")
    if black_hole not in BLACK_HOLE_KICKS:
        allowed = ", ".join(BLACK_HOLE_KICKS)
        raise MelotteValueError(f"black_hole is {black_hole!r}, must be one of: {allowed}")

    speed = np.sqrt((generator.standard_normal((len(remnants), 3)) ** 2).sum(axis=1))
    holes = remnants.kind == BLACK_HOLE
    scale = np.select(
        [remnants.kind < NEUTRON_STAR, remnants.electron_capture, remnants.kind == NEUTRON_STAR],
        [white_dwarf_dispersion, electron_capture_dispersion, neutron_star_dispersion],
        default=0.0,
    )
    scale[holes] = neutron_star_dispersion * _slowed(remnants.select(holes), black_hole)
    return speed * scale


def _slowed(holes: Remnants, black_hole: str) -> NDArray[np.float64]:
    """Black holes' kicks over those of neutron stars."""
    if black_hole == "none":
        return np.zeros(len(holes))
    if black_hole == "fallback":
        return 1 - holes.fallback
    if black_hole == "momentum":
        return np.minimum(NEUTRON_STAR_MASS / holes.mass, 1.0)
    return np.ones(len(holes))
