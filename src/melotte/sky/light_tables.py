"""Mass and light of stars as functions of their rank in mass: what clusters are drawn from.

A star's depth t is -ln of the fraction of all stars, dead or alive, that are heavier than it. Over
any initial mass function it is exponentially distributed with mean 1, and it grows with mass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from melotte.ragged import Ragged
from melotte.sky.imf import InitialMassFunction, Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.lookup_tables import lookup
from melotte.sky.stars import Stars

EVEN_CELLS = 512
"""Cells of equal depth from the lightest star to where an isochrone's own points are used."""

EXACT_POINTS = 1088
"""Most points of an isochrone that are kept as they are, counted from its tip."""

EXACT_FROM = 0.7
"""Fraction of the tip's mass above which the isochrone's own points are used."""

NODES = EVEN_CELLS + EXACT_POINTS
"""Nodes of a table; those beyond the tip are dark."""

ROW_DISTANCE = 64.0
"""Distance between the rows of depths that are searched as one: above any depth."""

USUAL_IMF = Kroupa2001()
"""The one of all who name none, so that they share their tables."""

_BELOW_TABLE = 16
_EXTINCTIONS = (0.0, 1.5, 3.0, 4.5)
_DARK = -200.0


class MassDepth:
    """Mass as a function of depth, and the mean mass below a depth.

    Parameters
    ----------
    imf : InitialMassFunction
    device : torch.device
    """

    STEP = 1 / 1024
    DEEPEST = 24.0

    def __init__(self, imf: InitialMassFunction, device: torch.device | str = "cpu") -> None:
        depth = torch.arange(0, self.DEEPEST + self.STEP, self.STEP, dtype=torch.float64)
        mass = imf.quantile(-torch.expm1(-depth))
        self.imf = imf
        self._mass = mass.to(device)
        self._mass_below = _running(depth, mass).to(device)

    def mass(self, depth: Tensor) -> Tensor:
        """Initial mass at a depth, Msun; same shape, float64."""
        return lookup(self._mass, depth / self.STEP)

    def depth(self, mass: Tensor) -> Tensor:
        """Depth of an initial mass; same shape, float64."""
        return -torch.log1p(-self.imf.cdf(mass.double()))

    def mean_below(self, depth: Tensor) -> Tensor:
        """Mean mass of the stars of smaller depth, Msun; the lowest mass where there is none."""
        share = -torch.expm1(-depth)
        mean = lookup(self._mass_below, depth / self.STEP) / share
        return torch.where(share > 0, mean, self.imf.low)


@dataclass(frozen=True)
class LightTable:
    """Light of the stars of one age and metallicity at given depths.

    Between nodes the luminosity is linear in depth. Node i < EVEN_CELLS is at depth
    ``start * i / EVEN_CELLS``; the others are at ``depth``.

    Parameters
    ----------
    depth : Tensor of float64, shape (EXACT_POINTS,)
        Rises from ``start`` to ``tip``; +inf behind.
    coefficients : Tensor of float32, shape (4, NODES, n_bands)
        Natural logarithm of the luminosity as a cubic in A_V, lowest power first.
    start, tip : float
        Depths of the first point kept and of the heaviest star that shines.
    """

    depth: Tensor
    coefficients: Tensor
    start: float
    tip: float

    @property
    def nodes(self) -> Tensor:
        """Depths of all nodes, float64, shape (NODES,)."""
        even = torch.arange(EVEN_CELLS, dtype=torch.float64, device=self.depth.device)
        return torch.cat([even * (self.start / EVEN_CELLS), self.depth])

    def faint_until(self, share: float) -> float:
        """Depth below which stars give, without dust, at most a share of any band's light."""
        known = torch.isfinite(self.nodes)
        depth = self.nodes[known]
        light = torch.exp(self.coefficients[0][known].double())
        running = torch.stack([_running(depth, band) for band in light.T])
        within = (running <= share * running[:, -1:]).all(0)
        return float(depth[:EVEN_CELLS][within[:EVEN_CELLS]][-1])

    def mean_luminosity(self) -> Tensor:
        """Expected luminosity of a star, dead ones included, without dust; float64, (n_bands,)."""
        known = torch.isfinite(self.nodes)
        light = torch.exp(self.coefficients[0][known].double())
        return torch.stack([_running(self.nodes[known], band)[-1] for band in light.T])


