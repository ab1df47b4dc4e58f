"""Mock Gaia member lists of open clusters.

:func:`draw_clusters` draws what is hidden (parameters, richness, limits, nuisances);
:func:`observe_clusters` draws the stars, records them as Gaia would and keeps what a membership
study would list. Everything is batched: clusters are sorted by richness and done in groups of
like size, so that little padding is wasted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from melotte.parameters import Prior
from melotte.ragged import Ragged, offsets_of
from melotte.sky.field_stars import disc_library
from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.populations import combine_magnitudes
from melotte.systems.open_cluster.settings import DataSettings
from melotte.telescope.gaia import RELEASES, GaiaRelease, scattered_errors

COLUMNS = (
    "g",
    "bp_rp",
    "parallax",
    "parallax_error",
    "g_error",
    "bp_rp_error",
    "membership",
)
"""Columns of a star: mag, mag, mas, mas, mag, mag, probability (NaN where a list has none)."""

RELEASE_NAMES = ("EDR3", "DR2")
GROUP_SIZE = 48
OVERSAMPLING = 1.8
STRAGGLERS = 6
BRIGHTEST_G = 2.5
MEMBER_PARALLAX_SIGMA = 3.3


@dataclass(frozen=True)
class Clusters:
    """Hidden state of a batch of mock clusters; tensors of shape (batch, ...).

    ``theta`` (batch, 4) in physical units; ``n_listed`` and ``n_kept`` count the stars in the
    list and those simulated; ``lowest_mass`` and ``highest_mass`` bound the initial masses, in
    Msun, of the stars that can be seen; the other fields are nuisances named as in
    :class:`~melotte.systems.open_cluster.settings.DataSettings`.
    """

    theta: Tensor
    release: Tensor
    limit: Tensor
    lowest_mass: Tensor
    highest_mass: Tensor
    n_listed: Tensor
    n_kept: Tensor
    contamination: Tensor
    binary_fraction: Tensor
    differential_reddening: Tensor
    depth: Tensor
    mass_tilt: Tensor
    colour_offset: Tensor
    magnitude_offset: Tensor
    cool_star_slope: Tensor
    colour_scatter: Tensor
    straggler_fraction: Tensor
    membership_level: Tensor
    membership_missing: Tensor
    errors_missing: Tensor
    zero_point: Tensor

    def __len__(self) -> int:
        return len(self.theta)

    def select(self, chosen: Tensor | slice) -> Clusters:
        """Some of the clusters."""
        return Clusters(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


@dataclass(frozen=True)
class BlueStragglers:
    """Blue stragglers of a batch; tensors of shape (n_stragglers,).

    ``cluster`` and ``slot`` say where each goes, ``mass`` is in Msun, and ``log_age`` is the age
    at which a single star of that mass looks like the straggler.
    """

    cluster: Tensor
    slot: Tensor
    mass: Tensor
    log_age: Tensor


class ClusterSimulator:
    """Draws mock clusters and their member lists.

    Parameters
    ----------
    settings : DataSettings
    device : torch.device or str
        Where mocks are made; generators must live there too.
    """

    def __init__(self, settings: DataSettings, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        bands = [band for name in RELEASE_NAMES for band in RELEASES[name].bands]
        self.grid = StellarGrid.shipped(bands).to(self.device)
        self.prior = Prior(settings.prior.parameters())
        self.imf = Kroupa2001(0.1, 150.0)
        self.field = disc_library(self.grid, RELEASES["EDR3"].bands[0], 200_000, 17)

    def draw(self, n: int, generator: torch.Generator) -> Clusters:
        """Draw ``n`` detectable clusters."""
        drawn: list[Clusters] = []
        missing = n
        while missing > 0:
            trial = self._draw_any(math.ceil(1.3 * missing) + 4, generator)
            trial = trial.select(trial.n_listed >= self.settings.members[0])
            drawn.append(trial.select(slice(0, missing)))
            missing -= len(drawn[-1])
        return Clusters(
            **{
                field.name: torch.cat([getattr(part, field.name) for part in drawn])
                for field in fields(Clusters)
            }
        )

    def observe(self, clusters: Clusters, generator: torch.Generator) -> tuple[Ragged, Tensor]:
        """Record the clusters.

        Returns
        -------
        stars : Ragged, values of shape (n_stars, 7)
            Columns as in ``COLUMNS``.
        n_listed : Tensor, shape (batch,), float
            Stars in each list, before sampling down to ``max_stars``.
        """
        values, counts = [], []
        order = torch.argsort(clusters.n_kept, stable=True)
        ordered = clusters.select(order)
        for start in range(0, len(clusters), GROUP_SIZE):
            group = ordered.select(slice(start, start + GROUP_SIZE))
            table, kept = self._observe_group(group, generator)
            values.append(table[kept])
            counts.append(kept.sum(1))
        stars = Ragged(torch.cat(values), offsets_of(torch.cat(counts)))
        stars = stars.select(torch.argsort(order))
        scale = stars.counts / clusters.n_kept.clamp(min=1)
        return stars, (clusters.n_listed * scale).round().clamp(min=1)

    def _draw_any(self, n: int, generator: torch.Generator) -> Clusters:
        settings = self.settings

        def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=generator, device=self.device)

        theta = self.prior.sample(n, generator)
        release = (uniform() < settings.dr2).long()
        usual = torch.tensor(settings.magnitude_limits, device=self.device)
        limit = usual[(uniform() * len(usual)).long().clamp(max=len(usual) - 1)]
        limit = torch.where(uniform() < settings.free_limit, uniform(15.5, 20.5), limit)
        lowest, highest = self._visible_masses(theta, limit)
        visible = self.imf.cdf(highest) - self.imf.cdf(lowest)
        ceiling = settings.max_cluster_mass / self.imf.mean_mass * visible
        low, high = settings.members
        most = ceiling.clamp(max=float(high))
        log_low = math.log(low)
        # A list that a cluster of the largest mass cannot fill gets no members: it is drawn anew.
        listed = torch.exp(log_low + uniform() * (torch.log(most.clamp(min=low)) - log_low))
        listed = torch.where(most < low, torch.zeros_like(listed), listed).to(theta.dtype)
        listed = listed.round()
        return self._with_nuisances(theta, release, limit, (lowest, highest), listed, generator)

    def clusters_of(
        self,
        theta: Tensor,
        release: Tensor,
        limit: Tensor,
        n_listed: Tensor,
        generator: torch.Generator,
    ) -> Clusters:
        """Clusters of given parameters and lists of given length; the nuisances are drawn.

        Parameters
        ----------
        theta : Tensor, shape (batch, 4)
        release : Tensor of int64, shape (batch,)
            Number in ``RELEASE_NAMES``.
        limit : Tensor, shape (batch,), mag
        n_listed : Tensor, shape (batch,)
        generator : torch.Generator

        Returns
        -------
        Clusters
        """
        masses = self._visible_masses(theta, limit)
        return self._with_nuisances(theta, release, limit, masses, n_listed, generator)

    def _with_nuisances(
        self,
        theta: Tensor,
        release: Tensor,
        limit: Tensor,
        masses: tuple[Tensor, Tensor],
        listed: Tensor,
        generator: torch.Generator,
    ) -> Clusters:
        settings, n = self.settings, len(theta)

        def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=generator, device=self.device)

        def normal(width: float = 1.0) -> Tensor:
            return width * torch.randn(n, generator=generator, device=self.device)

        depth = torch.pow(10.0, uniform(0.2, 1.1)) * 1e-3
        zero_points = torch.tensor([RELEASES[name].zero_point for name in RELEASE_NAMES])
        zero_scatters = torch.tensor([RELEASES[name].zero_point_scatter for name in RELEASE_NAMES])
        mean_contamination = settings.contamination
        many = uniform() < 0.2
        few = 1 - torch.pow(uniform(), 1 / 7.0)
        contamination = torch.where(many, uniform(0.0, 0.5), few) * (mean_contamination / 0.15)
        reddening = torch.pow(10.0, uniform(-2.2, -0.4))
        return Clusters(
            theta=theta,
            release=release,
            limit=limit,
            lowest_mass=masses[0],
            highest_mass=masses[1],
            n_listed=listed,
            n_kept=listed.clamp(max=settings.max_stars).long(),
            contamination=contamination.clamp(0, 0.7),
            binary_fraction=uniform(*settings.binary_fraction),
            differential_reddening=torch.minimum(reddening, 0.02 + 0.3 * theta[:, 1]),
            depth=depth,
            mass_tilt=uniform(-0.3, 1.2),
            colour_offset=normal(settings.colour_zero_point),
            magnitude_offset=normal(settings.magnitude_zero_point),
            cool_star_slope=normal(settings.cool_star_slope),
            colour_scatter=torch.pow(10.0, uniform(-2.7, -1.5)),
            straggler_fraction=0.015 * uniform() ** 2,
            membership_level=uniform(0.0, 4.0),
            membership_missing=uniform() < settings.no_membership,
            errors_missing=uniform() < settings.no_photometric_errors,
            zero_point=zero_points.to(self.device)[release]
            + normal() * zero_scatters.to(self.device)[release],
        )

    def _visible_masses(self, theta: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Initial masses, Msun, (batch,) each, of the faintest and heaviest stars to be seen."""
        log_age, extinction_v, distance, metallicity = theta.split(1, dim=1)
        tip = self.grid.maximum_mass(log_age, metallicity).to(theta.dtype)
        tip = tip.clamp(max=self.imf.high)
        near_tip = 1 - torch.logspace(-0.6, -4, 24, device=self.device)
        below = torch.linspace(0, 1, 40, device=self.device)
        dwarfs = 0.1 * torch.pow(0.75 * tip / 0.1, below)
        mass = torch.cat([dwarfs, tip * near_tip], 1)
        absolute = self._absolute(mass, log_age, metallicity, extinction_v, RELEASES["EDR3"])
        g = absolute[..., 0] + 5 * torch.log10(distance) + 10
        # Companions lift stars over the limit, by half a magnitude for all but the rarest.
        seen = g < (limit + 0.5)[:, None]
        first = torch.argmax(seen.long(), 1, keepdim=True)
        lowest = torch.gather(mass, 1, (first - 1).clamp(min=0))[:, 0]
        lowest = torch.where(seen.any(1), lowest, tip[:, 0])
        return lowest, tip[:, 0]

    def _absolute(
        self,
        mass: Tensor,
        log_age: Tensor,
        metallicity: Tensor,
        extinction_v: Tensor,
        release: GaiaRelease,
    ) -> Tensor:
        """Absolute G, BP, RP, shape (batch, n_stars, 3), of single stars behind their dust."""
        stars = self.grid.evolve(mass, log_age, metallicity)
        return self.grid.magnitudes(stars, extinction_v, list(release.bands), metallicity)

    def _observe_group(
        self, clusters: Clusters, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Tables (batch, n_slots, 7) and which slots hold a listed star, (batch, n_slots)."""
        wanted = clusters.n_kept
        chance = torch.rand(
            len(clusters), int(wanted.max()), generator=generator, device=self.device
        )
        slots = torch.arange(chance.shape[1], device=self.device) < wanted[:, None]
        n_field = ((chance < clusters.contamination[:, None]) & slots).sum(1)
        members, member_kept = self._members(clusters, wanted - n_field, generator)
        field, field_kept = self._field(clusters, n_field, generator)
        table = torch.cat([members, field], 1)
        kept = torch.cat([member_kept, field_kept], 1)
        genuine = torch.zeros_like(kept)
        genuine[:, : members.shape[1]] = True
        table[..., 6] = self._membership(clusters, table[..., 0], genuine, generator)
        unknown = torch.isnan(table[..., 4:6]) | clusters.errors_missing[:, None, None]
        table[..., 4:6] = torch.where(unknown, torch.nan, table[..., 4:6])
        return table, kept

    def _members(
        self, clusters: Clusters, wanted: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        n_slots = math.ceil(OVERSAMPLING * int(wanted.max())) + 8
        shape = (len(clusters), n_slots)

        def uniform(*size: int) -> Tensor:
            return torch.rand(*size, generator=generator, device=self.device)

        def normal() -> Tensor:
            return torch.randn(shape, generator=generator, device=self.device)

        low, high = clusters.lowest_mass[:, None], clusters.highest_mass[:, None]
        mass = self.imf.sample_between(low.expand(shape), high.expand(shape), generator)
        mass = mass.to(clusters.theta.dtype)
        log_age, extinction_v, distance, metallicity = clusters.theta.split(1, dim=1)
        dust = extinction_v + clusters.differential_reddening[:, None] * normal()
        dust = dust.clamp(min=0)
        depth = 1 + clusters.depth[:, None] / distance * normal()
        true_distance = distance * depth.clamp(0.5, 1.5)
        # Slots are exchangeable, so the doubles come first and the stragglers last.
        n_double = (uniform(*shape) < clusters.binary_fraction[:, None]).sum(1)
        n_companions = int(n_double.max())
        ratio = 0.1 + 0.9 * uniform(len(clusters), n_companions)
        companion = mass[:, :n_companions] * ratio
        double = torch.arange(n_companions, device=self.device) < n_double[:, None]
        straggler = self._stragglers(clusters, n_slots, uniform)
        magnitudes = torch.empty(*shape, 3, device=self.device)
        for number, name in enumerate(RELEASE_NAMES):
            rows = torch.nonzero(clusters.release == number)[:, 0]
            if not len(rows):
                continue
            release = RELEASES[name]
            state = log_age[rows], metallicity[rows]
            primary = self._absolute(mass[rows], *state, dust[rows], release)
            secondary = self._absolute(companion[rows], *state, dust[rows, :n_companions], release)
            joined = combine_magnitudes(primary[:, :n_companions], secondary)
            primary[:, :n_companions] = torch.where(
                double[rows][..., None], joined, primary[:, :n_companions]
            )
            magnitudes[rows] = primary
            mine = torch.isin(straggler.cluster, rows)
            cluster, slot = straggler.cluster[mine], straggler.slot[mine]
            magnitudes[cluster, slot] = self._absolute(
                straggler.mass[mine, None],
                straggler.log_age[mine, None],
                metallicity[cluster],
                dust[cluster, slot][:, None],
                release,
            )[:, 0]
        magnitudes += (5 * torch.log10(true_distance) + 10)[..., None]
        intrinsic = magnitudes[..., 1] - magnitudes[..., 2] - 0.42 * dust
        cool = clusters.cool_star_slope[:, None] * (intrinsic - 1.3).clamp(0, 2)
        colour_shift = clusters.colour_offset[:, None] + cool
        magnitudes[..., 0] += clusters.magnitude_offset[:, None]
        magnitudes[..., 1] += clusters.magnitude_offset[:, None] + 0.5 * colour_shift
        magnitudes[..., 2] += clusters.magnitude_offset[:, None] - 0.5 * colour_shift
        table = self._record(clusters, magnitudes, 1 / true_distance, generator, clipped=True)
        weight = clusters.mass_tilt[:, None] * torch.log(mass)
        gumbel = -torch.log(-torch.log(uniform(*shape).clamp(1e-7, 1 - 1e-7)))
        return table, _choose(weight + gumbel, self._listed(clusters, table), wanted)

    def _stragglers(
        self, clusters: Clusters, n_slots: int, uniform: Callable[..., Tensor]
    ) -> BlueStragglers:
        """Draw blue stragglers: heavier than the turn-off, and rejuvenated."""
        n = min(STRAGGLERS, n_slots)
        expected = clusters.straggler_fraction * clusters.n_kept / n
        old = clusters.theta[:, 0] > 8.3
        chosen = (uniform(len(clusters), n) < expected[:, None]) & old[:, None]
        cluster, place = torch.nonzero(chosen, as_tuple=True)
        gain = 1 + 0.9 * uniform(len(cluster))
        # Lifetimes fall about as mass^-2.5: well within the main sequence of that mass.
        younger = clusters.theta[cluster, 0] - 2.5 * torch.log10(gain) - 0.1
        younger = younger - 0.5 * uniform(len(cluster))
        heavier = 0.95 * gain * clusters.highest_mass[cluster]
        return BlueStragglers(cluster, n_slots - 1 - place, heavier, younger)

    def _field(
        self, clusters: Clusters, wanted: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        n_slots = 3 * int(wanted.max()) + 4
        shape = (len(clusters), n_slots)
        log_age, extinction_v, distance, _ = clusters.theta.split(1, dim=1)
        del log_age
        # G extinction of a typical star, 0.8 A_V, and half a magnitude for nearer stars.
        absolute_limit = clusters.limit[:, None] - 5 * torch.log10(distance) - 10
        absolute_limit = absolute_limit - 0.8 * extinction_v + 0.5
        n_bright = self.field.count_brighter(absolute_limit)
        uniform = torch.rand(shape, generator=generator, device=self.device)
        chosen = (uniform * n_bright).long().clamp(max=len(self.field.absolute_magnitude) - 1)
        guess = self.field.absolute_magnitude[chosen] + 5 * torch.log10(distance) + 10
        error = RELEASES["EDR3"].parallax_error(guess + 0.8 * extinction_v)
        spread = torch.sqrt(0.08**2 + (2 * error * distance) ** 2).clamp(max=0.7)
        normal = torch.randn(2, *shape, generator=generator, device=self.device)
        # The cone holds more volume, thus more stars, behind the cluster than before it.
        stretch = torch.exp(spread * normal[0] + 2 * spread**2).clamp(0.2, 5)
        dust = (extinction_v * stretch.clamp(max=1.5) * (1 + 0.25 * normal[1])).clamp(min=0)
        magnitudes = torch.empty(*shape, 3, device=self.device)
        modulus = (5 * torch.log10(distance * stretch) + 10)[..., None]
        for number, name in enumerate(RELEASE_NAMES):
            rows = torch.nonzero(clusters.release == number)[:, 0]
            if len(rows):
                bands = list(RELEASES[name].bands)
                absolute = self.field.magnitudes(chosen[rows], dust[rows], bands)
                magnitudes[rows] = absolute + modulus[rows]
        table = self._record(
            clusters, magnitudes, 1 / (distance * stretch), generator, clipped=False
        )
        pull = (table[..., 2] - 1 / distance - clusters.zero_point[:, None]).abs()
        window = 3 * torch.sqrt(table[..., 3] ** 2 + (0.05 / distance) ** 2)
        eligible = self._listed(clusters, table) & (pull < window) & (n_bright > 50)
        order = torch.rand(shape, generator=generator, device=self.device)
        return table, _choose(order, eligible, wanted)

    def _record(
        self,
        clusters: Clusters,
        magnitudes: Tensor,
        parallax: Tensor,
        generator: torch.Generator,
        *,
        clipped: bool,
    ) -> Tensor:
        """Catalogue rows (batch, n_slots, 7) of stars with true magnitudes and parallaxes.

        ``clipped``: members farther than ``MEMBER_PARALLAX_SIGMA`` errors from the mean were
        cut by the membership study.
        """
        shape = magnitudes.shape[:2]

        def normal() -> Tensor:
            return torch.randn(shape, generator=generator, device=self.device)

        g, bp, rp = magnitudes.unbind(-1)
        errors = torch.empty(*shape, 4, device=self.device)
        for number, name in enumerate(RELEASE_NAMES):
            rows = clusters.release == number
            release = RELEASES[name]
            median = release.parallax_error(g[rows])
            errors[rows, :, 0] = scattered_errors(median, release.parallax_scatter, generator)
            photometric = torch.stack(release.photometric_errors(g[rows], bp[rows], rp[rows]), -1)
            errors[rows, :, 1:] = scattered_errors(photometric, 0.08, generator)
        noise = normal()
        if clipped:
            noise = torch.where(noise.abs() < MEMBER_PARALLAX_SIGMA, noise, normal())
        # One star in thirty has a disturbed astrometric solution whose error is too small.
        disturbed = torch.rand(shape, generator=generator, device=self.device) < 0.03
        noise = noise * torch.where(disturbed, 2.0, 1.0)
        recorded = parallax + clusters.zero_point[:, None] + errors[..., 0] * noise
        observed_g = g + errors[..., 1] * normal()
        crowding = clusters.colour_scatter[:, None] * normal()
        observed_bp = bp + errors[..., 2] * normal() + crowding
        observed_rp = rp + errors[..., 3] * normal()
        colour_error = torch.sqrt(errors[..., 2] ** 2 + errors[..., 3] ** 2)
        return torch.stack(
            [
                observed_g,
                observed_bp - observed_rp,
                recorded,
                errors[..., 0],
                errors[..., 1],
                colour_error,
                torch.full_like(g, torch.nan),
            ],
            -1,
        )

    def _listed(self, clusters: Clusters, table: Tensor) -> Tensor:
        g, colour = table[..., 0], table[..., 1]
        bright = (g < clusters.limit[:, None]) & (g > BRIGHTEST_G)
        return bright & torch.isfinite(colour) & (colour > -1.5) & (colour < 8)

    def _membership(
        self, clusters: Clusters, g: Tensor, genuine: Tensor, generator: torch.Generator
    ) -> Tensor:
        noise = torch.randn(g.shape, generator=generator, device=self.device)
        faint = (g - 15).clamp(0, 6)
        score = clusters.membership_level[:, None] + 1.8 * genuine - 0.45 * faint + 1.2 * noise
        probability = 0.5 + 0.5 * torch.sigmoid(score)
        return torch.where(clusters.membership_missing[:, None], torch.nan, probability)


def _choose(score: Tensor, eligible: Tensor, wanted: Tensor) -> Tensor:
    """Mark, per row, the ``wanted`` eligible entries of highest score; all shapes (batch, n)."""
    ranked = torch.where(eligible, score, -torch.inf)
    order = torch.argsort(ranked, dim=1, descending=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(score.shape[1], device=score.device).expand_as(order))
    return eligible & (rank < wanted[:, None])
