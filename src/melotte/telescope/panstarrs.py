"""Pan-STARRS 1: magnitudes of its g and r bands as Johnson's B and V, and its 3-pi survey."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.telescope.map_noise import ImagingSurvey
from melotte.telescope.map_smoothing import smoothed


@dataclass(frozen=True)
class ColourRelation:
    """B - g and V - g as polynomials in g - r: g, r in AB magnitudes, B, V in Vega magnitudes.

    Parameters
    ----------
    b, v : tuple of float
        Coefficients, constant first.
    scatter_b, scatter_v : float, mag
        Of stars about the relation.
    source : str
    """

    b: tuple[float, ...]
    v: tuple[float, ...]
    scatter_b: float
    scatter_v: float
    source: str

    def johnson(self, g: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitudes B and V of stars; NaN where either of theirs is.

        Parameters
        ----------
        g, r : Tensor, any shape, mag, AB

        Returns
        -------
        b, v : Tensor, mag, Vega
        """
        colour = g - r
        return g + _polynomial(self.b, colour), g + _polynomial(self.v, colour)

    def johnson_errors(
        self, g: Tensor, r: Tensor, error_g: Tensor, error_r: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Standard deviations of B and V: those of g and r carried on, and the relation's scatter.

        Parameters
        ----------
        g, r : Tensor, any shape, mag
        error_g, error_r : Tensor, same shape, mag
            Independent.
        """
        colour = g - r
        errors = []
        for coefficients, scatter in ((self.b, self.scatter_b), (self.v, self.scatter_v)):
            slope = _slope(coefficients, colour)
            variance = ((1 + slope) * error_g).square() + (slope * error_r).square()
            errors.append((variance + scatter**2).sqrt())
        return errors[0], errors[1]

    def panstarrs(self, b: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitudes g and r of stars of given B and V: the relations solved for them.

        Parameters
        ----------
        b, v : Tensor, any shape, mag, Vega

        Returns
        -------
        g, r : Tensor, mag, AB
        """
        difference = [one - two for one, two in zip(self.b, self.v, strict=True)]
        colour = (b - v - difference[0]) / difference[1]
        for _ in range(20 if len(difference) > 2 else 0):
            excess = _polynomial(difference, colour) - (b - v)
            colour = colour - excess / _slope(difference, colour)
        g = v - _polynomial(self.v, colour)
        return g, g - colour


TONRY_2012 = ColourRelation(
    (0.213, 0.587),
    (0.006, -0.525),
    0.034,
    0.012,
    "Tonry et al. 2012, ApJ 750, 99, Table 6 (linear)",
)
"""From synthetic photometry of the spectra of stars."""

KOSTOV_BONEV_2018 = ColourRelation(
    (0.194, 0.561),
    (-0.017, -0.508),
    0.034,
    0.012,
    "Kostov & Bonev 2018, Bulgarian Astron. J. 28, 3, Table 2 (linear)",
)
"""From Stetson's standard stars. The scatter is taken from :data:`TONRY_2012`."""

KOSTOV_BONEV_2018_QUADRATIC = ColourRelation(
    (0.199, 0.540, 0.016),
    (-0.020, -0.498, -0.008),
    0.034,
    0.012,
    "Kostov & Bonev 2018, Bulgarian Astron. J. 28, 3 (quadratic)",
)

PAN_STARRS_SEEING = (1.31, 1.19)
"""Median FWHM of images in g and r, arcsec; three quarters are below 1.51 and 1.39
(Magnier et al. 2020, ApJS 251, 3; Waters et al. 2020, ApJS 251, 4)."""

PAN_STARRS_DEPTH = (23.3, 23.2)
"""Mean magnitude of a point source at 5 standard deviations in the stacks of the 3-pi survey
(Chambers et al. 2016, arXiv:1612.05560)."""

PAN_STARRS_PIXEL = 0.25
"""Pixel of the stacks, arcsec."""

PAN_STARRS_3PI = ImagingSurvey(
    bands=("PS_g", "PS_r"),
    zero_point=(24.556, 24.760),
    exposure=(43.0, 40.0),
    n_exposures=12.0,
    sky_brightness=(21.5, 20.5),
    read_noise=(5.0, 5.0),
    saturation=(13.5, 13.5),
    seeing=PAN_STARRS_SEEING,
    pixel_scale=PAN_STARRS_PIXEL,
).with_depth(PAN_STARRS_DEPTH)
"""Stacks of the 3-pi survey.

Zero points follow from the capture cross-sections at 1.2 airmasses of Tonry et al. 2012, ApJ 750,
99, Table 3. Twelve exposures a band; a single one saturates at about 13.5 mag (Magnier et al. 2013,
ApJS 205, 20). The sky is the one that gives stacks their published depth, so it also stands for
masked pixels, the Moon and the resampling; the read noise of 5 electrons is nominal and matters
little beside it.
"""


def johnson_maps(
    flux: Tensor, relation: ColourRelation = KOSTOV_BONEV_2018, sigma: float = 4.0
) -> Tensor:
    """Maps in V and B from maps in g and r.

    A relation of colours is one of stars, and noise makes the colour of single pixels wild. So the
    colour is taken from smoothed maps: each pixel's flux in g is multiplied by what the colour of
    its surroundings asks for. Where they have no positive flux, the colour of the whole map is
    taken.

    Parameters
    ----------
    flux : Tensor, shape (n, 2, rows, columns)
        In g and r, in units of a source of magnitude 25 (or any other, the same in both).
    relation : ColourRelation
    sigma : float, pixels
        Of the Gaussian that smooths the maps for their colour.

    Returns
    -------
    Tensor, shape (n, 2, rows, columns)
        In V and B, in the same unit, of the Vega system.

    Raises
    ------
    MelotteValueError
        When there are not two bands.
    """
    if flux.ndim != 4 or flux.shape[1] != 2:
        raise MelotteValueError(
            f"maps in g and r have the shape (n, 2, rows, columns), found {tuple(flux.shape)}"
        )
    total = flux.sum((-2, -1), keepdim=True)
    colour = [_colour(maps) for maps in (smoothed(flux, sigma), total)]
    either = torch.where(colour[0].isfinite(), colour[0], colour[1]).nan_to_num(0.0)
    # Far from any star the smoothed maps hold noise alone.
    either = either.clamp(-0.5, 2.0)
    ratio = [10 ** (-0.4 * _polynomial(one, either)) for one in (relation.v, relation.b)]
    return torch.stack([flux[:, 0] * one for one in ratio], 1)


def _colour(maps: Tensor) -> Tensor:
    """Colours g - r where both fluxes are positive, else NaN."""
    g, r = maps.unbind(1)
    good = (g > 0) & (r > 0)
    return torch.where(good, -2.5 * torch.log10(g / r), torch.nan)


def _polynomial(coefficients: tuple[float, ...] | list[float], x: Tensor) -> Tensor:
    """Value by Horner's rule, constant first."""
    value = torch.zeros_like(x)
    for one in reversed(coefficients):
        value = value * x + one
    return value


def _slope(coefficients: tuple[float, ...] | list[float], x: Tensor) -> Tensor:
    """Derivative of the polynomial."""
    return _polynomial([n * one for n, one in enumerate(coefficients)][1:], x)