def light_table(
    grid: StellarGrid,
    masses: MassDepth,
    bands: Sequence[str],
    log_age: float,
    metallicity: float,
) -> LightTable:
    """Tabulate the light of the stars of one age and metallicity.

    Parameters
    ----------
    grid : StellarGrid
    masses : MassDepth, on the grid's device
    bands : sequence of str
    log_age : float, log10(age / yr)
    metallicity : float, [Fe/H]
    """
    isochrone = grid.isochrone(log_age, metallicity)
    stars = isochrone.stars
    mass = torch.as_tensor(isochrone.initial_mass, device=grid.device)
    inside = (mass > masses.imf.low) & (mass < masses.imf.high)
    light = _log_light(grid, stars.select(inside), metallicity, bands)
    mass = mass[inside]
    if masses.imf.low < float(isochrone.initial_mass[0]):
        lowest = torch.logspace(
            math.log10(masses.imf.low), math.log10(float(mass[0])), _BELOW_TABLE + 1
        )[:-1]
        lowest = lowest.to(mass).unsqueeze(0)
        age = mass.new_tensor([[log_age]])
        faint = grid.evolve(lowest, age, torch.full_like(age, metallicity))
        below = _log_light(grid, faint.reshape(lowest.shape[1]), metallicity, bands)
        light, mass = torch.cat([below, light], 1), torch.cat([lowest[0], mass])
    depth = masses.depth(mass)
    first = int(torch.searchsorted(mass, EXACT_FROM * mass[-1]))
    first = max(min(first, len(mass) - 2), len(mass) - EXACT_POINTS)
    start = float(depth[first])
    even = torch.arange(EVEN_CELLS, dtype=torch.float64, device=mass.device) * (start / EVEN_CELLS)
    coefficients = light.new_zeros(4, NODES, len(bands))
    coefficients[0] = _DARK
    coefficients[:, :EVEN_CELLS] = _interpolate(even, depth, light)
    n_exact = len(mass) - first
    coefficients[:, EVEN_CELLS : EVEN_CELLS + n_exact] = light[:, first:]
    exact = depth.new_full((EXACT_POINTS,), math.inf)
    exact[:n_exact] = depth[first:]
    return LightTable(exact, coefficients.float(), start, float(depth[-1]))


