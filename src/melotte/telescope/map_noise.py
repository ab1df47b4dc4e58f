"""What a ground telescope adds to a map of light: sky, photon and read-out noise, saturation.

Fluxes are in units of a source of magnitude 25 in the band, whatever system its magnitudes are in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.telescope.drizzle_noise import correlate
from melotte.telescope.moffat import MoffatPSF

FLUX_ZERO_POINT = 25.0
"""Magnitude of a source of flux 1."""

_DETECTION = 5.0
_MANY = 200.0
"""Electrons from which Poisson's distribution passes for a normal one: its skewness is 0.07."""


@dataclass(frozen=True)
class ImagingSurvey:
    """Stacks of images of one survey.

    Parameters
    ----------
    bands : tuple of str
    zero_point : tuple of float, mag
        That gives one electron a second, in the magnitudes that the fluxes are in.
    exposure : tuple of float, s, > 0
        Of a single image.
    n_exposures : float, > 0
        Images in a stack.
    sky_brightness : tuple of float, mag/arcsec^2
    read_noise : tuple of float, electrons, >= 0
        Of a single image.
    saturation : tuple of float, mag
        Magnitude of a star whose brightest pixel just fills in a single image at ``seeing``; -inf
        where nothing saturates.
    seeing : tuple of float, arcsec
        Typical FWHM, of Moffat profiles.
    pixel_scale : float, arcsec
        That the survey's own images have.

    Raises
    ------
    MelotteValueError
        When numbers of bands differ or a value is outside its range.
    """

    bands: tuple[str, ...]
    zero_point: tuple[float, ...]
    exposure: tuple[float, ...]
    n_exposures: float
    sky_brightness: tuple[float, ...]
    read_noise: tuple[float, ...]
    saturation: tuple[float, ...]
    seeing: tuple[float, ...]
    pixel_scale: float

    def __post_init__(self) -> None:
        columns = (
            self.zero_point, self.exposure, self.sky_brightness, self.read_noise, self.saturation,
            self.seeing,
        )  # fmt: skip
        if {len(one) for one in columns} != {len(self.bands)} or not self.bands:
            raise MelotteValueError(f"every setting needs a value for each of {self.bands}")
        if min(*self.exposure, *self.seeing, self.n_exposures, self.pixel_scale) <= 0:
            raise MelotteValueError(
                "exposures, their number, the seeing and the pixel scale must be above 0"
            )
        if min(self.read_noise) < 0:
            raise MelotteValueError(f"read noise must be 0 or more, found {self.read_noise}")

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self.bands)

    def electrons_per_flux(self) -> Tensor:
        """Electrons that a source of flux 1 gives in a single image, shape (n_bands,)."""
        rate = 10 ** (0.4 * (torch.tensor(self.zero_point) - FLUX_ZERO_POINT))
        return rate * torch.tensor(self.exposure)

    def full_well(self) -> Tensor:
        """Electrons that a pixel of a single image holds, shape (n_bands,)."""
        share = [
            self.pixel_scale**2 / MoffatPSF(one).scale_radius ** 2 * (MoffatPSF(one).beta - 1)
            for one in self.seeing
        ]
        flux = 10 ** (0.4 * (FLUX_ZERO_POINT - torch.tensor(self.saturation)))
        return flux * torch.tensor(share) / math.pi * self.electrons_per_flux()

    def depth(self, seeing: Sequence[float] | None = None) -> tuple[float, ...]:
        """Magnitude of a point source at 5 standard deviations of the sky in a stack.

        Parameters
        ----------
        seeing : sequence of float, arcsec, optional
            FWHM in each band.
        """
        limits = []
        unit = (self.electrons_per_flux() * self.n_exposures).tolist()
        noise = self._pixel_variance()
        for one, electrons, variance in zip(seeing or self.seeing, unit, noise, strict=True):
            pixels = MoffatPSF(one).noise_area / self.pixel_scale**2
            faintest = _DETECTION * math.sqrt(pixels * variance * self.n_exposures) / electrons
            limits.append(FLUX_ZERO_POINT - 2.5 * math.log10(faintest))
        return tuple(limits)

    def with_depth(self, depth: Sequence[float]) -> ImagingSurvey:
        """The survey under the sky that gives a wanted :meth:`depth`.

        Parameters
        ----------
        depth : sequence of float, mag, shape (n_bands,)

        Raises
        ------
        MelotteValueError
            When read noise alone is too much for it.
        """
        sky = []
        unit = self.electrons_per_flux().tolist()
        columns = zip(depth, self.seeing, unit, self.read_noise, self.bands, strict=True)
        for limit, seeing, electrons, read, band in columns:
            pixels = MoffatPSF(seeing).noise_area / self.pixel_scale**2
            faintest = 10 ** (0.4 * (FLUX_ZERO_POINT - limit)) * electrons / _DETECTION
            variance = faintest**2 * self.n_exposures / pixels - read**2
            if variance <= 0:
                raise MelotteValueError(
                    f"{band}: no sky is dark enough for a depth of {limit:g} mag with a read noise "
                    f"of {read:g} electrons; ask for less or for more exposures"
                )
            flux = variance / electrons / self.pixel_scale**2
            sky.append(FLUX_ZERO_POINT - 2.5 * math.log10(flux))
        return replace(self, sky_brightness=tuple(sky))

    def _pixel_variance(self) -> list[float]:
        """Of the sky and the read-out in a pixel of a single image, electrons^2."""
        sky = 10 ** (0.4 * (FLUX_ZERO_POINT - torch.tensor(self.sky_brightness)))
        electrons = sky * self.pixel_scale**2 * self.electrons_per_flux()
        return (electrons + torch.tensor(self.read_noise).square()).tolist()


