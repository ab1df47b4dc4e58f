"""Settings of the seed's networks: scale of the masses, grid of the densities, layers.

What is published where, and how contradictions are read here, stands in the documentation's page
on these presets.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from melotte.engine.settings import Settings
from melotte.parameters import Parameter
from melotte.systems.galaxy_cluster import settings as galaxy_cluster


def _mocks_as_published() -> galaxy_cluster.DataSettings:
    return galaxy_cluster.DataSettings(
        augmentation=galaxy_cluster.AugmentationSettings(kept_galaxies=(1.0, 1.0))
    )


class DataSettings(Settings):
    """What the networks learn from.

    Parameters
    ----------
    log_m200c : (float, float)
        Both ends of the published scale of log10(M200c/(Msun/h)): -1 and 1 of the output neuron.
    bins : int
        Of the densities, on each axis; a multiple of 4, which the pools divide.
    bandwidth : float
        Kernel width in standard deviations of the galaxies.
    mocks : settings of the galaxy-cluster system
        Its ``augmentation`` is that of a fixed set of examples: velocities turned round, all
        galaxies kept.
    """

    log_m200c: tuple[float, float] = (13.0, 16.0)
    bins: Annotated[int, Field(ge=8, le=256, multiple_of=4)] = 48
    bandwidth: Annotated[float, Field(gt=0, le=2)] = 0.25
    mocks: galaxy_cluster.DataSettings = Field(default_factory=_mocks_as_published)

    @model_validator(mode="after")
    def _check_masses(self) -> Self:
        self.parameters()
        low, high = self.log_m200c
        first, last = self.mocks.prior.log_m200c
        if first < low or last > high:
            raise ValueError(
                f"mocks.prior.log_m200c [{first}, {last}] reaches outside log_m200c [{low}, {high}]"
            )
        return self

    def parameters(self) -> tuple[Parameter, ...]:
        """The one output."""
        return (Parameter("log_m200c", *self.log_m200c, description="log10(M200c/(Msun/h))"),)


class ModelSettings(Settings):
    """Which network, and what versions of the published code disagree on.

    Parameters
    ----------
    network : {"cnn1d", "cnn2d"}
        Reads the density of velocities, or of velocities and projected radii.
    pooling : {"published", "none"}
        Maximum pooling behind the convolutions, of 2 bins (cnn1d) or 4 (cnn2d), or none.
    dropout : float
        Behind the convolutions and their pool.
    largest_norm : float
        Of the weights that a kernel has along velocity, and of those into a hidden neuron.
    """

    network: Literal["cnn1d", "cnn2d"]
    pooling: Literal["published", "none"] = "published"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    largest_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0
