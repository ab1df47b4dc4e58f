"""How well maps could be known at best: errors that the chance of single stars leaves.

Somebody who knows a cluster but for its chance (its profile, its population, where it stands) still
does not know which stars happen to be where, nor how many giants there are. That chance is measured
by drawing a cluster again: directions of all stars anew, every star as often as a Poisson number of
mean 1 says. Errors are then those of the mean over drawings, counted as the errors of networks are.

It is a scale, not a bound: a network sees where the bright stars are, and which light is theirs.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.binned_errors import BinMeans, BinnedErrors
from melotte.engine.progress import Progress
from melotte.io.star_snapshots import SOLAR_MAGNITUDE_V
from melotte.ragged import offsets_of
from melotte.systems.globular_clusters.library_stars import LibraryStars
from melotte.systems.globular_clusters.map_scores import BRIGHT, LOG_EDGES, percent_means
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.telescope.cluster_maps import MapGrid, star_sums
from melotte.telescope.map_smoothing import smoothed
from melotte.telescope.projected_stars import Pointing, ProjectedStars

DRAWINGS = 4
"""Of each cluster."""
CLUSTERS = 160
AT_ONCE = 16
"""Clusters whose stars are in memory together."""
GIANT = 3.0
"""Absolute magnitude in V from which stars are left out of the light "without giants"."""


@dataclass(frozen=True)
class SamplingNoise:
    """Errors that chance alone leaves, in bins of the expected value.

    Parameters
    ----------
    pixels : BinMeans
        Of the smoothed map, percent.
    total_mass : BinMeans
        Of the mass that the light of the field gives with the cluster's own M/L.
    mass_to_light, without_giants : BinMeans
        Of M/L by all light, and by that of stars fainter than ``GIANT``.
    """

    pixels: BinMeans
    total_mass: BinMeans
    mass_to_light: BinMeans
    without_giants: BinMeans

    def binned(self) -> dict[str, BinMeans]:
        """By the names that errors of networks have."""
        return {
            "pixel_percent_error": self.pixels,
            "pixel_percent_error_bright": self.pixels.since(BRIGHT),
            "total_mass_percent_error": self.total_mass,
            "mass_to_light_percent_error": self.mass_to_light,
            "mass_to_light_without_giants_percent_error": self.without_giants,
        }

    def as_json(self) -> dict[str, float]:
        """Means over bins."""
        return {name: one.mean for name, one in self.binned().items()}


def sampling_noise(
    data: DataSettings,
    stars: LibraryStars,
    distances: tuple[float, ...],
    generator: torch.Generator,
    n: int = CLUSTERS,
    drawings: int = DRAWINGS,
    progress: bool | None = False,
) -> SamplingNoise:
    """Measure the noise that single stars make.

    Parameters
    ----------
    data : DataSettings
        Its size, smoothing and floor of maps, and its pixels (the middle of their range).
    stars : LibraryStars
        Of the area that is judged.
    distances : tuple of float, kpc
        Taken in turn.
    generator : torch.Generator
    n : int
        Clusters, drawn as mocks are.
    drawings : int, >= 2
        Of each; deviations from their mean are raised by sqrt(drawings / (drawings - 1)).
    progress : bool or None
        None shows a bar on a terminal, plain lines elsewhere.

    Returns
    -------
    SamplingNoise
    """
    pixels = BinnedErrors(LOG_EDGES)
    sums: list[Tensor] = []
    runs: list[Tensor] = []
    device = generator.device
    raised = float(np.sqrt(drawings / (drawings - 1)))
    low, high = data.pixel_scale
    scale = float(np.sqrt(low * high))
    with closing(Progress(n, "clusters drawn again", style=progress)) as shown:
        for first in range(0, n, AT_ONCE):
            snapshot = stars.choose(min(AT_ONCE, n - first), generator)
            turn = torch.arange(first, first + len(snapshot), device=device) % len(distances)
            centre = (
                2 * torch.rand(len(snapshot), 2, generator=generator, device=device) - 1
            ) * min(data.offset, 0.25 * scale * data.size)
            pointing = Pointing(
                torch.tensor(distances, device=device)[turn].float(),
                centre,
                torch.ones_like(centre[:, 0]),
                torch.full_like(centre[:, 0], scale),
            )
            drawn = [_drawing(data, stars, snapshot, pointing, generator) for _ in range(drawings)]
            maps = torch.stack([mass for mass, _ in drawn], 1).double()
            sums.append(torch.stack([one for _, one in drawn], 1).double().cpu())
            runs.append(stars.run[snapshot].cpu())
            expected = maps.mean(1, keepdim=True).clamp(min=data.mass_floor)
            error = 100 * raised * (maps.clamp(min=data.mass_floor) - expected).abs() / expected
            place = torch.log10(expected).expand_as(maps)
            above = place > np.log10(data.mass_floor) + 1e-6
            pixels.add(
                torch.where(above, place, torch.nan).cpu().numpy(),
                error.cpu().numpy(),
                runs[-1].numpy(),
            )
            shown.update(first + len(snapshot))
    total = torch.cat(sums).numpy()
    run = np.repeat(torch.cat(runs).numpy(), drawings)
    mass, light, faint = (total[..., k] for k in range(3))
    ratio = mass.mean(1, keepdims=True) / np.maximum(light.mean(1, keepdims=True), 1e-12)
    return SamplingNoise(
        pixels.means(),
        _means(light * ratio, mass, run, raised),
        _means(np.broadcast_to(ratio, mass.shape), mass / np.maximum(light, 1e-12), run, raised),
        _means(
            mass.mean(1, keepdims=True) / np.maximum(faint.mean(1, keepdims=True), 1e-12),
            mass / np.maximum(faint, 1e-12),
            run,
            raised,
        ),
    )


def _means(given: NDArray[Any], true: NDArray[Any], run: NDArray[Any], raised: float) -> BinMeans:
    """Errors of every drawing, raised for the mean that they are measured from."""
    given = np.broadcast_to(given, true.shape)
    error = given + raised * (true - given)
    good = np.isfinite(error) & (given > 0)
    rows = good.ravel()
    return percent_means(error.ravel()[rows], given.ravel()[rows], run[rows])


def _drawing(
    data: DataSettings,
    stars: LibraryStars,
    snapshot: Tensor,
    pointing: Pointing,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A smoothed map of mass (n, size, size), and mass, light and light without giants (n, 3)."""
    radius, own_mass, magnitude = (
        stars.gathered(name, snapshot).float() for name in ("radius", "mass", "magnitude_v")
    )
    device = generator.device
    direction = torch.randn(len(radius), 3, generator=generator, device=device)
    direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
    position = radius[:, None] * direction[:, :2]
    times = torch.poisson(torch.ones(len(radius), device=device), generator=generator)
    mass = times * own_mass
    light = times * 10 ** (-0.4 * (magnitude - SOLAR_MAGNITUDE_V))
    columns = torch.stack([mass, light, torch.where(magnitude > GIANT, light, 0.0)], 1)
    projected = ProjectedStars(
        position, light[:, None], mass, torch.zeros_like(mass), offsets_of(stars.count[snapshot])
    )
    found = star_sums(columns, projected, pointing, MapGrid(data.size, data.size))
    return smoothed(found[:, 0], data.mass_smoothing), found.double().sum((2, 3)).float()