@dataclass(frozen=True)
class RecordedMaps:
    """Maps as a survey records them, its sky taken off.

    Parameters
    ----------
    flux : Tensor, shape (n, n_bands, rows, columns)
        In units of a source of magnitude 25; saturated pixels hold what fills them.
    variance : Tensor, same shape
        Of the noise in ``flux``, as it would be estimated from the recorded counts.
    saturated : BoolTensor, shape (n, rows, columns)
        In any band, with the pixels around them.
    """

    flux: Tensor
    variance: Tensor
    saturated: Tensor


def apparent_flux(light: Tensor, distance: Tensor, extinction: Tensor | float = 0.0) -> Tensor:
    """Fluxes of luminosities at a distance.

    Parameters
    ----------
    light : Tensor, shape (n, n_bands, rows, columns)
        In units of a source of absolute magnitude 0.
    distance : Tensor, shape (n,), kpc
    extinction : Tensor, shape (n,) or (n, n_bands), or float, mag
        In each band.

    Returns
    -------
    Tensor, the shape of ``light``
        In units of a source of magnitude 25.
    """
    modulus = 5 * torch.log10(distance) + 10
    dimming = torch.as_tensor(extinction, dtype=modulus.dtype, device=modulus.device)
    if dimming.ndim < 2:
        dimming = dimming.expand(len(distance))[:, None]
    factor = 10 ** (0.4 * (FLUX_ZERO_POINT - modulus[:, None] - dimming))
    return light * factor[..., None, None]


def surface_brightness(flux: Tensor, pixel_scale: Tensor) -> Tensor:
    """Magnitudes per square arcsec of fluxes per pixel; NaN where they are not positive.

    Parameters
    ----------
    flux : Tensor, shape (n, ..., rows, columns)
    pixel_scale : Tensor, shape (n,), arcsec
    """
    area = pixel_scale.square().view(-1, *[1] * (flux.ndim - 1))
    good = torch.where(flux > 0, flux / area, torch.nan)
    return FLUX_ZERO_POINT - 2.5 * torch.log10(good)


