"""Populations of stars: binaries, their joint light, and whole clusters of given mass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.sky.imf import InitialMassFunction, Kroupa2001
from melotte.sky.isochrone_tables import SHARED_FROM
from melotte.sky.isochrones import Stars, StellarGrid
from melotte.sky.remnants import remnant_mass

_MAGNITUDE = 0.4 * math.log(10)


def combine_magnitudes(first: Tensor, second: Tensor) -> Tensor:
    """Magnitude of two sources seen as one: their fluxes add.

    Parameters
    ----------
    first, second : Tensor, shapes that broadcast, mag
        +inf is no light; NaN gives NaN.

    Returns
    -------
    Tensor, the broadcast shape, mag
    """
    return -torch.logaddexp(-_MAGNITUDE * first, -_MAGNITUDE * second) / _MAGNITUDE


def integrated_magnitude(magnitudes: Tensor, dim: int = -2) -> Tensor:
    """Magnitude of many sources seen as one.

    Parameters
    ----------
    magnitudes : Tensor, shape (..., n_stars, n_bands), mag; +inf is no light
    dim : int
        The axis of the stars.

    Returns
    -------
    Tensor, shape (..., n_bands), mag; +inf when nothing shines
    """
    return -torch.logsumexp(-_MAGNITUDE * magnitudes, dim) / _MAGNITUDE


@dataclass(frozen=True)
class Binaries:
    """Which stars have an unresolved companion, and how heavy it is.

    Parameters
    ----------
    fraction : float, in [0, 1]
        Companions per primary.
    lowest_ratio : float, in (0, 1]
        Lowest mass ratio q = M2 / M1.
    exponent : float, > -1
        The density of q goes as q^exponent; 0 is flat.

    Raises
    ------
    MelotteValueError
        When a value is outside its range.
    """

    fraction: float = 0.3
    lowest_ratio: float = 0.1
    exponent: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise MelotteValueError(f"fraction must be in [0, 1], found {self.fraction}")
        if not 0 < self.lowest_ratio <= 1:
            raise MelotteValueError(f"lowest_ratio must be in (0, 1], found {self.lowest_ratio}")
        if not self.exponent > -1:
            raise MelotteValueError(f"exponent must be above -1, found {self.exponent}")

    @property
    def mean_ratio(self) -> float:
        """Mean mass ratio of a binary."""
        power, low = self.exponent + 1, self.lowest_ratio
        if low == 1:
            return 1.0
        return power / (power + 1) * (1 - low ** (power + 1)) / (1 - low**power)

    def companions(self, primary_mass: Tensor, generator: torch.Generator) -> Tensor:
        """Draw companions.

        Parameters
        ----------
        primary_mass : Tensor, any shape, Msun
        generator : torch.Generator, on the device of ``primary_mass``

        Returns
        -------
        Tensor, same shape and dtype, Msun; 0 for single stars
        """
        uniform = torch.rand(
            (2, *primary_mass.shape),
            dtype=torch.float64,
            generator=generator,
            device=primary_mass.device,
        )
        power = self.exponent + 1
        lowest = self.lowest_ratio**power
        ratio = (lowest + (1 - lowest) * uniform[1]) ** (1 / power)
        mass = ratio * primary_mass
        return torch.where(uniform[0] < self.fraction, mass, 0.0).to(primary_mass.dtype)


@dataclass(frozen=True)
class ClusterStars:
    """Stars of clusters, one cluster after another; a binary is one entry.

    Parameters
    ----------
    initial_mass : Ragged, values (n_stars,), Msun, of the primaries
    companion_mass : Tensor, shape (n_stars,), Msun, initial; 0 for single stars
    current_mass : Tensor, shape (n_stars,), Msun
        Of both stars, remnants included.
    magnitudes : Tensor, shape (n_stars, n_bands), mag
        Absolute, behind the dust, of both stars; +inf when neither shines.
    alive : BoolTensor, shape (n_stars,)
        Whether either star shines.
    """

    initial_mass: Ragged
    companion_mass: Tensor
    current_mass: Tensor
    magnitudes: Tensor
    alive: Tensor

    def integrated(self) -> Tensor:
        """Magnitudes of whole clusters, shape (n_clusters, n_bands); +inf when empty."""
        flux = torch.exp(-_MAGNITUDE * self.magnitudes.double())
        total = flux.new_zeros(self.initial_mass.n_sets, flux.shape[1])
        total.index_add_(0, self.initial_mass.index, flux)
        return -torch.log(total) / _MAGNITUDE


def sample_cluster(
    grid: StellarGrid,
    total_mass: Tensor,
    log_age: Tensor,
    metallicity: Tensor,
    extinction_v: Tensor,
    bands: Sequence[str],
    generator: torch.Generator,
    *,
    imf: InitialMassFunction | None = None,
    binaries: Binaries | None = None,
) -> ClusterStars:
    """Draw the stars of clusters and their magnitudes.

    Parameters
    ----------
    grid : StellarGrid
    total_mass : Tensor, shape (n_clusters,), Msun
        Initial mass in stars; with binaries it is reached in expectation.
    log_age, metallicity, extinction_v : Tensor, shape (n_clusters,), log10(yr), [Fe/H], mag
    bands : sequence of str
    generator : torch.Generator, on the grid's device
    imf : InitialMassFunction, optional
        Of the primaries; :class:`~melotte.sky.imf.Kroupa2001` when not given.
    binaries : Binaries, optional
        All stars are single when not given.

    Returns
    -------
    ClusterStars

    Raises
    ------
    MelotteValueError
        As :meth:`StellarGrid.evolve` and :meth:`InitialMassFunction.sample_to_total_mass` do.
    """
    imf = imf or Kroupa2001()
    pairing = Binaries(fraction=0.0) if binaries is None else binaries
    in_primaries = 1 / (1 + pairing.fraction * pairing.mean_ratio)
    masses = imf.sample_to_total_mass(total_mass * in_primaries, generator)
    cluster = masses.index
    companion = pairing.companions(masses.values, generator)
    paired = torch.nonzero(companion > 0)[:, 0]

    environment = torch.stack([log_age, metallicity, extinction_v], 1).double()
    magnitudes, current, alive = _shine(grid, masses, environment, bands)
    if len(paired):
        counts = torch.bincount(cluster[paired], minlength=masses.n_sets)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        others = Ragged(companion[paired], offsets)
        light, mass, shining = _shine(grid, others, environment, bands)
        magnitudes[paired] = combine_magnitudes(magnitudes[paired], light)
        current[paired] += mass
        alive[paired] |= shining
    return ClusterStars(masses, companion, current, magnitudes, alive)


def expected_magnitudes(
    grid: StellarGrid,
    log_age: float,
    metallicity: float,
    bands: Sequence[str],
    *,
    total_mass: float = 1.0,
    extinction_v: float = 0.0,
    imf: InitialMassFunction | None = None,
) -> Tensor:
    """Mean light of a population of one age: the sum over the isochrone, not over drawn stars.

    Clusters of small mass scatter widely and asymmetrically around it: below some 1e4 Msun, and
    always below 30 Myr, compare data with :func:`sample_cluster` instead.

    Parameters
    ----------
    grid : StellarGrid
    log_age : float, log10(age / yr)
    metallicity : float, [Fe/H]
    bands : sequence of str
    total_mass : float, initial mass, Msun
    extinction_v : float, mag
    imf : InitialMassFunction, optional
        :class:`~melotte.sky.imf.Kroupa2001` when not given.

    Returns
    -------
    Tensor of float64, shape (n_bands,), mag, absolute
    """
    imf = imf or Kroupa2001()
    isochrone = grid.isochrone(log_age, metallicity)
    mass = torch.from_numpy(isochrone.initial_mass)
    middle = (mass[1:] + mass[:-1]) / 2
    edges = torch.cat([mass.new_tensor([imf.low]), middle, mass[-1:]])
    stars = imf.cdf(edges).diff() * (total_mass / imf.mean_mass)
    magnitudes = torch.from_numpy(isochrone.magnitudes(bands, extinction_v)).double()
    return integrated_magnitude(magnitudes - 2.5 * torch.log10(stars)[:, None])


def present_mass(stars: Stars, initial_mass: Tensor) -> Tensor:
    """Mass now of stars or of the remnants they left, Msun, the shape of ``initial_mass``."""
    return torch.where(stars.alive, stars.current_mass, remnant_mass(initial_mass))


def _shine(
    grid: StellarGrid, masses: Ragged, environment: Tensor, bands: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Magnitudes, present masses and whether alive, of stars of packed clusters."""
    n_stars = len(masses.values)
    magnitudes = torch.empty(n_stars, len(bands), dtype=torch.float32, device=masses.values.device)
    current = torch.empty_like(masses.values)
    alive = torch.empty(n_stars, dtype=torch.bool, device=masses.values.device)

    def fill(rows: Tensor | slice, mass: Tensor, state: Tensor) -> None:
        log_age, metallicity, dust = (state[:, i : i + 1] for i in range(3))
        stars = grid.evolve(mass, log_age, metallicity)
        found = grid.magnitudes(stars, dust, bands, metallicity)
        magnitudes[rows] = found.reshape(-1, len(bands)).float()
        current[rows] = present_mass(stars, mass).reshape(-1)
        alive[rows] = stars.alive.reshape(-1)

    # A rich cluster's isochrone is worth building; stars of poor ones are done all at once.
    large = masses.counts >= SHARED_FROM
    for i in torch.nonzero(large)[:, 0].tolist():
        rows = slice(int(masses.offsets[i]), int(masses.offsets[i + 1]))
        fill(rows, masses.values[None, rows], environment[i : i + 1])
    rest = torch.nonzero(~large[masses.index])[:, 0]
    if len(rest):
        fill(rest, masses.values[rest, None], environment[masses.index[rest]])
    return magnitudes, current, alive
