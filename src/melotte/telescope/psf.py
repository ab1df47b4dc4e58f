"""Point-spread functions as optical transfer functions: what a telescope makes of a point.

A PSF is given by its Fourier transform at spatial frequencies in cycles per arcsec, so that it
can be sampled on any pixel grid without interpolation.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from melotte.errors import MelotteValueError

RADIAN = 180 * 3600 / math.pi
"""Arcsec in a radian."""

PUPIL_SAMPLES = 512
"""Samples across the pupil's diameter in the table of its autocorrelation."""


class PSF(Protocol):
    """What the renderer needs to know of a point-spread function."""

    @property
    def includes_pixel(self) -> bool:
        """Whether the light is already collected over a detector's pixel (an effective PSF)."""
        ...

    def transfer(self, fx: Tensor, fy: Tensor) -> Tensor:
        """Optical transfer function on a grid of spatial frequencies.

        Parameters
        ----------
        fx : Tensor of float64, shape (n_x,), cycles/arcsec
        fy : Tensor of float64, shape (n_y,), cycles/arcsec

        Returns
        -------
        Tensor of float64 or complex128, shape (n_y, n_x)
            The part of a star's light that the PSF holds, at frequency 0; real where the PSF is
            symmetric about its centre.
        """
        ...


@dataclass(frozen=True)
class HubblePSF:
    """Diffraction by Hubble's obscured pupil and its vanes, blurred by a Gaussian.

    The optics are perfect and the light has one wavelength; charge diffusion, jitter, the width of
    the passband and drizzling are all in the Gaussian.

    Parameters
    ----------
    pivot_nm : float, nm, > 0
        Wavelength, as a rule the pivot wavelength of the passband.
    blur : float, arcsec, >= 0
        Standard deviation of the Gaussian along one axis.
    diameter : float, m, > 0
    obscuration : float, in [0, 1)
        Diameter of the central obscuration in units of the pupil's.
    vanes : int, >= 0
        Vanes of the secondary's spider, evenly spaced; even, so that the PSF is symmetric.
    vane_width : float, in [0, 1)
        In units of the pupil's diameter.
    vane_angle : float, degrees
        From the detector's y axis to the first vane, counter-clockwise.

    Raises
    ------
    MelotteValueError
        When a value is outside its range.
    """

    pivot_nm: float
    blur: float = 0.0
    diameter: float = 2.4
    obscuration: float = 0.33
    vanes: int = 4
    vane_width: float = 0.022
    vane_angle: float = 45.0

    includes_pixel = False

    def __post_init__(self) -> None:
        if not (self.pivot_nm > 0 and self.diameter > 0 and self.blur >= 0):
            raise MelotteValueError(
                f"a PSF needs a wavelength and a diameter above 0 and a blur of 0 or more, found "
                f"{self.pivot_nm:g} nm, {self.diameter:g} m and {self.blur:g} arcsec"
            )
        if not (0 <= self.obscuration < 1 and 0 <= self.vane_width < 1):
            raise MelotteValueError(
                f"obscuration and vane_width are fractions of the pupil's diameter in [0, 1), "
                f"found {self.obscuration:g} and {self.vane_width:g}"
            )
        if self.vanes < 0 or self.vanes % 2:
            raise MelotteValueError(f"the number of vanes must be even, found {self.vanes}")

    @property
    def cutoff(self) -> float:
        """Highest spatial frequency that the pupil lets through, cycles/arcsec."""
        return self.diameter / (self.pivot_nm * 1e-9) / RADIAN

    def transfer(self, fx: Tensor, fy: Tensor) -> Tensor:
        """Optical transfer function, real, 1 at frequency 0; see :class:`PSF`."""
        table = pupil_autocorrelation(
            self.obscuration, self.vanes, self.vane_width, self.vane_angle
        ).to(fx.device)
        # The pupil is symmetric, so half of the plane of shifts is enough: shift_x >= 0.
        down, right = torch.meshgrid(fy / self.cutoff, fx / self.cutoff, indexing="ij")
        sign = torch.where(right < 0, -1.0, 1.0).to(right.dtype)
        optics = _bilinear(table, right * sign, down * sign)
        squared = fy[:, None].square() + fx.square()
        return optics * torch.exp(-2 * math.pi**2 * self.blur**2 * squared)


