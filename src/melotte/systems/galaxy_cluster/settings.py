"""Settings of the galaxy-cluster system: what is simulated and how it is observed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from melotte.engine.setting_values import Fraction, Range
from melotte.engine.settings import Settings
from melotte.parameters import Parameter
from melotte.sky.cosmology import Cosmology
from melotte.sky.halo_occupation import Occupation
from melotte.sky.interlopers import Environment

Aperture = Literal["small", "medium", "large"]

APERTURES: dict[str, tuple[float, float]] = {
    "small": (1.1, 1570.0),
    "medium": (1.6, 2500.0),
    "large": (2.3, 3785.0),
}
"""Cylinders of Ho et al. 2019: radius, Mpc/h, and largest velocity either way, km/s."""

HIGHEST_REDSHIFT = 0.6

LIGHTEST_HALO = 10.0
"""log10(M200c/(Msun/h)): the central of a lighter halo is below the lowest stellar-mass limit."""


class PriorSettings(Settings):
    """Masses that are drawn.

    Parameters
    ----------
    log_m200c : (float, float)
        Range of log10(M200c/(Msun/h)).
    mass_function : bool
        Draw masses as nature does (the halo mass function at the cluster's redshift) rather than
        flat in the logarithm. For test catalogues: the posterior's own prior stays flat.
    """

    log_m200c: tuple[float, float] = (13.5, 15.5)
    mass_function: bool = False

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        self.parameters()
        low, high = self.log_m200c
        if low < 11.5 or high > 15.8:
            raise ValueError(f"log_m200c: [{low}, {high}] must lie within [11.5, 15.8]")
        return self

    def parameters(self) -> tuple[Parameter, ...]:
        """The one parameter of the system."""
        return (Parameter("log_m200c", *self.log_m200c, description="log10(M200c/(Msun/h))"),)


class CosmologySettings(Settings):
    """Flat LambdaCDM; the defaults are those of the MultiDark simulations."""

    h: Annotated[float, Field(gt=0.4, lt=1)] = 0.6777
    omega_m: Annotated[float, Field(gt=0.1, lt=0.6)] = 0.307115
    omega_b: Annotated[float, Field(gt=0.01, lt=0.1)] = 0.048206
    sigma8: Annotated[float, Field(gt=0.5, lt=1.2)] = 0.8228
    n_s: Annotated[float, Field(gt=0.8, lt=1.1)] = 0.96

    def cosmology(self) -> Cosmology:
        """The universe that these numbers describe."""
        return Cosmology(**self.model_dump())


class RichnessSettings(Settings):
    """Number of galaxies of a halo above 10^9.5 Msun; see :class:`~melotte.sky.halo_occupation`."""

    mean_at_1e14: Annotated[float, Field(gt=0)] = 28.0
    slope: Annotated[float, Field(gt=0, lt=2)] = 0.9
    log_cutoff: Annotated[float, Field(ge=9, le=14)] = 12.0
    scatter: Annotated[float, Field(ge=0, le=1)] = 0.12
    stellar_mass_slope: Annotated[float, Field(gt=-2, lt=1)] = -1.1
    log_stellar_mass_knee: Annotated[float, Field(ge=9.5, le=12)] = 10.8

    def occupation(self) -> Occupation:
        """The occupation that these numbers describe."""
        return Occupation(**self.model_dump())


class AugmentationSettings(Settings):
    """How an example is changed each time that training on a fixed set sees it.

    Parameters
    ----------
    kept_galaxies : range of the share of galaxies that is kept.
    least_galaxies : int
        A cluster keeps at least about so many, if it has them.
    turn_velocities : bool
        Turn half of the clusters round, front to back.
    """

    kept_galaxies: Range = (0.5, 1.0)
    least_galaxies: Annotated[int, Field(ge=1)] = 11
    turn_velocities: bool = True

    @model_validator(mode="after")
    def _check_share(self) -> Self:
        low, high = self.kept_galaxies
        if not 0 < low <= high <= 1:
            raise ValueError(f"kept_galaxies: ({low}, {high}) must rise within (0, 1]")
        return self


class ModelSettings(Settings):
    """The set network and its posterior.

    Parameters
    ----------
    richness : bool
        Tell the network the number of galaxies, which leans on the assumed relation of number
        and mass.
    stellar_masses : bool
        Tell it the galaxies' stellar masses, where a table has them.
    width, blocks, attention_seeds, features, sharpness
        Of :class:`~melotte.networks.sets.SetEncoder`. Sharp attention can pick the fastest galaxy,
        and the fastest of many is faster than that of few: without ``richness`` it is bounded, or
        the mass would lean on the number of galaxies all the same.
    dropout : float
        Of the features that the head sees.
    membership_weight : float
        Of the galaxies' memberships in the loss; 0 for a network that does not give them.
    head, head_settings
        See :func:`melotte.networks.heads.build_head`.
    """

    richness: bool = False
    stellar_masses: bool = False
    width: Annotated[int, Field(ge=8)] = 96
    blocks: Annotated[int, Field(ge=1)] = 2
    attention_seeds: Annotated[int, Field(ge=0)] = 8
    features: Annotated[int, Field(ge=8)] = 96
    sharpness: Annotated[float, Field(gt=0, le=8)] = 8.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    membership_weight: Annotated[float, Field(ge=0)] = 0.3
    head: Literal["point", "grid", "flow", "mixture", "autoregressive"] = "autoregressive"
    head_settings: dict[str, float | int | str | list[int]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if self.attention_seeds and self.width % self.attention_seeds:
            raise ValueError(
                f"width {self.width} is not a multiple of attention_seeds {self.attention_seeds}"
            )
        return self


class DataSettings(Settings):
    """What a mock cluster is and how it is observed.

    A range is drawn from uniformly, once a cluster; a single number stands for itself.

    Parameters
    ----------
    prior : PriorSettings
    cosmology : CosmologySettings
    redshift : range, 0 to 0.6
        Expansion, halo abundance, clustering and concentrations evolve with it.
    apertures : tuple of {"small", "medium", "large"}
        Each cluster is cut to one of these cylinders, at random.
    lengths : {"comoving", "physical"}
        In which the aperture and the projected radii are counted, Mpc/h.
    contaminated : bool
        Galaxies in the cylinder, interlopers included; else the catalogue of true members only,
        without a cylinder.
    least_galaxies : int
        Clusters with fewer galaxies are not in the catalogue.
    log_stellar_mass_limit : range, log10(Msun), 7.5 to 11.5
        Lowest stellar mass of a galaxy.
    magnitude_limit : float, mag, optional
        Faint limit in SDSS r, which raises the stellar-mass limit of far clusters.
    richness : RichnessSettings
    centrals : bool
        Whether the central galaxies of the cluster and of other haloes are in the catalogue.
        Those of Ho et al. 2019 hold satellites only.
    haloes : {"massive", "all"}
        Which haloes lie around a cluster: those above 10^12 Msun/h, as in Ho et al. 2019; or, as
        in a real survey, all whose central galaxy is above the limit in stellar mass, occupied
        so that the field has the stellar mass function of Baldry et al. 2012. The latter needs
        ``centrals``.
    completeness : range, 0 to 1
        Share of galaxies with a redshift, half way to the edge of the aperture.
    completeness_gradient : range, -2 to 2
        Its relative change from the centre to the edge.
    fibre_separation : float, arcsec, >= 0
        Smallest distance of two fibres (55 in SDSS); 0 for none.
    fibre_loss : float, 0 to 1
        Share of the galaxies too close to another that are lost.
    redshift_error : range, km/s
        Standard deviation of c z.
    centring_error : float, Mpc/h, >= 0
        Standard deviation on each axis of the centre on the sky, in the unit of ``lengths``.
    velocity_centre : {"halo", "galaxies"}
        Velocities are counted from the halo's, or from the median of the galaxies in the cylinder.
    velocity_bias : range
        Factor on the galaxies' velocities in haloes.
    subgroup_rate : range
        Mean number of subgroups in a cluster.
    interloper_density : range
        Factor on the number of haloes around a cluster.
    stellar_masses_known, weights_known : float, 0 to 1
        Share of clusters whose table gives stellar masses, or as weight of each galaxy the inverse
        of the completeness at its place. Other weights are 1; half of the other clusters keep the
        limit of their stellar masses.
    augmentation : AugmentationSettings
        Of examples of a fixed set.
    """

    prior: PriorSettings = PriorSettings()
    cosmology: CosmologySettings = CosmologySettings()
    redshift: Range = (0.117, 0.117)
    apertures: Annotated[tuple[Aperture, ...], Field(min_length=1)] = ("medium",)
    lengths: Literal["comoving", "physical"] = "comoving"
    contaminated: bool = True
    least_galaxies: Annotated[int, Field(ge=1)] = 11
    log_stellar_mass_limit: Range = (9.5, 9.5)
    magnitude_limit: Annotated[float, Field(gt=8, lt=30)] | None = None
    richness: RichnessSettings = RichnessSettings()
    centrals: bool = False
    haloes: Literal["massive", "all"] = "massive"
    completeness: Range = (1.0, 1.0)
    completeness_gradient: Range = (0.0, 0.0)
    fibre_separation: Annotated[float, Field(ge=0, le=600)] = 0.0
    fibre_loss: Fraction = 0.65
    redshift_error: Range = (0.0, 0.0)
    centring_error: Annotated[float, Field(ge=0, le=2)] = 0.0
    velocity_centre: Literal["halo", "galaxies"] = "halo"
    velocity_bias: Range = (1.0, 1.0)
    subgroup_rate: Range = (0.9, 0.9)
    interloper_density: Range = (1.0, 1.0)
    stellar_masses_known: Fraction = 1.0
    weights_known: Fraction = 0.0
    augmentation: AugmentationSettings = AugmentationSettings()

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        allowed = {
            "redshift": (0.0, HIGHEST_REDSHIFT),
            "log_stellar_mass_limit": (7.5, 11.5),
            "completeness": (0.0, 1.0),
            "completeness_gradient": (-2.0, 2.0),
            "redshift_error": (0.0, 2000.0),
            "velocity_bias": (0.3, 3.0),
            "subgroup_rate": (0.0, 5.0),
            "interloper_density": (0.0, 10.0),
        }
        for name, (lowest, highest) in allowed.items():
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"{name}: ({low}, {high}) must rise within [{lowest:g}, {highest:g}]"
                )
        if self.haloes == "all" and not self.centrals:
            raise ValueError("haloes: all is for surveys of every galaxy and needs centrals: true")
        return self

    def occupation(self) -> Occupation:
        """How haloes are occupied by galaxies."""
        clusters = self.richness.occupation()
        return clusters.of_surveys() if self.haloes == "all" else clusters

    def environment(self) -> Environment:
        """How haloes surround a cluster."""
        if self.haloes == "massive":
            return Environment()
        comoving = 1 + self.redshift[1] if self.lengths == "physical" else 1.0
        return Environment(
            log_lightest_mass=LIGHTEST_HALO, centring_error=self.centring_error * comoving
        )
