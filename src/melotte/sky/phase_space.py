"""Where galaxies are in a cluster's halo and how they move.

Galaxies trace a halo as an NFW profile of lower concentration. Their velocities follow from the
Jeans equation with constant anisotropy, in haloes that are triaxial, and some of them share the
bulk motion of a subgroup. Positions are comoving Mpc/h, velocities peculiar and in km/s, both
about the halo's centre and along its principal axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from melotte.sky.cosmology import Cosmology
from melotte.sky.halo_statistics import circular_velocity, concentration, virial_radius
from melotte.sky.lookup_tables import lookup, lookup2d

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONCENTRATIONS = (1.8, 12.0, 52)
"""Range and number of halo concentrations in the table of dispersions; others are clamped."""

LOG_RADII = (math.log(5e-3), math.log(8.0), 160)
"""Range and number of ln(r/R200) in the table of dispersions."""

LARGEST_NFW_RADIUS = 40.0
"""In scale radii, of the table that inverts the NFW mass profile."""

LEAST_WITH_SUBGROUPS = 9
"""Galaxies that a halo must have to be given subgroups."""

LEAST_IN_SUBGROUP = 3
LARGEST_SUBGROUP_TOTAL = 0.9
"""Share of a halo's galaxies that all its subgroups may hold."""

MOST_SUBGROUPS = 8
SUBGROUP_CONCENTRATION = 4.0
SUBGROUP_SIZE = 0.7
"""Outer radius of a subgroup in units of its own R200: tides took the rest."""

SUBGROUP_DISPERSION = 0.65
"""One-dimensional dispersion in a subgroup in units of its V200, before its own scatter."""


@dataclass(frozen=True)
class Dynamics:
    """How galaxies populate and move in a halo of given mass.

    Parameters
    ----------
    tracer_concentration : float
        Concentration of the galaxies over that of the halo.
    concentration_scatter : float, dex
    outer_radius : float
        Galaxies reach out to this radius, in R200c.
    anisotropy : float
        1 - sigma_t^2 / sigma_r^2, the same at all radii.
    velocity_scale, velocity_slope : float
        Galaxies are faster than the Jeans equation says by
        velocity_scale (M/10^15)^velocity_slope.
    velocity_scatter : float, dex
        Between haloes of the same mass.
    axis_ratios : ((float, float), (float, float))
        Mean and standard deviation of b/a and of c/a.
    velocity_axes : float
        The velocity ellipsoid's axes are those of the shape to this power.
    subgroup_ratios : (float, float)
        Least and greatest share of the halo's mass in a subgroup.
    subgroup_slope : float
        Slope of the number of subgroups with that share.
    """

    tracer_concentration: float = 0.55
    concentration_scatter: float = 0.13
    outer_radius: float = 1.3
    anisotropy: float = 0.2
    velocity_scale: float = 0.987
    velocity_slope: float = 0.013
    velocity_scatter: float = 0.028
    axis_ratios: tuple[tuple[float, float], tuple[float, float]] = ((0.78, 0.09), (0.62, 0.09))
    velocity_axes: float = 0.35
    subgroup_ratios: tuple[float, float] = (0.04, 0.35)
    subgroup_slope: float = -1.8