class SampledPSF:
    """A PSF given as an image finer than the detector's pixels.

    The image is taken as samples of a band-limited function: its transform is exact up to the
    samples' own Nyquist frequency and 0 beyond.

    Parameters
    ----------
    image : Tensor, shape (n_rows, n_columns), any positive scale
        Columns along x, rows along y; finite.
    scale : float, arcsec per sample, > 0
    includes_pixel : bool
        True for effective PSFs (as STScI's), False for images of the optics alone.
    total : float, > 0
        Part of a star's light that the image holds; the image is scaled to it.
    recentre : bool
        Take the centroid of the light as the centre instead of the image's middle,
        ((n_columns - 1) / 2, (n_rows - 1) / 2).

    Raises
    ------
    MelotteValueError
        When the image is no image, holds NaNs, or its sum is not positive.
    """

    def __init__(
        self,
        image: Tensor,
        scale: float,
        includes_pixel: bool = False,
        total: float = 1.0,
        recentre: bool = False,
    ) -> None:
        if image.ndim != 2:
            raise MelotteValueError(
                f"a PSF image has two dimensions, found the shape {tuple(image.shape)}"
            )
        image = image.to(torch.float64)
        if not bool(image.isfinite().all()):
            raise MelotteValueError("the PSF image holds NaN or infinite samples: replace them")
        if not float(image.sum()) > 0:
            raise MelotteValueError(f"the PSF image must sum to more than 0, sums to {image.sum()}")
        if not (scale > 0 and total > 0):
            raise MelotteValueError(
                f"scale (arcsec per sample) and total must be above 0, found {scale:g}, {total:g}"
            )
        self.image = image * (total / image.sum())
        self.scale = float(scale)
        self.includes_pixel = includes_pixel
        rows, columns = image.shape
        down = torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2
        right = torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2
        if recentre:
            down = down - (self.image.sum(1) * down).sum() / total
            right = right - (self.image.sum(0) * right).sum() / total
        self._y, self._x = down * self.scale, right * self.scale

    def transfer(self, fx: Tensor, fy: Tensor) -> Tensor:
        """Optical transfer function, complex, ``total`` at frequency 0; see :class:`PSF`."""
        image = self.image.to(fx.device, torch.complex128)
        return self._wave(fy, self._y) @ image @ self._wave(fx, self._x).T

    def _wave(self, frequency: Tensor, position: Tensor) -> Tensor:
        """exp(-2 pi i f x) below the samples' Nyquist frequency, shape (n_frequencies, n)."""
        phase = -2 * math.pi * frequency[:, None] * position.to(frequency.device)
        inside = frequency.abs() * self.scale <= 0.5
        return torch.polar(inside[:, None].to(phase.dtype).expand_as(phase), phase)


