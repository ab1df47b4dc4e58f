"""Haloes in front of, around and behind a cluster, whose galaxies are taken for its members.

Haloes are a Poisson process of density n(M) [1 + boost b_cluster b(M) xi(r)] in a cylinder along
the line of sight, at rest in the Hubble flow but for their infall and a random motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.sky.cosmology import GRAVITATIONAL_CONSTANT
from melotte.sky.halo_statistics import (
    HaloMasses,
    HaloStatistics,
    growth_factor,
    virial_radius,
)

MARGIN_ACROSS = 2.5
"""Comoving Mpc/h outside the aperture in which haloes can still have a galaxy within."""

LIGHT_MARGIN_ACROSS = 0.4
"""The same for haloes below 10^12 Msun/h, whose R200c is at most 0.21 below redshift 0.6."""

MARGIN_ALONG = 14.0
"""Comoving Mpc/h beyond the velocity cut's Hubble distance, likewise for infall and dispersion."""

INNERMOST = 0.8
"""In R200c of the cluster: within, the correlation function is taken as constant."""

HEAVIEST = 3.0
"""A halo more than this times heavier would be the cluster itself."""

EXCLUSION = (1.3, 0.3)
"""A halo's centre stays outside 1.3 R200c of the cluster plus 0.3 of its own: else it is a
subgroup."""

OVERDENSITY_WITHIN = 1.15
"""The cluster's own mass beyond R200c, in M200c, that pulls the infalling haloes."""

HIGHEST_INFALL = 1.1
"""In units of the escape velocity from the cluster's mass as a point."""

REFERENCE_REDSHIFT = 0.117
"""Where the random motion of haloes was tuned (the snapshot of Ho et al. 2019)."""


@dataclass(frozen=True)
class Environment:
    """How haloes surround a cluster.

    Parameters
    ----------
    log_lowest_mass : float
        log10 of the lowest halo mass, Msun/h.
    log_lightest_mass : float, optional
        Light haloes, from here to ``log_lowest_mass``, lie around clusters too.
    centring_error : float, comoving Mpc/h
        Light haloes reach four times so much further out.
    correlation_boost : float
        Clustering over that of linear theory.
    random_motion : float, km/s
        One-dimensional, of haloes about their infall, at redshift 0.117.
    """

    log_lowest_mass: float = 12.0
    log_lightest_mass: float | None = None
    centring_error: float = 0.0
    correlation_boost: float = 1.7
    random_motion: float = 250.0


@dataclass(frozen=True)
class Neighbours:
    """Haloes around a batch of clusters; tensors of shape (n_haloes,) and (n_haloes, 3).

    ``cluster`` says around which; ``log_mass`` is log10(M200c/(Msun/h)); ``position`` comoving
    Mpc/h and ``velocity`` peculiar km/s are from the cluster's centre, the last axis along the
    line of sight.
    """

    cluster: Tensor
    log_mass: Tensor
    position: Tensor
    velocity: Tensor

    def select(self, keep: Tensor) -> Neighbours:
        """Some of the haloes."""
        return Neighbours(
            self.cluster[keep], self.log_mass[keep], self.position[keep], self.velocity[keep]
        )


class _Population:
    """Haloes in a range of mass, and how far outside an aperture they matter, comoving Mpc/h."""

    def __init__(
        self, statistics: HaloStatistics, lowest: float, highest: float, margin: float
    ) -> None:
        self.uniform: HaloMasses = statistics.masses(lowest, highest)
        self.biased: HaloMasses = statistics.masses(lowest, highest, biased=True)
        self.margin = margin


@dataclass(frozen=True)
class _Cylinders:
    """What haloes are drawn in; tensors of shape (n_clusters,), lengths comoving Mpc/h."""

    redshift: Tensor
    across: Tensor
    half_length: Tensor
    bias: Tensor
    inner: Tensor
    density: Tensor


