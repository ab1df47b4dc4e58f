"""NBODY6's stellar evolution: ``fort.83`` of single stars and ``fort.82`` of binaries.

NBODY6 (``hrplot.f``) writes block after block, between ``## BEGIN n Myr`` and ``## END``: of single
stars name, type, distance in core radii, mass (Msun) and the logarithms of L, R and T; of binaries
two names, two types, the type of the pair, distance, eccentricity, log period, log axis, two masses
and two each of log L, log R and log T. NBODY6++ (``sev.83_*``, ``bev.82_*``) writes one block a
file, after a line ``n Myr``, and begins every row with the time and one or two indices.

The files' temperatures are not read: NBODY6 gives single stars log T with a zero point of 3.7 where
3.7613 is right. They follow from L and R.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.simulation_files import effective_temperature
from melotte.io.table_files import read_bytes

LARGEST_GAP = 1.0
"""Myr that a block may be off in time; the files write times to 0.1 Myr."""

LARGEST_SHARE = 0.02
"""The same, as a share of the time, where that is more."""


@dataclass(frozen=True)
class StellarRows:
    """Stars of one block.

    Parameters
    ----------
    time : float, Myr
    name : array of int64, shape (n,)
    kind : array of int8, shape (n,)
    luminosity : array, shape (n,), Lsun
    temperature : array, shape (n,), K
    """

    time: float
    name: NDArray[np.int64]
    kind: NDArray[np.int8]
    luminosity: NDArray[np.float64]
    temperature: NDArray[np.float64]


@dataclass(frozen=True)
class _Columns:
    """Where in a row (name, type, log L, log R) of one star stand."""

    stars: tuple[tuple[int, int, int, int], ...]
    width: int


_SINGLE = {
    "nbody6": _Columns(((0, 1, 4, 5),), 7),
    "nbody6++": _Columns(((2, 3, 6, 7),), 9),
}
_BINARY = {
    "nbody6": _Columns(((0, 2, 11, 13), (1, 3, 12, 14)), 17),
    "nbody6++": _Columns(((3, 5, 14, 16), (4, 6, 15, 17)), 20),
}


def read_stellar_rows(singles: str | Path | None, binaries: str | Path | None) -> list[StellarRows]:
    """Blocks of the two files, joined by time (:func:`nearest_block`).

    Parameters
    ----------
    singles, binaries : path, optional

    Returns
    -------
    list of StellarRows
        Empty without files.

    Raises
    ------
    MelotteFileError
        When a file is missing, a row does not fit, or no block of binaries is near enough in time
        to one of single stars.
    MelotteValueError
        When binaries are given without singles.
    """
    if singles is None:
        if binaries is not None:
            raise MelotteValueError(
                f"stellar evolution of binaries ({binaries}) is given without that of single "
                "stars; give `singles` (fort.83 or sev.83_*) too"
            )
        return []
    blocks = list(_blocks(Path(singles), _SINGLE))
    if binaries is None:
        return blocks
    pairs = list(_blocks(Path(binaries), _BINARY))
    if not pairs:
        return blocks
    return [_joined(block, nearest_block(pairs, block.time, singles, binaries)) for block in blocks]


def nearest_block(
    blocks: Sequence[StellarRows], time: float, of: str | Path, source: str | Path | None
) -> StellarRows:
    """The block nearest to a time.

    Parameters
    ----------
    blocks : sequence of StellarRows, at least one
    time : float, Myr
    of, source : path
        What the time is of and where the blocks are from, for the message.

    Raises
    ------
    MelotteFileError
        When it is farther than 1 Myr and than 2 % of the time.
    """
    nearest = min(blocks, key=lambda one: abs(one.time - time))
    allowed = max(LARGEST_GAP, LARGEST_SHARE * abs(time))
    if not abs(nearest.time - time) <= allowed:
        raise MelotteFileError(
            f"{of} has stars of {time:.6g} Myr, and the nearest block of {source} is of "
            f"{nearest.time:.6g} Myr; one within {allowed:.3g} Myr (1 Myr or 2 %) is needed"
        )
    return nearest


def _joined(block: StellarRows, other: StellarRows) -> StellarRows:
    return StellarRows(
        block.time,
        np.concatenate([block.name, other.name]),
        np.concatenate([block.kind, other.kind]),
        np.concatenate([block.luminosity, other.luminosity]),
        np.concatenate([block.temperature, other.temperature]),
    )


def _blocks(path: Path, layouts: dict[str, _Columns]) -> Iterator[StellarRows]:
    lines = read_bytes(path).decode("ascii", "replace").splitlines()
    number = 0
    while number < len(lines):
        head = lines[number].split()
        if not head:
            number += 1
            continue
        code = "nbody6" if head[0] == "##" else "nbody6++"
        counts = head[2:] if code == "nbody6" else head
        try:
            announced, time = int(counts[0]), float(counts[1])
        except (ValueError, IndexError):
            raise MelotteFileError(
                f"{path}, line {number + 1}: {lines[number].strip()[:60]!r} does not begin a block "
                "of stars; '## BEGIN n Myr' or 'n Myr' is needed"
            ) from None
        number += 1
        rows: list[list[str]] = []
        while number < len(lines) and not lines[number].lstrip().startswith("##"):
            if code == "nbody6++" and len(rows) == announced:
                break
            rows.append(_fields(path, number, lines[number], layouts[code]))
            number += 1
        if number < len(lines) and lines[number].split()[:2] == ["##", "END"]:
            number += 1
        yield _block(path, time, rows, layouts[code])


def _fields(path: Path, number: int, line: str, columns: _Columns) -> list[str]:
    fields = line.split()
    if len(fields) != columns.width:
        raise MelotteFileError(
            f"{path}, line {number + 1}: {len(fields)} columns; {columns.width} are needed"
        )
    return fields


def _block(path: Path, time: float, rows: list[list[str]], columns: _Columns) -> StellarRows:
    table = np.array(rows, dtype=object).reshape(-1, columns.width)
    try:
        parts = [[table[:, at].astype(np.float64) for at in star] for star in columns.stars]
    except ValueError as error:
        raise MelotteFileError(f"{path}, block at {time:g} Myr: {error}") from error
    name, kind, log_luminosity, log_radius = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    luminosity = 10.0**log_luminosity
    return StellarRows(
        time,
        name.astype(np.int64),
        kind.astype(np.int8),
        luminosity,
        effective_temperature(luminosity, 10.0**log_radius),
    )
