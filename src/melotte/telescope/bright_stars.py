"""The few brightest stars of a cluster: where they are, and how much of its light is their luck.

A handful of giants gives a large part of an old cluster's light, so two clusters that are alike but
for the draw of their stars differ in light for the same mass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.telescope.cluster_maps import MapGrid
from melotte.telescope.projected_stars import Pointing, ProjectedStars


@dataclass(frozen=True)
class BrightStars:
    """The brightest stars of each map, brightest first.

    Parameters
    ----------
    star : Tensor of int64, shape (n, n_bright)
        Row in the list of stars; -1 where a map holds fewer.
    pixel : Tensor, shape (n, n_bright, 2), pixels
        (column, row), the first pixel's centre at (0, 0); NaN where there is none.
    luminosity : Tensor, shape (n, n_bright)
        In the band that was asked for; 0 where there is none.
    share : Tensor, shape (n, n_bright)
        Of the light of all stars that stand on the map.
    """

    star: Tensor
    pixel: Tensor
    luminosity: Tensor
    share: Tensor

    def mask(self, grid: MapGrid, radius: Tensor | float) -> Tensor:
        """Pixels near the brightest stars.

        Parameters
        ----------
        grid : MapGrid
        radius : Tensor, shape (n,) or (n, n_bright), or float, pixels

        Returns
        -------
        BoolTensor, shape (n, rows, columns)
        """
        n, n_bright = self.star.shape
        device = self.pixel.device
        reach = torch.as_tensor(radius, device=device)
        if reach.ndim == 1:
            reach = reach[:, None]
        reach = reach.expand(n, n_bright).square()
        rows = torch.arange(grid.rows, device=device)[:, None]
        columns = torch.arange(grid.columns, device=device)
        covered = torch.zeros(n, grid.rows, grid.columns, dtype=torch.bool, device=device)
        for i in range(n_bright):
            column, row = self.pixel[:, i, 0, None, None], self.pixel[:, i, 1, None, None]
            distance = (rows - row).square() + (columns - column).square()
            covered |= distance <= reach[:, i, None, None]
        return covered


def brightest_stars(
    stars: ProjectedStars,
    pointing: Pointing,
    grid: MapGrid | None = None,
    n_bright: int = 10,
    band: int = 0,
) -> BrightStars:
    """Find the brightest stars that stand on each map.

    Parameters
    ----------
    stars : ProjectedStars
    pointing : Pointing
    grid : MapGrid, optional
    n_bright : int
    band : int
        Number of the band.
    """
    grid = grid or MapGrid()
    cluster = stars.cluster
    pixel = grid.pixel_of(pointing.on_sky(stars), pointing.pixel_scale[cluster])
    size = pixel.new_tensor([grid.columns, grid.rows])
    light = stars.luminosity[:, band]
    kept = torch.nonzero(((pixel >= -0.5) & (pixel < size - 0.5)).all(1) & (light > 0))[:, 0]
    order = kept[torch.argsort(light[kept], descending=True, stable=True)]
    order = order[torch.argsort(cluster[order], stable=True)]
    counts = torch.bincount(cluster[order], minlength=stars.n_clusters)
    first = counts.cumsum(0) - counts
    rank = torch.arange(n_bright, device=light.device)
    exists = rank < counts[:, None]
    place = (first[:, None] + rank).clamp(max=max(len(order) - 1, 0))
    if not len(order):
        order = order.new_zeros(1)
    star = torch.where(exists, order[place], -1)
    chosen = star.clamp(min=0)
    luminosity = light[chosen] * exists
    total = torch.zeros(stars.n_clusters, device=light.device, dtype=light.dtype)
    total.index_add_(0, cluster[kept], light[kept])
    return BrightStars(
        star,
        pixel[chosen].masked_fill(~exists[..., None], float("nan")),
        luminosity,
        luminosity / total.clamp(min=torch.finfo(total.dtype).tiny)[:, None],
    )


def sampling_noise(stars: ProjectedStars, chosen: Tensor | None = None) -> Tensor:
    """Relative scatter of a cluster's light between draws of its stars.

    Parameters
    ----------
    stars : ProjectedStars
    chosen : BoolTensor, shape (n_stars,), optional
        Stars that count, such as those on the map; all when not given.

    Returns
    -------
    Tensor, shape (n, n_bands)
        Root of the sum of squared luminosities over their sum: that of independent stars whose
        number is a Poisson number. NaN for a cluster without light.

    References
    ----------
    Tonry & Schneider 1988, AJ 96, 807 (the variance behind surface brightness fluctuations).
    """
    light = stars.luminosity.double()
    if chosen is not None:
        light = light * chosen[:, None]
    sums = torch.zeros(2, stars.n_clusters, stars.n_bands, dtype=light.dtype, device=light.device)
    sums[0].index_add_(0, stars.cluster, light)
    sums[1].index_add_(0, stars.cluster, light.square())
    return (sums[1].sqrt() / sums[0]).float()
