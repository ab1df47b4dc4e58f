"""What is there in a field of M31 or M83: stars formed when, of what metals, behind what dust."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky.composite_light import AGE_STEP, LOG_AGE_NODES, METALLICITY_NODES

RECENT_LOG_AGE = 8.5
"""Stars younger than this follow the recent star-formation rate and are more or less clumped."""

NEWBORN_LOG_AGE = 7.5
"""Stars younger than this are clumped as the gas is; later, orbits mix them."""

OUTERMOST = 40.0
"""kpc, to which the mass of the halo is counted; no field is drawn farther out."""
ASSOCIATION_LIFETIME = 60e6
"""Years in which the share of stars that are still in associations falls by e."""


@dataclass(frozen=True)
class DiscGalaxy:
    """Radial run of a galaxy's disc.

    Parameters
    ----------
    name : str
    formed_mass : float, Msun
        All stellar mass ever formed in the disc: 1.6 times what is left (Kroupa IMF).
    scale_length : float, kpc
    break_radius : float, kpc
        Beyond it the disc's scale length, and that of its star formation, is half as long.
    bulge_mass : float, Msun
        Formed mass of the spheroid.
    bulge_radius : float, kpc
        Half-mass radius of the spheroid, whose projected density is a Sersic profile of n = 2.
    halo_mass : float, Msun
        Formed mass of the halo inside 40 kpc, projected density R^-2.2 outside 3 kpc.
    axis_ratio : float, in (0, 1]
        Cosine of the inclination: the projected density is higher by its inverse.
    star_formation : tuple of (radius kpc, width kpc, density Msun/yr/kpc2)
        Rings of recent star formation in the plane of the disc; a ring at 0 is an exponential
        disc of the scale length ``width``.
    decline : float, yr
        Time in which the past star-formation rate fell by e.
    metallicity : (float, float)
        [Fe/H] at the centre, and its slope per kpc.
    metallicity_spread : float, dex
    dust : (float, float, float)
        Median A_V of the screen at the centre, and at the rings in units of their
        star formation of 1e-3 Msun/yr/kpc2; scale length of the former, kpc.
    foreground_extinction : float, A_V mag
    foreground_stars : float, stars of the Milky Way per deg2 brighter than F814W = 22
    radii : (float, float), kpc
        Between these fields are drawn.
    """

    name: str
    formed_mass: float
    scale_length: float
    break_radius: float
    bulge_mass: float
    bulge_radius: float
    halo_mass: float
    axis_ratio: float
    star_formation: tuple[tuple[float, float, float], ...]
    decline: float
    metallicity: tuple[float, float]
    metallicity_spread: float
    dust: tuple[float, float, float]
    foreground_extinction: float
    foreground_stars: float
    radii: tuple[float, float]

    def stellar_density(self, radius: float) -> float:
        """Mass formed per pc2 on the sky, Msun, at a deprojected radius in kpc."""
        disc = self.formed_mass / (2 * math.pi * self.scale_length**2)
        disc *= math.exp(-self._stretched(radius) / self.scale_length) / self.axis_ratio
        # Sersic n = 2: b = 3.672; its total is 2 pi n b^-2n Gamma(2n) R_e^2 in units of I_e e^b.
        total = 2 * math.pi * 2 * 3.672**-4 * 6 * self.bulge_radius**2
        bulge = self.bulge_mass / total * math.exp(-3.672 * math.sqrt(radius / self.bulge_radius))
        norm = 2 * math.pi * 3.0**2.2 * (40**-0.2 - 3**-0.2) / -0.2 + math.pi * 9
        halo = self.halo_mass / norm * (max(radius, 3.0) / 3.0) ** -2.2
        return (disc + bulge + halo) / 1e6

    def star_formation_density(self, radius: float) -> float:
        """Recent star formation, Msun/yr per kpc2 on the sky, at a radius in kpc."""
        return self._star_formation_in_the_plane(radius) / self.axis_ratio

    def median_extinction(self, radius: float) -> float:
        """Median A_V, mag, of the dust screen at a radius in kpc."""
        centre, ring, length = self.dust
        rings = self._star_formation_in_the_plane(radius) / 1e-3
        return centre * math.exp(-radius / length) + ring * min(rings, 3.0)

    def mean_metallicity(self, radius: float) -> float:
        """Mean [Fe/H] of the disc's stars at a radius in kpc."""
        return self.metallicity[0] + self.metallicity[1] * radius

    def _stretched(self, radius: float) -> float:
        return radius + max(0.0, radius - self.break_radius)

    def _star_formation_in_the_plane(self, radius: float) -> float:
        rate, radius = 0.0, self._stretched(radius)
        for centre, width, density in self.star_formation:
            if centre == 0:
                rate += density * math.exp(-radius / width)
            else:
                rate += density * math.exp(-0.5 * ((radius - centre) / width) ** 2)
        return rate


