"""Known extinction taken off cluster images before they are read.

References
----------
Bialopetravičius et al. 2019, A&A 621, A103, Sect. 5.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.image_positions import PLACES, ImagePositions, read_positions
from melotte.io.image_stacks import ImageOptions, ImageStack, RejectedImage
from melotte.io.tables import read_table, table_path
from melotte.sky.extinction import ccm89
from melotte.telescope.passbands import passband

DUST_TAKEN_OFF = "deredden_extinction_v"
"""Entry of an observation's header, and column of a result."""
MOST_EXTINCTION = 20.0
"""Largest A_V, mag, that can be taken off an image."""


@dataclass(frozen=True)
class DustyPositions:
    """Positions with the extinction of each row, which a repeated id does not confuse.

    Parameters
    ----------
    places : ImagePositions, length n
    numbered : ImagePositions, length n
        The same with numbers of rows for ids, and NaN for places of objects without an extinction.
    extinction_v : array, shape (n,), mag
        NaN where missing.
    column : str
        That the extinctions are from.
    """

    places: ImagePositions
    numbered: ImagePositions
    extinction_v: NDArray[np.float64]
    column: str


def brightened(images: Tensor, extinction_v: Tensor, bands: Sequence[str]) -> Tensor:
    """Images (n, n_bands, rows, columns) with a known extinction A_V (n,) taken off.

    The background is brightened with the cluster, as in Bialopetravičius et al. 2019, Sect. 5.4.
    """
    waves = [10 * passband(band).pivot_nm for band in bands]
    law = torch.from_numpy(ccm89(waves)).float()
    factor = 10 ** (0.4 * extinction_v[:, None] * law[None, :])
    return images * factor[..., None, None].to(images)


def known_extinctions(positions: Any, column: str, options: ImageOptions) -> DustyPositions:
    """A_V of each row of a table of positions, from one of its columns.

    Parameters
    ----------
    positions : path or astropy Table
    column : str
    options : ImageOptions

    Raises
    ------
    MelotteValueError
        When there is no such column, or a value is no extinction. Missing ones are NaN.
    """
    places = read_positions(positions, options.column, options.pixel_origin)
    table = read_table(positions)
    if column not in table.columns:
        raise MelotteValueError(
            f"deredden: {table_path(positions)} has no column {column!r}; it has: "
            f"{', '.join(table.columns)}"
        )
    values = table.numbers(column)
    wrong = ~np.isnan(values) & ~((values >= 0) & (values <= MOST_EXTINCTION))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise MelotteValueError(
            f"deredden: column {column!r} of {places.ids[row]} is no extinction, found "
            f"{values[row]:g}; A_V in [0, {MOST_EXTINCTION:g}] mag is allowed"
        )
    # What has no place is not cut out.
    known = {
        name: np.where(np.isnan(values), np.nan, one)
        for name in PLACES
        if (one := getattr(places, name)) is not None
    }
    numbered = replace(places, ids=tuple(str(row) for row in range(len(places))), **known)
    return DustyPositions(places, numbered, values, column)


def with_extinctions(
    entries: Iterable[ImageStack | RejectedImage], dust: DustyPositions | None
) -> Iterator[tuple[ImageStack | RejectedImage, Tensor | None]]:
    """Images with the extinction of their rows, and with their own ids."""
    for entry in entries:
        if dust is None:
            yield entry, None
        elif isinstance(entry, RejectedImage):
            row, places = int(entry.id), dust.places
            named = replace(entry, id=places.ids[row])
            if np.isnan(dust.extinction_v[row]):
                reason, columns = f"no A_V in column {dust.column!r}", {}
                if places.ra is not None and places.dec is not None:
                    columns = {"ra": float(places.ra[row]), "dec": float(places.dec[row])}
                named = replace(named, reason=reason, columns=columns)
            yield named, None
        else:
            rows = [int(number) for number in entry.ids]
            named = replace(entry, ids=tuple(dust.places.ids[row] for row in rows))
            yield named, torch.from_numpy(dust.extinction_v[rows]).float()
