"""Settings of what mocks are made of beside the runs: sky, dust, kinematics, dark mass."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from melotte.engine.setting_values import Fraction, NotNegative, Positive, Range
from melotte.engine.settings import Settings


class SkySettings(Settings):
    """What lies between a cluster and its recorded map.

    Parameters
    ----------
    brightness : range, mag/arcsec^2
        Of the sky in V.
    colour : float, mag
        B - V of the sky.
    exposures : range
        Images in a stack, uniform in the logarithm: what sets the depth.
    exposure : float, s
        Of a single image.
    zero_point : float, mag
        That gives one electron a second.
    read_noise : float, electrons
    saturation : float, mag
        Of a star whose brightest pixel just fills, at a seeing of ``saturation_fwhm`` on pixels of
        ``saturation_pixel``, both arcsec: together they give what a pixel holds.
    level_error : float
        Standard deviation of the sky that is taken off, as a part of it.
    field_stars : range, stars/arcmin^2
        Brighter than V = 20, uniform in the logarithm, before and behind the cluster.
    field_star_share : float
        Share of maps that have any.
    """

    brightness: Range = (20.0, 22.0)
    colour: float = 0.9
    exposures: Range = (1.0, 40.0)
    exposure: Positive = 45.0
    zero_point: float = 24.7
    read_noise: NotNegative = 5.0
    saturation: float = 13.5
    saturation_fwhm: Positive = 1.2
    saturation_pixel: Positive = 0.25
    level_error: NotNegative = 0.002
    field_stars: Range = (0.1, 10.0)
    field_star_share: Fraction = 0.7

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("brightness", "exposures", "field_stars"):
            low, high = getattr(self, name)
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"{name}: [{low}, {high}] must not fall")
        if self.exposures[0] <= 0 or self.field_stars[0] <= 0:
            raise ValueError("exposures and field_stars must be above 0")
        return self


class ExtinctionSettings(Settings):
    """Dust before a cluster, and how well it is known.

    A_V falls off exponentially from 0 to ``most``. Maps come with an A_V that errs by the root sum
    of squares of ``least_error`` and ``relative_error`` times the true one, and with that error.

    Parameters
    ----------
    mean : float, mag
        Scale of the exponential; 0 leaves dust, and what is told of it, out.
    most : float, mag
    law : {"fitzpatrick99", "ccm89"}
        With R_V = 3.1; see :mod:`melotte.sky.extinction`.
    relative_error : range
        Uniform in the logarithm.
    least_error : float, mag
    """

    mean: NotNegative = 0.0
    most: Positive = 4.5
    law: Literal["fitzpatrick99", "ccm89"] = "fitzpatrick99"
    relative_error: Range = (0.05, 0.3)
    least_error: Positive = 0.02

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.relative_error
        if not 0 < low <= high < math.inf:
            raise ValueError(f"relative_error: [{low}, {high}] must be above 0 and not fall")
        return self


class KinematicsSettings(Settings):
    """Where the maps of velocity dispersions come from; ranges are uniform in the logarithm.

    Parameters
    ----------
    star_share : float
        Part of the maps of dispersions that are made of velocities of single stars; the others are
        of the light's spectra.
    exposure : range, s
        Of the spectra of the light; see :class:`melotte.telescope.dispersion_maps.Spectrograph`.
    line_spread : range, km/s
    least_signal : float
        Signal to noise ratio of a pixel that bins are joined to reach.
    star_limit : range, mag
        In V, uniform; see :class:`melotte.telescope.star_dispersions.StarSurvey`.
    star_error : range, km/s
    observed_share : range
    least_stars : int
    """

    star_share: Fraction = 0.5
    exposure: Range = (1800.0, 18000.0)
    line_spread: Range = (8.0, 60.0)
    least_signal: NotNegative = 3.0
    star_limit: Range = (16.0, 20.0)
    star_error: Range = (0.2, 3.0)
    observed_share: Range = (0.2, 1.0)
    least_stars: Annotated[int, Field(ge=3)] = 10

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("exposure", "line_spread", "star_limit", "star_error", "observed_share"):
            low, high = getattr(self, name)
            most = 1 if name == "observed_share" else math.inf
            if not (0 < low <= high <= most and math.isfinite(high)):
                raise ValueError(
                    f"{name}: [{low}, {high}] must be above 0, at most 1 where it is a share, and "
                    "not fall"
                )
        return self


class DarkMassSettings(Settings):
    """Dark mass beside the stars; see :mod:`melotte.sky.dark_mass`.

    Fractions are of the mass of stars and dark mass together, within the half-mass radius of the
    stars: farther out there are few stars that would feel it.

    Parameters
    ----------
    share : float
        Part of the clusters that have one; 0 leaves it, and the parameter ``dark_fraction``, out.
    central_share : float
        Part of these whose dark mass is a black hole at the centre; it is Plummer's sphere in the
        others.
    central_fraction : range
        Uniform in the logarithm.
    diffuse_fraction : range
        Uniform.
    diffuse_scale : range, half-mass radii
        Plummer's scale radius, uniform in the logarithm.
    none : float
        Clusters without have a ``dark_fraction`` drawn from 0 to this, too little to show: that of
        all of them at 0 would have no density.
    """

    share: Fraction = 0.0
    central_share: Fraction = 0.5
    central_fraction: Range = (0.003, 0.1)
    diffuse_fraction: Range = (0.05, 0.5)
    diffuse_scale: Range = (0.3, 1.5)
    none: Annotated[float, Field(gt=0, le=0.02)] = 0.005

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("central_fraction", "diffuse_fraction", "diffuse_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high < (math.inf if name == "diffuse_scale" else 0.95):
                raise ValueError(
                    f"{name}: [{low}, {high}] must be above 0, below 0.95 where it is a fraction, "
                    "and not fall"
                )
        return self

    @property
    def most(self) -> float:
        """Greatest fraction."""
        return max(self.central_fraction[1], self.diffuse_fraction[1], self.none)
