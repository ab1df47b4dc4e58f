"""Stars to images: exact sub-pixel rendering of many star clusters at once.

Stars are spread over a grid finer than the detector's with a kernel of known transform, the grid
is transformed, multiplied by the effective PSF over the kernel's transform, folded onto the
detector's frequencies and transformed back: a non-uniform Fourier transform, whose error is the
part of the PSF's transform that the fine grid cannot hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from melotte.errors import MelotteValueError, require
from melotte.ragged import offsets_of
from melotte.telescope.psf import PSF
from melotte.telescope.transfer_functions import (
    KERNEL_WIDTH,
    good_period,
    kernel,
    kernel_sharpness,
    least_oversampling,
    transfer_table,
)

SURROUNDINGS = 48
"""Default pixels by which the periodic field is wider than the stamp cut from its middle.

With Hubble's PSFs they leave the light of a cluster that fits its stamp right to 2e-4.
"""

STARS_AT_ONCE = 4096
"""Stars spread in one step on a CPU; their weights stay in its cache."""


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
        from 48 more than ``size`` on: 128 for 80 pixels.
    oversampling : int or None, >= 2
        Cells of the fine grid across a pixel. None takes the fewest, 2 to 4, that leave a star's
        image exact to 2e-6 of its peak (root mean square) with the sharpest of the PSFs.
    device : device
    clusters_at_once : int or None
        Clusters transformed together. None chooses by the device.
    deposit : {"torch", "numba"}
        How stars are spread over the fine grid: by torch on any device, or by compiled loops on a
        CPU, which need the extra ``fast``. Both give the same images.

    Raises
    ------
    MelotteValueError
        When settings do not agree.
    MissingExtraError
        When numba is asked for and not installed.

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
        oversampling: int | None = None,
        device: torch.device | str = "cpu",
        clusters_at_once: int | None = None,
        deposit: Literal["torch", "numba"] = "torch",
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
        if oversampling is None:
            oversampling = max(
                least_oversampling(psf, scale)
                for bands, scale in zip(psfs, pixel_scales, strict=True)
                for psf in bands
            )
        if oversampling < 2:
            raise MelotteValueError(f"oversampling must be 2 or more, found {oversampling}")
        period = good_period(size + SURROUNDINGS) if period is None else period
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
        self.stars_at_once = STARS_AT_ONCE if cpu else 256 * STARS_AT_ONCE
        self.deposit_by = deposit
        self._compiled: Any = None
        if deposit == "numba":
            if not cpu:
                raise MelotteValueError(f"deposit='numba' works on a CPU, not on {self.device}")
            require("numba", "fast")
            self._compiled = import_module("melotte.telescope.numba_deposit")
            self._kernel_table = self._compiled.kernel_table(kernel_sharpness(oversampling))
        elif deposit != "torch":
            raise MelotteValueError(f"deposit must be 'torch' or 'numba', found {deposit!r}")
        self._pad = (period - size) // 2
        self._side = period * oversampling
        self._scales = torch.tensor(self.pixel_scales, dtype=torch.float32, device=self.device)
        self._tables: Tensor | None = None
        self._built: set[int] = set()

    @property
    def n_setups(self) -> int:
        """Number of imaging set-ups."""
        return len(self.psfs)

    @property
    def n_bands(self) -> int:
        """Number of bands of each set-up."""
        return len(self.psfs[0])

    @property
    def tables_built(self) -> frozenset[int]:
        """Set-ups whose transfer tables are worked out."""
        return frozenset(self._built)

    def transfer_tables(self, setup: Tensor | None = None) -> Tensor:
        """Effective PSFs over the kernel's transform, worked out when first asked for.

        Parameters
        ----------
        setup : Tensor of int64 or None, shape (n,)
            None is the first set-up.

        Returns
        -------
        Tensor, shape (n, n_bands, side, side / 2 + 1), side = period x oversampling
        """
        asked = [0] if setup is None else setup.unique().tolist()
        for number in asked:
            if number not in self._built:
                self._build(number)
        if self._tables is None:
            raise MelotteValueError("no set-up was asked for")
        return self._tables[:1] if setup is None else self._tables[setup]

    def _build(self, number: int) -> None:
        scale = self.pixel_scales[number]
        made = torch.stack(
            [
                transfer_table(psf, scale, self.period, self.oversampling, self.device)
                for psf in self.psfs[number]
            ]
        )
        if self._tables is None:
            self._tables = made.new_zeros(self.n_setups, *made.shape)
        elif made.is_complex() and not self._tables.is_complex():
            self._tables = self._tables.to(made.dtype)
        self._tables[number] = made
        self._built.add(number)

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
        setup = None if setup is None else setup.to(self.device)
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
            tables = self.transfer_tables(None if setup is None else setup[first:last])
            images[first:last] = self._develop(grid, tables)
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
        grid = torch.zeros(len(counts), n_bands, side, side, device=self.device)
        if self._compiled is not None:
            self._compiled.deposit(grid, cells, flux, counts, self._kernel_table)
            return grid
        flat = grid.view(-1)
        cluster = torch.repeat_interleave(counts, output_size=len(cells))
        taps = torch.arange(KERNEL_WIDTH, device=self.device)
        block = (taps[:, None] * side + taps).view(-1)
        sharpness = kernel_sharpness(self.oversampling)
        for start in range(0, len(cells), self.stars_at_once):
            part = slice(start, start + self.stars_at_once)
            lowest = torch.ceil(cells[part] - KERNEL_WIDTH / 2)
            weight = kernel((lowest - cells[part])[..., None] + taps, sharpness)
            corner = lowest.long()
            corner = (cluster[part] * n_bands * side + corner[:, 1]) * side + corner[:, 0]
            index = (corner[:, None] + block).view(-1)
            across, down = weight[:, 0, None, :], weight[:, 1, :, None]
            for band in range(n_bands):
                values = down * flux[part, band, None, None] * across
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
            scale = self._scales[setup][cluster, None]
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


def render_mosaic(
    positions: Tensor,
    flux: Tensor,
    psfs: Sequence[PSF],
    pixel_scale: float,
    shape: tuple[int, int],
    tile: int = 1024,
    margin: int = 128,
    oversampling: int | None = None,
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
    oversampling : int or None
        As :class:`ImageRenderer` takes it.

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
