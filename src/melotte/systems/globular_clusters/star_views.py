"""Stars of a library's snapshots as they are seen from a random direction.

All stars stand on a map of mass. Light needs few of them: the faintest stars that together give a
twentieth of a cluster's light are most of its stars, so of those one in eight is shown, eight times
as bright. That leaves every expected value as it is, and adds next to nothing to the noise of the
few bright stars. Dark stars are not shown at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.ragged import offsets_of
from melotte.sky.isochrones import StellarGrid
from melotte.sky.relighting import magnitude_shifts
from melotte.systems.globular_clusters.dark_mass import DarkMass
from melotte.systems.globular_clusters.library_stars import LibraryStars
from melotte.systems.globular_clusters.lookalikes import Lookalikes
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.telescope.projected_stars import ProjectedStars

PASSBANDS = {"V": "Bessell_V", "B": "Bessell_B"}
THINNING = 8
"""One in so many of the faint stars is shown."""
_ORIENTATIONS = 2


@dataclass(frozen=True)
class StarViews:
    """Stars of several clusters, each from a direction of its own.

    Parameters
    ----------
    everything : ProjectedStars
        All stars, without light (no bands) and with velocities 0.
    shown : ProjectedStars
        Those whose light counts; velocities are 0 where the library's are not read.
    """

    everything: ProjectedStars
    shown: ProjectedStars


def star_views(
    data: DataSettings,
    stars: LibraryStars,
    snapshot: Tensor,
    dark: DarkMass | None,
    generator: torch.Generator,
    alike: Lookalikes | None = None,
) -> StarViews:
    """Look at snapshots, each system of stars of them in a direction of its own.

    Parameters
    ----------
    data : DataSettings
    stars : LibraryStars
    snapshot : Tensor of int64, shape (n,)
    dark : DarkMass, optional
        That velocities are to be raised for, of the snapshots as they are.
    generator : torch.Generator, on the device of the stars
    alike : Lookalikes, optional
        That are shown instead of the snapshots; stars that they lack have no mass and no light.
    """
    if alike is None:
        return _seen_once(data, stars, snapshot, dark, generator)
    views = _seen_once(data, stars, snapshot, dark, generator, alike, alike.number.clamp(max=1))
    for seen in range(1, math.ceil(float(alike.number.max()))):
        more = torch.nonzero(alike.number > seen)[:, 0]
        again = _seen_once(
            data,
            stars,
            snapshot[more],
            None if dark is None else dark.select(more),
            generator,
            alike.select(more),
            (alike.number[more] - seen).clamp(max=1),
        )
        n = len(snapshot)
        views = StarViews(
            ProjectedStars.join(views.everything, again.everything.among(n, more)),
            ProjectedStars.join(views.shown, again.shown.among(n, more)),
        )
    return views


def _seen_once(
    data: DataSettings,
    stars: LibraryStars,
    snapshot: Tensor,
    dark: DarkMass | None,
    generator: torch.Generator,
    alike: Lookalikes | None = None,
    share: Tensor | None = None,
) -> StarViews:
    """Look at snapshots or lookalikes of them, at each star once or, by its share, not at all."""
    radius, mass = (stars.gathered(name, snapshot).float() for name in ("radius", "mass"))
    uniform = _uniform(data, stars, snapshot, generator)
    counts = stars.count[snapshot]
    size: Tensor | float = 1.0
    if alike is not None and share is not None:
        lot = torch.rand(1, len(mass), generator=generator, device=mass.device)
        uniform = torch.cat([uniform, lot])
        size = torch.repeat_interleave(alike.size, counts)
    _share_with_seconds(uniform, stars.gathered("second", snapshot))
    kept: Tensor | None = None
    if share is not None:
        kept = (uniform[-1] < torch.repeat_interleave(share, counts)).float()
        mass = mass * kept
    along = 2 * uniform[0] - 1
    across = size * radius * (1 - along.square()).clamp(min=0).sqrt()
    angle = (2 * math.pi) * uniform[1]
    position = torch.stack([across * torch.cos(angle), across * torch.sin(angle)], 1)
    if data.orientation == "quarter_turns":
        turn = torch.randint(4, (len(snapshot),), generator=generator, device=radius.device)
        turn = torch.repeat_interleave(turn, counts)[:, None]
        turned = torch.stack([-position[:, 1], position[:, 0]], 1)
        position = torch.where(turn % 2 == 1, turned, position) * (1 - 2 * (turn // 2))
    offsets = offsets_of(counts)
    nothing = mass.new_zeros(1).expand(len(mass))
    everything = ProjectedStars(position, mass.new_zeros(len(mass), 0), mass, nothing, offsets)
    place, brighter, numbers = _shown(stars, snapshot, generator)
    # Numbers in the library from numbers among the chosen stars.
    shift = stars.first[snapshot] - offsets[:-1]
    cluster = torch.repeat_interleave(numbers, output_size=len(place))
    star = place + shift[cluster]
    names = [f"magnitude_{band.lower()}" for band in data.bands]
    magnitude = torch.stack([stars.columns[name][star].float() for name in names], 1)
    if alike is not None and "kind" in stars.columns:
        magnitude = magnitude + _relit(data, stars, snapshot, alike, star, numbers)
    light = 10 ** (-0.4 * magnitude)
    velocity = torch.zeros_like(brighter)
    if "radial_velocity" in stars.columns:
        # The line of sight's share of a direction at random across the radius.
        sideways = (1 - along[place].square()).clamp(min=0).sqrt()
        sideways = sideways * torch.cos((2 * math.pi) * uniform[2, place])
        velocity = stars.columns["radial_velocity"][star].float() * along[place]
        velocity = velocity + stars.columns["tangential_velocity"][star].float() * sideways
        if dark is not None and stars.shells is not None:
            shells = stars.shells.select(snapshot)
            velocity = velocity * shells.velocity_factors(
                dark.ratio, dark.scale, radius[place], cluster
            )
        if alike is not None:
            velocity = velocity * alike.speed[cluster]
    if kept is not None:
        light = light * kept[place, None]
    shown = ProjectedStars(
        position[place], light * brighter[:, None], mass[place], velocity, offsets_of(numbers)
    )
    return StarViews(everything, shown)


def _relit(
    data: DataSettings,
    stars: LibraryStars,
    snapshot: Tensor,
    alike: Lookalikes,
    star: Tensor,
    numbers: Tensor,
) -> Tensor:
    """What magnitudes (n_shown, n_bands) of shown stars change by with the metallicity."""
    bands = [PASSBANDS[band] for band in data.bands]
    grid = StellarGrid.shipped(bands).to(star.device)
    log_age, iron = (stars.truth[name][snapshot].double() for name in ("log_age", "metallicity"))
    shifts = magnitude_shifts(grid, log_age, iron, iron + alike.metallicity, bands)
    shown = [
        stars.columns[name][star].float().split(numbers.tolist())
        for name in ("mass", "kind", f"magnitude_{data.bands[0].lower()}")
    ]
    each = zip(shifts, *shown, strict=True)
    return torch.cat([one.of(mass, kind, light) for one, mass, kind, light in each])


def _uniform(
    data: DataSettings, stars: LibraryStars, snapshot: Tensor, generator: torch.Generator
) -> Tensor:
    """Numbers that give each star's direction, and that of its velocity, shape (2 or 3, n)."""
    rows = 3 if "radial_velocity" in stars.columns else 2
    counts, device = stars.count[snapshot].tolist(), snapshot.device
    if data.orientation == "random":
        return torch.rand(rows, sum(counts), generator=generator, device=device)
    parts = []
    for key, count in zip(stars.key[snapshot].tolist(), counts, strict=True):
        own = keyed_generator(0, _ORIENTATIONS, key)
        parts.append(torch.rand(rows, count, generator=own))
    return torch.cat(parts, 1).to(device)


