"""Settings of the systems of globular clusters: which runs, how far, behind which sky."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from melotte.engine.setting_values import Fraction, NotNegative, Positive, Range
from melotte.engine.settings import Settings
from melotte.parameters import Parameter
from melotte.systems.globular_clusters.mock_settings import (
    DarkMassSettings,
    ExtinctionSettings,
    KinematicsSettings,
    SkySettings,
)

SMALL_LIBRARY = "small"
"""Names the library of a few clusters that melotte ships, in place of a file."""

BIN_PIXELS = 16
"""Side of the bins of a map of velocity dispersions, pixels."""

DERIVED = ("log_luminosity_fov",)
"""What follows from the parameters: log10 of the light in V of the field of view, Lsun_V."""

# Prior ranges end a little beyond what is drawn: rounding must not put a label outside.
_ROUNDING = 1e-3


def _as_paths(value: Any) -> Any:
    """A single path is a list of one."""
    return (value,) if isinstance(value, str) else value


class FamilySettings(Settings):
    """Names of the families of runs in each area.

    Parameters
    ----------
    training, validation, test : list of str
        Where a library holds none of an area's families, runs of the training families are kept
        for it: a tenth, by a hash of their names.
    """

    training: tuple[str, ...] = ("training",)
    validation: tuple[str, ...] = ("validation",)
    test: tuple[str, ...] = ("test",)

    @model_validator(mode="after")
    def _check(self) -> Self:
        listed = [*self.training, *self.validation, *self.test]
        if len(set(listed)) != len(listed) or not self.training:
            raise ValueError(
                f"training {list(self.training)}, validation {list(self.validation)} and test "
                f"{list(self.test)} must name different families, and training one or more"
            )
        return self


class DataSettings(Settings):
    """Mock observations of a library of evolved clusters.

    Parameters
    ----------
    library : str or list of str, optional
        Files of ``melotte simulate clusters``; needed to draw mocks, not to apply a model. The word
        ``small`` is the library that melotte ships: clusters of the family ``test``, to try out
        with, too few to train or to judge on. A file of that name is ``./small``.
    families
        See :class:`FamilySettings`.
    split : {"run", "snapshot"}
        What is kept for an area without a family of its own: whole runs, or single snapshots of
        every run, as Chardin & Bianchini 2021 validate.
    size : int, px
        Rows and columns of a map, a multiple of 16.
    bands : list of {"V", "B"}
        V first.
    pixel_scale : range, arcsec
        Uniform in the logarithm, as the PSF's width and the distance.
    psf_fwhm : range, arcsec
    distance : range, kpc
    nearer_factor : float
        Clusters of the area "training" come from as much nearer than ``distance``, and count as at
        its near end: so that what lies there is known to, and a posterior heaped at that end says
        "as near, or nearer". Not where ``distances`` are listed.
    distances, psf_fwhms : list of float, optional
        Only these values, each as often, instead.
    test_distances, test_psf_fwhms : list of float, optional
        Those of the area "test".
    extinction
        See :class:`ExtinctionSettings`.
    dark_mass
        See :class:`DarkMassSettings`. It shows in maps of dispersions alone.
    run_power : float
        Runs are drawn in proportion to this power of the number of their snapshots: 1 draws every
        snapshot as often, 0 every run.
    age_flattening : float
        Power to which snapshots are drawn in inverse proportion to how many there are of their
        log10 age; 0 does not, 1 draws log10 ages about evenly.
    offset : float, arcsec
        Greatest distance of a cluster's centre from the map's, along each axis.
    orientation : {"random", "quarter_turns"}
        Directions of all stars are drawn anew for every mock, or once a snapshot, which is then
        turned by 0, 90, 180 or 270 degrees.
    noise : {"survey", "none"}
    sky
        See :class:`SkySettings`; not used without noise.
    smoothing : float, px
        Standard deviation of the Gaussian that smooths the maps of light, after all noise.
    mass_smoothing : float, px
        The same of the map of mass.
    mass_floor : float, Msun/px
        Least mass of a pixel of the smoothed map: its logarithm is the target. Of pixels at the
        floor the network learns that they are as low or lower.
    missing_band_share : float
        Share of maps without B.
    dispersion_share : float
        Share of maps with a map of velocity dispersions; 0 leaves the channel out.
    kinematics
        See :class:`KinematicsSettings`.
    distance_share : float, optional
        Share of maps whose distance is told; 0 keeps the input and tells none, none leaves it out.
    distance_error : range
        Standard deviation of a distance that is told, as part of it, uniform in the logarithm.
    label_spread : float
        Factor on :data:`melotte.systems.globular_clusters.scenes.LABEL_SPREAD`, by which labels of
        the area "training" scatter about the truth; 0 for none.
    size_spread : float, dex
        Standard deviation of the factor by which clusters of the area "training" are made larger
        or smaller; see :mod:`melotte.systems.globular_clusters.lookalikes`.
    number_factor : float, in [1, 2]
        Greatest factor of their number of stars, and one over the least; uniform in the logarithm.
    metallicity_spread : float, dex
        Standard deviation of what their [Fe/H] differs by, and their stars' light with it.
    least_stars : int
        Snapshots with fewer are left out.
    served : mapping of str to (float, float)
        Ranges of parameters, or of :data:`DERIVED`, that a model is for, inside those it trains
        on: a row is flagged OUT_OF_RANGE where 90 % of the posterior lie beyond an end.
    served_shares : mapping of str to float, in [0.5, 1)
        Of some of them, another share of the posterior than 0.9.
    log_age : (float, float)
        Ages of the snapshots that are used.
    metallicity, log_total_mass, log_mass_fov, mass_to_light_v, half_mass_radius : (float, float)
        Ranges of the posterior; snapshots of the library outside of those that belong to the
        cluster are left out, and what the field of view shows counts as unknown outside.
    """

    library: Annotated[tuple[str, ...] | None, BeforeValidator(_as_paths)] = None
    families: FamilySettings = FamilySettings()
    split: Literal["run", "snapshot"] = "run"
    size: Annotated[int, Field(ge=32, le=1024, multiple_of=BIN_PIXELS)] = 160
    bands: tuple[Literal["V", "B"], ...] = ("V", "B")
    pixel_scale: Range = (0.25, 0.25)
    psf_fwhm: Range = (0.3, 2.0)
    distance: Range = (3.0, 150.0)
    nearer_factor: Annotated[float, Field(ge=1, le=100)] = 1.0
    distances: tuple[Positive, ...] | None = None
    psf_fwhms: tuple[Positive, ...] | None = None
    test_distances: tuple[Positive, ...] | None = None
    test_psf_fwhms: tuple[Positive, ...] | None = None
    extinction: ExtinctionSettings = ExtinctionSettings()
    dark_mass: DarkMassSettings = DarkMassSettings()
    run_power: Fraction = 0.5
    age_flattening: Fraction = 0.0
    offset: NotNegative = 5.0
    orientation: Literal["random", "quarter_turns"] = "random"
    noise: Literal["survey", "none"] = "survey"
    sky: SkySettings = SkySettings()
    smoothing: NotNegative = 0.0
    mass_smoothing: NotNegative = 4.0
    mass_floor: Positive = 1e-3
    missing_band_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dispersion_share: Fraction = 0.0
    kinematics: KinematicsSettings = KinematicsSettings()
    distance_share: Fraction | None = None
    distance_error: Range = (0.01, 0.1)
    label_spread: NotNegative = 1.0
    size_spread: NotNegative = 0.0
    number_factor: Annotated[float, Field(ge=1, le=2)] = 1.0
    metallicity_spread: NotNegative = 0.0
    least_stars: Annotated[int, Field(gt=0)] = 1000
    served: dict[str, tuple[float, float]] = Field(default_factory=dict)
    served_shares: dict[str, Annotated[float, Field(ge=0.5, lt=1)]] = Field(default_factory=dict)
    log_age: tuple[float, float] = (8.4, 10.16)
    metallicity: tuple[float, float] = (-2.5, 0.1)
    log_total_mass: tuple[float, float] = (2.0, 6.5)
    log_mass_fov: tuple[float, float] = (1.0, 6.5)
    mass_to_light_v: tuple[float, float] = (0.01, 100.0)
    half_mass_radius: tuple[float, float] = (0.1, 100.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bands not in (("V",), ("V", "B")):
            raise ValueError(f"bands: {list(self.bands)}; allowed are [V] and [V, B]")
        for name in ("pixel_scale", "psf_fwhm", "distance", "distance_error"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name}: [{low}, {high}] must be above 0 and not fall")
        if self.missing_band_share > 0 and len(self.bands) == 1:
            raise ValueError("missing_band_share: V alone cannot be missing")
        names = (*(one.name for one in self.cluster_parameters()), *DERIVED)
        for name, (low, high) in self.served.items():
            if name not in names or not low < high:
                raise ValueError(
                    f"served.{name}: [{low}, {high}]; rising ranges of {', '.join(names)} are "
                    "allowed"
                )
        strange = [name for name in self.served_shares if name not in names]
        if strange:
            raise ValueError(f"served_shares.{strange[0]}: {', '.join(names)} are allowed")
        return self

    @property
    def distance_range(self) -> tuple[float, float]:
        """Nearest and farthest distance of any area, kpc."""
        listed = (*(self.distances or ()), *(self.test_distances or ()))
        return (min(listed), max(listed)) if listed else self.distance

    def cluster_parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the posterior: the distance first.

        So the others of a cluster of known distance are the posterior's own conditionals.
        """
        low, high = self.distance_range
        dark = Parameter(
            "dark_fraction",
            0.0,
            self.dark_mass.most * (1 + _ROUNDING),
            description="extra dark mass over all mass, within the stars' half-mass radius",
        )
        return (
            Parameter(
                "distance",
                low * (1 - _ROUNDING),
                high * (1 + _ROUNDING),
                unit="kpc",
                scale="log",
                description="distance from the observer",
            ),
            Parameter("log_age", *self.log_age, description="log10(age/yr)"),
            Parameter("metallicity", *self.metallicity, description="[Fe/H]"),
            Parameter(
                "log_total_mass",
                *self.log_total_mass,
                description="log10(present mass of all stars/Msun)",
            ),
            Parameter(
                "log_mass_fov",
                *self.log_mass_fov,
                description="log10(mass of the stars in the field of view/Msun)",
            ),
            Parameter(
                "mass_to_light_v",
                *self.mass_to_light_v,
                scale="log",
                description="mass over light in V of the field of view, Msun/Lsun_V",
            ),
            Parameter(
                "half_mass_radius",
                *self.half_mass_radius,
                unit="pc",
                scale="log",
                description="radius of the sphere that holds half of the mass",
            ),
            Parameter(
                "remnant_fraction",
                0.0,
                1.0,
                description="white dwarfs, neutron stars and black holes over all stars, by mass",
            ),
            *((dark,) if self.dark_mass.share > 0 else ()),
        )


class ModelSettings(Settings):
    """The network of maps and its heads.

    Parameters
    ----------
    widths, blocks : list of int
        Channels and residual blocks of each stage.
    features : int
        Width of what the head reads.
    likelihood : {"gaussian", "student_t"}
        Of a pixel of log10 mass.
    dropout : float
    detail : {1, 2, 4}
        Predicted places along a side of 4 pixels: 1 where masses are smooth over 4 or more.
    head, head_settings
        Posterior head; see :func:`melotte.networks.heads.build_head`.
    map_weight : float
        Weight of the maps' mean negative log density beside that of the parameters.
    """

    widths: tuple[Annotated[int, Field(ge=8)], ...] = (32, 64, 128, 128)
    blocks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 2, 2)
    features: Annotated[int, Field(ge=16)] = 128
    likelihood: Literal["gaussian", "student_t"] = "student_t"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    detail: Literal[1, 2, 4] = 1
    head: str = "autoregressive"
    head_settings: dict[str, Any] = Field(default_factory=dict)
    map_weight: NotNegative = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"blocks: needs {len(self.widths)} numbers, one a stage")
        return self