class PSFGrid:
    """Effective PSFs at positions of a chip, as STScI's empirical ones.

    Parameters
    ----------
    images : Tensor, shape (n_y, n_x, n, n)
    x : sequence of float, shape (n_x,), pixels, ascending
    y : sequence of float, shape (n_y,), pixels, ascending
        A value that stands twice is the edge between two chips: nothing is interpolated across.
    scale : float, arcsec per sample
    includes_pixel : bool

    Raises
    ------
    MelotteValueError
        When numbers do not agree or positions do not ascend.
    """

    def __init__(
        self,
        images: Tensor,
        x: Sequence[float],
        y: Sequence[float],
        scale: float,
        includes_pixel: bool = True,
    ) -> None:
        if images.ndim != 4 or images.shape[:2] != (len(y), len(x)):
            raise MelotteValueError(
                f"{len(y)} x {len(x)} positions need as many PSF images, found the shape "
                f"{tuple(images.shape)}"
            )
        if not len(x) or list(x) != sorted(x) or list(y) != sorted(y):
            raise MelotteValueError("positions of PSFs must ascend")
        self.images = images.to(torch.float64)
        self.x, self.y = tuple(x), tuple(y)
        self.scale, self.includes_pixel = scale, includes_pixel

    def at(self, x: float, y: float, total: float = 1.0) -> SampledPSF:
        """The PSF at a position, bilinear between those around it.

        Parameters
        ----------
        x, y : float, pixels
            Within the grid's positions.
        total : float
            As in :class:`SampledPSF`.

        Raises
        ------
        MelotteValueError
            When the position is outside of the grid.
        """
        i, u = _between(self.x, x, "x")
        j, v = _between(self.y, y, "y")
        i1, j1 = min(i + 1, len(self.x) - 1), min(j + 1, len(self.y) - 1)
        left = torch.lerp(self.images[j, i], self.images[j1, i], v)
        right = torch.lerp(self.images[j, i1], self.images[j1, i1], v)
        return self._sampled(torch.lerp(left, right, u), total)

    def mean(self, total: float = 1.0) -> SampledPSF:
        """Mean over the positions."""
        return self._sampled(self.images.mean((0, 1)), total)

    def _sampled(self, image: Tensor, total: float) -> SampledPSF:
        return SampledPSF(image, self.scale, self.includes_pixel, total)


def _between(nodes: Sequence[float], at: float, axis: str) -> tuple[int, float]:
    """The node at or below a position, and the fraction of the way to the next."""
    if not nodes[0] <= at <= nodes[-1]:
        raise MelotteValueError(
            f"{axis} = {at:g} is outside of the grid of PSFs, [{nodes[0]:g}, {nodes[-1]:g}] pixels"
        )
    low = max(min(bisect_right(nodes, at) - 1, len(nodes) - 2), 0)
    step = nodes[min(low + 1, len(nodes) - 1)] - nodes[low]
    return low, (at - nodes[low]) / step if step > 0 else 0.0


@lru_cache(maxsize=16)
def pupil_autocorrelation(
    obscuration: float, vanes: int, vane_width: float, vane_angle: float
) -> Tensor:
    """Autocorrelation of an obscured pupil with vanes, 1 at shift 0.

    It is the optical transfer function of the pupil at (shift x cutoff frequency).

    Parameters
    ----------
    obscuration, vanes, vane_width, vane_angle
        As in :class:`HubblePSF`.

    Returns
    -------
    Tensor of float64, shape (2 * PUPIL_SAMPLES + 1, PUPIL_SAMPLES + 1)
        Shifts in y from -1 to 1 and in x from 0 to 1, in units of the diameter.

    References
    ----------
    Goodman 2005, Introduction to Fourier Optics, 3rd ed., Eq. 6-28.
    """
    fine = 4
    n = PUPIL_SAMPLES
    axis = (torch.arange(n * fine, dtype=torch.float64) + 0.5) / (n * fine) - 0.5
    y, x = axis[:, None], axis[None, :]
    radius = torch.hypot(x, y)
    open_part = (radius <= 0.5) & (radius >= 0.5 * obscuration)
    for i in range(vanes):
        angle = math.radians(vane_angle) + 2 * math.pi * i / vanes
        along = y * math.cos(angle) - x * math.sin(angle)
        across = y * math.sin(angle) + x * math.cos(angle)
        open_part &= ~((along >= 0) & (across.abs() < vane_width / 2))
    pupil = open_part.to(torch.float64).view(n, fine, n, fine).mean((1, 3))
    power = torch.fft.rfft2(pupil, s=(2 * n, 2 * n)).abs().square()
    full = torch.fft.irfft2(power, s=(2 * n, 2 * n))
    table = torch.roll(full, n, 0)[:, : n + 1]
    table = torch.cat([table, torch.zeros(1, n + 1, dtype=table.dtype)])
    # Samples of a pupil that is open or shut sum to the area at shift 0; their means of smaller
    # squares, which the table is made of, round that peak off.
    table = (table / pupil.sum()).clamp(min=0)
    table[n, 0] = 1
    return table


