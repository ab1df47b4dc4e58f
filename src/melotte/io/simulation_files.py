"""What the readers of simulations share: options, conversions, rows of binaries, text."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteError, MelotteFileError
from melotte.io.star_snapshots import StarSnapshot
from melotte.io.table_files import one_line

SOLAR_METAL_FRACTION = 0.0185
"""Protosolar Z of the shipped isochrones (Asplund et al. 2009, ARA&A 47, 481; Choi et al. 2016,
Table 1), so that a metal fraction finds the isochrones of the same Z. Simulations whose [Fe/H]
counts from Z = 0.02 call the same cluster 0.15 dex poorer."""

SOLAR_TEMPERATURE = 5772.0
"""Nominal effective temperature of the Sun, K (IAU 2015, resolution B3)."""

KM_S_PER_PC_MYR = 0.977792221
"""1 pc/Myr in km/s, for the parsec and the Julian year of the IAU."""

LOW_MASS_MAIN_SEQUENCE = 0.7
"""Mass below which main-sequence stars are of type 0 (Hurley, Pols & Tout 2000, Sec. 5), Msun."""


@dataclass(frozen=True)
class SimulationOptions:
    """What a user may say of a simulation that its files do not.

    Parameters
    ----------
    time : float, Myr, optional
        Of the one snapshot of a file that does not say.
    metallicity : float, optional
        [Fe/H]; goes before what the file says.
    column : mapping of str to str
        From melotte's names to those of a table.
    unit : mapping of str to str
        From melotte's names to units, of columns whose table states none.
    conversion : path, optional
        CMC: the ``*.conv.sh`` of the run.
    singles, binaries : path, optional
        NBODY6: stellar evolution, ``fort.83`` and ``fort.82``; NBODY6++: ``sev.83_*`` and
        ``bev.82_*``.
    """

    time: float | None = None
    metallicity: float | None = None
    column: Mapping[str, str] = field(default_factory=dict)
    unit: Mapping[str, str] = field(default_factory=dict)
    conversion: str | Path | None = None
    singles: str | Path | None = None
    binaries: str | Path | None = None

    def snapshot(
        self, path: Path, format: str, mass: ArrayLike, kind: ArrayLike, **known: Any
    ) -> StarSnapshot:
        """The snapshot that a reader found, with what the user says before what the file says.

        Raises
        ------
        MelotteFileError
            When a star is impossible; the message names the file.
        """
        stated = {"time": self.time, "metallicity": self.metallicity}
        known.update({name: value for name, value in stated.items() if value is not None})
        known["provenance"] = {"format": format, "file": str(path), **known.get("provenance", {})}
        try:
            return StarSnapshot.of(mass, kind, **known)
        except MelotteError as error:
            raise MelotteFileError(f"{path}: {error}") from error


def metallicity_of(metal_fraction: float) -> float:
    """[Fe/H] = log10(Z / 0.0185) of a mass fraction of metals, NaN unless above 0."""
    return float(np.log10(metal_fraction / SOLAR_METAL_FRACTION)) if metal_fraction > 0 else np.nan


def evolved_luminosity(luminosity: ArrayLike) -> NDArray[np.float64]:
    """Luminosities that a code gives, Lsun; its zeros, of stars it did not evolve, become NaN.

    Codes that evolve stars give even black holes 1e-10 Lsun (Hurley, Pols & Tout 2000).
    """
    luminosity = np.asarray(luminosity, float)
    return np.where(luminosity == 0, np.nan, luminosity)


def effective_temperature(luminosity: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
    """Temperature from luminosity (Lsun) and radius (Rsun), K; NaN where either is not above 0."""
    luminosity, radius = np.asarray(luminosity, float), np.asarray(radius, float)
    known = (luminosity > 0) & (radius > 0)
    ratio = np.divide(luminosity, radius**2, out=np.full(known.shape, np.nan), where=known)
    return SOLAR_TEMPERATURE * ratio**0.25


def main_sequence_kind(mass: NDArray[np.float64]) -> NDArray[np.int8]:
    """Types 0 and 1 of stars that nothing is known of but the mass (Msun), shape (n,)."""
    return np.where(mass < LOW_MASS_MAIN_SEQUENCE, 0, 1).astype(np.int8)


def members(
    primary: ArrayLike, secondary: ArrayLike, is_binary: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """A row for every object, then one for the secondary of every binary.

    Parameters
    ----------
    primary, secondary : array, shape (n,)
        Of single stars the secondary is not read. The same array twice repeats what the members
        of a binary share.
    is_binary : array of bool, shape (n,)

    Returns
    -------
    array, shape (n + n_binaries,)
    """
    return np.concatenate([np.asarray(primary), np.asarray(secondary)[is_binary]])


def text_numbers(path: Path, content: bytes, widths: Sequence[int], skip: int = 0) -> NDArray:
    """Numbers between blanks, one object a line.

    Parameters
    ----------
    path : Path
        For messages.
    content : bytes
        Unpacked; ``na`` counts as NaN, what follows ``#`` is passed over.
    widths : sequence of int
        Numbers of columns that are allowed; any when empty.
    skip : int
        Lines at the head that are no objects.

    Returns
    -------
    array, shape (n_rows, n_columns)

    Raises
    ------
    MelotteFileError
        When a line does not fit, or there is none.
    """
    clean = re.sub(rb"(?<![\w.])na(?![\w.])", b"nan", content)
    try:
        numbers = np.loadtxt(io.BytesIO(clean), ndmin=2, skiprows=skip)
    except (ValueError, UnicodeDecodeError) as error:
        reason = one_line(error).partition("; use `usecols`")[0]
        raise MelotteFileError(f"{path}: {reason}; one object a line is needed") from error
    if numbers.size == 0:
        raise MelotteFileError(f"{path} holds no stars")
    if widths and numbers.shape[1] not in widths:
        allowed = " or ".join(str(width) for width in widths)
        raise MelotteFileError(f"{path} has {numbers.shape[1]} columns; {allowed} are needed")
    return numbers
