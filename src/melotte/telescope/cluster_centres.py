"""Where a cluster is in an image, and how well its light tells that.

A cluster that is resolved into stars, and larger than the image perhaps, has no brightest place
that its centre could be read from. Here round profiles of many sizes are fitted about every place,
which is a handful of convolutions, and the places are weighed by how well they fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melotte.telescope.map_measurements import known_pixels

BLOCK = 12
"""Pixels a side of the blocks that images are averaged in, about three widths of a star."""
LEAST_BLOCKS, MOST_BLOCKS = 20, 256
"""Along the short and the long side of an image."""

_CUT = (0.25, 0.75)
"""Quantiles of the pixels that light counts from and is cut off at."""
_SLOPES = (1.0, 2.0)
_SIZE_STEP = 1.6
_CLUMPS = (2, 4, 8)
"""Blocks a side of the patches that show whether neighbours' deviations hang together."""
_LEAST_PATCHES = 4
_COARSE = 0.5
"""Errors, in blocks, that ask for smaller blocks."""
_SMALL = 2.5
"""Blocks that the scale of a small cluster is at most."""
_WINDOW = 8
"""Blocks on either side of a small cluster's centre within which they are halved."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Centre:
    """Place of a cluster in an image.

    Parameters
    ----------
    column, row : float, px
        From 0, of the middle of the first pixel.
    error : float, px
        Standard deviation along one axis.
    """

    column: float
    row: float
    error: float


def centre_of_light(image: Array) -> Centre:
    """The place about which an image's light is most like a round cluster.

    Pixels count from the lower quartile and are cut at the upper one, so that neither bright
    stars nor a steep core rule, and are averaged in blocks. About each block's middle profiles
    1 / (1 + r^2 / a^2)^s with s of 1 and 2 and scales a from two blocks to twice the image, and a
    constant, are fitted by least squares; the mean over places is weighted by exp(-chi^2 / 2),
    summed over the profiles. Deviations from the best fit say what a block's error is, and those
    of larger patches by how much clumps of stars raise chi^2's unit. Blocks are halved until they
    are smaller than the error, about a small cluster alone where they would be too many.

    Parameters
    ----------
    image : array, shape (n_rows, n_columns)
        Sky included or not, NaN where unknown.

    Raises
    ------
    MelotteValueError
        When no pixel has a value.
    """
    known = known_pixels(image)
    low, high = np.quantile(image[known], _CUT)
    light = np.where(known, np.clip(image, low, high) - low, np.nan)
    block = max(1, min(BLOCK, min(image.shape) // LEAST_BLOCKS))
    block = max(block, -(-max(image.shape) // MOST_BLOCKS))
    left = top = 0
    while True:
        found, scale = _of_blocks(light, block)
        if block < 2 or found.error > _COARSE * block:
            break
        if max(light.shape) > MOST_BLOCKS * (block // 2):
            if scale > _SMALL * block:
                break
            reach = _WINDOW * block
            row, column = (max(0, round(one) - reach) for one in (found.row, found.column))
            light = light[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
            top, left = top + row, left + column
        block //= 2
    return Centre(found.column + left, found.row + top, found.error)


def _of_blocks(light: Array, block: int) -> tuple[Centre, float]:
    """The centre by blocks of one size, and the scale of the best profile, px."""
    mean, weight = _averaged(light, block)
    n_rows, n_columns = mean.shape
    total = weight.sum()
    deviation = np.where(weight > 0, mean - (weight * mean).sum() / total, 0.0)
    scales = _scales(block, 2 * max(light.shape))
    profiles = [(scale, slope) for scale in scales for slope in _SLOPES]
    padded = [2 * size for size in mean.shape]
    of_weight, of_light = (np.fft.rfft2(one, padded) for one in (weight, weight * deviation))
    gains = np.empty((len(profiles), n_rows, n_columns))
    for number, (scale, slope) in enumerate(profiles):
        kernel = _around(padded, mean.shape, block, scale, slope)
        transform, of_square = np.fft.rfft2(kernel), np.fft.rfft2(kernel**2)
        sums = [
            np.fft.irfft2(given * form, padded)[:n_rows, :n_columns]
            for given, form in (
                (of_light, transform),
                (of_weight, transform),
                (of_weight, of_square),
            )
        ]
        variance = np.maximum(sums[2] - sums[1] ** 2 / total, 1e-9 * total)
        gains[number] = np.where(sums[0] > 0, sums[0] ** 2 / variance, 0.0)
    best = float(gains.max())
    place = np.unravel_index(gains.argmax(), gains.shape)
    scale, slope = profiles[int(place[0])]
    rows, columns = (block * np.arange(size) for size in mean.shape)
    squared = (rows[:, None] - rows[place[1]]) ** 2 + (columns - columns[place[2]]) ** 2
    shape = (1 + squared / scale**2) ** -slope
    unit = _chi_squared_unit(deviation, weight, shape)
    chance = np.exp((gains - best) / max(2 * unit, 1e-30)).sum(0)
    chance /= chance.sum()
    middle = (block - 1) / 2
    found = []
    spread = block**2 / 12
    for along, share in ((columns, chance.sum(0)), (rows, chance.sum(1))):
        found.append(float((share * along).sum()))
        spread += 0.5 * float((share * (along - found[-1]) ** 2).sum())
    return Centre(found[0] + middle, found[1] + middle, float(np.sqrt(spread))), float(scale)


def _averaged(light: Array, block: int) -> tuple[Array, Array]:
    """Mean light of blocks, 0 where nothing is known, and the share of their pixels that is."""
    rows, columns = (-(-size // block) for size in light.shape)
    whole = np.full((rows * block, columns * block), np.nan)
    whole[: light.shape[0], : light.shape[1]] = light
    parts = whole.reshape(rows, block, columns, block)
    known = np.isfinite(parts).sum((1, 3))
    mean = np.nansum(parts, (1, 3)) / np.maximum(known, 1)
    return mean, known / block**2


def _scales(block: int, largest: float) -> Array:
    """Scales of profiles, px."""
    smallest = 2.0 * block
    count = 1 + max(0, round(np.log(largest / smallest) / np.log(_SIZE_STEP)))
    return smallest * _SIZE_STEP ** np.arange(count)


def _around(
    padded: list[int], shape: tuple[int, ...], block: int, scale: float, slope: float
) -> Array:
    """A profile by its distance from the first element, negative distances at the end."""
    away = []
    for length, size in zip(padded, shape, strict=True):
        steps = np.arange(length)
        away.append(np.where(steps < size, steps, steps - length) * float(block))
    return (1 + (away[0][:, None] ** 2 + away[1] ** 2) / scale**2) ** -slope


def _chi_squared_unit(deviation: Array, weight: Array, shape: Array) -> float:
    """Variance of a block's light, raised where neighbours deviate together."""
    total = weight.sum()
    about = shape - (weight * shape).sum() / total
    amplitude = (weight * about * deviation).sum() / max(float((weight * about**2).sum()), 1e-30)
    left = np.where(weight > 0, deviation - amplitude * about, 0.0)
    alone = float((weight * left**2).sum()) / max(1, int((weight > 0).sum()) - 5)
    unit = alone
    for side in _CLUMPS:
        rows, columns = (size // side for size in left.shape)
        if min(rows, columns) < _LEAST_PATCHES:
            break
        cut = slice(rows * side), slice(columns * side)
        parts = [
            one[cut].reshape(rows, side, columns, side).sum((1, 3))
            for one in (weight * left, weight)
        ]
        known = parts[1] > 0
        unit = max(unit, float(np.mean(parts[0][known] ** 2 / parts[1][known])))
    return unit