M31 = DiscGalaxy(
    name="m31",
    formed_mass=1.6 * 5.6e10,
    scale_length=5.3,
    break_radius=25.0,
    bulge_mass=1.6 * 3.1e10,
    bulge_radius=1.0,
    halo_mass=1.6 * 3e9,
    axis_ratio=math.cos(math.radians(77)),
    star_formation=((0, 6.0, 5e-4), (5.5, 1.0, 4e-4), (10.8, 1.3, 1.6e-3), (15.5, 1.5, 5e-4)),
    decline=4.5e9,
    metallicity=(0.11, -0.020),
    metallicity_spread=0.3,
    dust=(0.5, 0.5, 8.0),
    foreground_extinction=0.17,
    foreground_stars=1.2e4,
    radii=(4.0, 20.0),
)
"""Andromeda at 785 kpc.

Disc and bulge masses: Tamm et al. 2012, A&A 546, A4; scale length and bulge radius: Courteau et
al. 2011, ApJ 739, 20; star-forming rings: Lewis et al. 2015, ApJ 805, 183; past star formation:
Williams et al. 2017, ApJ 846, 145; metallicity gradient: Gregersen et al. 2015, AJ 150, 189;
dust: Dalcanton et al. 2015, ApJ 814, 3; foreground: Schlafly & Finkbeiner 2011, ApJ 737, 103.
"""

M83 = DiscGalaxy(
    name="m83",
    formed_mass=1.6 * 2.9e10,
    scale_length=2.2,
    break_radius=6.3,
    bulge_mass=1.6 * 3e9,
    bulge_radius=0.3,
    halo_mass=1.6 * 5e8,
    axis_ratio=math.cos(math.radians(24)),
    star_formation=((0, 2.4, 8e-2),),
    decline=12e9,
    metallicity=(0.30, -0.03),
    metallicity_spread=0.25,
    dust=(2.0, 0.0, 5.0),
    foreground_extinction=0.18,
    foreground_stars=7e3,
    radii=(0.4, 8.5),
)
"""M83 at 4.5 Mpc.

Star formation and scale length: Leroy et al. 2021, ApJS 257, 43, Table 3, brought to 4.5 Mpc; the
disc ends steeply from about 5 arcmin on: Thilker et al. 2005, ApJ 619, L79; metallicity gradient:
Bresolin et al. 2016, ApJ 830, 64, and Hernandez et al. 2019, ApJ 872, 116; foreground: Schlafly &
Finkbeiner 2011, ApJ 737, 103. Mass and dust are chosen for the galaxy's total magnitudes.
"""

GALAXIES = {"m31": M31, "m83": M83}


@dataclass(frozen=True)
class FieldEnvironment:
    """What is there in one field, a few hundred parsecs across.

    Parameters
    ----------
    galaxy : str
    radius : float, kpc
        Deprojected distance from the galaxy's centre.
    stellar_density : float, Msun formed per pc2 on the sky
    density_gradient : (float, float)
        Change of ln density per kpc along x and along y.
    age_shares : tuple of float, one for each of ``LOG_AGE_NODES``
        Share of the mass formed at that age; they sum to 1.
    metallicity : float
        Mean [Fe/H].
    metallicity_spread : float, dex
        Of stars older than 1 Gyr; younger ones have a fifth of it.
    extinction_v : float, mag
        Median A_V of the dust screen.
    extinction_clumping : float
        Standard deviation of ln A_V over the field.
    reddened_share : float, in [0, 1]
        Share of old stars behind the screen.
    foreground_extinction : float, A_V mag
    clumping : float
        Standard deviation of the ln of the density of young stars outside associations.
    dust_correlation : float, in [-1, 1]
        Between the logarithms of dust and density of young stars.
    foreground_stars : float, per deg2 brighter than F814W = 22
    sky_surface_brightness : float, V mag/arcsec2

    Raises
    ------
    MelotteValueError
        When the shares do not fit the ages or a density is negative.
    """

    galaxy: str
    radius: float
    stellar_density: float
    density_gradient: tuple[float, float]
    age_shares: tuple[float, ...]
    metallicity: float
    metallicity_spread: float
    extinction_v: float
    extinction_clumping: float
    reddened_share: float
    foreground_extinction: float
    clumping: float
    dust_correlation: float
    foreground_stars: float
    sky_surface_brightness: float

    def __post_init__(self) -> None:
        if len(self.age_shares) != len(LOG_AGE_NODES):
            raise MelotteValueError(
                f"age_shares has {len(self.age_shares)} values; {len(LOG_AGE_NODES)} are needed"
            )
        if min(self.age_shares) < 0 or not math.isclose(sum(self.age_shares), 1, rel_tol=1e-6):
            raise MelotteValueError("age_shares must not be negative and must sum to 1")
        for name in ("stellar_density", "extinction_v", "foreground_stars", "clumping"):
            if not getattr(self, name) >= 0:
                raise MelotteValueError(f"{name} must be at least 0, found {getattr(self, name)}")

    @property
    def metallicity_shares(self) -> Tensor:
        """Share of each of ``METALLICITY_NODES`` at each age, shape (n_ages, n_nodes)."""
        nodes = torch.tensor(METALLICITY_NODES, dtype=torch.float64)
        old = (LOG_AGE_NODES >= 9.0)[:, None]
        spread = torch.where(old, self.metallicity_spread, 0.2 * self.metallicity_spread)
        mean = torch.where(old, self.metallicity - 0.1, self.metallicity)
        edges = torch.cat([nodes.new_tensor([-9.0]), (nodes[1:] + nodes[:-1]) / 2])
        edges = torch.cat([edges, nodes.new_tensor([9.0])])
        shares = torch.special.ndtr((edges - mean) / spread.clamp(min=0.02)).diff(dim=1)
        shares = torch.where(shares > 0.01, shares, 0.0)
        return shares / shares.sum(1, keepdim=True)

    @property
    def clustered_share(self) -> Tensor:
        """Share of the stars of each age that are still in associations, shape (n_ages,)."""
        return 0.7 * torch.exp(-(10**LOG_AGE_NODES) / ASSOCIATION_LIFETIME)


