"""How a galaxy was imaged: bands, pixels, sharpness, exposures, and how far away it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from melotte.errors import MelotteValueError
from melotte.telescope.passbands import passband
from melotte.telescope.psf import HubblePSF

DETECTOR_BLUR = {
    "WFC3_UVIS_F275W": 0.025,
    "WFC3_UVIS_F336W": 0.026,
    "WFC3_UVIS_F438W": 0.024,
    "WFC3_UVIS_F475W": 0.023,
    "WFC3_UVIS_F555W": 0.022,
    "WFC3_UVIS_F606W": 0.020,
    "WFC3_UVIS_F814W": 0.016,
    "ACS_WFC_F435W": 0.026,
    "ACS_WFC_F475W": 0.025,
    "ACS_WFC_F555W": 0.024,
    "ACS_WFC_F606W": 0.023,
    "ACS_WFC_F814W": 0.020,
}
"""Standard deviation of the blur that a detector adds to perfect optics, arcsec.

WFC3/UVIS: what brings :class:`HubblePSF` (over the native pixel) closest to STScI's empirical PSFs,
mean over the chip, by least squares in steps of 0.001 arcsec; the relative residual that is left
(root of the sum of squares) is 0.06 (F814W) to 0.11 (F336W, F438W), the correlation 0.998 to 0.994.
F475W lies between its neighbours. ACS/WFC: no empirical PSF was at hand; UVIS's blur in pixels of
charge diffusion scaled to the larger ACS pixel in the blue, and between the two in the red.
"""

UVIS_PIXEL = 0.0396
"""Native pixel of WFC3/UVIS, arcsec (Dressel 2012, WFC3 Instrument Handbook)."""

ACS_PIXEL = 0.05
"""Native pixel of ACS/WFC, arcsec (Avila 2017, ACS Instrument Handbook)."""


@dataclass(frozen=True)
class ImagingSetup:
    """Images of a galaxy in several bands on one grid of pixels.

    Parameters
    ----------
    bands : tuple of str
        Full names, such as ``"ACS_WFC_F475W"``.
    pixel_scale : float, arcsec, > 0
    blur : tuple of float, arcsec, >= 0, one a band
        Standard deviation of the Gaussian between perfect optics and the pixel: charge diffusion,
        jitter, drizzling.
    exposure : tuple of float, s, > 0, one a band
    distance_modulus : float, mag
    metallicity : float, [Fe/H]
        Of the galaxy's clusters.
    read_noise : float, electrons, >= 0
        In each pixel of the combined image.

    Raises
    ------
    MelotteValueError
        When numbers of bands differ or a value is outside its range.
    """

    bands: tuple[str, ...]
    pixel_scale: float
    blur: tuple[float, ...]
    exposure: tuple[float, ...]
    distance_modulus: float
    metallicity: float
    read_noise: float = 0.0

    def __post_init__(self) -> None:
        if not self.bands or not len(self.bands) == len(self.blur) == len(self.exposure):
            raise MelotteValueError(
                f"bands, blur and exposure must have one entry a band, found {len(self.bands)}, "
                f"{len(self.blur)} and {len(self.exposure)}"
            )
        if not all(0 < value < math.inf for value in (self.pixel_scale, *self.exposure)):
            raise MelotteValueError(
                f"pixel_scale (arcsec) and exposure (s) must be above 0 and finite, found "
                f"{self.pixel_scale:g} and {self.exposure}"
            )
        if not all(0 <= value < math.inf for value in (*self.blur, self.read_noise)):
            raise MelotteValueError(
                f"blur (arcsec) and read_noise (electrons) must be 0 or more and finite, found "
                f"{self.blur} and {self.read_noise:g}"
            )

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @property
    def distance(self) -> float:
        """Distance, pc."""
        return 10 ** (self.distance_modulus / 5 + 1)

    @property
    def parsecs_per_arcsec(self) -> float:
        """Length that an arcsec spans at the distance, pc."""
        return self.distance * math.pi / (180 * 3600)

    def psfs(self) -> tuple[HubblePSF, ...]:
        """The PSF of each band, without the pixel."""
        return tuple(
            HubblePSF(passband(band).pivot_nm, blur)
            for band, blur in zip(self.bands, self.blur, strict=True)
        )

    def with_blur(self, factor: float) -> ImagingSetup:
        """The same set-up with all blurs scaled."""
        return replace(self, blur=tuple(factor * value for value in self.blur))


def distance_modulus_of(parsecs: float) -> float:
    """Distance modulus, mag, of a distance in pc."""
    return 5 * math.log10(parsecs) - 5


def drizzled_blur(detector: float, native_pixel: float, drop: float = 1.0) -> float:
    """Blur of a mosaic drizzled from many dithered exposures.

    Light is collected over the native pixel, spread over its shrunken drop, and collected again
    over the mosaic's pixel (which the renderer does): two boxes are added to the detector's blur,
    here by their variances.

    Parameters
    ----------
    detector : float, arcsec
        Standard deviation of the detector's own blur.
    native_pixel : float, arcsec
        Side of the detector's pixel.
    drop : float, in [0, 1]
        Drizzle's ``pixfrac``.

    Returns
    -------
    float, arcsec

    References
    ----------
    Fruchter & Hook 2002, PASP 114, 144, section 5.
    """
    return math.sqrt(detector**2 + native_pixel**2 * (1 + drop**2) / 12)


def mosaic_blur(bands: tuple[str, ...], drop: float = 1.0) -> tuple[float, ...]:
    """Blur of each band in a drizzled mosaic: the detector's and drizzle's, arcsec.

    Parameters
    ----------
    bands : tuple of str
        Full names of bands of WFC3/UVIS or ACS/WFC.
    drop : float, in [0, 1]
        Drizzle's ``pixfrac``.

    Raises
    ------
    MelotteValueError
        When a band's blur is not known.
    """
    unknown = [band for band in bands if band not in DETECTOR_BLUR]
    if unknown:
        raise MelotteValueError(
            f"no blur is known for {', '.join(unknown)}, only for {', '.join(DETECTOR_BLUR)}: "
            f"give the blur yourself"
        )
    native = [ACS_PIXEL if band.startswith("ACS") else UVIS_PIXEL for band in bands]
    return tuple(
        round(drizzled_blur(DETECTOR_BLUR[band], pixel, drop), 4)
        for band, pixel in zip(bands, native, strict=True)
    )


_M31_BANDS = ("WFC3_UVIS_F336W", "ACS_WFC_F475W", "ACS_WFC_F814W")
_M83_BANDS = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")

M31_PHAT = ImagingSetup(
    bands=_M31_BANDS,
    pixel_scale=0.05,
    blur=mosaic_blur(_M31_BANDS),
    exposure=(1350.0, 1720.0, 1520.0),
    distance_modulus=distance_modulus_of(785e3),
    metallicity=math.log10(0.009 / 0.0185),
)
"""PHAT's bricks as Bialopetravičius et al. 2019 used them: 80 px of 0.05 arcsec, Z = 0.009.

Distance: McConnachie et al. 2005. Exposures: one pointing's (Dalcanton et al. 2012, section 3; the
ACS fields overlap, so that most of a brick is deeper). Solar Z: 0.0185, that of the shipped
isochrones.
"""

M83_MOSAIC = ImagingSetup(
    bands=_M83_BANDS,
    pixel_scale=0.04,
    blur=mosaic_blur(_M83_BANDS),
    exposure=(1890.0, 1880.0, 1203.0),
    distance_modulus=distance_modulus_of(4.5e6),
    metallicity=math.log10(0.03 / 0.0185),
)
"""The M83 mosaic as Bialopetravičius & Narbutis 2020 used it: 64 px of 0.04 arcsec, Z = 0.03.

Distance: Thim et al. 2003. Exposures: nominal ones of its first field (Early Release Science,
Dopita et al. 2010); the other six (Blair et al. 2014) are similar, and a header's own goes first.
"""

SURVEYS = {"m31": M31_PHAT, "m83": M83_MOSAIC}
"""The usual set-up of each galaxy's images."""
