"""Velocity dispersions along the line of sight, as an integral-field spectrograph sees them.

The light of all stars in a bin is one spectrum: the dispersion is that of the light, so a few
giants decide it, and the seeing mixes the light of neighbouring bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.telescope.cluster_maps import MapGrid, Pointing, ProjectedStars, render_light
from melotte.telescope.map_noise import FLUX_ZERO_POINT, apparent_flux

_LEAST_LIGHT = 1e-5
"""Part of the brightest bin's light below which there is no spectrum to speak of."""


@dataclass(frozen=True)
class Spectrograph:
    """An integral-field spectrograph; the values of all but the bins are those of one like MUSE.

    Parameters
    ----------
    bin_pixels : int, pixels, >= 1
        Side of the square bins whose light makes one spectrum; 16 are 4 arcsec of pixels of 0.25.
    zero_point : float, mag
        Magnitude that gives one electron a second in a pixel of the spectrum. 20.5: 1005
        photons/s/cm^2/A of a star of V = 0 (3.63e-9 erg/s/cm^2/A at 5500 A) on 49 m^2, a quarter
        of them recorded, in steps of 1.25 A.
    exposure : float, s, > 0
    sky_brightness : float, mag/arcsec^2
    line_spread : float, km/s, >= 0
        Standard deviation of the instrument's line profile; it is known and taken off in squares.
    velocity_precision : float, km/s, > 0
        Error of a velocity from a spectrum whose signal to noise ratio is 1 a pixel; errors go down
        as its inverse. An assumption: set it to what fits to your spectra give.

    Raises
    ------
    MelotteValueError
        When a value is outside its range.
    """

    bin_pixels: int = 16
    zero_point: float = 20.5
    exposure: float = 3600.0
    sky_brightness: float = 21.5
    line_spread: float = 50.0
    velocity_precision: float = 60.0

    def __post_init__(self) -> None:
        if self.bin_pixels < 1 or self.exposure <= 0 or self.velocity_precision <= 0:
            raise MelotteValueError(
                "bins, exposure and velocity_precision must be above 0, found "
                f"{self.bin_pixels}, {self.exposure:g} and {self.velocity_precision:g}"
            )
        if self.line_spread < 0:
            raise MelotteValueError(f"line_spread must be 0 or more, found {self.line_spread:g}")

    def signal_to_noise(self, flux: Tensor, area: Tensor) -> Tensor:
        """Of each pixel of a bin's spectrum.

        Parameters
        ----------
        flux : Tensor, in units of a source of magnitude 25
        area : Tensor, shape that broadcasts, arcsec^2
        """
        unit = 10 ** (0.4 * (self.zero_point - FLUX_ZERO_POINT)) * self.exposure
        sky = 10 ** (0.4 * (FLUX_ZERO_POINT - self.sky_brightness)) * area
        signal = flux.clamp(min=0) * unit
        return signal / (signal + sky * unit).sqrt()


@dataclass(frozen=True)
class DispersionMap:
    """Kinematics of bins; NaN where a bin has no light.

    Parameters
    ----------
    dispersion : Tensor, shape (n, bin_rows, bin_columns), km/s
        Of the light in the bin, without noise.
    velocity : Tensor, same shape, km/s
        Mean of the light.
    measurement_error : Tensor, same shape, km/s
        Standard deviation of a measured dispersion about this one: photon noise.
    sampling_error : Tensor, same shape, km/s
        Standard deviation of this dispersion about that of the cluster's model, at most: few stars.
    effective_stars : Tensor, same shape
        Equally bright stars that would scatter as much.
    signal_to_noise : Tensor, same shape
        Of a pixel of the spectrum.
    """

    dispersion: Tensor
    velocity: Tensor
    measurement_error: Tensor
    sampling_error: Tensor
    effective_stars: Tensor
    signal_to_noise: Tensor

    @property
    def error(self) -> Tensor:
        """Both errors together, km/s."""
        return torch.hypot(self.measurement_error, self.sampling_error)

    def measured(self, generator: torch.Generator) -> Tensor:
        """One draw of the measured dispersions, km/s; NaN where a bin has no light.

        Their squares scatter normally; those that noise makes negative are 0.
        """
        noise = torch.randn(
            self.dispersion.shape, generator=generator, device=self.dispersion.device
        )
        squared = self.dispersion.square()
        least = self.dispersion.clamp(min=1e-3)
        return (squared + 2 * least * self.measurement_error * noise).clamp(min=0).sqrt()


