"""Images as the two papers' networks read them: logarithms, or standardised and arcsinh.

Pixels that were not recorded are NaN (or infinite, which counts as the same) and take a value that
says nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.compression import asinh

LOWEST = -0.9
"""Counts/s below which Paper I's logarithm is held: it has no value at -1, which only an
over-subtracted pixel reaches."""


def paper_one_preparation(images: Tensor) -> Tensor:
    """Logarithm of counts.

    Parameters
    ----------
    images : Tensor, shape (..., n_bands, n_rows, n_columns), counts/s
        Below ``LOWEST`` they count as ``LOWEST``; pixels that are not finite take the median of
        their band's others, and 0 where the band has none.

    Returns
    -------
    Tensor, the same shape, dimensionless: ln(x + 1), >= ln(0.1)

    References
    ----------
    Bialopetravičius et al. 2019, Sect. 4.3.
    """
    images = torch.where(torch.isfinite(images), images, torch.nan)
    if bool(images.isnan().any()):
        median = images.flatten(-2).nanmedian(-1).values.nan_to_num(0.0)
        images = torch.where(images.isnan(), median[..., None, None], images)
    return torch.log1p(images.clamp(min=LOWEST))


def paper_two_preparation(images: Tensor) -> Tensor:
    """Standardise each band of each image, then take the arcsinh.

    Parameters
    ----------
    images : Tensor, shape (..., n_bands, n_rows, n_columns), counts/s
        Pixels that are not finite take no part and end at 0, the mean.

    Returns
    -------
    Tensor, the same shape, dimensionless
        arcsinh((x - mean) / standard deviation), over the recorded pixels; 0 for a band whose
        pixels are all equal.

    References
    ----------
    Bialopetravičius & Narbutis 2020, Sect. 2.4.
    """
    recorded = torch.isfinite(images)
    count = recorded.sum((-2, -1), keepdim=True).clamp(min=1)
    values = torch.where(recorded, images, 0.0)
    mean = values.sum((-2, -1), keepdim=True) / count
    offset = torch.where(recorded, images - mean, 0.0)
    spread = ((offset**2).sum((-2, -1), keepdim=True) / count).sqrt()
    # Rounding leaves a constant band offsets of the mean's last digits.
    least = 1e-6 * mean.abs() + torch.finfo(images.dtype).tiny
    return torch.where(spread > least, asinh(offset / spread.clamp(min=least)), 0.0)