def _bilinear(table: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Look shifts up in a table of :func:`pupil_autocorrelation`; 0 beyond the diameter."""
    n = table.shape[1] - 1
    outside = (right > 1) | (down.abs() > 1)
    column = (right * n).clamp(0, n)
    row = ((down + 1) * n).clamp(0, 2 * n)
    i, j = row.long().clamp(max=2 * n - 1), column.long().clamp(max=n - 1)
    v, u = row - i, column - j
    upper = torch.lerp(table[i, j], table[i, j + 1], u)
    lower = torch.lerp(table[i + 1, j], table[i + 1, j + 1], u)
    return torch.lerp(upper, lower, v).masked_fill(outside, 0.0)


def fwhm(psf: PSF, pixel_scale: float | None = None) -> float:
    """Full width at half maximum: diameter of the circle with the area above half of the peak.

    Parameters
    ----------
    psf : PSF
    pixel_scale : float or None, arcsec
        Convolve with a square pixel of this side first, unless the PSF includes its own. None
        measures the PSF as it is.

    Returns
    -------
    float, arcsec
    """
    reach = 0.16
    while True:
        step = reach / 160
        highest = _band_limit(psf, 0.5 / step)
        # The period of the sampled frequencies is 8 times the reach: no copy comes near.
        n = math.ceil(highest * 8 * reach)
        f = torch.arange(-n, n + 1, dtype=torch.float64) / (8 * reach)
        transfer = psf.transfer(f, f).to(torch.complex128)
        if pixel_scale is not None and not psf.includes_pixel:
            pixel = torch.sinc(f * pixel_scale)
            transfer = transfer * pixel[:, None] * pixel
        x = torch.arange(-160, 161, dtype=torch.float64) * step
        wave = torch.polar(torch.ones(len(x), len(f), dtype=x.dtype), 2 * math.pi * x[:, None] * f)
        image = (wave @ transfer @ wave.T).real
        above = image >= image.max() / 2
        if not bool(above[0].any() or above[:, 0].any()) and float(above.sum()) > 400:
            return 2 * math.sqrt(float(above.sum()) * step**2 / math.pi)
        reach *= 2 if float(above.sum()) > 400 else 0.5
        if not 1e-3 < reach < 100:
            raise MelotteValueError("the PSF has no single peak of finite width")


def _band_limit(psf: PSF, most: float) -> float:
    """Frequency, cycles/arcsec, beyond which a PSF passes nothing along its axes."""
    f = torch.linspace(0, most, 1001, dtype=torch.float64)
    zero = f[:1]
    passed = torch.maximum(psf.transfer(f, zero)[0].abs(), psf.transfer(zero, f)[:, 0].abs())
    return float(f[passed > 1e-6 * passed[0]].max()) + most / 1000


def light_in_square(psf: PSF, side: float, pixel_scale: float | None = None) -> float:
    """Part of a star's light in a centred square.

    Parameters
    ----------
    psf : PSF
    side : float, arcsec
    pixel_scale : float or None, arcsec
        Convolve with a square pixel of this side first, unless the PSF includes its own.

    Returns
    -------
    float

    Notes
    -----
    An image of an empirical PSF ends within the wings: to scale it to the light that Hubble puts
    there, hand ``light_in_square(HubblePSF(...), n * scale)`` to :class:`PSFGrid` as ``total``.
    """
    # Frequencies 1 / period apart: copies of the PSF are so far off that wings hardly matter.
    period = side + 16.0
    n = math.ceil(_band_limit(psf, 100.0) * period)
    f = torch.arange(-n, n + 1, dtype=torch.float64) / period
    transfer = psf.transfer(f, f).real
    window = torch.sinc(f * side) * (side / period)
    if pixel_scale is not None and not psf.includes_pixel:
        window = window * torch.sinc(f * pixel_scale)
    return float(window @ transfer @ window)
