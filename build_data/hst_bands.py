"""HST bands by difference: a MIST band near in wavelength, corrected with ATLAS9 spectra.

The correction in an HST band is the MIST correction in one or two anchor bands plus the
difference of the two computed from ATLAS9 spectra, which cancels most of what ATLAS9 and MIST's
own spectra do not share.
"""

from __future__ import annotations

import bz2
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from scipy.interpolate import RegularGridInterpolator

from melotte.sky.extinction import ccm89

if TYPE_CHECKING:
    from bolometric_corrections import Axes

LIGHT_SPEED = 2.99792458e18
"""Angstrom per second."""

HST_BANDS: dict[str, tuple[str, dict[str, float]]] = {
    "WFC3_UVIS_F275W": ("WFC3_UVIS1/WFC3_UVIS1_F275W", {"GALEX_NUV": 0.5, "Bessell_U": 0.5}),
    "WFC3_UVIS_F336W": ("WFC3_UVIS1/WFC3_UVIS1_F336W", {"Bessell_U": 1.0}),
    "WFC3_UVIS_F438W": ("WFC3_UVIS1/WFC3_UVIS1_F438W", {"Bessell_B": 1.0}),
    "WFC3_UVIS_F475W": ("WFC3_UVIS1/WFC3_UVIS1_F475W", {"PS_g": 1.0}),
    "WFC3_UVIS_F555W": ("WFC3_UVIS1/WFC3_UVIS1_F555W", {"Bessell_V": 1.0}),
    "WFC3_UVIS_F606W": ("WFC3_UVIS1/WFC3_UVIS1_F606W", {"Bessell_V": 0.5, "Bessell_R": 0.5}),
    "WFC3_UVIS_F814W": ("WFC3_UVIS1/WFC3_UVIS1_F814W", {"Bessell_I": 1.0}),
    "WFC3_IR_F110W": ("WFC3_IR/WFC3_IR_F110W", {"2MASS_J": 1.0}),
    "WFC3_IR_F160W": ("WFC3_IR/WFC3_IR_F160W", {"2MASS_H": 1.0}),
    "ACS_WFC_F435W": ("ACS_WFC/ACS_WFC_F435W", {"Bessell_B": 1.0}),
    "ACS_WFC_F475W": ("ACS_WFC/ACS_WFC_F475W", {"PS_g": 1.0}),
    "ACS_WFC_F555W": ("ACS_WFC/ACS_WFC_F555W", {"Bessell_V": 1.0}),
    "ACS_WFC_F606W": ("ACS_WFC/ACS_WFC_F606W", {"Bessell_V": 0.5, "Bessell_R": 0.5}),
    "ACS_WFC_F814W": ("ACS_WFC/ACS_WFC_F814W", {"Bessell_I": 1.0}),
}
"""Throughput file and the weights of the anchor bands."""

ANCHOR_FILES = {
    **{f"Bessell_{band}": ("sedpy", f"bessell_{band}.par") for band in "UBVRI"},
    "2MASS_J": ("sedpy", "twomass_J.par"),
    "2MASS_H": ("sedpy", "twomass_H.par"),
    "GALEX_NUV": ("sedpy", "galex_NUV.par"),
    "PS_g": ("sedfit", "PAN-STARRS.PS1.g.dat"),
}
AB_BANDS = {"PS_g", "GALEX_NUV"}


@dataclass(frozen=True)
class Passband:
    """Throughput at wavelengths in angstrom, with the mean flux that is magnitude zero."""

    wavelength: np.ndarray
    throughput: np.ndarray
    zero_flux: float

    @property
    def pivot(self) -> float:
        """Pivot wavelength, angstrom."""
        above = np.trapezoid(self.throughput * self.wavelength, self.wavelength)
        below = np.trapezoid(self.throughput / self.wavelength, self.wavelength)
        return float(np.sqrt(above / below))

    @property
    def ab_minus_vega(self) -> float:
        """Magnitude on the AB scale of a source of magnitude zero."""
        return float(-2.5 * np.log10(self.zero_flux * self.pivot**2 / LIGHT_SPEED) - 48.60)


