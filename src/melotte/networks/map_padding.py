"""Maps of any size for networks that halve them: padded to a multiple, cut back afterwards."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from melotte.errors import MelotteValueError


def padded(maps: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sizes are multiples.

    Parameters
    ----------
    maps : Tensor, shape (batch, n_channels, rows, columns)
    multiple : int, > 0

    Returns
    -------
    Tensor
        The maps themselves where nothing is missing. ``[..., :rows, :columns]`` takes the padding
        off again.

    Raises
    ------
    MelotteValueError
        When the tensor has not four axes or a map has no pixel.
    """
    if maps.ndim != 4 or 0 in maps.shape[1:]:
        raise MelotteValueError(
            f"maps need the shape (batch, channels, rows, columns), found {tuple(maps.shape)}"
        )
    rows, columns = (-size % multiple for size in maps.shape[-2:])
    if rows or columns:
        maps = functional.pad(maps, (0, columns, 0, rows), mode="replicate")
    return maps
