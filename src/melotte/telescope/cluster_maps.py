"""Maps of a nearby cluster's stars: light behind the atmosphere, mass, number.

Many clusters at once, each with its own distance, place in the field, seeing and pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged, offsets_of
from melotte.telescope.moffat import MOFFAT_BETA, MoffatPSF, moffat_transfer
from melotte.telescope.rendering import ImageRenderer
from melotte.telescope.transfer_functions import good_period, kernel_sharpness, kernel_transform

ARCSEC_PER_RADIAN = 180 * 3600 / math.pi

OVERSAMPLING = 2
"""Cells of the fine grid across a pixel.

For a FWHM of 1.2 pixels or more a star's image is right to 1.4e-5 of its peak (root mean square
over 128 x 128 pixels), from 2 pixels on to 3e-6.
"""


@dataclass(frozen=True)
class ProjectedStars:
    """Stars of several clusters as they stand on the sky.

    Parameters
    ----------
    position : Tensor, shape (n_stars, 2), pc
        (x, y) from the cluster's centre; x along columns, y along rows.
    luminosity : Tensor, shape (n_stars, n_bands)
        In units of a star of absolute magnitude 0 in the band: 10^(-0.4 M). Dark stars have 0.
    mass : Tensor, shape (n_stars,), Msun
    velocity : Tensor, shape (n_stars,), km/s
        Along the line of sight, in the frame of the cluster.
    offsets : Tensor of int64, shape (n_clusters + 1,)
        Stars ``offsets[i]`` to ``offsets[i + 1]`` are those of cluster ``i``.

    Raises
    ------
    MelotteValueError
        When lengths differ.
    """

    position: Tensor
    luminosity: Tensor
    mass: Tensor
    velocity: Tensor
    offsets: Tensor

    def __post_init__(self) -> None:
        n = len(self.position)
        if (
            self.position.shape != (n, 2)
            or self.luminosity.ndim != 2
            or {len(self.luminosity), len(self.mass), len(self.velocity)} != {n}
            or int(self.offsets[-1]) != n
        ):
            raise MelotteValueError(
                "stars need positions (n, 2), luminosities (n, n_bands), masses (n,), velocities "
                f"(n,) and offsets that end at n, found {tuple(self.position.shape)}, "
                f"{tuple(self.luminosity.shape)}, {tuple(self.mass.shape)}, "
                f"{tuple(self.velocity.shape)} and {int(self.offsets[-1])}"
            )

    @classmethod
    def of(cls, stars: Ragged) -> ProjectedStars:
        """Stars with the columns x, y (pc), luminosity in each band, mass, velocity."""
        columns = stars.values
        if columns.ndim != 2 or columns.shape[1] < 5:
            raise MelotteValueError(
                "stars need the columns x, y, luminosity of a band or more, mass and velocity, "
                f"found the shape {tuple(columns.shape)}"
            )
        return cls(columns[:, :2], columns[:, 2:-2], columns[:, -2], columns[:, -1], stars.offsets)

    @classmethod
    def join(cls, first: ProjectedStars, second: ProjectedStars) -> ProjectedStars:
        """The stars of both, cluster by cluster.

        Raises
        ------
        MelotteValueError
            When they hold different numbers of clusters or bands.
        """
        if first.n_clusters != second.n_clusters or first.n_bands != second.n_bands:
            raise MelotteValueError(
                f"{first.n_clusters} clusters in {first.n_bands} bands and {second.n_clusters} in "
                f"{second.n_bands} cannot be joined"
            )
        counts = first.offsets.diff(), second.offsets.diff()
        cluster = torch.cat([_cluster_of(first.offsets), _cluster_of(second.offsets)])
        order = torch.argsort(cluster, stable=True)
        pairs = (
            (first.position, second.position),
            (first.luminosity, second.luminosity),
            (first.mass, second.mass),
            (first.velocity, second.velocity),
        )
        columns = [torch.cat(pair)[order] for pair in pairs]
        return cls(
            columns[0], columns[1], columns[2], columns[3], offsets_of(counts[0] + counts[1])
        )

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.offsets) - 1

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return self.luminosity.shape[1]

    @property
    def cluster(self) -> Tensor:
        """The cluster that each star belongs to, int64, shape (n_stars,)."""
        return _cluster_of(self.offsets)

    def with_luminosity(self, luminosity: Tensor) -> ProjectedStars:
        """The same stars with other luminosities, shape (n_stars, n_bands)."""
        return replace(self, luminosity=luminosity)


@dataclass(frozen=True)
class Pointing:
    """How each of several clusters is looked at.

    Parameters
    ----------
    distance : Tensor, shape (n,), kpc, > 0
    centre : Tensor, shape (n, 2), arcsec
        (x, y) of the cluster's centre from the middle of the map.
    psf_fwhm : Tensor, shape (n,) or (n, n_bands), arcsec, > 0
    pixel_scale : Tensor, shape (n,), arcsec, > 0

    Raises
    ------
    MelotteValueError
        When shapes differ or a value is outside its range.
    """

    distance: Tensor
    centre: Tensor
    psf_fwhm: Tensor
    pixel_scale: Tensor

    def __post_init__(self) -> None:
        n = len(self.distance)
        if self.centre.shape != (n, 2) or {len(self.psf_fwhm), len(self.pixel_scale)} != {n}:
            raise MelotteValueError(
                f"{n} distances need centres ({n}, 2) and as many seeings and pixel scales, found "
                f"{tuple(self.centre.shape)}, {tuple(self.psf_fwhm.shape)} and "
                f"{tuple(self.pixel_scale.shape)}"
            )
        for name in ("distance", "psf_fwhm", "pixel_scale"):
            values = getattr(self, name)
            if not bool((values > 0).all()):
                raise MelotteValueError(f"{name} must be above 0, found {float(values.min()):g}")

    @classmethod
    def of(
        cls,
        n: int,
        distance: Tensor | float,
        centre: Tensor | Sequence[float] = (0.0, 0.0),
        psf_fwhm: Tensor | float = 1.0,
        pixel_scale: Tensor | float = 0.25,
        device: torch.device | str = "cpu",
    ) -> Pointing:
        """Pointings at ``n`` clusters, with numbers where all have the same value."""

        def each(value: Tensor | float) -> Tensor:
            tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
            return tensor.expand(n) if tensor.ndim == 0 else tensor

        middle = torch.as_tensor(centre, dtype=torch.float32, device=device)
        return cls(each(distance), middle.expand(n, 2), each(psf_fwhm), each(pixel_scale))

    @property
    def arcsec_per_parsec(self) -> Tensor:
        """Shape (n,)."""
        return ARCSEC_PER_RADIAN / (1000 * self.distance)

    def on_sky(self, stars: ProjectedStars) -> Tensor:
        """Places of stars from the middle of their maps, shape (n_stars, 2), arcsec."""
        cluster = stars.cluster
        return torch.addcmul(
            self.centre[cluster], stars.position, self.arcsec_per_parsec[cluster, None]
        )


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


def _cluster_of(offsets: Tensor) -> Tensor:
    """The set that each element belongs to."""
    numbers = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(numbers, offsets.diff())


def _check_number(stars: ProjectedStars, pointing: Pointing) -> None:
    """Raise MelotteValueError unless there is a pointing for each cluster."""
    if stars.n_clusters != len(pointing.distance):
        raise MelotteValueError(
            f"{stars.n_clusters} clusters need as many pointings, found {len(pointing.distance)}"
        )
