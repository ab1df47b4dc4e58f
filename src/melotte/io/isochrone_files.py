"""Isochrones in the users' own files: MIST ``.iso.cmd`` or ``.iso``, and PARSEC CMD 3.x."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError

ROUNDING = 1e-4
"""Relative fall of the initial mass from row to row that is taken for rounding."""


@dataclass(frozen=True)
class IsochroneBlock:
    """One isochrone of a file; arrays of shape (n_points,), in order of initial mass.

    Parameters
    ----------
    log_age : float, log10(age / yr)
    metallicity : float, [Fe/H] (MIST) or [M/H] (PARSEC)
    initial_mass, current_mass : array, Msun
    log_luminosity : array, log10(L / Lsun)
    log_teff : array, log10(Teff / K)
    stage : array of int
        MIST: the equivalent evolutionary point. PARSEC: the label, 0 (pre-main sequence) to
        8 (thermally pulsing giants).
    magnitudes : array, shape (n_points, n_bands), mag, absolute, without extinction
    """

    log_age: float
    metallicity: float
    initial_mass: NDArray[np.float64]
    current_mass: NDArray[np.float64]
    log_luminosity: NDArray[np.float64]
    log_teff: NDArray[np.float64]
    stage: NDArray[np.int64]
    magnitudes: NDArray[np.float64]


@dataclass(frozen=True)
class IsochroneFile:
    """What a file of isochrones holds: living stars, post-AGB stars left out.

    Parameters
    ----------
    path : Path
    format : str, "mist" or "parsec"
    bands : tuple of str
        Names as in melotte's own table where the file's system is known; else the file's.
    blocks : tuple of IsochroneBlock
    """

    path: Path
    format: str
    bands: tuple[str, ...]
    blocks: tuple[IsochroneBlock, ...]


def read_isochrones(path: str | Path) -> IsochroneFile:
    """Read a file of isochrones, told by its content.

    Parameters
    ----------
    path : str or Path
        MIST ``.iso.cmd`` (or ``.iso``, without magnitudes), or output of PARSEC's CMD 3.x.

    Raises
    ------
    MelotteFileError
        When the file is missing, of another kind, truncated or damaged; one line that names the
        file, the line, what was found and what is allowed.
    """
    from melotte.io import mist_files, parsec_files

    path = Path(path)
    lines = _text_lines(path)
    for reader in (mist_files, parsec_files):
        if reader.recognises(lines):
            return reader.parse(path, lines)
    raise MelotteFileError(
        f"{path}: no file of isochrones: neither a MIST header ('# number of EEPs, cols = ...') "
        "nor a PARSEC one ('# Zini MH logAge Mini ...') was found"
    )


class RowParser:
    """Turns lines of numbers into columns, and names the line that does not fit.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Column names of the header.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.names = list(names)
        self._rows: list[list[float]] = []
        self._numbers: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, number: int, line: str) -> None:
        """Parse line ``number`` (the first is 1)."""
        fields = line.split()
        if len(fields) != len(self.names):
            raise MelotteFileError(
                f"{self.path}, line {number}: found {len(fields)} columns, "
                f"the header names {len(self.names)}"
            )
        try:
            self._rows.append([float(field) for field in fields])
        except ValueError:
            at, wrong = next((i, field) for i, field in enumerate(fields) if not _is_number(field))
            raise MelotteFileError(
                f"{self.path}, line {number}: {self.names[at]} is {wrong!r}, must be a number"
            ) from None
        self._numbers.append(number)

    def columns(self, required: Sequence[str]) -> Mapping[str, NDArray[np.float64]]:
        """All columns by name, each of shape (n_rows,).

        Raises
        ------
        MelotteFileError
            When a required column is absent or holds NaN or infinite values.
        """
        missing = [name for name in required if name not in self.names]
        if missing:
            raise MelotteFileError(f"{self.path}: no column {missing[0]}")
        table = np.array(self._rows).reshape(-1, len(self.names))
        columns = {name: table[:, i] for i, name in enumerate(self.names)}
        for name in required:
            bad = np.flatnonzero(~np.isfinite(columns[name]))
            if len(bad):
                raise MelotteFileError(
                    f"{self.path}, line {self._numbers[bad[0]]}: {name} is "
                    f"{columns[name][bad[0]]}, must be finite"
                )
        return columns

    def line_of(self, row: int) -> int:
        """Line number of a row."""
        return self._numbers[row]


def check_block(block: IsochroneBlock, path: Path, line: int) -> IsochroneBlock:
    """The block, when it is usable; masses that fall by a rounding error are evened out.

    Raises
    ------
    MelotteFileError
        When fewer than two stars live, or the masses are not positive or fall.
    """
    mass = block.initial_mass
    where = f"{path}: the isochrone before line {line}"
    if len(mass) < 2:
        raise MelotteFileError(f"{where} has {len(mass)} living stars, needs at least 2")
    if not mass[0] > 0:
        raise MelotteFileError(f"{where} starts at {mass[0]:g} Msun, masses must be positive")
    falls = np.diff(mass) < -ROUNDING * mass[:-1]
    if falls.any():
        at = int(np.argmax(falls))
        raise MelotteFileError(
            f"{where} falls from {mass[at]:.8g} to {mass[at + 1]:.8g} Msun, must rise"
        )
    return replace(block, initial_mass=np.maximum.accumulate(mass))


def _text_lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MelotteFileError(f"{path}: {error.strerror or error}") from error
    if not content.strip():
        raise MelotteFileError(f"{path}: the file is empty")
    if b"\0" in content[:4096]:
        raise MelotteFileError(f"{path}: not a text file")
    return content.decode("utf-8", errors="replace").splitlines()


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
