"""Output of PARSEC's web interface CMD 3.x (Bressan et al. 2012; Marigo et al. 2017)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.isochrone_files import IsochroneBlock, IsochroneFile, RowParser, check_block

REQUIRED = ("MH", "logAge", "Mini", "Mass", "logL", "logTe", "label")
LAST_LABEL = 8
"""Label of thermally pulsing giants; 9, post-AGB, is left out."""

NO_LIGHT = -9.0
"""log L at or below which a row stands for a remnant."""

MASSIVE_FROM = 14.0
"""Initial mass, Msun, from which another set of tracks is used (Tang et al. 2014)."""

RED = 3.6
"""log Teff below which a massive star has crossed to the red."""

_FOOTER = "#isochrone terminated"
_GAIA = {"G": "Gaia_G", "G_BP": "Gaia_BP", "G_RP": "Gaia_RP"}


def recognises(lines: list[str]) -> bool:
    """Whether the lines are those of a CMD 3.x file."""
    return any(_is_header(line) for line in lines[:200])


def parse(path: Path, lines: list[str]) -> IsochroneFile:
    """Parse the lines of a CMD 3.x file.

    Raises
    ------
    MelotteFileError
        When it is damaged.
    """
    first = next(i for i, line in enumerate(lines) if _is_header(line))
    names = lines[first].lstrip("#").split()
    system = next((line for line in lines[:first] if "Photometric system" in line), "")
    if "mbolmag" not in names:
        raise MelotteFileError(f"{path}, line {first + 1}: no column mbolmag before the bands")
    columns = names[names.index("mbolmag") + 1 :]
    if not lines[-1].startswith(_FOOTER):
        raise MelotteFileError(
            f"{path}, line {len(lines)}: the file does not end with {_FOOTER!r}; "
            "it may be truncated"
        )
    rows = RowParser(path, names)
    for number, line in enumerate(lines, 1):
        if _is_header(line):
            if line.lstrip("#").split() != names:
                raise MelotteFileError(
                    f"{path}, line {number}: another header than line {first + 1}"
                )
        elif number > first and line.strip() and not line.startswith("#"):
            rows.add(number, line)
    return IsochroneFile(
        path,
        "parsec",
        tuple(_full_name(name.removesuffix("mag"), system) for name in columns),
        _blocks(path, rows, columns),
    )


def _blocks(path: Path, rows: RowParser, bands: list[str]) -> tuple[IsochroneBlock, ...]:
    table = rows.columns(REQUIRED)
    if not len(rows):
        raise MelotteFileError(f"{path}: no isochrone follows the header")
    node = np.stack([table["MH"], table["logAge"]], 1)
    edges = np.flatnonzero((np.diff(node, axis=0) != 0).any(1)) + 1
    magnitudes = np.stack([table[name] for name in bands], 1) if bands else np.empty((len(rows), 0))
    blocks = []
    for start, end in zip([0, *edges], [*edges, len(rows)], strict=True):
        inside = slice(start, end)
        living = (table["label"][inside] <= LAST_LABEL) & (table["logL"][inside] > NO_LIGHT)
        mass, current, luminosity, teff = (
            table[name][inside][living] for name in ("Mini", "Mass", "logL", "logTe")
        )
        block = IsochroneBlock(
            float(node[start, 1]),
            float(node[start, 0]),
            mass,
            current,
            luminosity,
            teff,
            _one_meaning(np.round(table["label"][inside][living]).astype(np.int64), mass, teff),
            magnitudes[inside][living],
        )
        blocks.append(check_block(block, path, rows.line_of(int(end) - 1) + 1))
    return tuple(blocks)


def _one_meaning(
    label: NDArray[np.int64], mass: NDArray[np.float64], log_teff: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Labels that mean the same at every mass.

    Tracks from ``MASSIVE_FROM`` on count their labels from the main sequence, 0, over the crossing
    to the red, 1, to what follows, 2 and 3. Where the labels fall at that mass they become 1
    (main sequence), 2 (crossing, until the star is first red), 4 and 6 (core helium burning).
    """
    massive = int(np.searchsorted(mass, MASSIVE_FROM * (1 - 1e-6)))
    if massive in (0, len(mass)) or label[massive] >= label[massive - 1]:
        return label
    changed = label.copy()
    tail = label[massive:]
    red = np.flatnonzero((log_teff[massive:] < RED) & (tail > 0))
    crossing = np.arange(len(tail)) < (red[0] if len(red) else len(tail))
    changed[massive:] = np.where(tail == 0, 1, np.where(tail > 1, 6, np.where(crossing, 2, 4)))
    return changed


def _is_header(line: str) -> bool:
    names = line.lstrip("#").split()
    return names[:3] == ["Zini", "MH", "logAge"]


def _full_name(band: str, system: str) -> str:
    """Name as in melotte's own table; bands of cameras are told apart by the system line."""
    lower = system.lower()
    if "wfc3" in lower:
        camera = "WFC3_IR" if band.startswith("F1") else "WFC3_UVIS"
        return f"{camera}_{band}"
    if "acs" in lower:
        return f"ACS_WFC_{band}"
    if "gaia" in lower and band in _GAIA:
        release = "EDR3" if "dr3" in lower else "DR2"
        return f"{_GAIA[band]}_{release}"
    if band.endswith("P1"):
        return f"PS_{band.removesuffix('P1')}"
    if "sdss" in lower and band in "ugriz":
        return f"SDSS_{band}"
    if "ubvri" in lower and band in "UBVRI":
        return f"Bessell_{band}"
    if "2mass" in lower and band in ("J", "H", "Ks"):
        return f"2MASS_{band}"
    return band