@dataclass(frozen=True)
class Spectra:
    """ATLAS9 surface fluxes (n, n_wavelength) at wavelengths in angstrom, with their atmospheres.

    ``passbands`` holds the HST bands and their anchors.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    teff: np.ndarray
    log_g: np.ndarray
    metallicity: np.ndarray
    passbands: dict[str, Passband]

    def difference(self, name: str, extinction_v: float) -> np.ndarray:
        """Bolometric correction in an HST band minus that of its anchors, mag, shape (n,)."""
        curve = ccm89(np.clip(self.wavelength, 1000.0, 33333.0))
        dimmed = self.flux * 10 ** (-0.4 * extinction_v * curve)
        weights = HST_BANDS[name][1]
        anchors = sum(weight * self._colour(dimmed, band) for band, weight in weights.items())
        return self._colour(dimmed, name) - anchors

    def _colour(self, flux: np.ndarray, band: str) -> np.ndarray:
        passband = self.passbands[band]
        mean = flux @ photon_weights(self.wavelength, passband)
        return 2.5 * np.log10(mean / passband.zero_flux)


def photon_weights(wavelength: np.ndarray, passband: Passband) -> np.ndarray:
    """Weights on a spectrum's own wavelengths of the photon-counting mean flux in a band.

    The spectrum is taken as linear between its points, and the product with the throughput is
    integrated on the union of both wavelength grids.
    """
    low, high = passband.wavelength[0], passband.wavelength[-1]
    inside = wavelength[(wavelength > low) & (wavelength < high)]
    grid = np.union1d(passband.wavelength, inside)
    response = np.interp(grid, passband.wavelength, passband.throughput) * grid
    width = np.zeros_like(grid)
    width[:-1] += np.diff(grid) / 2
    width[1:] += np.diff(grid) / 2
    response *= width
    left = np.clip(np.searchsorted(wavelength, grid, side="right") - 1, 0, len(wavelength) - 2)
    part = (grid - wavelength[left]) / (wavelength[left + 1] - wavelength[left])
    weights = np.bincount(left, response * (1 - part), len(wavelength))
    weights += np.bincount(left + 1, response * part, len(wavelength))
    return weights / response.sum()


def differential_corrections(
    spectra: Spectra, axes: Axes
) -> Iterator[tuple[str, dict[str, float], np.ndarray]]:
    """Yield every HST band with its anchors and its difference on the axes of MIST's table.

    The difference has shape ([Fe/H], Teff, log g, A_V). Beyond the atmospheres of ATLAS9
    (3500-50000 K; at each Teff a range of log g) it keeps its nearest value.
    """
    teff, log_g = np.unique(spectra.teff), np.unique(spectra.log_g)
    counted = {value: (spectra.metallicity == value).sum() for value in set(spectra.metallicity)}
    metallicity = np.array(sorted(value for value, n in counted.items() if n > 300))
    whole = np.isin(spectra.metallicity, metallicity)
    place = (
        np.searchsorted(metallicity, spectra.metallicity[whole]),
        np.searchsorted(teff, spectra.teff[whole]),
        np.searchsorted(log_g, spectra.log_g[whole]),
    )
    target = np.meshgrid(
        np.clip(axes.metallicity, metallicity[0], metallicity[-1]),
        np.log10(np.clip(axes.teff, teff[0], teff[-1])),
        np.clip(axes.log_g, log_g[0], log_g[-1]),
        indexing="ij",
    )
    for name, (_, weights) in HST_BANDS.items():
        slices = []
        for extinction_v in axes.extinction_v:
            cube = np.full((len(metallicity), len(teff), len(log_g)), np.nan)
            cube[place] = spectra.difference(name, extinction_v)[whole]
            fill_nearest(cube)
            lookup = RegularGridInterpolator((metallicity, np.log10(teff), log_g), cube)
            slices.append(lookup(tuple(target)))
        yield name, weights, np.stack(slices, -1)


def fill_nearest(cube: np.ndarray) -> None:
    """Fill gaps of ([Fe/H], Teff, log g) in place: nearest log g, else nearest [Fe/H]."""
    for axis in (2, 0):
        view = np.moveaxis(cube, axis, -1)
        for index in np.ndindex(view.shape[:-1]):
            line = view[index]
            known = np.flatnonzero(np.isfinite(line))
            for gap in np.flatnonzero(np.isnan(line)):
                if len(known):
                    line[gap] = line[known[np.argmin(np.abs(known - gap))]]
    if np.isnan(cube).any():
        raise SystemExit("a temperature of ATLAS9 has no spectrum at all")


def read_spectra(sedfit: Path, hostphot: Path, sedpy: Path) -> Spectra:
    """Read the spectra and passbands from the unpacked packages."""
    with bz2.BZ2File(sedfit / "SEDFit-0.6.1" / "SEDFit" / "sed_kurucz.p") as stream:
        logarithm, atmospheres, wavelength = _SpectraUnpickler(stream).load()
    angstrom = np.asarray(wavelength.to("AA").value, float)
    vega = _read_vega(sedpy / "sedpy" / "data" / "alpha_lyr_stis_011.fits")
    folders = {
        "sedpy": sedpy / "sedpy" / "data" / "filters",
        "sedfit": sedfit / "SEDFit-0.6.1" / "SEDFit",
    }
    files = {name: folders[where] / file for name, (where, file) in ANCHOR_FILES.items()}
    throughputs = hostphot / "hostphot" / "filters" / "HST"
    files |= {name: throughputs / f"{file}.dat" for name, (file, _) in HST_BANDS.items()}
    passbands = {}
    for name, file in files.items():
        points = _read_throughput(file)
        passbands[name] = Passband(*points, _zero_flux(*points, None if name in AB_BANDS else vega))
    return Spectra(
        angstrom,
        10 ** np.asarray(logarithm, float) / angstrom,
        *(np.asarray(atmospheres[name], float) for name in ("teff", "logg", "feh")),
        passbands,
    )


class _SpectraUnpickler(pickle.Unpickler):
    """Reads SEDFit's file, and refuses every class that arrays and tables do not need."""

    ALLOWED = ("numpy", "astropy.table", "astropy.units", "collections")

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] not in ("numpy", "astropy", "collections") or not module.startswith(
            self.ALLOWED
        ):
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of spectra")
        return super().find_class(module, name)