def _share_with_seconds(uniform: Tensor, second: Tensor) -> None:
    """Give the later stars of a system what its first has, in place."""
    later = torch.nonzero(second)[:, 0]
    if len(later):
        first = later - 1
        while bool(second[first].any()):
            first = first - second[first].long()
        uniform[:, later] = uniform[:, first]


def _shown(
    stars: LibraryStars, snapshot: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers among the chosen snapshots' stars, how much brighter to show them, and how many."""
    device = snapshot.device
    counts = stars.count[snapshot]
    begin = (counts.cumsum(0) - counts).tolist()
    bright, faint = (one[snapshot].tolist() for one in (stars.bright, stars.faint))
    start = torch.randint(THINNING, (len(snapshot),), generator=generator, device=device).tolist()
    places, factors, numbers = [], [], []
    for row, low in enumerate(begin):
        middle = low + bright[row]
        end = middle + faint[row]
        thinned = torch.arange(min(middle + start[row], end), end, THINNING, device=device)
        places += [torch.arange(low, middle, device=device), thinned]
        factors += [torch.ones(bright[row]), torch.full((len(thinned),), float(THINNING))]
        numbers.append(bright[row] + len(thinned))
    return (
        torch.cat(places),
        torch.cat(factors).to(device),
        torch.tensor(numbers, device=device),
    )
