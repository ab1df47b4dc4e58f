"""Settings of the two papers' networks: ranges, grids of the outputs, layers.

The ranges of Paper II's bins are not published beyond a figure that shades bins outside the mocks'
ranges (its Fig. 21). Here one bin of each end lies outside, except below A_V = 0: 18 of 20 bins
span the mocks' ages, 9 of 10 their A_V, 12 of 14 their masses and sizes. The bins of visibility,
of which nothing is published, divide log10(1 + visibility) evenly.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import Field, model_validator

from melotte.engine.settings import Settings
from melotte.parameters import Parameter

Interval = tuple[
    Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]
]
Bins = Annotated[int, Field(ge=2, le=100)]

N_ROTATIONS = 4
"""Of an image by right angles, Paper I, Sect. 4.1."""


def _wider(
    low: float, high: float, bins: int, below: bool = True, digits: int = 6
) -> tuple[float, float]:
    """Ends of ``bins`` bins of which the first (where ``below``) and last are outside a range."""
    width = (high - low) / (bins - 1 - below)
    return round(low - width * below, digits), round(high + width, digits)


def _wider_log(low: float, high: float, bins: int) -> tuple[float, float]:
    first, last = _wider(math.log10(low), math.log10(high), bins)
    return round(10**first, 6), round(10**last, 6)


class PaperOneSettings(Settings):
    """Paper I's network.

    Parameters
    ----------
    dropout : float
        Behind the dense layer, in training.
    rotations : int, 1 to 4
        Of each image in training; the paper's are 4. Fewer cost less, and the images of a batch
        take turns. A trained network averages 4, whatever this says.
    log_age, log_mass : (float, float)
        log10(age/yr) and log10(mass/Msun) that a posterior may have.
    half_number_radius : (float, float), arcsec
        Radii of half of the stars that a posterior may have.
    """

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    rotations: Annotated[int, Field(ge=1, le=N_ROTATIONS)] = N_ROTATIONS
    log_age: Interval = (6.6, 9.5)
    log_mass: Interval = (2.0, 4.0)
    half_number_radius: Interval = (0.1, 1.6)

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        self.parameters()
        return self

    def parameters(self) -> tuple[Parameter, ...]:
        """Age, mass and size, in the paper's order."""
        return (
            Parameter("log_age", *self.log_age, description="log10(age/yr)"),
            Parameter("log_mass", *self.log_mass, description="log10(initial mass/Msun)"),
            _radius(self.half_number_radius),
        )


class PaperTwoSettings(Settings):
    """Paper II's network and the grids of its outputs.

    Parameters
    ----------
    bins : (int, int, int)
        Of age, A_V and mass, whose grid is joint.
    radius_bins, visibility_bins : int
    log_age, extinction_v, log_mass : (float, float), dex, mag, dex
        Outer edges of the grid, and so the range of the posterior. Mocks are drawn inside it.
    half_number_radius : (float, float), arcsec
        Outer edges; bins are even in the logarithm.
    log_visibility : (float, float)
        Outer edges of the bins of log10(1 + visibility); what is beyond counts to the last bin.
    softness : float
        Standard deviation of the targets of age, A_V and mass, in bins.
    marginal_softness : float
        Standard deviation of the targets of size and visibility, in bins.
    """

    bins: tuple[Bins, Bins, Bins] = (20, 10, 14)
    radius_bins: Bins = 14
    visibility_bins: Bins = 20
    log_age: Interval = _wider(6.6, 10.1, 20)
    extinction_v: Interval = _wider(0.0, 3.0, 10, below=False)
    log_mass: Interval = _wider(3.5, 5.5, 14)
    half_number_radius: Interval = _wider_log(0.04, 0.4, 14)
    log_visibility: Interval = (0.0, 2.5)
    softness: Annotated[float, Field(gt=0, le=5)] = 0.25
    marginal_softness: Annotated[float, Field(gt=0, le=5)] = 0.5

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        self.parameters()
        if not self.log_visibility[0] < self.log_visibility[1]:
            raise ValueError(f"log_visibility: range {self.log_visibility} is empty")
        return self

    def parameters(self) -> tuple[Parameter, ...]:
        """Age, A_V, mass and size; ranges are those of the grids."""
        return (
            Parameter("log_age", *self.log_age, description="log10(age/yr)"),
            Parameter("extinction_v", *self.extinction_v, unit="mag", description="A_V"),
            Parameter("log_mass", *self.log_mass, description="log10(initial mass/Msun)"),
            _radius(self.half_number_radius),
        )


def _radius(interval: Interval) -> Parameter:
    return Parameter(
        "half_number_radius",
        *interval,
        unit="arcsec",
        scale="log",
        description="radius of half of the stars",
    )