def draw_environment(
    galaxy: str, generator: torch.Generator, radius: float | None = None
) -> FieldEnvironment:
    """Draw what is there in a field of a galaxy.

    Density, star formation, metals and dust follow the galaxy's radial run with scatter: fields
    at one radius differ as arm and gap do.

    Parameters
    ----------
    galaxy : str
        "m31" or "m83".
    generator : torch.Generator, on the CPU
    radius : float, kpc, optional
        Deprojected distance from the centre; uniform between the galaxy's ``radii`` when not
        given.

    Returns
    -------
    FieldEnvironment

    Raises
    ------
    MelotteValueError
        When the galaxy is not known, or the radius is not in [0, ``OUTERMOST``].
    """
    if galaxy not in GALAXIES:
        raise MelotteValueError(f"no galaxy {galaxy!r}; there are {', '.join(GALAXIES)}")
    disc = GALAXIES[galaxy]
    uniform = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
    normal = torch.randn(8, generator=generator, dtype=torch.float64).tolist()
    per_age = torch.randn(len(LOG_AGE_NODES), generator=generator, dtype=torch.float64)
    if radius is not None and not 0 <= radius <= OUTERMOST:
        raise MelotteValueError(f"radius must be 0 to {OUTERMOST:g} kpc, found {radius}")
    low, high = disc.radii
    place = float(low + (high - low) * uniform[0] if radius is None else radius)
    density = disc.stellar_density(place) * 10 ** (0.08 * normal[0])
    recent = disc.star_formation_density(place) * 10 ** (0.35 * normal[1])
    shares = _age_shares(density, recent, disc.decline, per_age, uniform[1])
    # Across the sky the density falls fastest along the minor axis, by 1 / axis_ratio.
    angle = 2 * math.pi * uniform[2]
    steepest = math.hypot(math.cos(angle), math.sin(angle) / disc.axis_ratio)
    direction = 2 * math.pi * uniform[3]
    slope = steepest / disc.scale_length
    return FieldEnvironment(
        galaxy=galaxy,
        radius=place,
        stellar_density=density,
        density_gradient=(slope * math.cos(direction), slope * math.sin(direction)),
        age_shares=tuple(shares.tolist()),
        metallicity=min(disc.mean_metallicity(place) + 0.05 * normal[2], 0.45),
        metallicity_spread=disc.metallicity_spread,
        extinction_v=disc.median_extinction(place) * 10 ** (0.2 * normal[3]),
        extinction_clumping=0.5 + 0.4 * uniform[4],
        reddened_share=0.3 + 0.4 * uniform[5],
        foreground_extinction=disc.foreground_extinction,
        clumping=0.8,
        dust_correlation=0.6,
        foreground_stars=disc.foreground_stars * 10 ** (0.1 * normal[4]),
        sky_surface_brightness=22.6 + 0.25 * normal[5],
    )


def _age_shares(
    density: float, recent: float, decline: float, per_age: Tensor, burst: float
) -> Tensor:
    """Share of the mass formed at each age: a declining disc, a burst, the recent rate."""
    edges = torch.cat([LOG_AGE_NODES - AGE_STEP / 2, LOG_AGE_NODES[-1:] + AGE_STEP / 2])
    years = 10**edges
    past = (torch.exp(years[1:] / decline) - torch.exp(years[:-1] / decline)) * decline
    past = past / past.sum()
    # Williams et al. 2017 find M31's latest strong episode 2 to 4 Gyr ago; its strength varies.
    episode = torch.exp(-0.5 * ((LOG_AGE_NODES - 9.45) / 0.12) ** 2)
    past = past + 0.3 * burst * episode / episode.sum()
    young = LOG_AGE_NODES <= RECENT_LOG_AGE
    formed = past / past[~young].sum() * density
    # Msun/yr/kpc2 times years, per pc2.
    now = recent * years.diff() * 1e-6 * 10 ** (0.2 * per_age)
    formed = torch.where(young, now, formed)
    return formed / formed.sum()
