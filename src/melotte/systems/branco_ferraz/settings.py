"""Settings of the seed's networks: scale of the labels, augmentation, layers.

What the paper leaves open, and how it is read here, stands in the documentation's page on these
presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from melotte.engine.settings import Settings
from melotte.errors import MelotteValueError
from melotte.parameters import Parameter
from melotte.systems.open_cluster import settings as open_cluster

Interval = open_cluster.Interval
Width = Annotated[int, Field(ge=1)]
LargestShift = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LabelSettings(Settings):
    """Smallest and largest label: both ends of the paper's min-max scale.

    The unit cube of parameters with linear scale is that scale. Defaults are the extremes of the
    labels of Cantat-Gaudin et al. 2020, rounded outward.
    """

    log_age: Interval = (6.35, 9.95)
    extinction_v: Interval = (0.0, 4.85)
    distance: Interval = (0.04, 12.65)

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        self.parameters()
        return self

    def parameters(self) -> tuple[Parameter, ...]:
        """The paper's three outputs, in its order."""
        return (
            Parameter("log_age", *self.log_age, description="log10(age/yr)"),
            Parameter("extinction_v", *self.extinction_v, unit="mag", description="A_V"),
            Parameter("distance", *self.distance, unit="kpc", description="distance"),
        )


class LargerShifts(Settings):
    """The augmentation that the paper proposes next; used where ``augmentation`` is ``larger``.

    Parameters
    ----------
    copies : copies of each cluster, beside itself.
    largest_modulus : mag, largest distance modulus of a copy.
    largest_extinction : mag, largest A_V of a copy.
    stars_kept : range of the fraction of its stars that a copy keeps.
    """

    copies: Annotated[int, Field(ge=1)] = 3
    largest_modulus: LargestShift = 13.5
    largest_extinction: LargestShift = 4.5
    stars_kept: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (
        0.3,
        1.0,
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        low, high = self.stars_kept
        if low > high:
            raise ValueError(f"stars_kept: {low} is above {high}; give (lowest, highest)")
        return self


def _mocks_like_the_labels() -> open_cluster.DataSettings:
    return open_cluster.DataSettings(
        prior=open_cluster.PriorSettings(
            log_age=(6.4, 9.9), extinction_v=(0.0, 4.8), distance=(0.05, 12.5)
        ),
        magnitude_limits=(18.0,),
        free_limit=0.0,
    )


class DataSettings(Settings):
    """What the networks learn from.

    Parameters
    ----------
    labels : LabelSettings
    magnitude_limit : float, mag
        Fainter stars are not read: the seed's member lists end at G = 18.
    augmentation : {"none", "paper", "larger"}
        Of labelled clusters; mocks are drawn anew in its place.
    larger : LargerShifts
    mocks : settings of the open-cluster system
        Of the mocks that the networks can be trained and judged on, beside real clusters.
    """

    labels: LabelSettings = LabelSettings()
    magnitude_limit: Annotated[float, Field(gt=10, le=21)] = 18.0
    augmentation: Literal["none", "paper", "larger"] = "none"
    larger: LargerShifts = LargerShifts()
    mocks: open_cluster.DataSettings = Field(default_factory=_mocks_like_the_labels)

    @model_validator(mode="after")
    def _check_mocks(self) -> Self:
        for name in ("log_age", "extinction_v", "distance"):
            low, high = getattr(self.labels, name)
            first, last = getattr(self.mocks.prior, name)
            if first < low or last > high:
                raise ValueError(
                    f"mocks.prior.{name} [{first}, {last}] reaches outside "
                    f"labels.{name} [{low}, {high}]"
                )
        return self


class AnnSettings(Settings):
    """Histogram and guesses into dense layers.

    Parameters
    ----------
    hidden : widths of the hidden layers.
    """

    network: Literal["ann"] = "ann"
    hidden: Annotated[tuple[Width, ...], Field(min_length=1)] = (200, 100, 50)


class CnnSettings(Settings):
    """Image of the colour-magnitude diagram into convolutions.

    Parameters
    ----------
    channels : of the convolutions, each followed by pooling; at most six fit the image.
    dense : width of the hidden layer behind them.
    """

    network: Literal["cnn"] = "cnn"
    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=6)] = (4, 8, 16)
    dense: Width = 64


class MdmSettings(CnnSettings):
    """Image and guesses, each in its branch, then the hidden layers of the ANN.

    Parameters
    ----------
    guess_hidden : widths of the dense layers of the guesses' branch.
    hidden : widths of the layers behind both branches.
    """

    network: Literal["mdm"] = "mdm"  # pyright: ignore[reportIncompatibleVariableOverride]
    guess_hidden: Annotated[tuple[Width, ...], Field(min_length=1)] = (16, 16)
    hidden: Annotated[tuple[Width, ...], Field(min_length=1)] = (200, 100, 50)


ModelSettings = AnnSettings | CnnSettings | MdmSettings
NETWORKS: dict[str, type[AnnSettings] | type[CnnSettings]] = {
    "ann": AnnSettings,
    "cnn": CnnSettings,
    "mdm": MdmSettings,
}


def model_settings(values: Mapping[str, Any], section: str = "model") -> ModelSettings:
    """Settings of the network that ``values["network"]`` names.

    Parameters
    ----------
    values : mapping
        Section ``model`` of a preset.
    section : str
        Its name, for errors.

    Raises
    ------
    MelotteValueError
        When the network is unknown or has no such setting.
    """
    name = values.get("network")
    chosen = NETWORKS.get(name) if isinstance(name, str) else None
    if chosen is None:
        found = "is missing" if name is None else f"{name!r} is unknown"
        raise MelotteValueError(f"{section}.network {found}; known: {', '.join(NETWORKS)}")
    return chosen.parse(values, section)
