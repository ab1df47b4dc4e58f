"""Maps of velocity dispersions of mock clusters: of the light's spectra, or of single stars."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from melotte.engine.setting_values import Range
from melotte.systems.globular_clusters.mock_settings import KinematicsSettings
from melotte.systems.globular_clusters.settings import BIN_PIXELS, DataSettings
from melotte.telescope.cluster_maps import MapGrid
from melotte.telescope.dispersion_maps import Spectrograph, dispersion_map
from melotte.telescope.measured_dispersions import MeasuredDispersions
from melotte.telescope.projected_stars import Pointing, ProjectedStars
from melotte.telescope.star_dispersions import StarSurvey, star_dispersions

_COARSE = 2
"""Pixels a side that are joined before light is spread: bins are many times as wide."""


def mock_dispersions(
    stars: ProjectedStars,
    pointing: Pointing,
    data: DataSettings,
    grid: MapGrid,
    generator: torch.Generator,
) -> MeasuredDispersions:
    """Measure dispersions of a share of clusters.

    Parameters
    ----------
    stars : ProjectedStars
        V first, behind the dust. Where faint stars are shown for several of their kind, they count
        once and too bright.
    pointing : Pointing
    data : DataSettings
        ``dispersion_share``, ``kinematics`` and ``size``.
    grid : MapGrid
    generator : torch.Generator, on the device of the stars

    Returns
    -------
    MeasuredDispersions
        Of shape (n, n_bins, n_bins), NaN in all bins of the others.
    """
    settings = data.kinematics
    n, device, bins = stars.n_clusters, pointing.distance.device, data.size // BIN_PIXELS
    nothing = torch.full((n, bins, bins), torch.nan, device=device)
    found = MeasuredDispersions(nothing, nothing.clone())
    if data.dispersion_share == 0:
        return found
    uniform = torch.rand(2, n, generator=generator, device=device)
    observed, of_stars = uniform[0] < data.dispersion_share, uniform[1] < settings.star_share
    for measure, those in ((_of_light, observed & ~of_stars), (_of_stars, observed & of_stars)):
        chosen = torch.nonzero(those)[:, 0]
        if len(chosen):
            some = measure(stars.select(chosen), pointing.select(chosen), settings, grid, generator)
            found.dispersion[chosen], found.error[chosen] = some.dispersion, some.error
    return found


def _of_light(
    stars: ProjectedStars,
    pointing: Pointing,
    settings: KinematicsSettings,
    grid: MapGrid,
    generator: torch.Generator,
) -> MeasuredDispersions:
    """Of spectra of all light in a bin."""
    spectrograph = Spectrograph(
        BIN_PIXELS // _COARSE,
        exposure=log_uniform(stars.n_clusters, settings.exposure, generator),
        line_spread=log_uniform(stars.n_clusters, settings.line_spread, generator),
        least_signal=settings.least_signal,
    )
    coarse = MapGrid(grid.rows // _COARSE, grid.columns // _COARSE, grid.surroundings // _COARSE)
    wide = replace(pointing, pixel_scale=_COARSE * pointing.pixel_scale)
    return dispersion_map(stars, wide, spectrograph, coarse).measured(generator)


def _of_stars(
    stars: ProjectedStars,
    pointing: Pointing,
    settings: KinematicsSettings,
    grid: MapGrid,
    generator: torch.Generator,
) -> MeasuredDispersions:
    """Of velocities of single stars."""
    n, (low, high) = stars.n_clusters, settings.star_limit
    uniform = torch.rand(n, generator=generator, device=generator.device)
    survey = StarSurvey(
        BIN_PIXELS,
        limit=low + (high - low) * uniform,
        velocity_error=log_uniform(n, settings.star_error, generator),
        observed_share=log_uniform(n, settings.observed_share, generator),
        least_stars=settings.least_stars,
    )
    return star_dispersions(stars, pointing, survey, generator, grid)


def log_uniform(n: int, limits: Range, generator: torch.Generator) -> Tensor:
    """Numbers (n,) within limits above 0, uniform in the logarithm."""
    low, high = (math.log(one) for one in limits)
    uniform = torch.rand(n, generator=generator, device=generator.device)
    return torch.exp(low + (high - low) * uniform)
