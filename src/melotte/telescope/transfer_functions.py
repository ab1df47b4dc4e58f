"""From a PSF to the factors that turn a grid of spread-out stars into an image.

Stars are spread over a fine grid with a kernel of known transform W. The spectrum of the grid times
E / W is that of the image, E being the transfer function of the effective PSF (PSF over pixel).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from melotte.telescope.psf import PSF

KERNEL_WIDTH = 5
"""Fine cells that a star is spread over along each axis."""

MOST_REFINEMENT = 4
"""The effective PSF is worked out over at most so many periods before it is cut to one."""

WIDE = 1024
"""Pixels over which it is worked out otherwise: what wings leave beyond is less than 1e-3."""

TOLERANCE = 2e-6
"""Largest residual that a chosen oversampling may leave: root mean square over a period of the
image of one star, over its peak."""


def kernel_sharpness(oversampling: int) -> float:
    """Exponent of the kernel that leaves the least residual with Hubble's PSFs.

    Found by a scan in steps of 0.1 cells for grids of 2 and 3 cells a pixel.
    """
    return KERNEL_WIDTH * min(2.2 + 0.35 * (oversampling - 2), 2.55)


def kernel(distance: Tensor, sharpness: float) -> Tensor:
    """Exponential of a semicircle.

    Parameters
    ----------
    distance : Tensor, fine cells, any shape
    sharpness : float
        Its exponent.

    Returns
    -------
    Tensor, dimensionless, 1 at distance 0 and 0 from half of KERNEL_WIDTH on

    References
    ----------
    Barnett, Magland & af Klinteberg 2019, SIAM J. Sci. Comput. 41, C479, Eq. 1.8.
    """
    squared = 1 - (distance * (2 / KERNEL_WIDTH)).square()
    height = torch.exp(sharpness * (squared.clamp(min=0).sqrt() - 1))
    return height * (squared >= 0)


def kernel_transform(frequency: Tensor, sharpness: float) -> Tensor:
    """Fourier transform of :func:`kernel`, by quadrature.

    Parameters
    ----------
    frequency : Tensor of float64, shape (n,), cycles per fine cell
    sharpness : float

    Returns
    -------
    Tensor of float64, shape (n,)
    """
    nodes, weights = np.polynomial.legendre.leggauss(100)
    distance = torch.from_numpy(nodes * KERNEL_WIDTH / 2).to(frequency.device)
    weight = torch.from_numpy(weights * KERNEL_WIDTH / 2).to(frequency.device)
    waves = torch.cos(2 * math.pi * frequency[:, None] * distance)
    return waves @ (weight * kernel(distance, sharpness))


def effective_transfer(psf: PSF, pixel_scale: float, fx: Tensor, fy: Tensor) -> Tensor:
    """Transfer function of a PSF collected over the pixel, shape (n_y, n_x).

    Parameters
    ----------
    psf : PSF
    pixel_scale : float, arcsec
    fx, fy : Tensor of float64, cycles/arcsec
        As :meth:`PSF.transfer` takes them.
    """
    transfer = psf.transfer(fx, fy)
    if psf.includes_pixel:
        return transfer
    return transfer * torch.sinc(fy * pixel_scale)[:, None] * torch.sinc(fx * pixel_scale)


def transfer_table(
    psf: PSF, pixel_scale: float, period: int, oversampling: int, device: torch.device | str
) -> Tensor:
    """Effective PSF, cut to the period, over the kernel's transform.

    A PSF's wings have no end, and those beyond the period would come back into it from the other
    side. So the PSF is worked out over up to 4 periods, cut to one, and transformed again; the
    wings beyond 1024 pixels are left to that, so that wide fields need no more memory than they
    have pixels.

    Parameters
    ----------
    psf : PSF
    pixel_scale : float, arcsec
    period : int, pixels
    oversampling : int, fine cells per pixel
    device : device

    Returns
    -------
    Tensor of float32 or complex64, shape (side, side / 2 + 1), side = period x oversampling
        At the frequencies of ``rfft2``; real where the PSF's transfer function is.
    """
    side = period * oversampling
    refinement = min(math.ceil(WIDE / period), MOST_REFINEMENT)
    wide, kept = side * refinement, side // 2
    exact = {"dtype": torch.float64, "device": device}
    rows = torch.fft.fftfreq(wide, 1 / wide, **exact)
    columns = torch.arange(wide // 2 + 1, **exact)
    unit = 1 / (period * refinement * pixel_scale)
    transfer = effective_transfer(psf, pixel_scale, columns * unit, rows * unit)
    # The highest frequency stands for both signs at once and cannot be folded.
    transfer[wide // 2] = 0
    transfer[:, wide // 2] = 0
    image = torch.fft.irfft2(transfer, s=(wide, wide))
    middle = torch.cat([image[:kept], image[-kept:]])
    cut = torch.fft.rfft2(torch.cat([middle[:, :kept], middle[:, -kept:]], dim=1))
    frequency = torch.fft.fftfreq(side, **exact)
    compensation = 1 / kernel_transform(frequency, kernel_sharpness(oversampling))
    compensation[kept] = 0
    table = cut * compensation[:, None] * compensation[: kept + 1]
    return table.to(torch.complex64) if transfer.is_complex() else table.real.to(torch.float32)


def residual(psf: PSF, pixel_scale: float, oversampling: int) -> float:
    """What a fine grid cannot hold: root mean square over 128 x 128 pixels of one star, over peak.

    Frequencies beyond the grid's highest are lost, those below it are mirrored by the kernel.

    Parameters
    ----------
    psf : PSF
    pixel_scale : float, arcsec
    oversampling : int
    """
    half = 24
    # Half steps: no frequency of the coarse sampling falls on a zero of the pixel's transform.
    cycles = (torch.arange(-4 * half, 4 * half, dtype=torch.float64) + 0.5) / half
    transfer = effective_transfer(psf, pixel_scale, cycles / pixel_scale, cycles / pixel_scale)
    power = transfer.abs().square()
    mirrored = _mirrored_power(oversampling, half)
    lost = cycles.abs() > oversampling / 2
    leak = mirrored[:, None] + mirrored
    leak = torch.where(lost[:, None] | lost, torch.ones_like(leak), leak)
    each = (128 / half) ** 2
    return math.sqrt(float((power * leak).sum()) * each) / (float(transfer.abs().sum()) * each)


@cache
def _mirrored_power(oversampling: int, half: int) -> Tensor:
    """Power that the kernel mirrors into each frequency's images, over what it passes."""
    cycles = (torch.arange(-4 * half, 4 * half, dtype=torch.float64) + 0.5) / half
    frequency, sharpness = cycles / oversampling, kernel_sharpness(oversampling)
    passed = kernel_transform(frequency, sharpness).square()
    images = [kernel_transform(frequency + m, sharpness).square() for m in (-2, -1, 1, 2)]
    return torch.stack(images).sum(0) / passed


def least_oversampling(psf: PSF, pixel_scale: float, tolerance: float = TOLERANCE) -> int:
    """Coarsest grid, 2 to 4 cells a pixel, whose :func:`residual` is within a tolerance."""
    for oversampling in (2, 3):
        if residual(psf, pixel_scale, oversampling) <= tolerance:
            return oversampling
    return 4


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
