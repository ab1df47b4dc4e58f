"""Clumped maps: log-normal random fields with a power-law spectrum."""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor


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
    wide = int(next_fast_len(size + size // 4, real=True))
    white = torch.randn(wide, wide, generator=generator)
    k = torch.hypot(torch.fft.fftfreq(wide)[:, None], torch.fft.rfftfreq(wide)[None])
    k[0, 0] = torch.inf
    field = torch.fft.irfft2(torch.fft.rfft2(white) * k ** (slope / 2), s=(wide, wide))
    field = field[:size, :size]
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
