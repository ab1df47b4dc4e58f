"""A field of a galaxy drawn star by star: bright stars singly, all others as smooth light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.sky.composite_light import LOG_AGE_NODES, CompositeLight, StarBins
from melotte.sky.galaxy_fields import NEWBORN_LOG_AGE, RECENT_LOG_AGE, FieldEnvironment
from melotte.sky.random_fields import filamentary_field, gaussian_field, lognormal_map

_MAGNITUDE = 0.4 * math.log(10)
DUST_SLOPE, YOUNG_SLOPE = -2.8, -2.2
LIGHTEST_ASSOCIATION, HEAVIEST_ASSOCIATION = 50.0, 3e4
"""Msun; the mass function between them goes as M^-2."""
ASSOCIATION_RADIUS = 12.0
"""Median standard deviation of a newborn association's stars on each axis, pc."""


@dataclass(frozen=True)
class FieldScene:
    """A field before the telescope; light is in stars of absolute magnitude 0, dust applied.

    Parameters
    ----------
    positions : Tensor, shape (n_stars, 2), pixels
        x and y; the first pixel reaches from -0.5 to 0.5.
    light : Tensor, shape (n_stars, n_bands)
        Of the stars drawn singly.
    smooth : Tensor, shape (n_bands, size, size)
        Expected light of all other stars, per pixel.
    fluctuation : Tensor, shape (n_bands, n_bands)
        Covariance between bands of the light of all other stars in a pixel of mean density.
    fluctuation_scale : Tensor, shape (n_bands, size, size)
        By which the square root of that covariance is larger in each pixel.
    dust : Tensor, shape (size, size), A_V mag of the screen, foreground included
    formed_mass : float, Msun, expected in the field
    """

    positions: Tensor
    light: Tensor
    smooth: Tensor
    fluctuation: Tensor
    fluctuation_scale: Tensor
    dust: Tensor
    formed_mass: float


def draw_scene(
    environment: FieldEnvironment,
    composite: CompositeLight,
    size: int,
    pixel_size: float,
    reference: Tensor,
    generator: torch.Generator,
    most_stars: int = 200_000,
) -> FieldScene:
    """Draw the stars of a field.

    Parameters
    ----------
    environment : FieldEnvironment
    composite : CompositeLight
    size : int, pixels along a side
    pixel_size : float, pc
    reference : Tensor, shape (n_bands,)
        Luminosity, in stars of absolute magnitude 0 and seen through the foreground dust, of a
        star that is just lost in the noise. Stars above a tenth of it in any band are drawn
        singly, but no more than about ``most_stars``: then the limit rises.
    generator : torch.Generator, on the CPU
    most_stars : int

    Returns
    -------
    FieldScene
    """
    area = (size * pixel_size) ** 2
    formed = environment.stellar_density * area
    maps = _Maps.draw(environment, size, pixel_size, generator)
    per_mass = composite.mixture(environment.metallicity_shares)
    mass = formed * torch.tensor(environment.age_shares, dtype=torch.float64)
    clusters = _Associations.draw(environment, mass, maps.young, pixel_size, generator)
    bins = per_mass.weighted(mass * (1 - environment.clustered_share) + clusters.mass_by_age)
    bright = _bright(bins, reference, most_stars)
    singly, rest = bins.where(bright), bins.where(~bright)
    count = torch.poisson(singly.number, generator=generator).long()
    drawn = torch.repeat_interleave(torch.arange(len(count)), count)
    positions = _place(singly.age[drawn], environment, mass, clusters, maps, generator)
    light = _light(singly, drawn, positions, environment, maps, generator)
    smooth, covariance, scale = _unresolved(rest, environment, maps)
    return FieldScene(
        positions,
        light,
        smooth,
        covariance,
        scale,
        maps.screen + environment.foreground_extinction,
        formed,
    )