@dataclass(frozen=True)
class Haloes:
    """Structure of haloes; tensors of shape (n_haloes,) and (n_haloes, 3).

    ``log_mass`` log10(M200c/(Msun/h)); ``radius`` R200c, comoving Mpc/h; ``velocity`` V200c, km/s;
    ``concentration`` c200c; ``motion`` factor on the Jeans dispersion; ``axes`` of the shape,
    geometric mean 1.
    """

    log_mass: Tensor
    radius: Tensor
    velocity: Tensor
    concentration: Tensor
    motion: Tensor
    axes: Tensor

    def __len__(self) -> int:
        return len(self.log_mass)

    def select(self, chosen: Tensor | slice) -> Haloes:
        """Some of the haloes."""
        return Haloes(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


class PhaseSpace:
    """Draws galaxies of haloes.

    Parameters
    ----------
    dynamics : Dynamics
    cosmology : Cosmology
    device : torch.device or str
    """

    def __init__(
        self, dynamics: Dynamics, cosmology: Cosmology, device: torch.device | str = "cpu"
    ) -> None:
        self.dynamics = dynamics
        self.cosmology = cosmology
        self.device = torch.device(device)
        self._radius_of_mass, self._root_step = inverse_nfw_table(self.device)
        table = dispersion_table(dynamics.tracer_concentration, dynamics.anisotropy)
        self._dispersion = torch.as_tensor(table, dtype=torch.float32, device=self.device)

    def haloes(
        self,
        log_mass: Tensor,
        redshift: Tensor,
        generator: torch.Generator,
        velocity_bias: Tensor | float = 1.0,
    ) -> Haloes:
        """Draw the structure of haloes.

        Parameters
        ----------
        log_mass, redshift : Tensor, shape (n_haloes,)
        generator : torch.Generator
        velocity_bias : Tensor (n_haloes,) or float
            Further factor on the galaxies' velocities.
        """
        model, n = self.dynamics, len(log_mass)
        normal = torch.randn(4, n, generator=generator, device=self.device)
        (ba, ba_width), (ca, ca_width) = model.axis_ratios
        middle = (ba + ba_width * normal[0]).clamp(0.45, 1.0)
        shortest = torch.minimum((ca + ca_width * normal[1]).clamp(min=0.35), middle)
        axes = torch.stack([torch.ones_like(middle), middle, shortest], -1)
        motion = model.velocity_scale * torch.pow(
            10.0, model.velocity_slope * (log_mass - 15) + model.velocity_scatter * normal[3]
        )
        scatter = torch.pow(10.0, model.concentration_scatter * normal[2])
        return Haloes(
            log_mass=log_mass,
            radius=virial_radius(log_mass, redshift, self.cosmology),
            velocity=circular_velocity(log_mass, redshift, self.cosmology),
            concentration=(concentration(log_mass, redshift) * scatter).clamp(2.0, 12.0),
            motion=motion * velocity_bias,
            axes=axes / axes.prod(-1, keepdim=True) ** (1 / 3),
        )

    def galaxies(
        self, haloes: Haloes, halo: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw galaxies of the smooth halo.

        Parameters
        ----------
        haloes : Haloes
        halo : Tensor of int64, shape (n_galaxies,)
            The halo that each galaxy belongs to.
        generator : torch.Generator

        Returns
        -------
        position, velocity : Tensor, shape (n_galaxies, 3)
        """
        model, n = self.dynamics, len(halo)
        own = haloes.select(halo)
        radius = self.nfw_radius(
            own.concentration * model.tracer_concentration, model.outer_radius, generator
        )
        direction = random_directions(n, generator)
        radial = self.dispersion(radius, own.concentration) * own.velocity * own.motion
        along, *across = torch.randn(4, n, generator=generator, device=self.device)
        tangential = torch.stack(across, -1)
        tangential = tangential - (tangential * direction).sum(-1, keepdim=True) * direction
        velocity = radial[:, None] * (
            along[:, None] * direction + math.sqrt(1 - model.anisotropy) * tangential
        )
        ellipsoid = own.axes**model.velocity_axes
        ellipsoid = ellipsoid / torch.sqrt((ellipsoid**2).mean(-1, keepdim=True))
        position = (radius * own.radius)[:, None] * direction * own.axes
        return position, velocity * ellipsoid

    def members(
        self,
        haloes: Haloes,
        counts: Tensor,
        subgroup_rate: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw all galaxies of haloes with subgroups.

        Parameters
        ----------
        haloes : Haloes
        counts : Tensor of int64, shape (n_haloes,)
        subgroup_rate : Tensor, shape (n_haloes,)
            Mean number of subgroups.
        generator : torch.Generator

        Returns
        -------
        position, velocity : Tensor, shape (n_galaxies, 3)
            One halo after another.
        subgroup : Tensor of int64, shape (n_galaxies,)
            Number of the subgroup in its halo, -1 in the smooth part.
        """
        halo = torch.repeat_interleave(counts)
        position, velocity = self.galaxies(haloes, halo, generator)
        share, subgroup = self._assign_subgroups(halo, counts, subgroup_rate, generator)
        inside = torch.nonzero(subgroup >= 0)[:, 0]
        numbers = torch.nonzero(share > 0)
        centre, bulk = self.galaxies(haloes, numbers[:, 0], generator)
        uniform = torch.rand(2, len(numbers), generator=generator, device=self.device)
        centre = centre * (1 + 0.25 * uniform[0])[:, None]
        own_scale = share[share > 0] ** (1 / 3)
        size = SUBGROUP_SIZE * own_scale * haloes.radius[numbers[:, 0]]
        spread = (0.7 + 0.3 * uniform[1]) * SUBGROUP_DISPERSION * own_scale
        spread = spread * haloes.velocity[numbers[:, 0]]
        place = torch.full_like(share, -1, dtype=torch.int64)
        place[numbers[:, 0], numbers[:, 1]] = torch.arange(len(numbers), device=self.device)
        group = place[halo[inside], subgroup[inside]]
        flat = torch.full_like(size[group], SUBGROUP_CONCENTRATION)
        offset = self.nfw_radius(flat, 1.0, generator) * size[group]
        around = offset[:, None] * random_directions(len(inside), generator)
        thermal = torch.randn(len(inside), 3, generator=generator, device=self.device)
        position[inside] = centre[group] + around
        velocity[inside] = bulk[group] + spread[group, None] * thermal
        return position, velocity, subgroup

    def nfw_radius(self, concentration: Tensor, outer: float, generator: torch.Generator) -> Tensor:
        """Draw radii from NFW profiles of given concentration, out to ``outer``.

        Radii are in units of that in which the concentration is counted.
        """
        uniform = torch.rand(concentration.shape, generator=generator, device=self.device)
        root = torch.sqrt(uniform * nfw_mass(concentration * outer))
        scaled = lookup(self._radius_of_mass, root / self._root_step)
        return torch.minimum(scaled / concentration, torch.tensor(outer, device=self.device))

    def dispersion(self, radius: Tensor, concentration: Tensor) -> Tensor:
        """Radial velocity dispersion in units of V200c at radii in units of R200c."""
        low, high, n = CONCENTRATIONS
        first, last, n_radii = LOG_RADII
        row = (concentration - low) * ((n - 1) / (high - low))
        column = (torch.log(radius.clamp(min=1e-6)) - first) * ((n_radii - 1) / (last - first))
        return lookup2d(self._dispersion, row, column)

    def _assign_subgroups(
        self, halo: Tensor, counts: Tensor, rate: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Shares (n_haloes, MOST_SUBGROUPS) of subgroups, and which each galaxy is in, or -1."""
        n_haloes = len(counts)
        low, high = self.dynamics.subgroup_ratios
        power = self.dynamics.subgroup_slope + 1
        number = torch.poisson(rate, generator=generator)
        number = torch.where(counts >= LEAST_WITH_SUBGROUPS, number, torch.zeros_like(number))
        shape = (n_haloes, MOST_SUBGROUPS)
        uniform = torch.rand(shape, generator=generator, device=self.device)
        share = (low**power + uniform * (high**power - low**power)) ** (1 / power)
        slots = torch.arange(MOST_SUBGROUPS, device=self.device)
        share = torch.where(slots < number[:, None], share, torch.zeros_like(share))
        edges = share.cumsum(1)
        share = torch.where(edges <= LARGEST_SUBGROUP_TOTAL, share, torch.zeros_like(share))
        edges = share.cumsum(1)
        uniform = torch.rand(len(halo), generator=generator, device=self.device)
        subgroup = torch.searchsorted(edges[halo], uniform[:, None], right=True)[:, 0]
        slot = halo * (MOST_SUBGROUPS + 1) + subgroup
        filled = torch.bincount(slot, minlength=n_haloes * (MOST_SUBGROUPS + 1))
        smooth = (subgroup == MOST_SUBGROUPS) | (filled[slot] < LEAST_IN_SUBGROUP)
        filled = filled.reshape(n_haloes, -1)[:, :MOST_SUBGROUPS]
        share = torch.where(filled >= LEAST_IN_SUBGROUP, share, torch.zeros_like(share))
        return share, torch.where(smooth, -1, subgroup)


def nfw_mass(scaled_radius: Tensor) -> Tensor:
    """Mass of an NFW profile within a radius in scale radii, in units of 4 pi rho_s r_s^3.

    References
    ----------
    Navarro, Frenk & White 1996, ApJ 462, 563, Eq. 3 integrated.
    """
    return torch.log1p(scaled_radius) - scaled_radius / (1 + scaled_radius)


def inverse_nfw_table(device: torch.device) -> tuple[Tensor, float]:
    """Scaled radius at evenly spaced square roots of :func:`nfw_mass`, and their spacing.

    The mass rises as the radius squared near the centre, so its root is smooth there.
    """
    radius = np.concatenate([[0.0], np.geomspace(1e-5, LARGEST_NFW_RADIUS, 20_000)])
    # The difference loses all digits near the centre, where the series is exact.
    mass = np.where(
        radius < 1e-3, radius**2 / 2 - 2 * radius**3 / 3, np.log1p(radius) - radius / (1 + radius)
    )
    root = np.linspace(0, np.sqrt(mass[-1]), 4096)
    table = np.interp(root, np.sqrt(mass), radius)
    return torch.as_tensor(table, dtype=torch.float32, device=device), float(root[1])


@lru_cache(maxsize=8)
def dispersion_table(ratio: float, anisotropy: float) -> NDArray[np.float64]:
    """Radial dispersion over V200c of tracers in NFW haloes, (n_concentrations, n_radii).

    The Jeans equation for constant anisotropy beta has the solution
    nu sigma_r^2 = r^(-2 beta) int_r^inf nu s^(2 beta) G M(s)/s^2 ds; the tracers' density nu is
    an NFW profile of ``ratio`` times the halo's concentration.

    References
    ----------
    Binney & Tremaine 2008, Eq. 4.216; Lokas & Mamon 2001, MNRAS 321, 155.
    """
    at = np.exp(np.linspace(*LOG_RADII))
    grid = np.geomspace(at[0], 100.0, 4000)
    log_grid = np.log(grid)
    rows = []
    for c in np.linspace(*CONCENTRATIONS):
        tracer = 1 / ((ratio * c * grid) * (1 + ratio * c * grid) ** 2)
        mass = (np.log1p(c * grid) - c * grid / (1 + c * grid)) / (np.log1p(c) - c / (1 + c))
        force = tracer * mass * grid ** (2 * anisotropy - 1)
        inward = np.concatenate(
            [[0.0], np.cumsum(0.5 * (force[1:] + force[:-1]) * np.diff(log_grid))]
        )
        pressure = (inward[-1] - inward) / (tracer * grid ** (2 * anisotropy))
        rows.append(np.sqrt(np.interp(np.log(at), log_grid, pressure)))
    return np.array(rows)


def random_directions(n: int, generator: torch.Generator) -> Tensor:
    """Isotropic unit vectors, shape (n, 3)."""
    vector = torch.randn(n, 3, generator=generator, device=generator.device)
    return vector / vector.norm(dim=-1, keepdim=True)


def random_rotations(n: int, generator: torch.Generator) -> Tensor:
    """Rotation matrices drawn uniformly from all orientations, shape (n, 3, 3).

    References
    ----------
    Shoemake 1992, Graphics Gems III, p. 124: a normalised quaternion of normal deviates.
    """
    quaternion = torch.randn(n, 4, generator=generator, device=generator.device)
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, -1).reshape(n, 3, 3)
