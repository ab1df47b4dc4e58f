"""The users' own isochrones as a table that stars are interpolated in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.isochrone_files import IsochroneBlock, IsochroneFile
from melotte.sky.isochrone_tables import IsochroneTable
from melotte.sky.stellar_table import PHASE_STARTS, PHASES

PARSEC_SEGMENTS = (0, 2, 3, 4, 7, 8)
"""Labels at which the pieces of a PARSEC isochrone start.

The pre-main sequence and the main sequence are one piece: with age their border runs down to the
lowest mass along a strongly curved locus, so that pieces cut there would not correspond. 4-6 are
the loops of core helium burning.
"""

PARSEC_PHASES = (0, 2, 2, 3, 4, 5)
"""MIST's phase numbers of the same pieces."""

LENGTH_SCALES = (0.2, 0.05, 0.1)
"""Steps in log L, log Teff and log M that count alike along a PARSEC isochrone."""


def table_of_files(isochrone_files: Sequence[IsochroneFile]) -> IsochroneTable:
    """Join isochrones of one or several files to a table.

    MIST's isochrones are joined at equal EEP. PARSEC's are cut at their labels, and within each
    piece points at equal fractions of its length in (log L, log Teff, log M) are joined.

    Parameters
    ----------
    isochrone_files : sequence of IsochroneFile
        Of one format and with the same bands; every [Fe/H] at the same ages.

    Raises
    ------
    MelotteFileError
        When they do not make a full grid.
    """
    first = isochrone_files[0]
    for other in isochrone_files[1:]:
        if (other.format, other.bands) != (first.format, first.bands):
            raise MelotteFileError(
                f"{other.path}: {other.format} with bands {', '.join(other.bands) or 'none'}, "
                f"but {first.path} is {first.format} with {', '.join(first.bands) or 'none'}"
            )
    nodes: dict[tuple[float, float], IsochroneBlock] = {}
    for file in isochrone_files:
        for block in file.blocks:
            key = round(block.metallicity, 4), round(block.log_age, 4)
            if key in nodes:
                raise MelotteFileError(
                    f"{file.path}: [Fe/H] {key[0]:g}, log age {key[1]:g} is given twice"
                )
            nodes[key] = block
    metallicity = sorted({key[0] for key in nodes})
    log_age = sorted({key[1] for key in nodes})
    for z in metallicity:
        for age in log_age:
            if (z, age) not in nodes:
                raise MelotteFileError(
                    f"{first.path}: no isochrone of log age {age:g} at [Fe/H] {z:g}; every "
                    "metallicity needs the same ages"
                )
    blocks = [nodes[z, age] for z in metallicity for age in log_age]
    if first.format == "mist":
        points, last, first_eep = _by_eep(blocks)
        starts, phases = PHASE_STARTS, PHASES
    else:
        points, last, starts = _by_label(blocks)
        first_eep, phases = 0, PARSEC_PHASES
    points[..., 1] /= points[..., 0]
    return IsochroneTable(
        torch.tensor(metallicity, dtype=torch.float64),
        torch.tensor(log_age, dtype=torch.float64),
        torch.from_numpy(np.ascontiguousarray(points[..., 0])),
        torch.from_numpy(points[..., 1:].astype(np.float32)),
        torch.from_numpy(last),
        first_eep,
        torch.tensor(starts),
        torch.tensor(phases, dtype=torch.int8),
    )


def _by_eep(blocks: list[IsochroneBlock]) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Columns (n_nodes, n_eeps, 4 + n_bands), index of each node's last EEP, the lowest EEP."""
    lowest = min(int(block.stage[0]) for block in blocks)
    highest = max(int(block.stage[-1]) for block in blocks)
    eep = np.arange(lowest, highest + 1)
    points = np.stack([_resample(_columns(block), block.stage, eep) for block in blocks])
    last = np.array([int(block.stage[-1]) - lowest for block in blocks], dtype=np.int64)
    return points, last, lowest


def _by_label(
    blocks: list[IsochroneBlock],
) -> tuple[NDArray[np.float64], NDArray[np.int64], tuple[int, ...]]:
    """Columns (n_nodes, n_points, 4 + n_bands), index of each last point, pieces' starts."""
    pieces = [np.searchsorted(PARSEC_SEGMENTS, block.stage, side="right") - 1 for block in blocks]
    n_pieces = len(PARSEC_SEGMENTS)
    largest = [max(int((piece == k).sum()) for piece in pieces) for k in range(n_pieces)]
    # Twice the rows, so that resampling loses nothing that can be seen.
    sizes = [2 * n + 2 for n in largest]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    points, last = [], []
    for block, piece in zip(blocks, pieces, strict=True):
        if (np.diff(piece) < 0).any():
            piece = np.maximum.accumulate(piece)
        columns = _columns(block)
        parts = []
        for k, size in enumerate(sizes):
            rows = np.flatnonzero(piece == k)
            if not len(rows):
                # A phase that is skipped is a single point, where the one before ended.
                where = max(int(np.searchsorted(piece, k)) - 1, 0)
                parts.append(np.repeat(columns[where : where + 1], size, 0))
                continue
            # A piece starts where the one before ended.
            rows = np.concatenate([rows[:1] - (rows[0] > 0), rows])
            part = columns[rows]
            parts.append(_resample(part, _length(part), np.linspace(0, 1, size)))
        points.append(np.concatenate(parts))
        last.append(starts[piece[-1] + 1] - 1)
    return np.stack(points), np.array(last, dtype=np.int64), tuple(int(s) for s in starts[1:-1])


def _length(part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fraction of the way along a piece, shape (n_rows,)."""
    place = np.stack([part[:, 2], part[:, 3], np.log10(part[:, 0])], 1) / LENGTH_SCALES
    steps = np.sqrt((np.diff(place, axis=0) ** 2).sum(1)) + 1e-12
    length = np.concatenate([[0.0], np.cumsum(steps)])
    return length / length[-1]


def _columns(block: IsochroneBlock) -> NDArray[np.float64]:
    """Initial mass, current mass, log L, log Teff, magnitudes; shape (n_points, 4 + n_bands)."""
    stellar = (block.initial_mass, block.current_mass, block.log_luminosity, block.log_teff)
    return np.column_stack([*stellar, block.magnitudes])


def _resample(
    columns: NDArray[np.float64], place: NDArray[np.float64] | NDArray[np.int64], wanted: NDArray
) -> NDArray[np.float64]:
    """Linear interpolation of columns (n, c); the ends repeat outside."""
    return np.stack([np.interp(wanted, place, column) for column in columns.T], 1)