@dataclass(frozen=True)
class _Maps:
    """Densities of mean 1 and the dust screen in A_V, each (size, size)."""

    old: Tensor
    mixed: Tensor
    young: Tensor
    screen: Tensor

    def by_age(self, age: Tensor) -> tuple[tuple[Tensor, Tensor, bool], ...]:
        """(whose, density, whether among the dust) of stars of given numbers of ages."""
        log_age = LOG_AGE_NODES[age]
        recent, newborn = log_age <= RECENT_LOG_AGE, log_age <= NEWBORN_LOG_AGE
        return (
            (~recent, self.old, False),
            (recent & ~newborn, self.mixed, True),
            (newborn, self.young, True),
        )

    @classmethod
    def draw(
        cls,
        environment: FieldEnvironment,
        size: int,
        pixel_size: float,
        generator: torch.Generator,
    ) -> _Maps:
        clouds = filamentary_field(size, DUST_SLOPE, generator)
        own = gaussian_field(size, YOUNG_SLOPE, generator)
        along = environment.dust_correlation
        crowd = along * clouds + math.sqrt(1 - along**2) * own
        place = (torch.arange(size) - (size - 1) / 2) * pixel_size / 1000
        slope_x, slope_y = environment.density_gradient
        old = torch.exp(-(slope_x * place[None] + slope_y * place[:, None]).clamp(-3, 3))
        young = old * lognormal_map(crowd, environment.clumping)
        mixed = old * lognormal_map(own, 0.4 * environment.clumping)
        screen = environment.extinction_v * lognormal_map(clouds, environment.extinction_clumping)
        return cls(old / old.mean(), mixed / mixed.mean(), young / young.mean(), screen)


@dataclass(frozen=True)
class _Associations:
    """Groups of coeval stars: the age's number, mass formed, centre (x, y) and width in pixels."""

    age: Tensor
    mass: Tensor
    centre: Tensor
    width: Tensor

    @property
    def mass_by_age(self) -> Tensor:
        return torch.zeros(len(LOG_AGE_NODES), dtype=torch.float64).index_add_(
            0, self.age, self.mass
        )

    @classmethod
    def draw(
        cls,
        environment: FieldEnvironment,
        mass: Tensor,
        young: Tensor,
        pixel_size: float,
        generator: torch.Generator,
    ) -> _Associations:
        expected = mass * environment.clustered_share
        low, high = LIGHTEST_ASSOCIATION, HEAVIEST_ASSOCIATION
        mean = math.log(high / low) / (1 / low - 1 / high)
        number = torch.poisson(expected / mean, generator=generator).long()
        age = torch.repeat_interleave(torch.arange(len(number)), number)
        n = len(age)
        uniform = torch.rand(n, dtype=torch.float64, generator=generator)
        masses = 1 / (1 / low - uniform * (1 / low - 1 / high))
        # Associations widen by about 1 km/s, a parsec in a million years.
        million_years = 10 ** (LOG_AGE_NODES[age] - 6)
        birth = ASSOCIATION_RADIUS * torch.exp(
            0.5 * torch.randn(n, dtype=torch.float64, generator=generator)
        )
        width = torch.hypot(birth, 0.7 * million_years) / pixel_size
        centre = _positions_from(young, n, generator)
        return cls(age, masses, centre, width.float())


def _bright(bins: StarBins, reference: Tensor, most_stars: int) -> Tensor:
    """Which bins' stars are drawn singly."""
    brightness = (torch.exp(bins.log_light.amax(1)) / reference).amax(1)
    order = torch.argsort(brightness, descending=True)
    total = bins.number[order].cumsum(0)
    bright = torch.zeros(len(order), dtype=torch.bool)
    bright[order[total <= most_stars]] = True
    return bright & (brightness > 0.1)