def _read_vega(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with fits.open(path) as file:
        table = file[1].data
        return np.array(table["WAVELENGTH"], float), np.array(table["FLUX"], float)


def _zero_flux(
    wavelength: np.ndarray,
    throughput: np.ndarray,
    vega: tuple[np.ndarray, np.ndarray] | None,
) -> float:
    """Mean flux of Vega (magnitude 0 in every band), or of 3631 Jy, per angstrom."""
    if vega is None:
        flux = 3.631e-20 * LIGHT_SPEED / wavelength**2
    else:
        flux = np.interp(wavelength, *vega)
    photons = throughput * wavelength
    return float(np.trapezoid(flux * photons, wavelength) / np.trapezoid(photons, wavelength))


def _read_throughput(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Wavelength in angstrom and throughput, rising, cut where it is below 1e-4 of its peak."""
    rows = []
    for line in path.read_text().splitlines():
        fields = line.replace("KFILTER", "").split()
        try:
            rows.append((float(fields[0]), float(fields[1])))
        except (IndexError, ValueError):
            continue
    points = np.array(rows)
    _, first = np.unique(points[:, 0], return_index=True)
    wavelength, throughput = points[first, 0], np.clip(points[first, 1], 0, None)
    seen = np.flatnonzero(throughput > 1e-4 * throughput.max())
    cut = slice(max(seen[0] - 1, 0), seen[-1] + 2)
    return wavelength[cut], throughput[cut]
