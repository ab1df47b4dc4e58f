"""V and B magnitudes of simulated stars, where the simulation gives none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError
from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.isochrone_tables import log_gravity
from melotte.sky.isochrones import StellarGrid
from melotte.sky.photometry import SOLAR_BOLOMETRIC_MAGNITUDE

BANDS = ("Bessell_V", "Bessell_B")

_REED = (-8.499, 13.421, -8.131, -3.901, -0.438)

_WHITE_DWARFS = np.array(
    [
        (1500, 1.125, 2.380),
        (2000, 0.712, 2.221),
        (2500, 0.297, 2.040),
        (3000, -0.062, 1.848),
        (3500, -0.299, 1.636),
        (4000, -0.400, 1.400),
        (4500, -0.369, 1.134),
        (5000, -0.249, 0.886),
        (5500, -0.150, 0.687),
        (6000, -0.111, 0.536),
        (7000, -0.138, 0.358),
        (8000, -0.207, 0.267),
        (10000, -0.349, 0.193),
        (12000, -0.627, 0.144),
        (15000, -1.226, 0.053),
        (20000, -1.994, -0.072),
        (30000, -2.995, -0.215),
        (50000, -4.497, -0.305),
    ]
)
"""Teff (K), bolometric correction in V and B-V (mag) of pure hydrogen atmospheres of log g = 8."""

Array = NDArray[np.float64]


def with_photometry(snapshot: StarSnapshot, grid: StellarGrid | None = None) -> StarSnapshot:
    """The same stars with luminosity, temperature, V and B filled in where they are unknown.

    * Stars that burn (types 0 to 9) of known L and Teff: the grid's bolometric corrections at
      (Teff, log g, [Fe/H]), log g from mass, L and Teff.
    * The same with an L of 0: dark.
    * The same of unknown L or Teff: the isochrone of the snapshot's time and [Fe/H] at the initial
      mass, or the mass now. Stars that are dead there are dark and counted: other models'
      lifetimes differ, so giants need their L and Teff.
    * White dwarfs of known L and Teff: :func:`white_dwarf_correction`. Others: dark. (In a MOCCA
      core of 12 Gyr all white dwarfs give 6e-5 of the light in V.)
    * Neutron stars, black holes, massless remnants: dark, V = B = +inf.

    The shipped corrections put the Sun at V = 4.77; Reed's older scale has 4.92, and MOCCA's is as
    faint. At [Fe/H] = -0.5 ours minus MOCCA's own V is, by medians, -0.167 mag for giants, -0.168
    for dwarfs above 0.6 Msun, -0.167 from 0.3 to 0.6 and -0.161 below: one zero point, beside which
    the total light agrees to 0.2 %. B-V agrees to 0.014 mag (0.04 below 0.3 Msun). White dwarfs
    agree to 0.02 mag in V without any shift; below 4,000 K they are redder than MOCCA's, whose
    atmospheres predate the absorption by the red wing of Lyman alpha.

    Parameters
    ----------
    snapshot : StarSnapshot
        [Fe/H] must be known unless all magnitudes are; the time where isochrones are needed.
    grid : StellarGrid, optional
        The shipped one without.

    Returns
    -------
    StarSnapshot
        What was known is as it was; ``provenance["photometry"]`` counts stars by how they were
        filled.

    Raises
    ------
    MelotteValueError
        When [Fe/H] or time is unknown and needed, or outside the grid.
    """
    unknown = np.isnan(snapshot.magnitude_v) | np.isnan(snapshot.magnitude_b)
    if not unknown.any():
        return snapshot
    grid = StellarGrid.shipped(BANDS) if grid is None else grid
    unlit = snapshot.is_dark | (snapshot.luminosity == 0)
    shining = ~unlit & ~snapshot.is_white_dwarf
    measured = (snapshot.luminosity > 0) & (snapshot.temperature > 0)
    filled = _Filled(snapshot)
    by_isochrone = unknown & shining & ~measured
    if by_isochrone.any():
        filled.evolve(by_isochrone, grid)
    by_correction = unknown & shining & measured
    if by_correction.any():
        filled.correct(by_correction, grid)
    white_dwarfs = unknown & snapshot.is_white_dwarf & measured
    if white_dwarfs.any():
        filled.cool(white_dwarfs)
    dark = unknown & (unlit | (snapshot.is_white_dwarf & ~measured))
    filled.darken(dark)
    counts = {
        "bolometric corrections": int(by_correction.sum()),
        "isochrone": int(by_isochrone.sum()),
        "dead on the isochrone": int(np.isposinf(filled.magnitudes[by_isochrone, 0]).sum()),
        "white dwarfs": int(white_dwarfs.sum()),
        "dark": int(dark.sum()),
    }
    return filled.snapshot({**snapshot.provenance, "photometry": counts})


def white_dwarf_correction(temperature: ArrayLike) -> tuple[Array, Array]:
    """Bolometric correction in V and colour B-V of white dwarfs.

    Pure hydrogen atmospheres of log g = 8, linear in log Teff between 18 nodes from 1,500 to
    50,000 K; beyond, the Rayleigh-Jeans slope of a blackbody goes on in V (7.5 mag a decade) and
    the edge's colour holds. Other gravities differ by up to 0.15 mag, helium atmospheres by more
    below 5,000 K.

    Parameters
    ----------
    temperature : array, K, > 0

    Returns
    -------
    correction, colour : arrays of the same shape, mag

    References
    ----------
    Holberg & Bergeron 2006, AJ 132, 1221; Bedard et al. 2020, ApJ 901, 93 (tables of January 2021).
    """
    log_temperature = np.log10(np.asarray(temperature, float))
    nodes = np.log10(_WHITE_DWARFS[:, 0])
    correction = np.interp(log_temperature, nodes, _WHITE_DWARFS[:, 1])
    hotter = np.maximum(log_temperature - nodes[-1], 0.0)
    return correction - 7.5 * hotter, np.interp(log_temperature, nodes, _WHITE_DWARFS[:, 2])


def reed_1998_correction(temperature: ArrayLike) -> Array:
    """Reed's bolometric correction in V, a quartic in log T, as pi-DOC used it for all stars.

    Against MOCCA's own V, with a solar bolometric magnitude of 4.74, the median error is +0.02 mag
    for giants, -0.02 for dwarfs above 0.6 Msun, +0.17 from 0.3 to 0.6 Msun and +2.5 for white
    dwarfs, for which it was not made. It puts the Sun at -0.18, V = 4.92.

    Parameters
    ----------
    temperature : array, K, > 0
        The published Eq. 5 has log T where log(1e-4 T) is meant (Giersz & Heggie 2003).

    Returns
    -------
    array of the same shape, mag

    References
    ----------
    Reed 1998, J. R. Astron. Soc. Can. 92, 36, Eq. 5; Giersz & Heggie 2003, MNRAS 339, 486;
    Heggie 2014, MNRAS 445, 3435; Chardin & Bianchini 2021, Sect. 2.1.
    """
    logarithm = np.log10(1e-4 * np.asarray(temperature, float))
    return np.asarray(np.polyval(_REED, logarithm), dtype=np.float64)


class _Filled:
    """A snapshot's columns while they are filled in."""

    def __init__(self, snapshot: StarSnapshot) -> None:
        self._from = snapshot
        self._luminosity = snapshot.luminosity.copy()
        self._temperature = snapshot.temperature.copy()
        self._known = np.stack([snapshot.magnitude_v, snapshot.magnitude_b], axis=1)
        self.magnitudes = self._known.copy()

    def evolve(self, stars: NDArray[np.bool_], grid: StellarGrid) -> None:
        """Everything from the isochrone."""
        one = self._from
        if not one.time > 0:
            raise MelotteValueError(
                f"{one.provenance.get('file', 'the snapshot')}: {int(stars.sum())} stars have no "
                f"luminosity or temperature, and isochrones need a time above 0, not {one.time} Myr"
            )
        initial = np.where(np.isnan(one.initial_mass), one.mass, one.initial_mass)[stars]
        found = grid.evolve(
            torch.from_numpy(initial),
            torch.tensor([np.log10(one.time * 1e6)], dtype=torch.float64),
            torch.tensor([self._metallicity()], dtype=torch.float64),
        )
        self._luminosity[stars] = 10.0 ** found.log_luminosity.numpy()
        self._temperature[stars] = np.where(found.alive, 10.0 ** found.log_teff.numpy(), np.nan)
        self.magnitudes[stars] = grid.magnitudes(found, 0.0, BANDS, self._metallicity()).numpy()

    def correct(self, stars: NDArray[np.bool_], grid: StellarGrid) -> None:
        """Magnitudes from luminosity and temperature."""
        log_luminosity = torch.from_numpy(np.log10(self._luminosity[stars]))
        log_teff = torch.from_numpy(np.log10(self._temperature[stars]))
        mass = torch.from_numpy(self._from.mass[stars])
        log_g = log_gravity(mass, log_luminosity, log_teff)
        correction = grid.corrections.corrections(log_teff, log_g, self._metallicity(), 0.0, BANDS)
        bolometric = SOLAR_BOLOMETRIC_MAGNITUDE - 2.5 * log_luminosity
        self.magnitudes[stars] = (bolometric[:, None] - correction).numpy()

    def cool(self, stars: NDArray[np.bool_]) -> None:
        """Magnitudes of white dwarfs."""
        correction, colour = white_dwarf_correction(self._temperature[stars])
        bolometric = SOLAR_BOLOMETRIC_MAGNITUDE - 2.5 * np.log10(self._luminosity[stars])
        visual = bolometric - correction
        self.magnitudes[stars] = np.stack([visual, visual + colour], axis=1)

    def darken(self, stars: NDArray[np.bool_]) -> None:
        """No light."""
        self.magnitudes[stars] = np.inf
        self._luminosity[stars] = np.nan_to_num(self._luminosity[stars])

    def snapshot(self, provenance: dict) -> StarSnapshot:
        """The stars, with what was known kept."""
        magnitudes = np.where(np.isnan(self._known), self.magnitudes, self._known)
        return replace(
            self._from,
            luminosity=self._luminosity,
            temperature=self._temperature,
            magnitude_v=magnitudes[:, 0],
            magnitude_b=magnitudes[:, 1],
            provenance=provenance,
        )

    def _metallicity(self) -> float:
        metallicity = self._from.metallicity
        if np.isnan(metallicity):
            raise MelotteValueError(
                f"{self._from.provenance.get('file', 'the snapshot')}: magnitudes need [Fe/H], "
                "which is unknown; give the metallicity when reading"
            )
        return metallicity
