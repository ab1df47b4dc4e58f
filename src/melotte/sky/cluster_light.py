"""Clusters drawn star by star, fast: the light of their bright stars, with that of the faint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged, offsets_of
from melotte.sky.imf import InitialMassFunction
from melotte.sky.isochrones import StellarGrid
from melotte.sky.light_tables import (
    EVEN_CELLS,
    EXACT_POINTS,
    NODES,
    ROW_DISTANCE,
    USUAL_IMF,
    light_at,
    light_below,
    mass_depth,
    shared_light_table,
)

CLUSTERS_AT_ONCE = 64
"""Clusters of a portion on a CPU: their tables fit its caches."""

CLUSTERS_AT_ONCE_ELSEWHERE = 4096
"""Clusters of a portion on other devices."""

STARS_AT_ONCE = 2_000_000
"""Most stars of a portion, but for a single cluster."""

SPREAD = 4.0
"""Standard deviations, as of a Poisson number, of stars drawn at first beyond those expected."""


class ClusterLight:
    """Draws the light of star clusters at nodes of age and metallicity.

    Stars are drawn one after another until their initial mass is nearest to the cluster's. Only
    bright stars are drawn one by one: between two of them, the number of faint stars is geometric
    and each has the mean mass of the faint. The expected light of the faint stars is shared out
    equally among the drawn, so that the total is right; it stands where the drawn stars stand.

    Parameters
    ----------
    grid : StellarGrid
    bands : sequence of str
    log_age : Tensor, shape (n_ages,), log10(age / yr)
    metallicity : Tensor, shape (n_metallicities,), [Fe/H]
    imf : InitialMassFunction, optional
        :class:`~melotte.sky.imf.Kroupa2001` when not given.
    faint_share : float, in [0, 0.5]
        Largest expected fraction of the light, in any band and without dust, that is not drawn
        star by star.
    least_stars : int, > 0
        Number of the heaviest shining stars of a cluster that are drawn at least.
    device : torch.device, optional
        Where clusters are drawn; that of the grid when not given.

    Raises
    ------
    MelotteValueError
        When a setting is outside its range, a node outside the grid or a band unknown.
    """

    def __init__(
        self,
        grid: StellarGrid,
        bands: Sequence[str],
        log_age: Tensor,
        metallicity: Tensor,
        *,
        imf: InitialMassFunction | None = None,
        faint_share: float = 0.003,
        least_stars: int = 3000,
        device: torch.device | str | None = None,
    ) -> None:
        if not 0 <= faint_share <= 0.5:
            raise MelotteValueError(f"faint_share must be in [0, 0.5], found {faint_share}")
        if least_stars < 1:
            raise MelotteValueError(f"least_stars must be above 0, found {least_stars}")
        for name, nodes, (low, high) in (
            ("log_age", log_age, grid.log_age_range),
            ("metallicity", metallicity, grid.metallicity_range),
        ):
            inside = (nodes >= low - 1e-4) & (nodes <= high + 1e-4)
            if nodes.ndim != 1 or not len(nodes) or not bool(inside.all()):
                raise MelotteValueError(
                    f"{name} must be a list of nodes in [{low:g}, {high:g}], found {nodes.tolist()}"
                )
        self.grid = grid
        self.bands = tuple(bands)
        self.imf = imf or USUAL_IMF
        self.log_age = log_age.double().cpu()
        self.metallicity = metallicity.double().cpu()
        self.device = grid.device if device is None else torch.device(device)
        self._faint_share = faint_share
        self._least_stars = least_stars
        self._masses = mass_depth(self.imf, self.device)
        n_tables = len(self.log_age) * len(self.metallicity)
        self._built = torch.zeros(n_tables, dtype=torch.bool)
        wide = {"dtype": torch.float64, "device": self.device}
        self._depth = torch.empty(n_tables, EXACT_POINTS, **wide)
        self._start, self._tip, self._faint_until = torch.zeros(3, n_tables, **wide)
        self._coefficients = torch.empty(
            n_tables, 4, NODES, len(self.bands), dtype=torch.float32, device=self.device
        )

    def draw(
        self,
        total_mass: Tensor,
        age_node: Tensor,
        metallicity_node: Tensor,
        extinction_v: Tensor,
        generator: torch.Generator,
    ) -> Ragged:
        """Draw the stars of clusters.

        Parameters
        ----------
        total_mass : Tensor, shape (n_clusters,), Msun, initial, >= 0
        age_node, metallicity_node : Tensor of int64, shape (n_clusters,)
            Numbers of the nodes.
        extinction_v : Tensor, shape (n_clusters,), mag, in [0, 6]
        generator : torch.Generator, on this object's device

        Returns
        -------
        Ragged, values of float32, shape (n_stars, n_bands)
            Luminosity of every drawn star that shines, behind the dust, in units of a star of
            absolute magnitude 0 in that band, plus its part of the faint stars' light. The order
            of a cluster's stars is random.

        Raises
        ------
        MelotteValueError
            When a mass or an extinction is outside its range or NaN, or there is no such node.
        """
        parts = list(self._parts(total_mass, age_node, metallicity_node, extinction_v, generator))
        if len(parts) == 1:
            return parts[0]
        none = torch.empty(0, len(self.bands), device=self.device)
        no_counts = torch.empty(0, dtype=torch.int64, device=self.device)
        counts = torch.cat([no_counts, *(part.counts for part in parts)])
        return Ragged(torch.cat([none, *(part.values for part in parts)]), offsets_of(counts))

    def integrated(
        self,
        total_mass: Tensor,
        age_node: Tensor,
        metallicity_node: Tensor,
        extinction_v: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw clusters and give their integrated absolute magnitudes.

        Parameters as in :meth:`draw`.

        Returns
        -------
        Tensor of float64, shape (n_clusters, n_bands), mag; +inf when nothing shines
        """
        none = torch.empty(0, len(self.bands), dtype=torch.float64, device=self.device)
        parts = self._parts(total_mass, age_node, metallicity_node, extinction_v, generator)
        return torch.cat([none, *(integrated_magnitudes(part) for part in parts)])

    def _parts(
        self,
        total_mass: Tensor,
        age_node: Tensor,
        metallicity_node: Tensor,
        extinction_v: Tensor,
        generator: torch.Generator,
    ) -> Iterator[Ragged]:
        """Draw clusters, some at a time; parameters as in :meth:`draw`."""
        tables = self._tables(age_node, metallicity_node)
        mass = total_mass.to(self.device).double()
        dust = extinction_v.to(self.device).double()
        if not bool((torch.isfinite(mass) & (mass >= 0)).all()):
            raise MelotteValueError("total_mass must be finite and not negative")
        if not bool(((dust >= 0) & (dust <= 6)).all()):
            raise MelotteValueError("extinction_v must be in [0, 6] mag")
        cut = self._cuts(mass, tables)
        for rows in self._portions(mass * torch.exp(-cut) / self.imf.mean_mass):
            yield self._draw(mass[rows], tables[rows], dust[rows], cut[rows], generator)

    def _cuts(self, mass: Tensor, tables: Tensor) -> Tensor:
        """Depth above which stars are drawn, at a node of the cluster's table."""
        wanted = torch.exp(-self._tip[tables])
        wanted += self._least_stars * self.imf.mean_mass / mass.clamp(min=1e-9)
        cut = torch.minimum(-torch.log(wanted.clamp(max=1)), self._faint_until[tables])
        width = self._start[tables] / EVEN_CELLS
        return (cut / width).floor().clamp(0, EVEN_CELLS - 1) * width

    def _portions(self, n_stars: Tensor) -> list[slice]:
        """Cut clusters of expected numbers of drawn stars into runs that fit the memory."""
        most = CLUSTERS_AT_ONCE if self.device.type == "cpu" else CLUSTERS_AT_ONCE_ELSEWHERE
        running = n_stars.cumsum(0).cpu()
        portions, first = [], 0
        while first < len(running):
            before = running[first - 1] if first else 0.0
            last = int(torch.searchsorted(running, before + STARS_AT_ONCE, right=True))
            last = max(first + 1, min(last, first + most))
            portions.append(slice(first, last))
            first = last
        return portions

    def _tables(self, age_node: Tensor, metallicity_node: Tensor) -> Tensor:
        """Numbers of the tables of these nodes, which are made where they are missing."""
        for name, node, nodes in (
            ("age_node", age_node, self.log_age),
            ("metallicity_node", metallicity_node, self.metallicity),
        ):
            if not bool(((node >= 0) & (node < len(nodes))).all()):
                raise MelotteValueError(f"{name} must be in [0, {len(nodes) - 1}]")
        tables = age_node * len(self.metallicity) + metallicity_node
        used = tables.unique().cpu()
        for table in used[~self._built[used]].tolist():
            self._build(table)
        return tables.to(self.device)

    def _build(self, number: int) -> None:
        age, metal = divmod(number, len(self.metallicity))
        table = shared_light_table(
            self.grid,
            self.imf,
            self.bands,
            float(self.log_age[age]),
            float(self.metallicity[metal]),
        )
        # All nodes of a row have to be in order when rows are searched as one.
        self._depth[number] = table.depth.nan_to_num(posinf=ROW_DISTANCE - 1).to(self.device)
        self._coefficients[number] = table.coefficients.to(self.device)
        self._start[number] = table.start
        self._tip[number] = table.tip
        self._faint_until[number] = table.faint_until(self._faint_share)
        self._built[number] = True

    def _draw(
        self,
        mass: Tensor,
        tables: Tensor,
        dust: Tensor,
        cut: Tensor,
        generator: torch.Generator,
    ) -> Ragged:
        tip, start = self._tip[tables], self._start[tables]
        stars, faint_mass = self._sequence(mass, cut, tip, generator)
        luminosity = self._luminosities(tables, dust)
        values = light_at(stars, luminosity, self._depth[tables], start)
        if bool((cut > 0).any()):
            share = -torch.expm1(-cut)
            number = faint_mass / self._masses.mean_below(cut)
            node = (cut / start * EVEN_CELLS).round()
            mean = light_below(luminosity, node, start) / share.clamp(min=1e-12)[:, None]
            faint = mean * (number / stars.counts.clamp(min=1))[:, None]
            values += torch.repeat_interleave(
                faint.float(), stars.counts, dim=0, output_size=len(values)
            )
        return Ragged(values, stars.offsets)

    def _sequence(
        self, mass: Tensor, cut: Tensor, tip: Tensor, generator: torch.Generator
    ) -> tuple[Ragged, Tensor]:
        """Depths of the shining stars drawn, and the mass in stars below the cut, Msun."""
        missing, active = mass.clone(), torch.arange(len(mass), device=mass.device)
        drawn_mass = torch.zeros_like(mass)
        faint_mass = torch.zeros_like(mass)
        passes: list[tuple[Tensor, Ragged]] = []
        while len(active):
            stars = self._run(missing[active], cut[active], generator)
            kept = stars.kept
            drawn_mass[active] += stars.bright_mass
            faint_mass[active] += stars.faint_mass
            owner_tip = torch.repeat_interleave(tip[active], kept.counts)
            passes.append((active, kept.where(kept.values <= owner_tip)))
            missing[active] -= stars.bright_mass + stars.faint_mass
            # The last star drawn may be the one that passed the total.
            active = active[~stars.finished & (missing[active] > 0)]
        return _merge(passes, len(mass), mass), faint_mass

    def _run(self, missing: Tensor, cut: Tensor, generator: torch.Generator) -> _Run:
        """Draw stars in order until a cluster's mass is reached, or those at hand are used up."""
        bright = torch.exp(-cut)
        expected = missing * bright / self.imf.mean_mass
        counts = (expected + torch.sqrt(expected) * SPREAD + 4).ceil().long()
        offsets = offsets_of(counts)
        n = int(offsets[-1])
        depth = torch.empty(n, dtype=torch.float64, device=missing.device)
        depth.exponential_(generator=generator)
        thinned = bool((cut > 0).any())
        if thinned:
            depth += torch.repeat_interleave(cut, counts, output_size=n)
        mass = self._masses.mass(depth)
        step = mass
        if thinned:
            # The number of faint stars before a bright one is geometric.
            rate = 1 / -torch.log1p(-bright.clamp(max=1 - 1e-15))
            scale = torch.stack([rate, self._masses.mean_below(cut)], 1)
            scale = torch.repeat_interleave(scale, counts, dim=0, output_size=n)
            waiting = torch.empty_like(depth).exponential_(generator=generator)
            step = mass + (waiting * scale[:, 0]).floor() * scale[:, 1]
        running = torch.cat([mass.new_zeros(1), step.cumsum(0)])
        base = running[offsets[:-1]]
        # The middle of each bright star rises along the whole list, so that the first star
        # refused is found by bisection; all later ones are refused too.
        middle = running[1:] - mass / 2
        stop = torch.searchsorted(middle, base + missing, right=True)
        stop = torch.minimum(stop, offsets[1:])
        n_kept = stop - offsets[:-1]
        finished = stop < offsets[1:]
        kept_offsets = offsets_of(n_kept)
        rows = torch.arange(int(kept_offsets[-1]), device=mass.device) + torch.repeat_interleave(
            offsets[:-1] - kept_offsets[:-1], n_kept
        )
        bright_running = torch.cat([mass.new_zeros(1), mass.cumsum(0)]) if thinned else running
        bright_mass = bright_running[stop] - bright_running[offsets[:-1]]
        # Where the last bright star is refused, the faint ones before it count up to the total.
        before = running[stop]
        if thinned:
            last = torch.minimum(stop, offsets[1:] - 1)
            before = torch.where(finished, running[last + 1] - mass[last], before)
        faint_mass = torch.minimum(before - base, missing) - bright_mass
        return _Run(
            Ragged(depth[rows], kept_offsets), bright_mass, faint_mass.clamp(min=0), finished
        )

    def _luminosities(self, tables: Tensor, dust: Tensor) -> Tensor:
        """Luminosity at every node behind each cluster's dust, (n_clusters, NODES, n_bands)."""
        coefficients = self._coefficients[tables]
        power = dust.float()[:, None, None]
        cubic = coefficients[:, 3]
        for i in (2, 1, 0):
            cubic = torch.addcmul(coefficients[:, i], cubic, power)
        return cubic.exp_()


