"""What a redshift survey records of a cluster: velocities, errors, and which galaxies it misses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melotte.ragged import Ragged
from melotte.sky.cosmology import SPEED_OF_LIGHT, Cosmology

SOLAR_R_MAGNITUDE = 4.65
"""Absolute magnitude of the Sun in SDSS r, AB (Willmer 2018, ApJS 236, 47, table 3)."""

LOG_MASS_TO_LIGHT_R = 0.35
"""log10 of the stellar mass-to-light ratio in r, solar units, of a red galaxy of g-r = 0.75:
Bell et al. 2003, ApJS 149, 289, table 7 (-0.306 + 1.097 (g-r)), less 0.15 for a Kroupa mass
function."""

LOWEST_REDSHIFT = 1e-3
CENTRING_ROUNDS = 6


def relativistic_sum(first: Tensor, second: Tensor) -> Tensor:
    """Two line-of-sight velocities, km/s, one on top of the other.

    The Doppler factors sqrt((1 + v/c)/(1 - v/c)) multiply, as those of the Hubble flow and of a
    peculiar velocity do in an observed redshift.

    References
    ----------
    Einstein 1905; used for mock catalogues by Ho et al. 2019, section 2.
    """
    return (first + second) / (1 + first * second / SPEED_OF_LIGHT**2)


def cluster_frame_velocity(redshift: Tensor, cluster_redshift: Tensor) -> Tensor:
    """Line-of-sight velocity in the frame of a cluster, c (z - z_c)/(1 + z_c), km/s.

    References
    ----------
    Danese, de Zotti & di Tullio 1980, A&A 82, 322.
    """
    return SPEED_OF_LIGHT * (redshift - cluster_redshift) / (1 + cluster_redshift)


def measured_velocity(
    velocity: Tensor, error: Tensor, cluster_redshift: Tensor, generator: torch.Generator
) -> Tensor:
    """Velocities in the cluster's frame with the noise of the redshifts.

    Parameters
    ----------
    velocity : Tensor, shape (n_galaxies,), km/s, in the cluster's frame
    error : Tensor, shape (n_galaxies,), km/s
        Standard deviation of c z as observed; it shrinks by 1 + z_c in the cluster's frame.
    cluster_redshift : Tensor, shape (n_galaxies,)
    generator : torch.Generator
    """
    normal = torch.randn(velocity.shape, generator=generator, device=velocity.device)
    return velocity + error / (1 + cluster_redshift) * normal


def red_galaxy_mass(magnitude: Tensor | float, redshift: Tensor, cosmology: Cosmology) -> Tensor:
    """Stellar mass of a red galaxy from its apparent r magnitude.

    Parameters
    ----------
    magnitude : Tensor or float, mag
        SDSS r, AB, corrected for dust.
    redshift : Tensor
        Values below 0.001 count as 0.001. The K correction is one magnitude a unit redshift.
    cosmology : Cosmology

    Returns
    -------
    Tensor, shape of both broadcast, log10(stellar mass/Msun)
        With one mass-to-light ratio, ``LOG_MASS_TO_LIGHT_R``, for all; NaN where an input is.
    """
    at = redshift.clamp(min=LOWEST_REDSHIFT)
    absolute = magnitude - cosmology.distance_modulus(at) - at
    return LOG_MASS_TO_LIGHT_R - 0.4 * (absolute - SOLAR_R_MAGNITUDE)


def magnitude_limited_mass(magnitude: float, redshift: Tensor, cosmology: Cosmology) -> Tensor:
    """Lowest stellar mass of a red galaxy brighter than an apparent r magnitude.

    As :func:`red_galaxy_mass`; bluer galaxies below it are still seen.
    """
    return red_galaxy_mass(magnitude, redshift, cosmology)


def radial_completeness(
    radius: Tensor, aperture: Tensor, level: Tensor, gradient: Tensor
) -> Tensor:
    """Chance that a galaxy has a redshift, level [1 + gradient (R/aperture - 1/2)] within [0, 1].

    Parameters
    ----------
    radius, aperture : Tensor, shapes that broadcast, any one unit
    level : Tensor, 0 to 1
        Half way to the edge.
    gradient : Tensor
        Positive where a crowded centre was missed, negative where the outskirts were.
    """
    return (level * (1 + gradient * (radius / aperture - 0.5))).clamp(0, 1)


def fibre_collisions(
    position: Ragged, separation: Tensor, loss: float, generator: torch.Generator
) -> Tensor:
    """Which galaxies keep a fibre where fibres cannot be placed close together.

    Galaxies are given fibres in random order; one that lies too near a galaxy earlier in the order
    loses its own with the given chance (overlapping plates give some of them another).

    Parameters
    ----------
    position : Ragged, values of shape (n_galaxies, 2)
        Projected positions.
    separation : Tensor, shape (n_sets,), unit of the positions
        Smallest distance of two fibres; 55 arcsec in SDSS (Strauss et al. 2002, AJ 124, 1810).
    loss : float, 0 to 1
    generator : torch.Generator

    Returns
    -------
    BoolTensor, shape (n_galaxies,)
    """
    values, index = position.values, position.index
    n = len(values)
    device = values.device
    order = torch.rand(n, generator=generator, device=device)
    unlucky = torch.rand(n, generator=generator, device=device) < loss
    # Neighbours lie in the 3 x 3 cells around a galaxy's own when cells are one separation wide.
    scale = separation[index].clamp(min=1e-6)
    pairs = _close_pairs(values / scale[:, None], index)
    first, second = pairs
    apart = (values[first] - values[second]).norm(dim=-1)
    blocked = torch.zeros(n, dtype=torch.bool, device=device)
    near = (apart < separation[index[first]]) & (order[second] < order[first])
    blocked[first[near]] = True
    return ~(blocked & unlucky)


def angular_separation(arcsec: float, redshift: Tensor, cosmology: Cosmology) -> Tensor:
    """Comoving length, Mpc/h, across an angle at a redshift."""
    return cosmology.comoving_distance(redshift) * math.radians(arcsec / 3600)


def segment_median(values: Tensor, index: Tensor, n_sets: int) -> Tensor:
    """Median of the elements of each set (the mean of the middle two), NaN where empty.

    Parameters
    ----------
    values : Tensor, shape (n_elements,)
    index : Tensor of int64, shape (n_elements,)
        The set of each element, in any order.
    n_sets : int
    """
    by_value = torch.argsort(values, stable=True)
    order = by_value[torch.argsort(index[by_value], stable=True)]
    counts = torch.bincount(index, minlength=n_sets)
    starts = counts.cumsum(0) - counts
    last = max(len(values) - 1, 0)
    ordered = torch.cat([values[order], values.new_full((1,), torch.nan)])
    low = ordered[(starts + (counts - 1).clamp(min=0) // 2).clamp(max=last)]
    high = ordered[(starts + counts // 2).clamp(max=last)]
    return torch.where(counts > 0, 0.5 * (low + high), torch.nan)


def recentred_velocity(
    velocity: Tensor, index: Tensor, eligible: Tensor, velocity_cut: Tensor
) -> Tensor:
    """Velocities from the median of the galaxies within the cut about that median.

    Six rounds from the velocities as given; a cluster without galaxies stays where it is.

    Parameters
    ----------
    velocity : Tensor, shape (n_galaxies,), km/s
    index : Tensor of int64, shape (n_galaxies,)
    eligible : BoolTensor, shape (n_galaxies,)
        Galaxies that count, such as those in the aperture.
    velocity_cut : Tensor, shape (n_clusters,), km/s
    """
    n_sets = len(velocity_cut)
    centre = torch.zeros_like(velocity_cut)
    for _ in range(CENTRING_ROUNDS):
        used = eligible & ((velocity - centre[index]).abs() < velocity_cut[index])
        median = segment_median(velocity[used], index[used], n_sets)
        centre = torch.where(torch.isfinite(median), median, centre)
    return velocity - centre[index]


def _close_pairs(scaled: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Ordered pairs of one set in the same or neighbouring unit cells."""
    cell = torch.floor(scaled).long()
    cell = cell - cell.amin(0) + 1 if len(cell) else cell
    span = cell.amax(0) + 2 if len(cell) else cell.new_ones(2)
    key = (index * span[0] + cell[:, 0]) * span[1] + cell[:, 1]
    ordered, order = torch.sort(key)
    first, second = [], []
    elements = torch.arange(len(key), device=key.device)
    for across in (-1, 0, 1):
        for along in (-1, 0, 1):
            wanted = key + across * span[1] + along
            begin = torch.searchsorted(ordered, wanted)
            counts = torch.searchsorted(ordered, wanted, right=True) - begin
            mine = torch.repeat_interleave(elements, counts)
            step = torch.arange(len(mine), device=key.device)
            step = step - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
            other = order[begin[mine] + step]
            first.append(mine)
            second.append(other)
    one, two = torch.cat(first), torch.cat(second)
    different = one != two
    return one[different], two[different]
