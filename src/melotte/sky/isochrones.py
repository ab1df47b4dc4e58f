"""Stellar evolution and photometry on one object: :class:`StellarGrid`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.isochrone_files import read_isochrones
from melotte.sky.file_isochrones import table_of_files
from melotte.sky.isochrone_tables import IsochroneTable, log_gravity
from melotte.sky.photometry import BolometricCorrections, band_name
from melotte.sky.stars import Stars
from melotte.sky.stellar_table import shipped_corrections, shipped_isochrones

__all__ = ["Isochrone", "Stars", "StellarGrid"]

_SHIPPED: dict[tuple[str, ...] | None, StellarGrid] = {}


class StellarGrid:
    """Isochrones and bolometric corrections: stars of any mass, age and metallicity.

    Parameters
    ----------
    isochrones : IsochroneTable
    corrections : BolometricCorrections
    native_bands : sequence of str
        Bands whose magnitudes the isochrones themselves give; they are taken from there, and
        the corrections serve only for their extinction.
    """

    def __init__(
        self,
        isochrones: IsochroneTable,
        corrections: BolometricCorrections,
        native_bands: Sequence[str] = (),
    ) -> None:
        self._isochrones = isochrones
        self._corrections = corrections
        self._native_bands = tuple(native_bands)

    @classmethod
    def shipped(cls, bands: Sequence[str] | None = None) -> StellarGrid:
        """The grid that melotte ships, on the CPU; made once and shared.

        Parameters
        ----------
        bands : sequence of str, optional
            Restrict the grid to these and load them now; all bands, each loaded when first
            used, when not given.
        """
        key = None if bands is None else tuple(bands)
        if key not in _SHIPPED:
            corrections = shipped_corrections()
            chosen = corrections if bands is None else corrections.restricted(bands)
            _SHIPPED[key] = cls(shipped_isochrones(), chosen)
        return _SHIPPED[key]

    @classmethod
    def from_files(cls, *paths: str | Path) -> StellarGrid:
        """A grid of the user's own isochrones, on the CPU.

        Parameters
        ----------
        *paths : str or Path
            MIST ``.iso.cmd`` or ``.iso`` files (one a metallicity), or PARSEC CMD 3.x files.
            Every metallicity needs the same ages; one age or metallicity alone is allowed, and
            is then the only one the grid answers for.

        Returns
        -------
        StellarGrid
            Magnitudes are those of the files, in their bands; dust is that of the shipped
            table, in the bands it has. Files without magnitudes get the shipped bands.

        Raises
        ------
        MelotteFileError
            When a file cannot be read, or the isochrones do not make a full grid.
        """
        contents = [read_isochrones(path) for path in paths]
        if not contents:
            raise MelotteValueError("name at least one file of isochrones")
        return cls(table_of_files(contents), shipped_corrections(), contents[0].bands)

    def to(self, device: torch.device | str) -> StellarGrid:
        """The same grid on another device."""
        if torch.device(device) == self.device:
            return self
        return StellarGrid(
            self._isochrones.to(device), self._corrections.to(device), self._native_bands
        )

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self._isochrones.initial_mass.device

    @property
    def bands(self) -> tuple[str, ...]:
        """Full names of the bands that :meth:`magnitudes` knows."""
        return self._native_bands or self._corrections.bands

    @property
    def log_age_range(self) -> tuple[float, float]:
        """Lowest and highest log10(age / yr)."""
        return float(self._isochrones.log_age[0]), float(self._isochrones.log_age[-1])

    @property
    def metallicity_range(self) -> tuple[float, float]:
        """Lowest and highest [Fe/H]."""
        return float(self._isochrones.metallicity[0]), float(self._isochrones.metallicity[-1])

    @property
    def corrections(self) -> BolometricCorrections:
        """The bolometric corrections and extinctions."""
        return self._corrections

    def evolve(self, initial_mass: Tensor, log_age: Tensor, metallicity: Tensor) -> Stars:
        """States of stars of given initial masses at given ages.

        Linear in [Fe/H] and log age at fixed evolutionary point, then in initial mass. A star
        heavier than the isochrone's tip is dead. Below the lowest mass, log L falls with slope 2
        in log M at that mass's temperature.

        Parameters
        ----------
        initial_mass : Tensor, shape (..., n_stars), Msun, > 0
            Evolved phases last so short that neighbouring points differ by 1e-6 of their mass:
            give float64 where single old giants matter.
        log_age : Tensor, shape (..., 1) or (..., n_stars), log10(age / yr)
        metallicity : Tensor, shape (..., 1) or (..., n_stars), [Fe/H]

        Returns
        -------
        Stars, shape (..., n_stars)

        Raises
        ------
        MelotteValueError
            When an age or a metallicity is outside the grid or NaN.

        References
        ----------
        Dotter 2016, ApJS 222, 8, Sect. 2.
        """
        return self._isochrones.evolve(initial_mass, log_age, metallicity)

    def magnitudes(
        self,
        stars: Stars,
        extinction_v: Tensor | float,
        bands: Sequence[str],
        metallicity: Tensor | float,
    ) -> Tensor:
        """Absolute magnitudes of stars behind dust.

        Parameters
        ----------
        stars : Stars, shape (..., n_stars)
        extinction_v : Tensor, shape (..., 1) or (..., n_stars), mag
            A_V; up to 6 mag as tabulated, beyond that extrapolated linearly.
        bands : sequence of str
            Names or aliases, see :data:`melotte.sky.photometry.SHIPPED_BANDS`.
        metallicity : Tensor, shape (..., 1) or (..., n_stars), [Fe/H]

        Returns
        -------
        Tensor, shape (..., n_stars, n_bands), mag
            Vega, but AB for Pan-STARRS; +inf for dead stars.

        Raises
        ------
        MelotteValueError
            When a band is unknown or ambiguous.
        """
        if not self._native_bands:
            return self._corrections.magnitudes(stars, extinction_v, bands, metallicity)
        return self._native_magnitudes(stars, extinction_v, bands, metallicity)

    def maximum_mass(self, log_age: Tensor, metallicity: Tensor) -> Tensor:
        """Initial mass at the isochrones' tip: heavier stars are dead.

        Parameters
        ----------
        log_age, metallicity : Tensor, any shapes that broadcast

        Returns
        -------
        Tensor of float64, the broadcast shape, Msun
        """
        return self._mass_range(log_age, metallicity)[1]

    def minimum_mass(self, log_age: Tensor, metallicity: Tensor) -> Tensor:
        """Lowest tabulated initial mass; parameters and result as in :meth:`maximum_mass`."""
        return self._mass_range(log_age, metallicity)[0]

    def isochrone(self, log_age: float, metallicity: float) -> Isochrone:
        """One isochrone, point by point.

        Parameters
        ----------
        log_age : float, log10(age / yr)
        metallicity : float, [Fe/H]
        """
        ages = torch.tensor([log_age], dtype=torch.float64, device=self.device)
        points = self.isochrone_points(ages, torch.full_like(ages, metallicity))
        mass = points.initial_mass[0, : int(points.last) + 1]
        chosen = rising_points(mass)
        return Isochrone(
            self,
            log_age,
            metallicity,
            mass[chosen].cpu().numpy(),
            points.eep[chosen].cpu().numpy(),
            points.stars.select((0, chosen)),
        )

    def isochrone_points(self, log_age: Tensor, metallicity: Tensor) -> IsochronePoints:
        """Whole isochrones on the same equivalent evolutionary points.

        Parameters
        ----------
        log_age : Tensor, shape (n,), log10(age / yr)
        metallicity : Tensor, shape (n,), [Fe/H]

        Raises
        ------
        MelotteValueError
            When an age or a metallicity is outside the grid or NaN.
        """
        table = self._isochrones
        mass, state, last = table.isochrones(log_age, metallicity)
        state = state.double()
        eep = torch.arange(table.n_eeps, device=self.device) + table.first_eep
        phase = table.phases[torch.bucketize(eep, table.phase_starts, right=True)]
        current_mass = state[..., 0] * mass
        stars = Stars(
            state[..., 1],
            state[..., 2],
            log_gravity(current_mass, state[..., 1], state[..., 2]),
            current_mass,
            phase.expand(mass.shape),
            torch.ones_like(mass, dtype=torch.bool),
            state[..., 3:] if self._native_bands else None,
        )
        return IsochronePoints(eep, mass, stars, last)

    def _mass_range(self, log_age: Tensor, metallicity: Tensor) -> tuple[Tensor, Tensor]:
        log_age, metallicity = torch.broadcast_tensors(log_age, metallicity)
        low, high = self._isochrones.mass_range(log_age.reshape(-1), metallicity.reshape(-1))
        return low.reshape(log_age.shape), high.reshape(log_age.shape)

    def _native_magnitudes(
        self,
        stars: Stars,
        extinction_v: Tensor | float,
        bands: Sequence[str],
        metallicity: Tensor | float,
    ) -> Tensor:
        names = [band_name(band, self._native_bands) for band in bands]
        if stars.native_magnitudes is None:
            raise MelotteValueError("these stars were not evolved on these isochrones")
        columns = [self._native_bands.index(name) for name in names]
        magnitudes = stars.native_magnitudes[..., columns]
        dust = torch.as_tensor(extinction_v, device=self.device)
        if not bool((dust != 0).any()):
            return magnitudes
        unknown = [name for name in names if name not in self._corrections.bands]
        if unknown:
            raise MelotteValueError(
                f"the extinction in {', '.join(unknown)} is not known; "
                f"it is in {', '.join(self._corrections.bands)}"
            )
        return magnitudes + self._corrections.extinction(
            stars.log_teff, stars.log_g, metallicity, dust, names
        )


@dataclass(frozen=True)
class IsochronePoints:
    """Isochrones point by point, all on the same points.

    Parameters
    ----------
    eep : Tensor of int64, shape (n_points,)
        Equivalent evolutionary points, one after the other.
    initial_mass : Tensor of float64, shape (n, n_points), Msun
        Never falls; before an isochrone's first point it repeats.
    stars : Stars, shape (n, n_points)
    last : Tensor of int64, shape (n,)
        Index of the tip: what follows is not of the isochrone.
    """

    eep: Tensor
    initial_mass: Tensor
    stars: Stars
    last: Tensor


def rising_points(initial_mass: Tensor) -> Tensor:
    """Points of an isochrone whose masses rise strictly.

    Repeated points stand before an isochrone's first: the last of them is kept.

    Parameters
    ----------
    initial_mass : Tensor, shape (n_points,)
        Never falls.

    Returns
    -------
    Tensor of int64, shape (n_kept,)
        Their numbers.
    """
    rising = torch.ones_like(initial_mass, dtype=torch.bool)
    rising[:-1] = initial_mass[1:] > initial_mass[:-1]
    return torch.nonzero(rising)[:, 0]


@dataclass(frozen=True)
class Isochrone:
    """One isochrone; arrays of shape (n_points,), in order of initial mass.

    Parameters
    ----------
    grid : StellarGrid
    log_age : float, log10(age / yr)
    metallicity : float, [Fe/H]
    initial_mass : array of float64, Msun, rises
    eep : array of int, equivalent evolutionary point
    stars : Stars
    """

    grid: StellarGrid
    log_age: float
    metallicity: float
    initial_mass: NDArray[np.float64]
    eep: NDArray[np.int64]
    stars: Stars

    @property
    def current_mass(self) -> NDArray[np.float64]:
        """Mass now, Msun."""
        return self.stars.current_mass.cpu().numpy()

    @property
    def log_luminosity(self) -> NDArray[np.float64]:
        """Luminosity, log10(L / Lsun)."""
        return self.stars.log_luminosity.cpu().numpy()

    @property
    def log_teff(self) -> NDArray[np.float64]:
        """Effective temperature, log10(Teff / K)."""
        return self.stars.log_teff.cpu().numpy()

    @property
    def log_g(self) -> NDArray[np.float64]:
        """Surface gravity, log10(g / (cm / s^2))."""
        return self.stars.log_g.cpu().numpy()

    @property
    def phase(self) -> NDArray[np.int8]:
        """Evolutionary phase, a key of :data:`melotte.sky.stars.PHASES`."""
        return self.stars.phase.cpu().numpy()

    def magnitudes(self, bands: Sequence[str], extinction_v: float = 0.0) -> NDArray[np.float64]:
        """Absolute magnitudes, mag, shape (n_points, n_bands), behind A_V mag of dust."""
        found = self.grid.magnitudes(self.stars, extinction_v, bands, self.metallicity)
        return found.cpu().numpy()