def dispersion_map(
    stars: ProjectedStars,
    pointing: Pointing,
    spectrograph: Spectrograph | None = None,
    grid: MapGrid | None = None,
    band: int = 0,
    extinction: Tensor | float = 0.0,
) -> DispersionMap:
    """Light-weighted dispersions of velocities in bins, behind the atmosphere.

    Parameters
    ----------
    stars : ProjectedStars
    pointing : Pointing
    spectrograph : Spectrograph, optional
    grid : MapGrid, optional
        Rows and columns that do not fill a bin are left out, at the end.
    band : int
        Band whose light weights: the one that the spectra are taken in.
    extinction : Tensor, shape (n,), or float, mag

    Raises
    ------
    MelotteValueError
        When the map is smaller than a bin.

    Notes
    -----
    The moments of the light are rendered like light itself. With the sum L of luminosities and M of
    their squares in a bin, both behind the seeing, L^2 / M stars count; the error of a dispersion
    from N stars is sigma / sqrt(2 (N - 1)), at least that of two stars. It is a bound: light that
    the seeing spreads over two bins counts in both; in bins of 4 arcsec behind 0.5 arcsec of seeing
    the actual scatter was 0.75 of it where 12 stars counted, and 0.9 where 44 did.

    Photon noise of the broadened line, velocity_precision / (S/N) / sqrt(2) for its width, is
    carried to the dispersion through sigma^2 = width^2 - line_spread^2.
    """
    spectrograph, grid = spectrograph or Spectrograph(), grid or MapGrid()
    side = spectrograph.bin_pixels
    if side > min(grid.rows, grid.columns):
        raise MelotteValueError(
            f"bins of {side} pixels do not fit a map of {grid.rows} x {grid.columns}"
        )
    light, velocity = stars.luminosity[:, band], stars.velocity
    columns = [light, light * velocity, light * velocity.square(), light.square()]
    fwhm = pointing.psf_fwhm
    if fwhm.ndim == 2:
        fwhm = fwhm[:, min(band, fwhm.shape[1] - 1)]
    of_band = Pointing(pointing.distance, pointing.centre, fwhm, pointing.pixel_scale)
    maps = render_light(stars.with_luminosity(torch.stack(columns, 1)), of_band, grid)
    total, first, second, squares = (functional.avg_pool2d(maps.double(), side) * side**2).unbind(1)
    lit = total > _LEAST_LIGHT * total.amax((1, 2), keepdim=True)
    total = torch.where(lit, total, torch.nan)
    mean = first / total
    dispersion = (second / total - mean.square()).clamp(min=0).sqrt()
    effective = total.square() / squares.clamp(min=torch.finfo(squares.dtype).tiny)
    effective = torch.where(lit, effective.clamp(min=1), effective)
    area = (pointing.pixel_scale * side).square().double()
    flux = apparent_flux(total[:, None], pointing.distance.double(), extinction)[:, 0]
    ratio = spectrograph.signal_to_noise(flux, area[:, None, None])
    width = torch.hypot(dispersion, dispersion.new_tensor(spectrograph.line_spread))
    width_error = spectrograph.velocity_precision / math.sqrt(2) / ratio
    measurement = width * width_error / dispersion.clamp(min=1e-3)
    sampling = dispersion / (2 * (effective - 1).clamp(min=1)).sqrt()
    results = (dispersion, mean, measurement, sampling, effective, ratio)
    return DispersionMap(*(one.float() for one in results))