def record(
    flux: Tensor,
    survey: ImagingSurvey,
    pixel_scale: Tensor,
    generator: torch.Generator,
    *,
    sky_brightness: Tensor | None = None,
    n_exposures: Tensor | None = None,
    sky_error: float = 0.0,
    grow: int = 1,
    drop: float = 0.0,
) -> RecordedMaps:
    """Record maps: photon noise of sources and sky, read-out noise, saturated cores.

    Parameters
    ----------
    flux : Tensor, shape (n, n_bands, rows, columns)
        Noiseless, from :func:`apparent_flux`, field stars included.
    survey : ImagingSurvey
    pixel_scale : Tensor, shape (n,), arcsec
    generator : torch.Generator, on the device of ``flux``
    sky_brightness : Tensor, shape (n, n_bands), mag/arcsec^2, optional
        Of each map; the survey's when not given.
    n_exposures : Tensor, shape (n,), optional
        In each stack; the survey's when not given.
    sky_error : float, >= 0
        Standard deviation of the sky that is taken off, as a part of it: one level over a map.
    grow : int, pixels, >= 0
        How far around a saturated pixel the mask reaches, along rows and columns.
    drop : float, pixels, >= 0
        Correlation of the noise of neighbours: pixels of the images over those of the stack, as
        :func:`melotte.telescope.drizzle_noise.correlate` takes it. 0 leaves the noise
        white. The variance is then that of wide areas, a pixel.

    Returns
    -------
    RecordedMaps

    Raises
    ------
    MelotteValueError
        When bands differ.

    Notes
    -----
    Sources, sky and read-out give a Poisson number of electrons in the whole stack, read noise
    included as the Poisson noise of as many electrons as its variance: with hundreds of electrons
    of sky in a pixel that is its normal distribution. Numbers of 200 or more on average are drawn
    normally.
    """
    if flux.ndim != 4 or flux.shape[1] != survey.n_bands:
        raise MelotteValueError(
            f"maps of {survey.n_bands} bands {survey.bands} are needed, found the shape "
            f"{tuple(flux.shape)}"
        )
    n, device = len(flux), flux.device

    def by_band(values: Tensor) -> Tensor:
        return values.to(device)[..., None, None]

    unit = by_band(survey.electrons_per_flux())
    sky = (
        torch.tensor(survey.sky_brightness, device=device)
        if sky_brightness is None
        else (sky_brightness)
    )
    sky_flux = by_band(10 ** (0.4 * (FLUX_ZERO_POINT - sky))) * pixel_scale.view(-1, 1, 1, 1) ** 2
    images = torch.as_tensor(survey.n_exposures if n_exposures is None else n_exposures)
    images = images.to(device, flux.dtype).expand(n).view(-1, 1, 1, 1)
    single = (flux.clamp(min=0) + sky_flux) * unit
    well = by_band(survey.full_well())
    full = (single >= well).any(1)
    single = torch.minimum(single, well)
    read = by_band(torch.tensor(survey.read_noise).square())
    expected = (single + read) * images
    counts = _photons(expected, generator)
    if drop > 0:
        counts = expected + correlate((counts - expected).cpu(), drop).to(device)
    electrons = counts / images - read
    level = 1 + sky_error * torch.randn(n, survey.n_bands, generator=generator, device=device)
    recorded = electrons / unit - sky_flux * by_band(level)
    variance = (electrons.clamp(min=0) + read) / images / unit.square()
    if grow > 0 and bool(full.any()):
        wide = functional.max_pool2d(full[:, None].float(), 2 * grow + 1, 1, grow)
        full = wide[:, 0] > 0
    return RecordedMaps(recorded, variance, full)


def _photons(expected: Tensor, generator: torch.Generator) -> Tensor:
    """Poisson numbers; large ones are drawn normally, which is several times faster."""
    noise = torch.randn(expected.shape, generator=generator, device=expected.device)
    counts = torch.addcmul(expected, expected.sqrt(), noise)
    few = expected < _MANY
    if bool(few.any()):
        counts[few] = torch.poisson(expected[few], generator=generator)
    return counts
