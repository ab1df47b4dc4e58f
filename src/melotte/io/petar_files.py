"""Snapshots of PeTar (``data.N``): text or binary, after a header line.

The header is file number, number of stars, time, and, in runs with an external potential, the
place and velocity of the cluster in it (3 or 9 numbers; of 8 bytes each in binary). Every star has
mass, position, velocity and a state; with stellar evolution a radius, a mass loss and two times,
then SSE's type, initial mass, mass, radius, two numbers of the core, spin, epoch, time and
luminosity (which mode ``base`` lacks); then search radius, name, four numbers, accelerations,
potentials and the number of neighbours. The number of columns tells which there are.

Written to PeTar's own analysis tools (double precision, no MPFRC), not read from a file of a run.

References
----------
Wang et al. 2020, MNRAS 497, 536.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.density_centres import centred
from melotte.io.simulation_files import (
    KM_S_PER_PC_MYR,
    SimulationOptions,
    effective_temperature,
    evolved_luminosity,
    main_sequence_kind,
    text_numbers,
)
from melotte.io.star_snapshots import StarSnapshot
from melotte.io.table_files import read_bytes

OPTIONS = ("time", "metallicity")

_PLAIN, _BASE, _EVOLVING = 20, 24, 34
_SUPERPARTICLES, _EXTERNAL = 3, 1
_SHORT_HEADER, _LONG_HEADER = 3, 9
_WORD = 8


def _widths(header: int) -> dict[int, int]:
    """Allowed numbers of columns, and the kind of particle each means."""
    external = _EXTERNAL if header == _LONG_HEADER else 0
    return {
        kind + external + extra: kind
        for extra in (_SUPERPARTICLES, 0)
        for kind in (_PLAIN, _BASE, _EVOLVING)
    }


def recognises(path: Path, head: bytes) -> bool:
    """Whether a file is binary with PeTar's header and a size that fits."""
    return _binary_layout(head, path.stat().st_size) is not None


def recognises_text(head: bytes) -> bool:
    """Whether the first lines are a header of 3 or 9 numbers and a star of PeTar."""
    lines = [line.split() for line in head.split(b"\n")[:2]]
    return (
        len(lines) == 2
        and len(lines[0]) in (_SHORT_HEADER, _LONG_HEADER)
        and len(lines[1]) in _widths(len(lines[0]))
    )


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """The snapshot of a file.

    Msun, pc, pc/Myr and Myr are taken for units (PeTar's option ``-u 1``, which runs with stellar
    evolution need). Places are from the density centre. PeTar's snapshots do not tell which stars
    are binaries: members stand where they are and every star is a system. Temperatures follow from
    L and R.

    Raises
    ------
    MelotteFileError
        When the number of columns or of stars does not fit.
    """
    content = read_bytes(path)
    layout = _binary_layout(content[: _LONG_HEADER * _WORD], len(content))
    if layout is not None:
        header, width = layout
        words = np.frombuffer(content, "<f8")
        time, announced = float(words[2]), int(np.frombuffer(content[8:16], "<i8")[0])
        table = words[header:].reshape(announced, width)
        whole = np.frombuffer(content, "<i8")[header:].reshape(announced, width)
    else:
        first = content.split(b"\n", 1)[0].split()
        header = len(first)
        if header not in (_SHORT_HEADER, _LONG_HEADER):
            raise MelotteFileError(
                f"{path}: the header has {header} numbers; PeTar's has "
                f"{_SHORT_HEADER}, or {_LONG_HEADER} with an external potential"
            )
        table = whole = text_numbers(path, content, tuple(_widths(header)), skip=1)
        try:
            announced, time = int(first[1]), float(first[2])
        except ValueError as error:
            raise MelotteFileError(f"{path}: the header holds what is no number") from error
        if announced != len(table):
            raise MelotteFileError(
                f"{path}: the header announces {announced} stars, {len(table)} are there"
            )
    yield _snapshot(path, options, table, whole, time, _widths(header)[table.shape[1]])


def _binary_layout(head: bytes, size: int) -> tuple[int, int] | None:
    """Words of the header and columns a star of a binary file."""
    if len(head) < _SHORT_HEADER * _WORD or size % _WORD:
        return None
    announced = int(np.frombuffer(head[8:16], "<i8")[0])
    if not 0 < announced <= size // _WORD:
        return None
    for header in (_SHORT_HEADER, _LONG_HEADER):
        width, rest = divmod(size // _WORD - header, announced)
        if rest == 0 and width in _widths(header):
            return header, width
    return None


def _snapshot(
    path: Path,
    options: SimulationOptions,
    table: NDArray[np.float64],
    whole: NDArray,
    time: float,
    particle: int,
) -> StarSnapshot:
    mass = table[:, 0].astype(np.float64)
    position, velocity = centred(table[:, 1:4], table[:, 4:7] * KM_S_PER_PC_MYR, mass)
    known = {}
    kind = main_sequence_kind(mass)
    if particle == _EVOLVING:
        kind, radius = whole[:, 12], table[:, 15]
        # PeTar leaves L unset, and R at 0, until a star is first evolved.
        luminosity = evolved_luminosity(np.where(radius > 0, table[:, 21], 0.0))
        known = {
            "luminosity": luminosity,
            "temperature": effective_temperature(luminosity, radius),
        }
    name = {_PLAIN: 9, _BASE: 13, _EVOLVING: 23}[particle]
    return options.snapshot(
        path,
        "petar",
        mass,
        kind,
        time=time,
        position=position,
        velocity=velocity,
        ids=whole[:, name],
        provenance={"columns": table.shape[1]},
        **known,
    )