class Surroundings:
    """Draws the haloes around clusters.

    Parameters
    ----------
    environment : Environment
    statistics : HaloStatistics
    """

    def __init__(self, environment: Environment, statistics: HaloStatistics) -> None:
        self.environment = environment
        self.statistics = statistics
        lowest, highest = environment.log_lowest_mass, 15.6
        self._reference_growth = growth_factor(statistics.cosmology, REFERENCE_REDSHIFT)
        self._massive = _Population(statistics, lowest, highest, MARGIN_ACROSS)
        self._light = None
        if environment.log_lightest_mass is not None:
            margin = LIGHT_MARGIN_ACROSS + 4 * environment.centring_error
            lightest = environment.log_lightest_mass
            self._light = _Population(statistics, lightest, lowest, margin)

    def draw(
        self,
        log_mass: Tensor,
        redshift: Tensor,
        across: Tensor,
        velocity_cut: Tensor,
        density: Tensor,
        generator: torch.Generator,
        log_lightest: Tensor | None = None,
    ) -> Neighbours:
        """Draw the haloes around each cluster.

        Parameters
        ----------
        log_mass, redshift : Tensor, shape (n_clusters,)
            Of the clusters.
        across : Tensor, shape (n_clusters,)
            Aperture, comoving Mpc/h.
        velocity_cut : Tensor, shape (n_clusters,)
            Largest line-of-sight velocity that is kept, km/s.
        density : Tensor, shape (n_clusters,)
            Factor on the number of haloes.
        generator : torch.Generator
        log_lightest : Tensor, shape (n_clusters,), optional
            log10(M200c/(Msun/h)) of the lightest halo around each cluster, where the environment
            has light haloes; lower values than its own have no effect.
        """
        cosmology = self.statistics.cosmology
        half_length = velocity_cut / cosmology.comoving_hubble_rate(redshift) + MARGIN_ALONG
        bias = self.statistics.bias(log_mass, redshift)
        inner = INNERMOST * virial_radius(log_mass, redshift, cosmology)
        cylinders = _Cylinders(redshift, across, half_length, bias, inner, density)
        cluster, position, mass = self._draw_population(self._massive, cylinders, generator)
        if self._light is not None:
            lowest, highest = self._light.uniform.log_range
            if log_lightest is None:
                log_lightest = torch.full_like(redshift, lowest)
            light = self._draw_population(
                self._light, cylinders, generator, log_lightest.clamp(lowest, highest)
            )
            cluster, position, mass = (
                torch.cat(both) for both in zip((cluster, position, mass), light, strict=True)
            )
        distance = position.norm(dim=-1)
        own = virial_radius(mass, redshift[cluster], cosmology)
        outer = inner[cluster] / INNERMOST
        apart = distance > EXCLUSION[0] * outer + EXCLUSION[1] * own
        apart &= mass < log_mass[cluster] + math.log10(HEAVIEST)
        cluster, position, mass = cluster[apart], position[apart], mass[apart]
        infall = self.infall_velocity(
            distance[apart], log_mass[cluster], redshift[cluster], bias[cluster]
        )
        normal = torch.randn(position.shape, generator=generator, device=position.device)
        motion = self._random_motion(redshift)[cluster]
        velocity = motion[:, None] * normal
        velocity = velocity - (infall / distance[apart])[:, None] * position
        return Neighbours(cluster, mass, position, velocity)

    def _draw_population(
        self,
        population: _Population,
        cylinders: _Cylinders,
        generator: torch.Generator,
        log_lowest: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cluster, position and log mass of haloes, the clustered ones after the uniform ones."""
        statistics, uniform, biased = self.statistics, population.uniform, population.biased
        redshift, half_length = cylinders.redshift, cylinders.half_length
        inner = cylinders.inner
        radius = cylinders.across + population.margin
        area = 2 * math.pi * radius**2 * cylinders.density

        def lowest(owner: Tensor) -> Tensor | None:
            return None if log_lowest is None else log_lowest[owner]

        rate = uniform.density(redshift, log_lowest) * area * half_length
        cluster, position = self._in_cylinders(rate, radius, half_length, generator)
        mass = uniform.draw(redshift[cluster], generator, lowest(cluster))

        flat = inner * statistics.correlation_today(inner)
        along_inner = statistics.correlation_along(inner)
        total = flat + statistics.correlation_along(half_length) - along_inner
        growth = statistics.growth(redshift)
        rate = biased.density(redshift, log_lowest) * cylinders.bias * area * total * growth**2
        rate = rate * self.environment.correlation_boost
        near, clustered = self._in_cylinders(rate, radius, half_length, generator)
        depth, keep = self._clustered_depth(
            clustered[:, :2].square().sum(-1), inner[near], flat[near], total[near],
            along_inner[near], generator,
        )  # fmt: skip
        sign = torch.sign(clustered[:, 2])
        clustered = torch.cat([clustered[:, :2], (sign * depth)[:, None]], -1)[keep]
        near = near[keep]
        near_mass = biased.draw(redshift[near], generator, lowest(near))
        return (
            torch.cat([cluster, near]),
            torch.cat([position, clustered]),
            torch.cat([mass, near_mass]),
        )

    def infall_velocity(
        self, distance: Tensor, log_mass: Tensor, redshift: Tensor, bias: Tensor
    ) -> Tensor:
        """Peculiar velocity towards a cluster, km/s.

        Parameters
        ----------
        distance : Tensor, comoving Mpc/h
        log_mass, redshift, bias : Tensor, of the cluster

        References
        ----------
        Yahil 1985 with the correction of Meiksin, as in Villumsen & Davis 1986, ApJ 308, 499:
        v = a H r f/3 delta (1 + delta)^(-3/16) for the mean overdensity delta within r.
        """
        statistics = self.statistics
        cosmology = statistics.cosmology
        volume = 4 / 3 * math.pi * (cosmology.mean_density / 1e14) * distance**3
        overdensity = OVERDENSITY_WITHIN * torch.pow(10.0, log_mass - 14) / volume
        overdensity = overdensity + bias * statistics.mean_correlation(distance, redshift)
        flow = cosmology.comoving_hubble_rate(redshift) * distance
        speed = flow * cosmology.growth_rate(redshift) / 3
        speed = speed * overdensity * (1 + overdensity) ** (-3 / 16)
        physical = distance / (1 + redshift)
        escape = torch.sqrt(2 * GRAVITATIONAL_CONSTANT * torch.pow(10.0, log_mass) / physical)
        return torch.minimum(speed, HIGHEST_INFALL * escape)

    def _random_motion(self, redshift: Tensor) -> Tensor:
        """Linear theory: velocities grow as a H f D."""
        cosmology = self.statistics.cosmology

        def linear(at: Tensor) -> Tensor:
            return cosmology.comoving_hubble_rate(at) * cosmology.growth_rate(at)

        there = torch.full_like(redshift, REFERENCE_REDSHIFT)
        growth = self.statistics.growth(redshift) / self._reference_growth
        return self.environment.random_motion * growth * linear(redshift) / linear(there)

    def _in_cylinders(
        self, rate: Tensor, radius: Tensor, half_length: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Points uniform in each cylinder, and the cylinder of each."""
        counts = torch.poisson(rate, generator=generator).long()
        cylinder = torch.repeat_interleave(counts)
        uniform = torch.rand(3, len(cylinder), generator=generator, device=rate.device)
        r = radius[cylinder] * torch.sqrt(uniform[0])
        angle = 2 * math.pi * uniform[1]
        depth = half_length[cylinder] * (2 * uniform[2] - 1)
        return cylinder, torch.stack([r * torch.cos(angle), r * torch.sin(angle), depth], -1)

    def _clustered_depth(
        self,
        across_squared: Tensor,
        inner: Tensor,
        flat: Tensor,
        total: Tensor,
        along_inner: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Depths drawn as the correlation function along the axis, and which of them to keep.

        The correlation function falls with distance, so its value on the axis at the same depth
        bounds it: points are kept with the ratio of the two.
        """
        uniform = torch.rand(2, len(inner), generator=generator, device=inner.device)
        integral = uniform[0] * total
        beyond = self.statistics.radius_of_integral(integral - flat + along_inner)
        depth = torch.where(integral < flat, inner * integral / flat, beyond)
        distance = torch.sqrt(across_squared + depth**2)
        here = self.statistics.correlation_today(torch.maximum(distance, inner))
        axis = self.statistics.correlation_today(torch.maximum(depth, inner))
        return depth, uniform[1] * axis < here
