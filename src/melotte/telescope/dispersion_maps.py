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
from melotte.telescope.cluster_maps import MapGrid, render_light
from melotte.telescope.map_noise import FLUX_ZERO_POINT, apparent_flux
from melotte.telescope.measured_dispersions import (
    LEAST_DISPERSION,
    MeasuredDispersions,
    bin_side,
    bins_joined,
    of_each,
    told_error,
)
from melotte.telescope.projected_stars import Pointing, ProjectedStars

_LEAST_LIGHT = 1e-5
"""Part of the brightest bin's light below which there is no spectrum to speak of."""
_LINE = 50.0
"""km/s; the line of the zero point's pixels."""


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
        of them recorded, in steps of 1.25 A. That is for a line of 50 km/s: pixels are as much
        finer as the line is.
    exposure : float or Tensor, shape (n,), s, > 0
    sky_brightness : float, mag/arcsec^2
    line_spread : float or Tensor, shape (n,), km/s, > 0
        Standard deviation of the instrument's line profile; it is known and taken off in squares.
    velocity_precision : float, line_spread, > 0
        Error of a velocity from a spectrum whose signal to noise ratio is 1 a pixel, in line
        widths; errors go down as its inverse. An assumption (60 km/s for the default line): set it
        to what fits to your spectra give.
    least_signal : float, >= 0
        Signal to noise ratio of a pixel of the spectrum that bins are joined to reach; those that
        do not have no value. With 0 none are joined.

    Raises
    ------
    MelotteValueError
        When a value is outside its range.
    """

    bin_pixels: int = 16
    zero_point: float = 20.5
    exposure: Tensor | float = 3600.0
    sky_brightness: float = 21.5
    line_spread: Tensor | float = 50.0
    velocity_precision: float = 1.2
    least_signal: float = 0.0

    def __post_init__(self) -> None:
        for name in ("bin_pixels", "exposure", "line_spread", "velocity_precision"):
            least = float(torch.as_tensor(getattr(self, name)).min())
            if not least > 0:
                raise MelotteValueError(f"{name} must be above 0, found {least:g}")
        if self.least_signal < 0:
            raise MelotteValueError(f"least_signal must be 0 or more, found {self.least_signal:g}")

    def signal_to_noise(self, flux: Tensor, area: Tensor) -> Tensor:
        """Of each pixel of a bin's spectrum.

        Parameters
        ----------
        flux : Tensor, shape (n, ...), in units of a source of magnitude 25
        area : Tensor, shape that broadcasts, arcsec^2
        """
        unit = 10 ** (0.4 * (self.zero_point - FLUX_ZERO_POINT)) * of_each(self.exposure, flux)
        unit = unit * of_each(self.line_spread, flux) / _LINE
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
    width_error : Tensor, same shape, km/s
        Standard deviation of the width of the broadened line: photon noise.
    line_spread : Tensor, shape (n, 1, 1), km/s
    sampling_error : Tensor, shape (n, bin_rows, bin_columns), km/s
        Standard deviation of this dispersion about that of the cluster's model, at most: few stars.
    effective_stars : Tensor, same shape
        Equally bright stars that would scatter as much.
    signal_to_noise : Tensor, same shape
        Of a pixel of the spectrum.
    spectrum : Tensor of int64, same shape
        Bins of the same number share a spectrum.
    """

    dispersion: Tensor
    velocity: Tensor
    width_error: Tensor
    line_spread: Tensor
    sampling_error: Tensor
    effective_stars: Tensor
    signal_to_noise: Tensor
    spectrum: Tensor

    @property
    def measurement_error(self) -> Tensor:
        """Standard deviation of a measured dispersion about this one, km/s: photon noise."""
        return self._squared_error(self.dispersion) / (2 * self.dispersion.clamp(min=1e-3))

    @property
    def error(self) -> Tensor:
        """Both errors together, km/s."""
        return torch.hypot(self.measurement_error, self.sampling_error)

    def measured(self, generator: torch.Generator) -> MeasuredDispersions:
        """One draw of the measured dispersions, and the errors of photons told with them.

        Their squares scatter normally; those that noise makes negative are
        :data:`LEAST_DISPERSION`.
        """
        spectrum = self.spectrum.flatten(1)
        shape = (len(spectrum), int(spectrum.amax()) + 1)
        noise = torch.randn(shape, generator=generator, device=spectrum.device)
        noise = noise.gather(1, spectrum).view_as(self.dispersion)
        squared = self.dispersion.square() + self._squared_error(self.dispersion) * noise
        found = squared.clamp(min=LEAST_DISPERSION**2).sqrt()
        return MeasuredDispersions(found, told_error(found, self._squared_error(found)))

    def _squared_error(self, dispersion: Tensor) -> Tensor:
        """Standard deviation of sigma^2 = width^2 - line_spread^2."""
        return (
            2 * torch.hypot(dispersion, self.line_spread.expand_as(dispersion)) * self.width_error
        )


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

    Photon noise of the broadened line, velocity_precision line widths / (S/N) / sqrt(2) for its
    width, is carried to the dispersion through sigma^2 = width^2 - line_spread^2.
    """
    spectrograph, grid = spectrograph or Spectrograph(), grid or MapGrid()
    side = bin_side(spectrograph.bin_pixels, grid)
    light, velocity = stars.luminosity[:, band], stars.velocity
    columns = [light, light * velocity, light * velocity.square(), light.square()]
    fwhm = pointing.psf_fwhm
    if fwhm.ndim == 2:
        fwhm = fwhm[:, min(band, fwhm.shape[1] - 1)]
    of_band = Pointing(pointing.distance, pointing.centre, fwhm, pointing.pixel_scale)
    maps = render_light(stars.with_luminosity(torch.stack(columns, 1)), of_band, grid).double()
    moments = functional.avg_pool2d(maps, side) * side**2
    least = _LEAST_LIGHT * moments[:, 0].amax((1, 2), keepdim=True)
    area = (pointing.pixel_scale * side).square().double()[:, None, None]

    def signal(sums: Tensor, n_bins: Tensor) -> Tensor:
        flux = apparent_flux(sums[:, :1], pointing.distance.double(), extinction)[:, 0]
        return spectrograph.signal_to_noise(flux, n_bins * area)

    def will_do(sums: Tensor, n_bins: Tensor) -> Tensor:
        return (sums[:, 0] > least) & (signal(sums, n_bins) >= spectrograph.least_signal)

    most = max(moments.shape[2:]) if spectrograph.least_signal > 0 else 1
    sums, n_bins, spectrum = bins_joined(moments, will_do, most)
    total, first, second, squares = sums.unbind(1)
    mean = first / total
    dispersion = (second / total - mean.square()).clamp(min=0).sqrt()
    effective = total.square() / squares.clamp(min=torch.finfo(squares.dtype).tiny)
    effective = effective.clamp(min=1)
    ratio = signal(sums, n_bins)
    line = of_each(spectrograph.line_spread, dispersion).expand(len(dispersion), 1, 1)
    width_error = spectrograph.velocity_precision * line / math.sqrt(2) / ratio
    sampling = dispersion / (2 * (effective - 1).clamp(min=1)).sqrt()
    return DispersionMap(
        dispersion.float(),
        mean.float(),
        width_error.float(),
        line.float(),
        sampling.float(),
        effective.float(),
        ratio.float(),
        spectrum,
    )