def integrated_magnitudes(stars: Ragged) -> Tensor:
    """Magnitudes of whole clusters from the luminosities of their stars.

    Parameters
    ----------
    stars : Ragged, values of shape (n_stars, n_bands), in units of magnitude 0

    Returns
    -------
    Tensor of float64, shape (n_clusters, n_bands), mag; +inf when nothing shines
    """
    total = torch.zeros(
        stars.n_sets, stars.values.shape[1], dtype=torch.float64, device=stars.values.device
    )
    total.index_add_(0, stars.index, stars.values.double())
    return -2.5 * torch.log10(total)


@dataclass(frozen=True)
class _Run:
    """Stars of one pass: depths of those kept, masses, and whether a star was refused."""

    kept: Ragged
    bright_mass: Tensor
    faint_mass: Tensor
    finished: Tensor


def _merge(passes: Sequence[tuple[Tensor, Ragged]], n_clusters: int, like: Tensor) -> Ragged:
    """Join the stars that several passes drew for (some) clusters."""
    if len(passes) == 1:
        return passes[0][1]
    counts = torch.zeros(n_clusters, dtype=torch.int64, device=like.device)
    for clusters, stars in passes:
        counts[clusters] += stars.counts
    offsets = offsets_of(counts)
    values = torch.empty(int(offsets[-1]), dtype=like.dtype, device=like.device)
    place = offsets[:-1].clone()
    for clusters, stars in passes:
        shift = torch.repeat_interleave(place[clusters] - stars.offsets[:-1], stars.counts)
        values[torch.arange(len(stars.values), device=like.device) + shift] = stars.values
        place[clusters] += stars.counts
    return Ragged(values, offsets)
