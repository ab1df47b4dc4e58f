"""What an image of a cluster shows of itself: sky, noise and seeing.

All of it by plain statistics of pixels, NaN where there is no value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from melotte.errors import MelotteValueError
from melotte.telescope.moffat import MOFFAT_BETA, width_of_scale

NOISE_BLOCK = 8
"""Pixels a side of the blocks of which the quietest give an image's noise."""
SKY_SHARE = 0.2
"""Share of the pixels, those farthest from the cluster, that the sky is measured on."""
QUIET_SHARE = 0.05
LEAST_BLOCKS = 4
LEAST_STARS = 4
"""Stars that a measured width takes."""
MOST_STARS = 40

_CLIP = 3.0
_ROUNDS = 8
_DETECTION = 20.0
_NEIGHBOUR = 0.25
_POOR_FIT = 0.06
_HALF_STAMPS = (12, 8, 5)
_NARROWEST = 1.2
_SUBPIXELS = 3
_ENOUGH = 2_000_000

Array = NDArray[np.floating]


@dataclass(frozen=True)
class StarWidth:
    """Width of stars in an image.

    Parameters
    ----------
    fwhm : float, px
        Median over stars, of Moffat's profile without the pixel.
    scatter : float, px
        Half the distance between the 16 and 84 % quantiles.
    n_stars : int
    """

    fwhm: float
    scatter: float
    n_stars: int


def known_pixels(image: Array) -> NDArray[np.bool_]:
    """Which pixels have a value.

    Raises
    ------
    MelotteValueError
        When none has.
    """
    known = np.isfinite(image)
    if not known.any():
        raise MelotteValueError("no pixel of the image has a value")
    return known


def sky_level(image: Array, centre: tuple[float, float], beyond: float = 1 - SKY_SHARE) -> float:
    """Sky a pixel, from a fifth of the pixels, those that lie farthest from the cluster.

    Values beyond 3 standard deviations of the median are left out until nothing changes; where
    the mean then exceeds the median, stars are left in it, and 2.5 medians less 1.5 means are
    taken, as SExtractor does (Bertin & Arnouts 1996, A&AS 117, 393, Sect. 3).

    Parameters
    ----------
    image : array, shape (n_rows, n_columns)
    centre : (float, float), px
        Column and row.
    beyond : float
        Share of the pixels that is nearer than the fifth.

    Raises
    ------
    MelotteValueError
        When no pixel has a value.
    """
    every = max(1, math.ceil(math.sqrt(image.size / _ENOUGH)))
    image = image[::every, ::every]
    known = known_pixels(image)
    columns, rows = (every * np.arange(size) for size in image.shape[::-1])
    away = np.hypot(columns - centre[0], rows[:, None] - centre[1])
    inner, outer = np.quantile(away[known], [beyond, min(1.0, beyond + SKY_SHARE)])
    values = image[known & (away >= inner) & (away <= outer)].astype(np.float64)
    for _ in range(_ROUNDS):
        middle, spread = np.median(values), values.std()
        kept = values[np.abs(values - middle) <= _CLIP * spread]
        if len(kept) in (0, len(values)):
            break
        values = kept
    middle, mean = float(np.median(values)), float(values.mean())
    return 2.5 * middle - 1.5 * mean if mean > middle else middle


