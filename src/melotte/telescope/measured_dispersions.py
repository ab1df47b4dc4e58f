"""Measured velocity dispersions in bins of a map: errors that are told, and bins joined.

Bins whose spectrum is too noisy, or that hold too few stars, are joined in squares of 2, 4, ...
bins, as Voronoi bins are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.telescope.cluster_maps import MapGrid

LEAST_DISPERSION = 0.01
"""km/s; what squares that noise has made negative are measured as."""

_Array = TypeVar("_Array", Tensor, NDArray[np.float64])


def squared_error(dispersion: _Array, error: _Array) -> _Array:
    """Standard deviation of the square of a dispersion, from the error that is told with it.

    A dispersion's error reaches from it to the root of its square plus that standard deviation. It
    is finite for a line that is not resolved, and the usual one for one that is.

    Parameters
    ----------
    dispersion, error : array or Tensor, km/s, >= 0

    Returns
    -------
    array or Tensor, km^2/s^2
    """
    return error * (2 * dispersion + error)


def told_error(dispersion: _Array, squared: _Array) -> _Array:
    """The error to tell with a dispersion: the inverse of :func:`squared_error`, km/s."""
    return (dispersion**2 + squared) ** 0.5 - dispersion


@dataclass(frozen=True)
class MeasuredDispersions:
    """What an observer has; NaN where nothing was measured.

    Parameters
    ----------
    dispersion : Tensor, shape (n, bin_rows, bin_columns), km/s
    error : Tensor, same shape, km/s
        As :func:`squared_error` reads it, from what was measured: an error that followed from the
        true dispersion would tell it.
    """

    dispersion: Tensor
    error: Tensor


def bins_joined(
    moments: Tensor, will_do: Callable[[Tensor, Tensor], Tensor], most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the squares of 1, 2, 4, ... bins that suffice; each bin is in the first that does.

    A bin that suffices alone is in no larger square: bins are shared out, none counts twice.

    Parameters
    ----------
    moments : Tensor of float64, shape (n, n_moments, rows, columns)
    will_do : callable
        Of sums of shape (n, n_moments, rows, columns) and numbers of joined bins (n, rows,
        columns), whether that suffices, bool (n, rows, columns).
    most : int
        Side of the largest square, bins; the next power of 2 is taken.

    Returns
    -------
    (Tensor, Tensor, Tensor)
        Sums of the moments, NaN where no square suffices; numbers of joined bins; numbers of the
        squares, int64, each the same in all bins of a square.
    """
    n, _, rows, columns = moments.shape
    row, column = (torch.arange(side, device=moments.device) for side in (rows, columns))
    left = torch.ones(n, rows, columns, dtype=torch.bool, device=moments.device)
    sums = torch.full_like(moments, torch.nan)
    joined = torch.ones_like(moments[:, 0])
    square = torch.zeros_like(left, dtype=torch.int64)
    level = 1
    while True:
        down, across = ((one // level) for one in (row, column))
        same_row, same_column = ((one[:, None] == one).to(moments) for one in (down, across))
        still = left.to(moments)
        here = same_row @ (moments * still[:, None]) @ same_column
        number = same_row @ still @ same_column
        good = left & will_do(here, number)
        sums = torch.where(good[:, None], here, sums)
        joined = torch.where(good, number, joined)
        label = (level * rows + down[:, None]) * columns + across
        square = torch.where(good, label, square)
        left = left & ~good
        if level >= most:
            return sums, joined, square
        level *= 2


def bin_side(bin_pixels: int, grid: MapGrid) -> int:
    """Side of the bins, pixels; raises MelotteValueError where a map is smaller."""
    if bin_pixels > min(grid.rows, grid.columns):
        raise MelotteValueError(
            f"bins of {bin_pixels} pixels do not fit a map of {grid.rows} x {grid.columns}"
        )
    return bin_pixels


def of_each(value: Tensor | float, like: Tensor) -> Tensor:
    """A number, or one of each map, with axes to multiply ``like`` (n, ...)."""
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return value.view(-1, *(1,) * (like.ndim - 1)) if like.ndim > 0 else value
