"""MIST's ``.iso.cmd`` and ``.iso`` files (Dotter 2016; Choi et al. 2016)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from melotte.errors import MelotteFileError
from melotte.io.isochrone_files import IsochroneBlock, IsochroneFile, RowParser, check_block

REQUIRED = ("EEP", "initial_mass", "star_mass", "log_Teff", "log_L", "phase")
AGE_COLUMNS = ("log10_isochrone_age_yr", "isochrone_age_yr")
POST_AGB_PHASE = 6
"""Phase of post-AGB stars and white dwarfs, which are left out; 9, Wolf-Rayet, is kept."""

_COUNTS = re.compile(r"#\s*number of EEPs, cols\s*=\s*(\d+)\s+(\d+)")
_EXTINCTION = re.compile(r"#.*extinction:\s*Av\s*=\s*([-+.\d]+)")
_LAST_STELLAR_COLUMN = "[Fe/H]"


def recognises(lines: list[str]) -> bool:
    """Whether the lines are those of a MIST file."""
    return any(_COUNTS.match(line) for line in lines[:200])


def parse(path: Path, lines: list[str]) -> IsochroneFile:
    """Parse the lines of a MIST file.

    Raises
    ------
    MelotteFileError
        When it is damaged, or its magnitudes already contain extinction.
    """
    metallicity = _header_metallicity(path, lines)
    for number, line in enumerate(lines[:200], 1):
        found = _EXTINCTION.match(line)
        if found and float(found[1]) != 0:
            raise MelotteFileError(
                f"{path}, line {number}: the magnitudes contain Av = {found[1]}, must be 0; "
                "melotte adds the dust"
            )
    starts = [i for i, line in enumerate(lines) if _COUNTS.match(line)]
    blocks, bands = [], None
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        block, names = _parse_block(path, lines, start, end, metallicity)
        if bands is not None and names != bands:
            raise MelotteFileError(
                f"{path}, line {start + 3}: bands {', '.join(names)} differ from the first "
                f"isochrone's {', '.join(bands)}"
            )
        bands = names
        blocks.append(block)
    return IsochroneFile(path, "mist", bands or (), tuple(blocks))


def _parse_block(
    path: Path, lines: list[str], start: int, end: int, metallicity: float
) -> tuple[IsochroneBlock, tuple[str, ...]]:
    counts = _COUNTS.match(lines[start])
    announced, n_columns = (int(counts[1]), int(counts[2])) if counts else (0, 0)
    if start + 2 >= len(lines):
        raise MelotteFileError(f"{path}, line {start + 1}: the file ends within a header")
    names = lines[start + 2].lstrip("#").split()
    if len(names) != n_columns:
        raise MelotteFileError(
            f"{path}, line {start + 3}: {len(names)} column names, {n_columns} are announced"
        )
    rows = RowParser(path, names)
    for i in range(start + 3, end):
        if lines[i].strip() and not lines[i].startswith("#"):
            rows.add(i + 1, lines[i])
    if len(rows) != announced:
        raise MelotteFileError(
            f"{path}, line {start + 1}: {announced} EEPs are announced, {len(rows)} follow; "
            "the file may be truncated"
        )
    age_column = next((name for name in AGE_COLUMNS if name in names), AGE_COLUMNS[0])
    columns = rows.columns((*REQUIRED, age_column))
    age = float(columns[age_column][0])
    if age_column == "isochrone_age_yr":
        if age <= 0:
            raise MelotteFileError(f"{path}, line {start + 4}: age {age:g} yr, must be positive")
        age = float(np.log10(age))
    bands = _bands(names)
    living = columns["phase"] != POST_AGB_PHASE
    magnitudes = np.stack([columns[name][living] for name in bands], 1) if bands else None
    block = IsochroneBlock(
        age,
        metallicity,
        columns["initial_mass"][living],
        columns["star_mass"][living],
        columns["log_L"][living],
        columns["log_Teff"][living],
        np.round(columns["EEP"][living]).astype(np.int64),
        np.empty((int(living.sum()), 0)) if magnitudes is None else magnitudes,
    )
    if (np.diff(block.stage) <= 0).any():
        raise MelotteFileError(f"{path}: the EEPs of the isochrone at line {start + 1} do not rise")
    return check_block(block, path, end), tuple(_full_name(name) for name in bands)


def _bands(names: list[str]) -> list[str]:
    """Columns of magnitudes: those between the last metallicity and the phase."""
    if _LAST_STELLAR_COLUMN not in names:
        return []
    first = names.index(_LAST_STELLAR_COLUMN) + 1
    return [name for name in names[first:] if name != "phase"]


def _full_name(name: str) -> str:
    return name.removesuffix("Rev") if name.endswith("_DR2Rev") else name


def _header_metallicity(path: Path, lines: list[str]) -> float:
    for number, line in enumerate(lines[:60]):
        names = line.lstrip("#").split()
        if "Yinit" in names and "[Fe/H]" in names and number + 1 < len(lines):
            values = lines[number + 1].lstrip("#").split()
            try:
                return float(values[names.index("[Fe/H]")])
            except (IndexError, ValueError):
                raise MelotteFileError(
                    f"{path}, line {number + 2}: no [Fe/H] under its name"
                ) from None
    raise MelotteFileError(f"{path}: no header line 'Yinit Zinit [Fe/H] ...'")
