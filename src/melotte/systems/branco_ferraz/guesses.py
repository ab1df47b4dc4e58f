"""The three numbers that the seed's networks get beside the diagram."""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.networks.sets import segment_mean
from melotte.ragged import Ragged
from melotte.systems.open_cluster.preparation import segment_quantiles

GUESSES = ("slope", "mean_bp_rp", "median_parallax")
UPPER_MAGNITUDE = 4.0
"""Distance-corrected G above which the slope is taken, and where the mean colour's range begins."""
LOWER_MAGNITUDE = 5.0
MEDIAN = (0.5 - 1e-5, 0.5 + 1e-5)
"""Levels whose nearest ranks are the two middle stars of an even list, and one of an odd list."""
SMALLEST_VARIANCE = 1e-6


def guesses(stars: Ragged) -> Tensor:
    """Slope of colour against magnitude, a mean colour, and the median parallax.

    Magnitudes are corrected for distance by the list's median parallax, without zero point. Where
    that is not positive nothing can be corrected: the first two guesses are 0. So is the slope of
    fewer than two stars or of stars of one magnitude, and the mean colour of no star.

    Parameters
    ----------
    stars : Ragged, values of shape (n_stars, n_columns)
        G and BP-RP, in mag, and parallax, in mas, first.

    Returns
    -------
    Tensor, shape (batch, 3)
        GUESSES: d(BP-RP)/dG by least squares of stars with corrected G < 4; mean BP-RP, in mag,
        of those with 4 <= corrected G < 5; median parallax, in mas.
    """
    g, colour, parallax = stars.values[:, :3].unbind(-1)
    median = segment_quantiles(parallax, stars.offsets, MEDIAN).mean(-1).nan_to_num(0.0)
    modulus = -5 * torch.log10(median.clamp(min=1e-6)) + 10
    corrected = g - modulus[stars.index]
    usable = (median > 0)[stars.index]
    pairs = Ragged(torch.stack([corrected, colour], -1), stars.offsets)
    slope = _slope(pairs.where(usable & (corrected < UPPER_MAGNITUDE)))
    between = usable & (corrected >= UPPER_MAGNITUDE) & (corrected < LOWER_MAGNITUDE)
    chosen = pairs.where(between)
    mean_colour = segment_mean(chosen.values, chosen.index, chosen.counts)[:, 1]
    return torch.stack([slope, mean_colour, median], -1)


def _slope(pairs: Ragged) -> Tensor:
    """Least-squares slope of the second column against the first, 0 where undefined."""
    index, counts = pairs.index, pairs.counts
    centred = pairs.values - segment_mean(pairs.values, index, counts)[index]
    products = centred * centred[:, :1]
    variance, covariance = segment_mean(products, index, counts).unbind(-1)
    defined = variance > SMALLEST_VARIANCE
    return torch.where(defined, covariance / variance.clamp(min=SMALLEST_VARIANCE), 0.0)
