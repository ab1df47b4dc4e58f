"""Settings of the cluster-image systems: which clusters, in which fields, through which camera."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from melotte.engine.setting_values import Fraction, Positive, Range
from melotte.engine.settings import Settings
from melotte.errors import MelotteError
from melotte.parameters import Parameter
from melotte.telescope.passbands import passband


class ClusterSettings(Settings):
    """Clusters that are drawn, each number independently of the others.

    Parameters
    ----------
    log_age : (float, float)
        Range of log10(age/yr).
    age_step : float, dex
        Ages lie on a grid of this step that begins at the lowest.
    extinction_v : (float, float), mag
        Range of A_V; one number for all clusters where both ends agree.
    extinction_step : float, mag, optional
        Extinctions lie on a grid of this step; anywhere in the range without.
    log_mass : (float, float)
        Range of log10(initial mass/Msun).
    half_number_radius : (float, float), arcsec
        Range of the radius that holds half of the stars.
    scale_radius : (float, float), arcsec
        Range of the EFF profile's ``a``.
    gamma : (float, float)
        Range of the EFF profile's exponent, above 2.
    shapes : {"scale_radius", "half_number_radius"}
        What is uniform in the logarithm beside gamma: the papers draw ``a`` and keep what falls
        within the range of radii; the other draws the radius itself.
    faintest : list of float, optional, Vega mag
        A cluster is left out where its integrated magnitude is fainter than this in every band
        (the papers join their limits with "and").
    """

    log_age: tuple[float, float]
    age_step: Positive = 0.05
    extinction_v: Range = (0.0, 0.0)
    extinction_step: Positive | None = None
    log_mass: tuple[float, float]
    half_number_radius: tuple[float, float]
    scale_radius: tuple[float, float]
    gamma: tuple[float, float] = (2.05, 8.0)
    shapes: Literal["scale_radius", "half_number_radius"] = "scale_radius"
    faintest: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("log_age", "log_mass", "half_number_radius", "scale_radius", "gamma"):
            low, high = getattr(self, name)
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{name}: [{low}, {high}] must rise")
        low, high = self.log_age
        if low < 6.0 or high > 10.3:
            raise ValueError(f"log_age: [{low}, {high}] must lie within [6, 10.3]")
        low, high = self.extinction_v
        if not 0 <= low <= high <= 6:
            raise ValueError(f"extinction_v: [{low}, {high}] must rise within [0, 6]")
        low, high = self.log_mass
        if low < 1.5 or high > 6.5:
            raise ValueError(f"log_mass: [{low}, {high}] must lie within [1.5, 6.5]")
        if self.half_number_radius[0] <= 0 or self.scale_radius[0] <= 0:
            raise ValueError("half_number_radius and scale_radius must be positive")
        if self.gamma[0] <= 2:
            raise ValueError(f"gamma: lowest {self.gamma[0]} must be above 2")
        return self

    @property
    def n_ages(self) -> int:
        """Ages on the grid."""
        low, high = self.log_age
        return round((high - low) / self.age_step) + 1

    @property
    def reddened(self) -> bool:
        """Whether the extinction is a parameter."""
        return self.extinction_v[0] < self.extinction_v[1]

    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the posterior: extinction first, where it varies.

        So the other parameters of a cluster of known extinction are the posterior's own
        conditionals.
        """
        # The grid's ages stand for the steps around them.
        low, high = self.log_age[0] - self.age_step / 2, self.log_age[1] + self.age_step / 2
        others = (
            Parameter("log_age", low, high, description="log10(age/yr)"),
            Parameter("log_mass", *self.log_mass, description="log10(initial mass/Msun)"),
            Parameter(
                "half_number_radius",
                *self.half_number_radius,
                unit="arcsec",
                scale="log",
                description="radius of half of the stars",
            ),
        )
        if not self.reddened:
            return others
        return Parameter("extinction_v", *self.extinction_v, unit="mag", description="A_V"), *others


