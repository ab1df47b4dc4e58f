"""Flags that a posterior itself raises: mass at an end of the prior, more than one peak."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.flags import Flag
from melotte.parameters import Parameter

EDGE_WIDTH = 0.02
EDGE_FRACTION = 0.1
VALLEY_DEPTH = 0.6
VALLEY_SIGNIFICANCE = 3.5
SMALLEST_PEAK = 0.05
NEGLIGIBLE_PRIOR = 0.05
_GRID = 256


def flag_posteriors(samples: ArrayLike, parameters: Sequence[Parameter]) -> NDArray[np.int64]:
    """PRIOR_EDGE and MULTIMODAL bits of posteriors.

    Parameters
    ----------
    samples : array, shape (n, n_samples, n_parameters), unit cube
        At least 100 samples; rows with a value that is not finite get no flag.
    parameters : sequence of Parameter

    Returns
    -------
    array of int64, shape (n,)
    """
    unit = np.asarray(samples, dtype=float)
    finite = np.isfinite(unit).all((1, 2))
    flags = np.zeros(len(unit), dtype=np.int64)
    flags[finite] |= np.where(at_prior_edge(unit[finite], parameters), int(Flag.PRIOR_EDGE), 0)
    one_by_one = unit[finite].transpose(0, 2, 1).reshape(-1, unit.shape[1])
    many = is_multimodal(one_by_one).reshape(-1, unit.shape[2]).any(1)
    flags[finite] |= np.where(many, int(Flag.MULTIMODAL), 0)
    return flags


def at_prior_edge(samples: ArrayLike, parameters: Sequence[Parameter]) -> NDArray[np.bool_]:
    """Whether an end of the prior cuts the posterior off.

    More than 10 % of the samples of a parameter lie within 2 % of an end of the unit range, and
    that end is a truncation (see :func:`truncating_ends`).

    Parameters
    ----------
    samples : array, shape (n, n_samples, n_parameters), unit cube
    parameters : sequence of Parameter

    Returns
    -------
    array of bool, shape (n,)
    """
    unit = np.asarray(samples, dtype=float)
    cut = np.zeros(len(unit), dtype=bool)
    for i, parameter in enumerate(parameters):
        low, high = truncating_ends(parameter)
        if low:
            cut |= (unit[:, :, i] < EDGE_WIDTH).mean(1) > EDGE_FRACTION
        if high:
            cut |= (unit[:, :, i] > 1 - EDGE_WIDTH).mean(1) > EDGE_FRACTION
    return cut


def truncating_ends(parameter: Parameter) -> tuple[bool, bool]:
    """Whether the lower and the upper end of a prior cut off values that could be true.

    They do not where the end is a physical limit (zero on a linear scale, such as no extinction)
    or where a normal prior has fallen below 5 % of its peak before it is cut: there the prior's
    own tail, not the cut, shapes the posterior.
    """
    if parameter.scale == "normal" and parameter.centre is not None and parameter.width:
        reach = math.sqrt(-2 * math.log(NEGLIGIBLE_PRIOR)) * parameter.width
        low = parameter.low > parameter.centre - reach
        return low, parameter.high < parameter.centre + reach
    return not (parameter.scale == "linear" and parameter.low == 0), True


def is_multimodal(samples: ArrayLike) -> NDArray[np.bool_]:
    """Whether one-dimensional samples come from a density with separate peaks.

    The density is estimated with a Gaussian kernel of Silverman's width. There are separate
    peaks where it falls below 60 % of the lower of the highest points on either side, by more
    than 3.5 standard errors of the estimate, at a place with at least 5 % of the samples on each
    side.

    Parameters
    ----------
    samples : array, shape (n, n_samples)

    Returns
    -------
    array of bool, shape (n,)

    References
    ----------
    Silverman 1986, Density Estimation, Eqs. 3.31 (the width) and 3.16 (variance of the
    estimate, at leading order).
    """
    drawn = np.asarray(samples, dtype=float)
    n, n_samples = drawn.shape
    quartiles = np.quantile(drawn, [0.25, 0.75], axis=1)
    spread = np.minimum(drawn.std(1), (quartiles[1] - quartiles[0]) / 1.34)
    width = 0.9 * spread * n_samples**-0.2
    usable = width > 1e-9
    width = np.where(usable, width, 1.0)
    low = drawn.min(1) - 4 * width
    step = (drawn.max(1) + 4 * width - low) / (_GRID - 1)
    bins = np.rint((drawn - low[:, None]) / step[:, None]).astype(int)
    rows = np.repeat(np.arange(n), n_samples)
    counts = np.bincount(rows * _GRID + bins.ravel(), minlength=n * _GRID).reshape(n, _GRID)
    frequency = np.fft.rfftfreq(_GRID)
    # A kernel narrower than a cell would leave the cells' own noise.
    blur = np.maximum(width / step, 1.0)[:, None]
    transform = np.fft.rfft(counts, axis=1) * np.exp(-2 * (np.pi * frequency * blur) ** 2)
    density = np.fft.irfft(transform, n=_GRID, axis=1).clip(min=0)
    left = np.maximum.accumulate(density, axis=1)
    right = np.maximum.accumulate(density[:, ::-1], axis=1)[:, ::-1]
    below = counts.cumsum(1) / n_samples
    inside = (below >= SMALLEST_PEAK) & (below <= 1 - SMALLEST_PEAK)
    peak = np.minimum(left, right)
    # Counts in a cell of the kernel's effective extent, 2 sqrt(pi) widths, are Poisson.
    cells = 2 * math.sqrt(math.pi) * blur
    error = np.sqrt((peak + density) / cells)
    valley = inside & (density < VALLEY_DEPTH * peak)
    valley &= peak - density > VALLEY_SIGNIFICANCE * error
    return usable & valley.any(1)