def noise_level(image: Array) -> float:
    """Standard deviation of the noise in a pixel without light.

    Of blocks of 8 by 8 pixels, the twentieth with the least light is taken, which is where mocks
    have their noise from too; in each, the root mean square of the differences of neighbours over
    the square root of two; of these, the median. Noise of neighbours that hang together, as
    resampling makes it, is underestimated.

    Parameters
    ----------
    image : array, shape (n_rows, n_columns)

    Raises
    ------
    MelotteValueError
        When fewer than four blocks have three quarters of their pixels.
    """
    n_rows, n_columns = (size // NOISE_BLOCK for size in image.shape)
    cut = image[: n_rows * NOISE_BLOCK, : n_columns * NOISE_BLOCK].astype(np.float64)
    blocks = cut.reshape(n_rows, NOISE_BLOCK, n_columns, NOISE_BLOCK).swapaxes(1, 2)
    blocks = blocks.reshape(-1, NOISE_BLOCK, NOISE_BLOCK)
    blocks = blocks[np.isfinite(blocks).mean((1, 2)) > 0.75]
    if len(blocks) < LEAST_BLOCKS:
        raise MelotteValueError(
            "too few pixels with a value to measure the noise on; give noise=... in the image's "
            "units"
        )
    count = max(LEAST_BLOCKS, round(QUIET_SHARE * len(blocks)))
    quiet = blocks[np.argsort(np.nanmean(blocks, (1, 2)))[:count]]
    steps = [np.diff(quiet, axis=axis).reshape(len(quiet), -1) for axis in (1, 2)]
    squares = np.concatenate(steps, 1) ** 2
    return float(np.median(np.sqrt(0.5 * np.nanmean(squares, 1))))


def star_width(image: Array, noise: float) -> StarWidth:
    """Width of stars, from the isolated bright ones of an image.

    Local maxima of 20 standard deviations above their surroundings, with no neighbour of a quarter
    of their height and no unknown pixel near, are fitted with Moffat's profile of slope 2.5,
    averaged over the pixels, and a constant. Poor fits are left out. Stars 12 pixels apart from
    others are tried first, then 8, then 5.

    Parameters
    ----------
    image : array, shape (n_rows, n_columns)
    noise : float
        Standard deviation in a pixel without light.

    Raises
    ------
    MelotteValueError
        When fewer than four such stars are found.
    """
    widths: list[float] = []
    for half in _HALF_STAMPS:
        found = _isolated(image, noise, half)
        fitted = [_fitted_width(image, row, column, half) for row, column in found]
        widths = [one for one in fitted if one is not None]
        if len(widths) >= LEAST_STARS:
            low, middle, high = np.quantile(widths, [0.16, 0.5, 0.84])
            return StarWidth(float(middle), float(0.5 * (high - low)), len(widths))
    raise MelotteValueError(
        f"the width of stars cannot be measured: found {len(widths)} bright stars that stand "
        f"alone, {LEAST_STARS} are needed; give psf_fwhm=ARCSEC"
    )


def filled(image: Array, sigma: float = 2.0) -> Array:
    """An image whose unknown pixels have the weighted mean of the known ones around them.

    Weights are a Gaussian's, of ``sigma`` pixels and wider ones where nothing is near.

    Parameters
    ----------
    image : array, shape (n_rows, n_columns)
        NaN where unknown; all zeros come back where nothing is known.
    sigma : float, px
    """
    unknown = ~np.isfinite(image)
    out = np.where(unknown, 0.0, image)
    known = np.where(unknown, 0.0, 1.0)
    while unknown.any() and sigma < max(image.shape):
        weight = ndimage.gaussian_filter(known, sigma, mode="constant")
        light = ndimage.gaussian_filter(np.where(known > 0, out, 0.0), sigma, mode="constant")
        reached = unknown & (weight > 1e-3)
        out[reached] = light[reached] / weight[reached]
        unknown &= ~reached
        sigma *= 2
    return out.astype(image.dtype)


def _isolated(image: Array, noise: float, half: int) -> list[tuple[int, int]]:
    """Rows and columns of bright local maxima that stand alone, brightest first."""
    values = np.where(np.isfinite(image), image, -np.inf)
    highest = ndimage.maximum_filter(values, size=2 * half + 1, mode="constant", cval=-np.inf)
    rows, columns = np.nonzero((values == highest) & np.isfinite(values))
    order = np.argsort(-values[rows, columns])
    found: list[tuple[int, int]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if not (half <= row < image.shape[0] - half and half <= column < image.shape[1] - half):
            continue
        stamp = image[row - half : row + half + 1, column - half : column + half + 1]
        if not np.isfinite(stamp).all():
            continue
        along = np.arange(-half, half + 1)
        away = np.hypot(along[:, None], along)
        around = _surroundings(stamp, half)
        height = float(stamp[half, half]) - around
        if height < _DETECTION * noise:
            continue
        lone = (stamp - around)[away > 0.6 * half].max() < _NEIGHBOUR * height
        # A flat top is a saturated star.
        flat = (stamp >= stamp[half, half] - 1e-6 * abs(height)).sum() > 1
        if lone and not flat:
            found.append((row, column))
        if len(found) == MOST_STARS:
            break
    return found


def _fitted_width(image: Array, row: int, column: int, half: int) -> float | None:
    """FWHM of a star's profile, px; None where it does not fit."""
    stamp = image[row - half : row + half + 1, column - half : column + half + 1]
    stamp = stamp.astype(np.float64)
    offsets = (np.arange(_SUBPIXELS) - (_SUBPIXELS - 1) / 2) / _SUBPIXELS
    around = _surroundings(stamp, half)
    height = stamp[half, half] - around
    scaled = (stamp - around) / height
    start_width = max(2 * np.sqrt((scaled > 0.5).sum() / np.pi), _NARROWEST)
    places = np.arange(-half, half + 1.0)
    fine_x = places[:, None, None] + offsets[:, None]
    fine_y = places[:, None, None, None] + offsets

    def residual(values: Array) -> Array:
        amplitude, x0, y0, width, constant = values
        scale = width / width_of_scale(MOFFAT_BETA)
        squared = ((fine_x - x0) ** 2 + (fine_y - y0) ** 2) / scale**2
        profile = ((1 + squared) ** -MOFFAT_BETA).mean((-2, -1))
        return (amplitude * profile + constant - scaled).ravel()

    low = [0.2, -1.5, -1.5, 0.3, -0.5]
    high = [20.0, 1.5, 1.5, 2.0 * half, 0.5]
    start = np.clip([1.2, 0.0, 0.0, start_width, 0.0], low, high)
    fit = optimize.least_squares(residual, start, bounds=(low, high), max_nfev=60)
    good = fit.success and np.sqrt(np.mean(fit.fun**2)) < _POOR_FIT
    return float(fit.x[3]) if good and fit.x[3] < 1.8 * half else None


def _surroundings(stamp: Array, half: int) -> float:
    """Median of the outer two rows and columns of a stamp."""
    along = np.abs(np.arange(-half, half + 1))
    return float(np.median(stamp[np.maximum(along[:, None], along) >= half - 1]))
