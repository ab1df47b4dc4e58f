"""Settings of the open-cluster system: what is simulated, and how the network is built."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from melotte.engine.setting_values import Fraction, NotNegative
from melotte.engine.settings import Settings
from melotte.parameters import Parameter

Interval = tuple[float, float]


Scales = tuple[NotNegative, NotNegative, NotNegative, NotNegative]


def _as_four(value: Any) -> Any:
    """One number stands for all four parameters."""
    return (value,) * 4 if isinstance(value, int | float) else value


class PriorSettings(Settings):
    """Ranges of the prior; [Fe/H] is normal within its range, distance log-uniform."""

    log_age: Interval = (6.0, 10.2)
    extinction_v: Interval = (0.0, 6.0)
    distance: Interval = (0.03, 15.0)
    metallicity: Interval = (-1.0, 0.5)
    metallicity_centre: float = -0.05
    metallicity_width: Annotated[float, Field(gt=0)] = 0.25

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        self.parameters()
        return self

    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the posterior: the least often catalogued last."""
        return (
            Parameter("log_age", *self.log_age, description="log10(age/yr)"),
            Parameter(
                "extinction_v", *self.extinction_v, unit="mag", description="mean A_V (CCM89)"
            ),
            Parameter("distance", *self.distance, unit="kpc", scale="log", description="distance"),
            Parameter(
                "metallicity",
                *self.metallicity,
                scale="normal",
                centre=self.metallicity_centre,
                width=self.metallicity_width,
                description="[Fe/H]",
            ),
        )


class AugmentationSettings(Settings):
    """How a real list with catalogued labels is changed each time that training sees it.

    Parameters
    ----------
    kept_stars : range of the share of stars that is kept.
    most_stars : int
        Stars kept at most: fewer make training faster.
    error_share : float
        Standard deviation of the noise added to parallaxes, in units of each star's error; none
        where the error is unknown.
    extinction_shift : mag, >= 0
        Largest A_V added; the reddened stars that pass the list's faint limit leave it.
    distance_shift : mag, >= 0
        Largest distance modulus added, likewise.
    label_noise : (float, float, float, float), >= 0
        Noise added to log_age, extinction_v, log distance and metallicity, in units of the
        scatter of their catalogue (from how much the catalogues disagree, or
        :data:`melotte.io.cluster_labels.TYPICAL_SCATTER`); one number stands for all four.
    """

    kept_stars: Interval = (0.35, 1.0)
    most_stars: Annotated[int, Field(ge=10)] = 160
    error_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    extinction_shift: Annotated[float, Field(ge=0, le=3)] = 0.0
    distance_shift: Annotated[float, Field(ge=0, le=5)] = 0.0
    label_noise: Annotated[Scales, BeforeValidator(_as_four)] = (0.35, 0.35, 0.35, 0.35)


class DataSettings(Settings):
    """What a mock member list is made of.

    Parameters
    ----------
    prior : PriorSettings
    members : (int, int)
        Range of the number of listed stars, field stars included; log-uniform.
    max_stars : int
        Stars of a list that the network reads: a longer list is sampled at random.
    max_cluster_mass : float, Msun
        Lists that would need a heavier cluster are not drawn.
    magnitude_limits : tuple of float
        Usual faint limits in G; each mock takes one of them, or (with the probability
        ``free_limit``) any between 15.5 and 20.5.
    dr2 : fraction of mocks observed as in DR2, the rest as in EDR3.
    binary_fraction : range of the fraction of stars with a companion.
    contamination : mean fraction of field stars in the list.
    no_membership : fraction of lists without membership probabilities.
    no_photometric_errors : fraction of lists without photometric errors.
    colour_zero_point, magnitude_zero_point : standard deviation, mag
        Offsets of a whole cluster: passbands, calibration and stellar models.
    cool_star_slope : standard deviation
        Error of the models' BP-RP per mag of intrinsic colour redder than 1.3.
    augmentation : AugmentationSettings
        Of real lists; mocks are drawn anew in its place.
    """

    prior: PriorSettings = PriorSettings()
    members: tuple[Annotated[int, Field(ge=1)], int] = (10, 10_000)
    max_stars: Annotated[int, Field(ge=10, le=10_000)] = 384
    max_cluster_mass: Annotated[float, Field(gt=0)] = 5e4
    magnitude_limits: tuple[float, ...] = (18.0, 19.0, 20.0)
    free_limit: Fraction = 0.35
    dr2: Fraction = 0.3
    binary_fraction: Interval = (0.1, 0.7)
    contamination: Fraction = 0.12
    no_membership: Fraction = 0.35
    no_photometric_errors: Fraction = 0.3
    colour_zero_point: Annotated[float, Field(ge=0)] = 0.015
    magnitude_zero_point: Annotated[float, Field(ge=0)] = 0.03
    cool_star_slope: Annotated[float, Field(ge=0)] = 0.08
    augmentation: AugmentationSettings = AugmentationSettings()

    @model_validator(mode="after")
    def _check_intervals(self) -> Self:
        for name in ("members", "binary_fraction"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low} is above {high}; give (lowest, highest)")
        if not self.magnitude_limits:
            raise ValueError("magnitude_limits is empty; give at least one, such as 18.0")
        return self


class ModelSettings(Settings):
    """The set network and its posterior.

    Parameters
    ----------
    width : width of the hidden layers; a multiple of ``attention_seeds``.
    blocks : rounds of pooling.
    attention_seeds : attention weights of a star in each pooling.
    features : size of the embedding.
    head : kind of posterior.
    head_settings : settings of the head, by name.
    label_sources : tuple of str
        Catalogues whose values the network can also give, learned from labelled clusters.
    ensemble : int
        Networks that learn the catalogues; each batch trains one of them.
    adapter_width, adapter_dropout
        Of the small network that tells the catalogues apart.
    """

    width: Annotated[int, Field(ge=8)] = 128
    blocks: Annotated[int, Field(ge=1)] = 3
    attention_seeds: Annotated[int, Field(ge=0)] = 8
    features: Annotated[int, Field(ge=8)] = 128
    head: Literal["point", "grid", "flow", "mixture", "autoregressive"] = "autoregressive"
    head_settings: dict[str, float | int | str | list[int]] = Field(default_factory=dict)
    label_sources: tuple[str, ...] = ()
    ensemble: Annotated[int, Field(ge=1, le=10)] = 1
    adapter_width: Annotated[int, Field(ge=1)] = 64
    adapter_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if self.attention_seeds and self.width % self.attention_seeds:
            raise ValueError(
                f"width {self.width} is not a multiple of attention_seeds {self.attention_seeds}"
            )
        return self
