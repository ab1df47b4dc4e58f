"""Wide images of crowded fields: stars, smooth light and its fluctuations through one PSF.

Fields are larger than any PSF's core, and their stars are everywhere: what wraps around the edges
of a transform lands in a margin that is cut off. So one table of the transfer function serves all
three, and it needs no cut to the period as that of a single cluster's stamp does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from melotte.sky.random_fields import fast_length
from melotte.telescope.psf import PSF
from melotte.telescope.rendering import ImageRenderer
from melotte.telescope.transfer_functions import (
    effective_transfer,
    kernel_sharpness,
    kernel_transform,
)

MARGIN = 32
"""Pixels around a field whose light reaches into it."""

CORE = 960
"""Pixels along a side that are rendered at once in large fields."""

_OVERSAMPLING = 2
_LARGEST_WHOLE = 1100


class _FieldRenderer(ImageRenderer):
    """A renderer of stars whose transfer table was made beforehand."""

    def __init__(self, psf: PSF, pixel_scale: float, size: int, fine: Tensor) -> None:
        super().__init__([[psf]], [pixel_scale], size, size, _OVERSAMPLING, clusters_at_once=1)
        side = size * _OVERSAMPLING
        frequency = torch.fft.fftfreq(side, dtype=torch.float64)
        compensation = 1 / kernel_transform(frequency, kernel_sharpness(_OVERSAMPLING))
        table = fine * compensation[:, None] * compensation[: side // 2 + 1]
        kind = torch.complex64 if table.is_complex() else torch.float32
        self._field_table = table.to(kind)[None, None]

    def transfer_tables(self, setup: Tensor | None = None) -> Tensor:
        """The table, for the one set-up there is."""
        return self._field_table


class FieldOptics:
    """One band's way from light to image, on squares of one size.

    Parameters
    ----------
    psf : PSF
    pixel_scale : float, arcsec
    size : int, even, pixels
    """

    def __init__(self, psf: PSF, pixel_scale: float, size: int) -> None:
        self.size, self._scale = size, pixel_scale
        # Frequencies up to one cycle a pixel: twice what the pixels can hold.
        rows = torch.fft.fftfreq(2 * size, dtype=torch.float64) * 2
        columns = torch.arange(size + 1, dtype=torch.float64) / size
        fine = effective_transfer(psf, pixel_scale, columns / pixel_scale, rows / pixel_scale)
        self._renderer = _FieldRenderer(psf, pixel_scale, size, fine)
        half = size // 2
        near = torch.cat([fine[:half], fine[-half:]])[:, : half + 1]
        self._response = near.to(torch.complex64 if fine.is_complex() else torch.float32)
        self._amplitude = torch.sqrt(_folded_power(fine)).float()

    def stars(self, positions: Tensor, flux: Tensor) -> Tensor:
        """Image of stars, shape (size, size).

        Parameters
        ----------
        positions : Tensor, shape (n_stars, 2), pixels
            The first pixel's centre is (0, 0); stars outside are left out.
        flux : Tensor, shape (n_stars,), counts/s
        """
        local = (positions - (self.size - 1) / 2) * self._scale
        return self._renderer.render(local, flux[:, None], torch.tensor([0, len(local)]))[0, 0]

    def smooth(self, light: Tensor, fluctuation: Tensor) -> Tensor:
        """Image of smooth light and of the white noise of faint stars.

        A star's place inside its pixel matters: its power reaches beyond the pixels' Nyquist
        frequency and folds back, so the noise's spectrum is the sum of the aliases.

        Parameters
        ----------
        light, fluctuation : Tensor, shape (size, size), counts/s per pixel
        """
        blurred = torch.fft.rfft2(light) * self._response
        blurred = blurred + torch.fft.rfft2(fluctuation) * self._amplitude
        return torch.fft.irfft2(blurred, s=(self.size, self.size))


def _folded_power(fine: Tensor) -> Tensor:
    """Power of all aliases at the pixels' own frequencies, shape (size, size / 2 + 1).

    ``fine`` holds the transfer function up to one cycle a pixel, (2 size, size + 1).
    """
    size = fine.shape[1] - 1
    power = fine.abs().square().view(2, size, size + 1).sum(0)
    folded = power[:, : size // 2 + 1].clone()
    # A real image's power at (-u, -v) is that at (u, v).
    mirrored = torch.roll(power.flip(0), 1, 0).flip(1)[:, : size // 2 + 1]
    folded[:, 1:] += mirrored[:, 1:]
    return folded


@lru_cache(maxsize=6)
def optics_of(psf: PSF, pixel_scale: float, size: int) -> FieldOptics:
    """Optics of a band; those of the latest bands are kept."""
    return FieldOptics(psf, pixel_scale, size)


def wide_size(size: int) -> int:
    """Pixels along a side to draw for a field of a size: margins, and whole squares."""
    if size + 2 * MARGIN <= _LARGEST_WHOLE:
        least = (size + 1) // 2 + MARGIN
        return 2 * fast_length(least)
    return -(-size // CORE) * CORE + 2 * MARGIN


def render_field(
    positions: Tensor,
    flux: Tensor,
    light: Tensor,
    fluctuation: Tensor,
    psfs: Sequence[PSF],
    pixel_scale: float,
) -> Tensor:
    """Noiseless image of a field; its outermost MARGIN pixels lack light from outside.

    Parameters
    ----------
    positions : Tensor, shape (n_stars, 2), pixels
    flux : Tensor, shape (n_stars, n_bands), counts/s
    light, fluctuation : Tensor, shape (n_bands, wide, wide), counts/s per pixel
        ``wide`` is one of :func:`wide_size`.
    psfs : sequence of PSF, shape (n_bands,)
    pixel_scale : float, arcsec

    Returns
    -------
    Tensor, shape (n_bands, wide, wide)
    """
    wide = light.shape[-1]
    if wide <= _LARGEST_WHOLE:
        corners, block = [(0, 0)], wide
    else:
        steps = range(0, wide - 2 * MARGIN, CORE)
        corners, block = [(row, column) for row in steps for column in steps], CORE + 2 * MARGIN
    image = torch.zeros_like(light)
    inner = slice(MARGIN, block - MARGIN) if len(corners) > 1 else slice(0, block)
    for band, psf in enumerate(psfs):
        optics = optics_of(psf, pixel_scale, block)
        for row, column in corners:
            start = positions.new_tensor([column, row])
            near = ((positions > start) & (positions < start + block)).all(1).nonzero()[:, 0]
            part = (band, slice(row, row + block), slice(column, column + block))
            seen = optics.stars(positions[near] - start, flux[near, band])
            seen += optics.smooth(light[part], fluctuation[part])
            image[part][inner, inner] = seen[inner, inner]
    return image