def _positions_from(density: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw n positions (x, y), pixels, from a map of relative density; shape (n, 2)."""
    cumulative = density.double().reshape(-1).cumsum(0)
    uniform = torch.rand(n, dtype=torch.float64, generator=generator) * cumulative[-1]
    pixel = torch.searchsorted(cumulative, uniform, right=True).clamp(max=density.numel() - 1)
    inside = torch.rand(n, 2, generator=generator) - 0.5
    columns = density.shape[1]
    return torch.stack([pixel % columns, pixel // columns], 1).float() + inside


def _place(
    age: Tensor,
    environment: FieldEnvironment,
    mass: Tensor,
    clusters: _Associations,
    maps: _Maps,
    generator: torch.Generator,
) -> Tensor:
    """Positions of stars of given ages, pixels, shape (n_stars, 2)."""
    positions = torch.empty(len(age), 2)
    in_clusters = clusters.mass_by_age
    apart = mass * (1 - environment.clustered_share)
    share = in_clusters / (in_clusters + apart).clamp(min=1e-30)
    clustered = torch.rand(len(age), dtype=torch.float64, generator=generator) < share[age]
    for group, density, _ in maps.by_age(age):
        chosen = group & ~clustered
        positions[chosen] = _positions_from(density, int(chosen.sum()), generator)
    members = age[clustered]
    if len(members):
        reach = torch.cat([clusters.mass.new_zeros(1), clusters.mass.cumsum(0)])
        last = torch.searchsorted(clusters.age, members, right=True)
        first = torch.searchsorted(clusters.age, members)
        uniform = torch.rand(len(members), dtype=torch.float64, generator=generator)
        wanted = reach[first] + uniform * (reach[last] - reach[first])
        group = torch.searchsorted(reach, wanted, right=True) - 1
        group = torch.minimum(torch.maximum(group, first), last - 1)
        scatter = torch.randn(len(members), 2, generator=generator)
        positions[clustered] = clusters.centre[group] + clusters.width[group, None] * scatter
    return positions


def _light(
    bins: StarBins,
    drawn: Tensor,
    positions: Tensor,
    environment: FieldEnvironment,
    maps: _Maps,
    generator: torch.Generator,
) -> Tensor:
    """Luminosities of drawn stars behind their dust, shape (n_stars, n_bands)."""
    part = torch.rand(len(drawn), 1, generator=generator)
    low, high = bins.log_light[:, 0], bins.log_light[:, 1]
    log_light = low[drawn] + part * (high - low)[drawn]
    size = maps.screen.shape[-1]
    column, row = positions.round().long().clamp(0, size - 1).unbind(1)
    depth = torch.rand(len(drawn), generator=generator)
    recent = LOG_AGE_NODES[bins.age[drawn]] <= RECENT_LOG_AGE
    # Young stars are mixed with the dust; the old disc is thicker, partly before, partly behind.
    behind = torch.where(recent, depth, (depth < environment.reddened_share).float())
    dust = environment.foreground_extinction + maps.screen[row, column] * behind
    return torch.exp(log_light - _MAGNITUDE * bins.extinction[drawn] * dust[:, None])


def _unresolved(
    bins: StarBins, environment: FieldEnvironment, maps: _Maps
) -> tuple[Tensor, Tensor, Tensor]:
    """Expected light per pixel, and covariance and scale of its fluctuations."""
    n_bands, n_pixels = bins.log_light.shape[-1], maps.old.numel()
    mean = bins.mean_light
    smooth = torch.zeros(n_bands, *maps.old.shape)
    squares = torch.zeros(n_bands, *maps.old.shape)
    covariance = torch.zeros(n_bands, n_bands, dtype=torch.float64)
    for chosen, density, mixed_with_dust in maps.by_age(bins.age):
        share = 0.5 if mixed_with_dust else environment.reddened_share
        number, light = bins.number[chosen], mean[chosen]
        total = (number[:, None] * light).sum(0)
        second = torch.einsum("i,ib,ic->bc", number, light, light)
        covariance += second / n_pixels
        ratio = (number[:, None] * light * bins.extinction[chosen]).sum(0) / total.clamp(min=1e-30)
        for band in range(n_bands):
            slope = _MAGNITUDE * float(ratio[band])
            clear = math.exp(-slope * environment.foreground_extinction)
            veil = torch.exp(-slope * maps.screen)
            seen = clear * density
            smooth[band] += float(total[band]) / n_pixels * seen * (1 - share + share * veil)
            squares[band] += (
                float(second[band, band]) / n_pixels * clear * seen * (1 - share + share * veil**2)
            )
    variance = covariance.diagonal().clamp(min=1e-30).float()
    return smooth, covariance.float(), torch.sqrt(squares / variance[:, None, None])
