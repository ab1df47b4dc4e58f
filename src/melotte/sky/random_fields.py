"""Clumped maps: log-normal random fields with a power-law spectrum."""

from __future__ import annotations

import torch
from torch import Tensor


def fast_length(least: int) -> int:
    """Smallest number from ``least`` on with no prime factor above 5: quick to transform."""
    length = max(1, least)
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def gaussian_field(size: int, slope: float, generator: torch.Generator) -> Tensor:
    """Gaussian random field with power spectrum k^slope, of mean 0 and standard deviation 1.

    Parameters
    ----------
    size : int, pixels
    slope : float
        -2.8 is that of the interstellar medium's column density (Elmegreen & Scalo 2004,
        ARA&A 42, 211).
    generator : torch.Generator, on the CPU

    Returns
    -------
    Tensor, shape (size, size)
        Cut from a field a quarter wider, so that opposite edges do not match.
    """
    wide = fast_length(size + size // 4)
    white = torch.randn(wide, wide, generator=generator)
    k = torch.hypot(torch.fft.fftfreq(wide)[:, None], torch.fft.rfftfreq(wide)[None])
    k[0, 0] = torch.inf
    field = torch.fft.irfft2(torch.fft.rfft2(white) * k ** (slope / 2), s=(wide, wide))
    field = field[:size, :size]
    return (field - field.mean()) / field.std()


def filamentary_field(size: int, slope: float, generator: torch.Generator) -> Tensor:
    """Random field with ridges, as dust lanes have them: mean 0, standard deviation 1.

    Half of it is :func:`gaussian_field`; the other half rises to sharp ridges where another
    such field changes sign.

    Parameters
    ----------
    size : int, pixels
    slope : float
    generator : torch.Generator, on the CPU

    Returns
    -------
    Tensor, shape (size, size)
    """
    ridges = -torch.sqrt(gaussian_field(size, slope, generator).abs())
    field = gaussian_field(size, slope, generator) + (ridges - ridges.mean()) / ridges.std()
    return (field - field.mean()) / field.std()


def lognormal_map(field: Tensor, spread: float) -> Tensor:
    """Positive map of median 1 from a Gaussian field.

    Parameters
    ----------
    field : Tensor, any shape, mean 0, standard deviation 1
    spread : float, >= 0
        Standard deviation of the map's ln.
    """
    return torch.exp(spread * field)