def cell_weights(width: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of both ends of a cell in the integral of exp(-t) f(t), f linear, from t = 0.

    Parameters
    ----------
    width : Tensor of float64, >= 0

    Returns
    -------
    low, high : Tensor, the same shape
        The integral over a cell that starts at depth a is exp(-a) (low f(a) + high f(b)).
    """
    mean = torch.where(width > 0, -torch.expm1(-width) / width.clamp(min=1e-300), 1.0)
    return 1 - mean, mean - torch.exp(-width)


@lru_cache(maxsize=8)
def mass_depth(imf: InitialMassFunction, device: torch.device) -> MassDepth:
    """:class:`MassDepth`, made once and shared."""
    return MassDepth(imf, device)


@lru_cache(maxsize=512)
def shared_light_table(
    grid: StellarGrid,
    imf: InitialMassFunction,
    bands: tuple[str, ...],
    log_age: float,
    metallicity: float,
) -> LightTable:
    """:func:`light_table`, made once for all that draw clusters of the same stars."""
    return light_table(grid, mass_depth(imf, grid.device), bands, log_age, metallicity)


def light_at(stars: Ragged, luminosity: Tensor, exact: Tensor, start: Tensor) -> Tensor:
    """Luminosities of stars at given depths, linear between the nodes of each cluster's table.

    Parameters
    ----------
    stars : Ragged, values of float64, shape (n_stars,)
        Depths, at most that of the tip.
    luminosity : Tensor, shape (n_clusters, NODES, n_bands)
    exact : Tensor of float64, shape (n_clusters, EXACT_POINTS)
        :attr:`LightTable.depth`, with a number below ``ROW_DISTANCE`` for +inf.
    start : Tensor of float64, shape (n_clusters,)

    Returns
    -------
    Tensor, shape (n_stars, n_bands)
    """
    depth, cluster = stars.values, stars.index
    place = depth * (EVEN_CELLS / start)[cluster]
    left = place.long()
    part = (place - left).float()
    upper = torch.nonzero(left >= EVEN_CELLS)[:, 0]
    if len(upper):
        row = cluster[upper]
        shift = ROW_DISTANCE * torch.arange(len(exact), dtype=torch.float64, device=exact.device)
        flat = (exact + shift[:, None]).reshape(-1)
        wanted = depth[upper] + ROW_DISTANCE * row
        found = torch.searchsorted(flat, wanted, right=True) - 1
        first = row * EXACT_POINTS
        found = torch.minimum(torch.maximum(found, first), first + EXACT_POINTS - 2)
        below, above = flat[found], flat[found + 1]
        part[upper] = ((wanted - below) / (above - below)).clamp(0, 1).float()
        left[upper] = found - first + EVEN_CELLS
    first = left + cluster * NODES
    rows = torch.stack([first, first + 1], 1)
    weights = torch.stack([1 - part, part], 1)
    table = luminosity.reshape(-1, luminosity.shape[-1])
    return embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def light_below(luminosity: Tensor, node: Tensor, start: Tensor) -> Tensor:
    """Expected luminosity from below a node, per star of any depth.

    Parameters
    ----------
    luminosity : Tensor, shape (n_clusters, NODES, n_bands)
    node : Tensor, shape (n_clusters,), whole numbers, < EVEN_CELLS
    start : Tensor of float64, shape (n_clusters,)

    Returns
    -------
    Tensor of float64, shape (n_clusters, n_bands)
    """
    number = torch.arange(EVEN_CELLS, dtype=torch.float64, device=start.device)
    width = (start / EVEN_CELLS)[:, None]
    low, high = cell_weights(width)
    share = torch.exp(-width * number)
    weights = torch.where(number < node[:, None], share * low, 0.0)
    inside = (number > 0) & (number <= node[:, None])
    weights += torch.where(inside, share * torch.exp(width) * high, 0.0)
    summed = torch.bmm(weights.float()[:, None], luminosity[:, :EVEN_CELLS])
    return summed[:, 0].double()


def _running(depth: Tensor, value: Tensor) -> Tensor:
    """Integral of exp(-t) value(t) from the first depth to each."""
    low, high = cell_weights(depth.diff())
    cells = torch.exp(-depth[:-1]) * (low * value[:-1] + high * value[1:])
    return torch.cat([value.new_zeros(1), cells.cumsum(0)])


def _log_light(grid: StellarGrid, stars: Stars, metallicity: float, bands: Sequence[str]) -> Tensor:
    """Natural logarithm of luminosities as cubics in A_V, float64, shape (4, n_stars, n_bands).

    Magnitudes are cubics in A_V over the range that the corrections were fitted in, so four
    values of it give the coefficients exactly.
    """
    magnitudes = torch.stack(
        [grid.magnitudes(stars, dust, bands, metallicity).double() for dust in _EXTINCTIONS]
    )
    powers = torch.tensor(_EXTINCTIONS, dtype=torch.float64)[:, None] ** torch.arange(4)
    inverse = torch.linalg.inv(powers).to(magnitudes.device)
    return torch.tensordot(inverse, -0.4 * math.log(10) * magnitudes, dims=1)


def _interpolate(wanted: Tensor, depth: Tensor, light: Tensor) -> Tensor:
    """Values (4, n_wanted, n_bands) linear in depth between those at rising depths."""
    right = torch.searchsorted(depth, wanted, right=True).clamp(1, len(depth) - 1)
    part = (wanted - depth[right - 1]) / (depth[right] - depth[right - 1])
    return torch.lerp(light[:, right - 1], light[:, right], part.clamp(0, 1)[:, None])
