"""Stars spread over fine grids by compiled loops: the same as torch does, faster on a CPU.

Needs numba, which the extra ``fast`` brings; nothing but :class:`ImageRenderer` imports this.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from melotte.telescope.transfer_functions import KERNEL_WIDTH, kernel

STEPS = 2048
"""Steps across a cell of the table that the kernel is interpolated in, linearly."""


def kernel_table(sharpness: float) -> NDArray[np.float32]:
    """Weights of the cells under a kernel, by where the star stands between two cells.

    Parameters
    ----------
    sharpness : float
        As :func:`kernel` takes it.

    Returns
    -------
    array of float32, shape (STEPS + 1, KERNEL_WIDTH)
    """
    fraction = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    taps = torch.arange(KERNEL_WIDTH, dtype=torch.float64)
    return kernel(fraction[:, None] + taps - KERNEL_WIDTH / 2, sharpness).float().numpy()


def deposit(grid: Tensor, cells: Tensor, flux: Tensor, counts: Tensor, table: NDArray) -> None:
    """Add stars to fine grids, in place.

    Parameters
    ----------
    grid : Tensor of float32, shape (n_clusters, n_bands, side, side)
    cells : Tensor of float32, shape (n_stars, 2)
        (x, y) in fine cells, at least half a kernel inside of the grid.
    flux : Tensor of float32, shape (n_stars, n_bands)
    counts : Tensor of int64, shape (n_clusters,)
    table : array
        Of :func:`kernel_table`.
    """
    _deposit(grid.numpy(), cells.numpy(), flux.numpy(), counts.numpy(), table)


@njit(cache=True, nogil=True, fastmath=True)
def _deposit(grid, cells, flux, counts, table) -> None:  # pragma: no cover - compiled
    steps, width = table.shape[0] - 1, table.shape[1]
    n_bands = grid.shape[1]
    across = np.empty(width, dtype=np.float32)
    down = np.empty(width, dtype=np.float32)
    star = 0
    for cluster in range(counts.shape[0]):
        for _ in range(counts[cluster]):
            x = cells[star, 0] - np.float32(0.5 * width)
            y = cells[star, 1] - np.float32(0.5 * width)
            left, top = int(np.ceil(x)), int(np.ceil(y))
            u, v = (left - x) * steps, (top - y) * steps
            i, j = min(int(u), steps - 1), min(int(v), steps - 1)
            u -= i
            v -= j
            for tap in range(width):
                across[tap] = table[i, tap] + u * (table[i + 1, tap] - table[i, tap])
                down[tap] = table[j, tap] + v * (table[j + 1, tap] - table[j, tap])
            for band in range(n_bands):
                light = flux[star, band]
                for row in range(width):
                    share = light * down[row]
                    for column in range(width):
                        grid[cluster, band, top + row, left + column] += share * across[column]
            star += 1
