"""Stars to images: exact sub-pixel rendering of many star clusters at once.

Stars are spread over a grid finer than the detector's with a kernel of known transform, the grid
is transformed, multiplied by the effective PSF over the kernel's transform, folded onto the
detector's frequencies and transformed back: a non-uniform Fourier transform, whose error is the
part of the PSF's transform that the fine grid cannot hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import offsets_of
from melotte.telescope.psf import PSF

KERNEL_WIDTH = 6
"""Fine cells that a star is spread over along each axis."""

PERIOD_OVER_STAMP = 1.6
"""Default size of the periodic field over that of the stamp cut from its middle."""

STARS_AT_ONCE = 8192
"""Stars deposited in one step; their weights stay in the processor's cache."""


class ImageRenderer:
    """Images of star clusters in several bands, with one or many imaging set-ups.

    Parameters
    ----------
    psfs : sequence of sequences of PSF, shape (n_setups, n_bands)
    pixel_scales : sequence of float, shape (n_setups,), arcsec
    size : int, pixels
        Side of the square stamps.
    period : int or None, pixels, >= size
        Side of the periodic field that is rendered. Stars in it but outside of the stamp shed
        their wings into the stamp; stars beyond it are dropped. None takes the next good size
        above 1.6 x ``size``: 128 for 80 pixels.
    oversampling : int, >= 2
        Cells of the fine grid across a pixel.
    device : device
    clusters_at_once : int or None
        Clusters transformed together. None chooses by the device.

    Notes
    -----
    Renders without gradients.

    References
    ----------
    Barnett, Magland & af Klinteberg 2019, SIAM J. Sci. Comput. 41, C479, Eq. 1.8 (the kernel).
    """

    def __init__(
        self,
        psfs: Sequence[Sequence[PSF]],
        pixel_scales: Sequence[float],
        size: int,
        period: int | None = None,
        oversampling: int = 3,
        device: torch.device | str = "cpu",
        clusters_at_once: int | None = None,
    ) -> None:
        if len(psfs) != len(pixel_scales) or not len(psfs):
            raise MelotteValueError(
                f"psfs and pixel_scales must name the same set-ups, found {len(psfs)} and "
                f"{len(pixel_scales)}"
            )
        if len({len(bands) for bands in psfs}) != 1 or not len(psfs[0]):
            raise MelotteValueError("every set-up needs a PSF for each of the same bands")
        if not all(scale > 0 for scale in pixel_scales):
            raise MelotteValueError(f"pixel scales must be above 0, found {list(pixel_scales)}")
        if oversampling < 2:
            raise MelotteValueError(f"oversampling must be 2 or more, found {oversampling}")
        period = good_period(math.ceil(PERIOD_OVER_STAMP * size)) if period is None else period
        if period < size or period % 2:
            raise MelotteValueError(
                f"the period must be even and at least the stamp's {size} pixels, found {period}"
            )
        self.psfs = [list(bands) for bands in psfs]
        self.pixel_scales = [float(scale) for scale in pixel_scales]
        self.size, self.period, self.oversampling = size, period, oversampling
        self.device = torch.device(device)
        cpu = self.device.type == "cpu"
        self.clusters_at_once = clusters_at_once or (4 if cpu else 256)
        self._pad = (period - size) // 2
        self._side = period * oversampling
        self._scales = torch.tensor(self.pixel_scales, dtype=torch.float32, device=self.device)
        self._tables: Tensor | None = None

    @property
    def n_setups(self) -> int:
        """Number of imaging set-ups."""
        return len(self.psfs)

    @property
    def n_bands(self) -> int:
        """Number of bands of each set-up."""
        return len(self.psfs[0])

    @property
    def transfer_tables(self) -> Tensor:
        """Effective PSF over kernel, shape (n_setups, n_bands, side, side / 2 + 1); made once."""
        if self._tables is None:
            tables = [
                torch.stack([self._transfer(psf, scale) for psf in bands])
                for bands, scale in zip(self.psfs, self.pixel_scales, strict=True)
            ]
            if any(table.is_complex() for table in tables):
                tables = [table.to(torch.complex64) for table in tables]
            self._tables = torch.stack(tables)
        return self._tables

    @torch.no_grad()
    def render(
        self, positions: Tensor, flux: Tensor, offsets: Tensor, setup: Tensor | None = None
    ) -> Tensor:
        """Noiseless images.

        Parameters
        ----------
        positions : Tensor, shape (n_stars, 2), arcsec
            (x, y) from the stamp's centre, along columns and rows.
        flux : Tensor, shape (n_stars, n_bands), counts/s
        offsets : Tensor of int64, shape (n_clusters + 1,)
            Stars ``offsets[i]`` to ``offsets[i + 1]`` are those of cluster i.
        setup : Tensor of int64 or None, shape (n_clusters,), in [0, n_setups)
            None takes the first set-up for all.

        Returns
        -------
        Tensor of float32, shape (n_clusters, n_bands, size, size), counts/s per pixel

        Raises
        ------
        MelotteValueError
            When shapes do not agree.
        """
        n_clusters = len(offsets) - 1
        if flux.shape != (len(positions), self.n_bands) or positions.shape[1:] != (2,):
            raise MelotteValueError(
                f"positions (n_stars, 2) and flux (n_stars, {self.n_bands}) do not agree: found "
                f"{tuple(positions.shape)} and {tuple(flux.shape)}"
            )
        if setup is not None and len(setup) != n_clusters:
            raise MelotteValueError(f"{n_clusters} clusters need as many set-ups, not {len(setup)}")
        cells, flux, offsets = self._inside(positions, flux, offsets.to(self.device), setup)
        images = torch.empty(
            n_clusters, self.n_bands, self.size, self.size, dtype=torch.float32, device=self.device
        )
        bounds = offsets.tolist()
        for first in range(0, n_clusters, self.clusters_at_once):
            last = min(first + self.clusters_at_once, n_clusters)
            stars = slice(bounds[first], bounds[last])
            counts = offsets[first : last + 1].diff()
            grid = self.deposit(cells[stars], flux[stars], counts)
            chosen = slice(0, 1) if setup is None else setup[first:last].to(self.device)
            images[first:last] = self._develop(grid, self.transfer_tables[chosen])
        return images

    def deposit(self, cells: Tensor, flux: Tensor, counts: Tensor) -> Tensor:
        """Spread stars over the fine grid.

        Parameters
        ----------
        cells : Tensor of float32, shape (n_stars, 2)
            (x, y) in fine cells, at least half a kernel inside of the grid.
        flux : Tensor of float32, shape (n_stars, n_bands)
        counts : Tensor of int64, shape (n_clusters,)

        Returns
        -------
        Tensor of float32, shape (n_clusters, n_bands, side, side)
        """
        side, n_bands = self._side, self.n_bands
        grid = torch.zeros(
            len(counts), n_bands, side, side, dtype=torch.float32, device=self.device
        )
        flat = grid.view(-1)
        cluster = torch.repeat_interleave(counts, output_size=len(cells))
        taps = torch.arange(KERNEL_WIDTH, device=self.device)
        for start in range(0, len(cells), STARS_AT_ONCE):
            part = slice(start, start + STARS_AT_ONCE)
            lowest = torch.ceil(cells[part] - KERNEL_WIDTH / 2)
            weight = kernel(lowest[..., None] + taps - cells[part][..., None])
            corner = lowest.long()
            corner = (cluster[part] * n_bands * side + corner[:, 1]) * side + corner[:, 0]
            index = (corner[:, None, None] + (taps[:, None] * side + taps)).view(-1)
            spread = weight[:, 1, :, None] * weight[:, 0, None, :]
            for band in range(n_bands):
                values = spread * flux[part, band, None, None]
                flat[band * side * side :].scatter_add_(0, index, values.view(-1))
        return grid

    def _inside(
        self, positions: Tensor, flux: Tensor, offsets: Tensor, setup: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Stars of the periodic field: cells, float32 fluxes and offsets."""
        positions = positions.to(self.device, torch.float32)
        flux = flux.to(self.device, torch.float32)
        counts = offsets.diff()
        cluster = torch.repeat_interleave(counts, output_size=len(positions))
        if setup is None:
            scale: Tensor = self._scales[:1, None]
        else:
            scale = self._scales[setup.to(self.device)][cluster, None]
        cells = (positions / scale + (self.size - 1) / 2 + self._pad) * self.oversampling
        margin = KERNEL_WIDTH / 2
        inside = ((cells > margin) & (cells < self._side - 1 - margin)).all(1)
        kept = torch.nonzero(inside)[:, 0]
        if len(kept) == len(cells):
            return cells, flux, offsets
        left = torch.zeros_like(counts).index_add_(0, cluster, inside.long())
        return cells[kept], flux[kept], offsets_of(left)

    def _develop(self, grid: Tensor, tables: Tensor) -> Tensor:
        """Convolve fine grids, fold their spectra and cut the stamps out."""
        period, half = self.period, self.period // 2
        spectrum = torch.fft.rfft2(grid)
        spectrum *= tables
        n_columns = self._side // 2 + 1
        spectrum = spectrum.view(*grid.shape[:2], self.oversampling, period, n_columns).sum(2)
        folded = spectrum[..., : half + 1].clone()
        mirrored = torch.zeros_like(folded)
        for alias in range(1, self.oversampling // 2 + 1):
            columns = spectrum[..., alias * period : alias * period + half + 1]
            folded[..., : columns.shape[-1]] += columns
        # Column -m of a real image's spectrum is the conjugate of column m with its rows reversed.
        for alias in range(1, (self.oversampling + 1) // 2 + 1):
            top = alias * period
            first = max(0, top - n_columns + 1)
            if first <= half:
                mirrored[..., first:] += spectrum[..., top - half : top - first + 1].flip(-1)
        folded += torch.roll(mirrored.flip(-2), 1, -2).conj()
        images = torch.fft.irfft2(folded, s=(period, period))
        stamp = slice(self._pad, self._pad + self.size)
        return images[..., stamp, stamp]

    def _transfer(self, psf: PSF, scale: float) -> Tensor:
        """Effective PSF over the kernel's transform on the fine grid's frequencies."""
        side = self._side
        rows = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64, device=self.device)
        columns = torch.arange(side // 2 + 1, dtype=torch.float64, device=self.device)
        fy, fx = rows / (self.period * scale), columns / (self.period * scale)
        transfer = psf.transfer(fx, fy)
        down, right = 1 / kernel_transform(rows / side), 1 / kernel_transform(columns / side)
        if not psf.includes_pixel:
            down, right = down * torch.sinc(fy * scale), right * torch.sinc(fx * scale)
        # The highest frequency stands for both signs at once and cannot be folded.
        down[side // 2] = 0
        right[side // 2] = 0
        transfer = transfer * down[:, None] * right
        return transfer.to(torch.complex64 if transfer.is_complex() else torch.float32)


def good_period(least: int) -> int:
    """The smallest even number of at least ``least`` with no prime factor above 5."""
    n = least + least % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


KERNEL_SHARPNESS = 2.3 * KERNEL_WIDTH
"""Exponent of the kernel."""


def kernel(distance: Tensor) -> Tensor:
    """Exponential of a semicircle.

    Parameters
    ----------
    distance : Tensor, fine cells, any shape

    Returns
    -------
    Tensor, dimensionless, 1 at distance 0 and 0 from half of KERNEL_WIDTH on

    References
    ----------
    Barnett, Magland & af Klinteberg 2019, Eq. 1.8.
    """
    squared = 1 - (distance * (2 / KERNEL_WIDTH)).square()
    height = torch.exp(KERNEL_SHARPNESS * (squared.clamp(min=0).sqrt() - 1))
    return height * (squared >= 0)


def kernel_transform(frequency: Tensor) -> Tensor:
    """Fourier transform of :func:`kernel`, by quadrature.

    Parameters
    ----------
    frequency : Tensor of float64, shape (n,), cycles per fine cell

    Returns
    -------
    Tensor of float64, shape (n,)
    """
    nodes, weights = np.polynomial.legendre.leggauss(100)
    distance = torch.from_numpy(nodes * KERNEL_WIDTH / 2).to(frequency.device)
    weight = torch.from_numpy(weights * KERNEL_WIDTH / 2).to(frequency.device)
    waves = torch.cos(2 * math.pi * frequency[:, None] * distance)
    return waves @ (weight * kernel(distance))


def render_mosaic(
    positions: Tensor,
    flux: Tensor,
    psfs: Sequence[PSF],
    pixel_scale: float,
    shape: tuple[int, int],
    tile: int = 1024,
    margin: int = 128,
    oversampling: int = 3,
) -> Tensor:
    """A noiseless image of any size, band after band and tile after tile.

    Parameters
    ----------
    positions : Tensor, shape (n_stars, 2), pixels
        (x, y); the first pixel's centre is at (0, 0).
    flux : Tensor, shape (n_stars, n_bands), counts/s
    psfs : sequence of PSF, shape (n_bands,)
    pixel_scale : float, arcsec
    shape : (int, int)
        Rows and columns.
    tile : int, pixels
        Largest side that is transformed at once, without margins.
    margin : int, pixels
        How far at least a star sheds its wings across the border of a tile.
    oversampling : int

    Returns
    -------
    Tensor of float32, shape (n_bands, n_rows, n_columns), counts/s per pixel
    """
    side = min(tile, max(shape))
    period = good_period(side + 2 * margin)
    image = torch.zeros(len(psfs), *shape, device=positions.device)
    reach = (period - side) / 2
    for band, psf in enumerate(psfs):
        renderer = ImageRenderer(
            [[psf]], [pixel_scale], side, period, oversampling, positions.device, 1
        )
        for top in range(0, shape[0], side):
            for left in range(0, shape[1], side):
                corner = torch.tensor([left, top], device=positions.device)
                near = (
                    ((positions > corner - reach) & (positions < corner + side + reach))
                    .all(1)
                    .nonzero()[:, 0]
                )
                offsets = torch.tensor([0, len(near)])
                local = (positions[near] - corner - (side - 1) / 2) * pixel_scale
                stamp = renderer.render(local, flux[near, band, None], offsets)[0, 0]
                rows, columns = min(side, shape[0] - top), min(side, shape[1] - left)
                image[band, top : top + rows, left : left + columns] = stamp[:rows, :columns]
    return image