class CameraSettings(Settings):
    """What changes between surveys; every set-up draws its own values from these ranges.

    Parameters
    ----------
    pixel_scale : range, arcsec
    blur : range
        Width of the Gaussian that broadens the telescope's optical image, in units of the
        default of each band.
    distance_modulus : range, mag
    exposure : list of float, s
        Of each band.
    exposure_factor : range
        Factor on all exposures, drawn uniformly in its logarithm.
    metallicity : range, [Fe/H]
    read_noise : float, electrons
    noise : {"exposure", "per_second"}
        Photon noise of the counts in the exposure, or of the counts in one second (Paper I).
    per_second_share : float
        Share of images whose noise is that of one second, where ``noise`` says exposure.
    noise_of_median : range
        Share of the field's median level whose photons are drawn once more with the cluster's.
        The papers draw all of them (1), on top of the noise that a field already has; with 0 the
        noise of the sum is exact.
    noise_of_empty : bool
        Draw the same noise for images without a cluster. The papers leave them as they are, so
        that a network may tell clusters by their noise.
    calibration_scatter : float
        Standard deviation of a factor on the field's flux, one a band and image (Paper II, Sect.
        4.1).
    """

    pixel_scale: Range
    blur: Range = (1.0, 1.0)
    distance_modulus: Range
    exposure: tuple[Positive, ...]
    exposure_factor: Range = (1.0, 1.0)
    metallicity: Range
    read_noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    noise: Literal["exposure", "per_second"] = "exposure"
    per_second_share: Fraction = 0.0
    noise_of_median: Range = (1.0, 1.0)
    noise_of_empty: bool = False
    calibration_scatter: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        ranges = ("pixel_scale", "blur", "distance_modulus", "exposure_factor", "metallicity")
        for name in (*ranges, "noise_of_median"):
            low, high = getattr(self, name)
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"{name}: [{low}, {high}] must not fall")
        if not 0 <= self.noise_of_median[0] <= self.noise_of_median[1] <= 1:
            raise ValueError(f"noise_of_median: {list(self.noise_of_median)} must be in [0, 1]")
        for name in ("pixel_scale", "blur", "exposure_factor"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name}: lowest {getattr(self, name)[0]} must be positive")
        if self.metallicity[0] < -2.5 or self.metallicity[1] > 0.5:
            raise ValueError("metallicity: must lie within [-2.5, 0.5]")
        return self


class FieldSettings(Settings):
    """Backgrounds that clusters are placed on.

    Parameters
    ----------
    galaxy : {"m31", "m83"}
        Whose fields are simulated.
    tiles : int
        Simulated fields to cut training backgrounds from; each has one of the set-ups.
    held_out_tiles : int
        Further ones for validation, and as many for testing.
    size : int, px
        Side of a tile.
    seed : int
        Of the fields.
    mask_saturated : bool
        Cut no background where a star of a simulated field saturates (Paper I does, II does not).
    mosaics : list of str, optional
        FITS mosaics to cut backgrounds from instead, one a band in the order of the bands.
    masks : list of str
        Tables of clusters, galaxies or bright stars to keep out of the backgrounds: ``ra`` and
        ``dec``, or ``x`` and ``y``, and ``radius`` (arcsec; ``mask_radius`` without).
    mask_radius : float, arcsec
    saturation : float, counts/s, optional
        Pixels at or above it, and their surroundings, are kept out too.
    """

    galaxy: Literal["m31", "m83"]
    tiles: Annotated[int, Field(gt=0, le=512)] = 48
    held_out_tiles: Annotated[int, Field(gt=0, le=256)] = 16
    size: Annotated[int, Field(ge=64, le=4096)] = 640
    seed: Annotated[int, Field(ge=0)] = 0
    mask_saturated: bool = False
    mosaics: tuple[str, ...] | None = None
    masks: tuple[str, ...] = ()
    mask_radius: Positive = 2.0
    saturation: Positive | None = None


