"""Linear interpolation in evenly spaced tables, one position an element, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def lookup(table: Tensor, position: Tensor) -> Tensor:
    """Interpolate a one-dimensional table.

    Parameters
    ----------
    table : Tensor, shape (n_entries,)
    position : Tensor, any shape
        Fractional entry number; clamped to [0, n_entries - 1].

    Returns
    -------
    Tensor, shape of ``position``
    """
    below, weight = _split(position, len(table))
    above = (below + 1).clamp(max=len(table) - 1)
    return torch.lerp(table[below], table[above], weight)


def lookup2d(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Interpolate a two-dimensional table bilinearly.

    Parameters
    ----------
    table : Tensor, shape (n_rows, n_columns)
    row, column : Tensor, shapes that broadcast
        Fractional row and column numbers; clamped to the table.

    Returns
    -------
    Tensor, broadcast shape
    """
    n_rows, n_columns = table.shape
    above, row_weight = _split(row, n_rows)
    left, column_weight = _split(column, n_columns)
    below = (above + 1).clamp(max=n_rows - 1) * n_columns
    above = above * n_columns
    right = (left + 1).clamp(max=n_columns - 1)
    flat = table.reshape(-1)
    upper = torch.lerp(flat[above + left], flat[above + right], column_weight)
    lower = torch.lerp(flat[below + left], flat[below + right], column_weight)
    return torch.lerp(upper, lower, row_weight)


def _split(position: Tensor, n_entries: int) -> tuple[Tensor, Tensor]:
    position = position.clamp(0, n_entries - 1)
    below = position.floor()
    return below.long(), position - below
