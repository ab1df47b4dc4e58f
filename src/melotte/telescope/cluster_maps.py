"""Maps of a nearby cluster's stars: light behind the atmosphere, mass, number.

Many clusters at once, each with its own distance, place in the field, seeing and pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.telescope.moffat import MOFFAT_BETA, MoffatPSF, moffat_transfer
from melotte.telescope.projected_stars import Pointing, ProjectedStars
from melotte.telescope.rendering import ImageRenderer
from melotte.telescope.transfer_functions import good_period, kernel_sharpness, kernel_transform

OVERSAMPLING = 2
"""Cells of the fine grid across a pixel.

For a FWHM of 1.2 pixels or more a star's image is right to 1.4e-5 of its peak (root mean square
over 128 x 128 pixels), from 2 pixels on to 3e-6.
"""


@dataclass(frozen=True)
class MapGrid:
    """What all maps of a run share.

    Parameters
    ----------
    rows, columns : int, pixels, > 0
    surroundings : int, pixels, >= 0
        Least width of the rim around the map whose stars shed light into it. Light is spread over
        a periodic field that is at least twice this wider than the map; stars beyond are left out.
    beta : float, >= 1.5
        Of the Moffat profile.
    deposit : {"auto", "torch", "numba"}
        How stars are spread: compiled loops on a CPU need the extra ``fast``, and "auto" takes them
        where they are.

    Raises
    ------
    MelotteValueError
        When a value is outside its range.
    """

    rows: int = 160
    columns: int = 160
    surroundings: int = 40
    beta: float = MOFFAT_BETA
    deposit: Literal["auto", "torch", "numba"] = "auto"

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or self.surroundings < 0:
            raise MelotteValueError(
                "a map needs rows and columns and surroundings of 0 or more pixels, found "
                f"{self.rows}, {self.columns} and {self.surroundings}"
            )

    @property
    def period(self) -> int:
        """Side of the periodic field, pixels."""
        return good_period(max(self.rows, self.columns) + 2 * self.surroundings)

    def pixel_of(self, place: Tensor, pixel_scale: Tensor) -> Tensor:
        """Columns and rows, the first pixel's centre at (0, 0).

        Parameters
        ----------
        place : Tensor, shape (n, 2), arcsec from the middle
        pixel_scale : Tensor, shape (n,), arcsec
        """
        middle = place.new_tensor([self.columns - 1, self.rows - 1]) / 2
        return place / pixel_scale[:, None] + middle


def render_light(stars: ProjectedStars, pointing: Pointing, grid: MapGrid | None = None) -> Tensor:
    """Light that falls on each pixel, behind the atmosphere, without noise.

    Parameters
    ----------
    stars : ProjectedStars
    pointing : Pointing
    grid : MapGrid, optional

    Returns
    -------
    Tensor of float32, shape (n, n_bands, rows, columns)
        Luminosity in a pixel, in the unit of ``stars.luminosity``. Wings that leave the map are
        lost.

    Raises
    ------
    MelotteValueError
        When stars and pointings are not equally many.
    """
    grid = grid or MapGrid()
    _check_number(stars, pointing)
    renderer = _SeeingRenderer(pointing, grid, stars.n_bands)
    # A map that is not square is cut from the middle of a square one.
    side = renderer.size
    odd = pointing.on_sky(stars)
    if (side - grid.rows) % 2 or (side - grid.columns) % 2:
        shift = odd.new_tensor([(side - grid.columns) % 2, (side - grid.rows) % 2]) / 2
        odd = odd - shift * pointing.pixel_scale[stars.cluster, None]
    images = renderer.render(odd, stars.luminosity, stars.offsets, torch.arange(stars.n_clusters))
    top, left = (side - grid.rows) // 2, (side - grid.columns) // 2
    return images[..., top : top + grid.rows, left : left + grid.columns]


def mass_map(stars: ProjectedStars, pointing: Pointing, grid: MapGrid | None = None) -> Tensor:
    """Mass of the stars that stand in each pixel, without the atmosphere.

    Parameters
    ----------
    stars : ProjectedStars
    pointing : Pointing
    grid : MapGrid, optional

    Returns
    -------
    Tensor of float32, shape (n, rows, columns), Msun per pixel
    """
    return star_sums(stars.mass[:, None], stars, pointing, grid)[:, 0]


def star_sums(
    values: Tensor, stars: ProjectedStars, pointing: Pointing, grid: MapGrid | None = None
) -> Tensor:
    """Sums over the stars that stand in each pixel.

    Parameters
    ----------
    values : Tensor, shape (n_stars, n_values)
        Ones for numbers, masses for mass, luminosities for light without the atmosphere.
    stars : ProjectedStars
    pointing : Pointing
    grid : MapGrid, optional

    Returns
    -------
    Tensor of float32, shape (n, n_values, rows, columns)
    """
    grid = grid or MapGrid()
    _check_number(stars, pointing)
    cluster = stars.cluster
    pixel = grid.pixel_of(pointing.on_sky(stars), pointing.pixel_scale[cluster])
    column, row = (pixel + 0.5).floor().long().unbind(1)
    inside = (column >= 0) & (column < grid.columns) & (row >= 0) & (row < grid.rows)
    number = ((cluster * grid.rows + row) * grid.columns + column)[inside]
    area = grid.rows * grid.columns
    sums = [
        torch.bincount(number, one[inside].double(), stars.n_clusters * area)
        for one in values.unbind(1)
    ]
    shape = (stars.n_clusters, grid.rows, grid.columns)
    return torch.stack([one.view(shape) for one in sums], 1).float()


class _SeeingRenderer(ImageRenderer):
    """A renderer whose every map has its own seeing; tables are made as they are needed."""

    def __init__(self, pointing: Pointing, grid: MapGrid, n_bands: int) -> None:
        fwhm = pointing.psf_fwhm
        if fwhm.ndim == 2 and fwhm.shape[1] not in (1, n_bands):
            raise MelotteValueError(f"{fwhm.shape[1]} seeings for {n_bands} bands")
        device = pointing.distance.device
        deposit = grid.deposit
        if deposit == "auto":
            deposit = "numba" if device.type == "cpu" and find_spec("numba") else "torch"
        stand_in = MoffatPSF(1.0, grid.beta)
        super().__init__(
            [[stand_in] * n_bands] * len(fwhm),
            pointing.pixel_scale.tolist(),
            max(grid.rows, grid.columns),
            grid.period,
            OVERSAMPLING,
            device,
            deposit=deposit,
        )
        scale = fwhm.view(len(fwhm), -1) * (stand_in.scale_radius / pointing.pixel_scale[:, None])
        self._phase, self._beta = 2 * math.pi * scale, grid.beta
        self._frequency, self._window = _frequencies(self.period, str(device))

    def transfer_tables(self, setup: Tensor | None = None) -> Tensor:
        """Effective PSFs over the kernel's transform, shape (n, 1 or n_bands, side, side/2 + 1)."""
        phase = self._phase if setup is None else self._phase[setup]
        table = moffat_transfer(phase[..., None, None] * self._frequency, self._beta)
        return table * self._window


@lru_cache(maxsize=8)
def _frequencies(period: int, device: str) -> tuple[Tensor, Tensor]:
    """Frequencies of the fine grid, cycles a pixel, and the pixel's transform over the kernel's.

    Nothing is cut from the wings: what leaves the period comes back on its other side, less than
    2e-4 of a star's light for a FWHM of 8 pixels on the default grid and less for sharper images.
    """
    side = period * OVERSAMPLING
    cycles = torch.fft.fftfreq(side, dtype=torch.float64)
    compensation = 1 / kernel_transform(cycles, kernel_sharpness(OVERSAMPLING))
    compensation[side // 2] = 0
    along = torch.sinc(cycles * OVERSAMPLING) * compensation
    half = side // 2 + 1
    frequency = torch.hypot(cycles[:, None], cycles[:half]) * OVERSAMPLING
    window = along[:, None] * along[:half]
    return frequency.float().to(device), window.float().to(device)


def _check_number(stars: ProjectedStars, pointing: Pointing) -> None:
    """Raise MelotteValueError unless there is a pointing for each cluster."""
    if stars.n_clusters != len(pointing.distance):
        raise MelotteValueError(
            f"{stars.n_clusters} clusters need as many pointings, found {len(pointing.distance)}"
        )