class DataSettings(Settings):
    """Mock observations: clusters, camera, fields.

    Parameters
    ----------
    bands : list of str
        Full names of the passbands, bluest first.
    size : int, px
        Side of an image.
    clusters, camera, fields
        See their classes.
    background_share : float
        Share of images without a cluster.
    centring_error : float, px
        Standard deviation, along rows and along columns, of a cluster's centre about the image's.
    setups : int
        Different set-ups of the camera, at most one a tile; held-out tiles have their own.
    faint_share : float
        Share of a cluster's expected light whose stars are not drawn one by one.
    oversampling : int
        Cells across a pixel of the grid that stars are put on; 2 is good to 1e-3 of the brightest
        pixel, 3 to 5e-5.
    missing_band_share : float
        Share of images of which one band is unknown.
    masked_share : float
        Share of images with masked pixels.
    """

    bands: tuple[str, ...]
    size: Annotated[int, Field(ge=16, le=512)]
    clusters: ClusterSettings
    camera: CameraSettings
    fields: FieldSettings
    background_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    centring_error: Annotated[float, Field(ge=0, le=10)] = 0.0
    setups: Annotated[int, Field(gt=0, le=512)] = 1
    faint_share: Annotated[float, Field(gt=0, le=0.05)] = 0.02
    oversampling: Annotated[int, Field(ge=2, le=4)] = 2
    missing_band_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    masked_share: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands: {list(self.bands)} must name different passbands")
        for name in self.bands:
            try:
                passband(name)
            except MelotteError as error:
                raise ValueError(f"bands: {error}") from error
        n = len(self.bands)
        if len(self.camera.exposure) != n:
            raise ValueError(f"camera.exposure: needs {n} numbers, one a band")
        if self.clusters.faintest is not None and len(self.clusters.faintest) != n:
            raise ValueError(f"clusters.faintest: needs {n} magnitudes, one a band")
        if self.fields.mosaics is not None and len(self.fields.mosaics) != n:
            raise ValueError(f"fields.mosaics: needs {n} files, one a band")
        if self.fields.size < 2 * self.size:
            raise ValueError(
                f"fields.size: {self.fields.size} must be at least twice the image's {self.size}"
            )
        return self

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is inferred."""
        return self.clusters.parameters()


class ModelSettings(Settings):
    """The residual network and its heads.

    Parameters
    ----------
    widths : list of int
        Channels of each stage; every stage but the first halves the image.
    blocks : list of int
        Residual blocks of each stage.
    stem_stride : int
        Stride of the first convolution.
    rings : int
        Rings around the centre in which the last stage's features are averaged.
    apertures : list of float, px
        Radii of the apertures whose fluxes the network is told.
    counts_in_scale : bool
        Brightness is compressed in units of the background's typical scatter and of one count in
        the exposure, added in squares, in place of the scatter alone. Where an image holds single
        counts, as with the noise of one second, these are then not taken for bright.
    features : int
        Width of the features that heads read.
    dropout : float
    head, head_settings
        Posterior head; see :func:`melotte.networks.heads.build_head`.
    class_weight, visibility_weight : float
        Weights of the losses of class and visibility.
    """

    widths: tuple[Annotated[int, Field(ge=8)], ...] = (32, 64, 128, 128)
    blocks: tuple[Annotated[int, Field(ge=1)], ...] = (2, 2, 2, 2)
    stem_stride: Literal[1, 2] = 2
    rings: Annotated[int, Field(ge=1, le=4)] = 2
    apertures: tuple[Positive, ...] = (1.5, 2.5, 4.0, 6.0, 9.0, 13.0, 19.0)
    counts_in_scale: bool = False
    features: Annotated[int, Field(ge=16)] = 192
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    head: str = "autoregressive"
    head_settings: dict[str, Any] = Field(default_factory=dict)
    class_weight: Annotated[float, Field(ge=0)] = 1.0
    visibility_weight: Annotated[float, Field(ge=0)] = 0.3

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"blocks: needs {len(self.widths)} numbers, one a stage")
        if list(self.apertures) != sorted(set(self.apertures)):
            raise ValueError(f"apertures: {list(self.apertures)} must rise")
        return self
