"""NBODY6's ``OUT3`` and NBODY6++'s ``conf.3``: Fortran records of stars in N-body units.

Both begin with the record ``NTOT, MODEL, NRUN, NK`` and go on with one record a snapshot: ``NK``
numbers of the run, then masses, positions, velocities and names of ``NTOT`` bodies (``output.f`` of
NBODY6; NBODY6++ also writes densities, neighbour densities and potentials). Of the numbers, 1 is
the time, 2 the pairs, 3 pc, 4 Msun, 7 to 9 the density centre, 11 Myr and 12 km/s, each a unit.
Bodies 1 to ``2 NPAIRS`` are the members of regularised pairs, two by two; those after
``NTOT - NPAIRS`` are their centres of mass, which are left out.

References
----------
Aarseth 2003, Gravitational N-Body Simulations; Spurzem 1999, J. Comput. Appl. Math. 109, 407.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.density_centres import centred
from melotte.io.nbody6_stars import StellarRows, nearest_block, read_stellar_rows
from melotte.io.simulation_files import SimulationOptions, main_sequence_kind
from melotte.io.star_snapshots import StarSnapshot

OPTIONS = ("time", "metallicity", "singles", "binaries")
HEADER_BYTES = 16
FEWEST_NUMBERS = 12

_LAYOUTS = {8: "nbody6", 11: "nbody6++"}
"""Words a body by code: mass, position, velocity, name; and three more in NBODY6++."""


def recognises(head: bytes) -> bool:
    """Whether the first bytes are the record of four integers that begins a snapshot."""
    return _byte_order(head) is not None


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """Snapshots of an ``OUT3`` or ``conf.3`` file, in the order of the file.

    Positions are from the density centre that the file gives, velocities from the mean of the
    inner half of the stars. Members of a regularised pair stand where they are and are one
    `system`. Bodies of no mass, such as ghosts of merged pairs, are left out and counted in the
    provenance. Without stellar evolution files every star is called a main-sequence star; with
    them, their block nearest in time (the user's, if given) is taken, within 1 Myr or 2 %.

    Raises
    ------
    MelotteFileError
        When the file is truncated or its records do not fit, or stellar evolution files do not,
        or are of another time.
    """
    stellar = read_stellar_rows(options.singles, options.binaries)
    with path.open("rb") as file:
        order = _byte_order(file.read(24))
        if order is None:
            raise MelotteFileError(
                f"{path} does not begin with NBODY6's record of 4 integers (16 bytes)"
            )
        file.seek(0)
        number = 0
        while (header := _record(path, file, order)) is not None:
            number += 1
            n_bodies, _, _, n_numbers = (int(one) for one in np.frombuffer(header, order + "i4"))
            body = _record(path, file, order)
            if body is None:
                raise MelotteFileError(f"{path} ends after the header of snapshot {number}")
            yield _snapshot(path, options, order, body, (n_bodies, n_numbers), stellar)


def _byte_order(head: bytes) -> str | None:
    if len(head) < HEADER_BYTES + 8:
        return None
    for order in "<>":
        words = np.frombuffer(head[:24], order + "i4")
        if words[0] == words[5] == HEADER_BYTES and words[1] > 0 and words[4] >= FEWEST_NUMBERS:
            return order
    return None


def _record(path: Path, file: BinaryIO, order: str) -> bytes | None:
    marker = file.read(4)
    if not marker:
        return None
    length = int.from_bytes(marker, "little" if order == "<" else "big")
    content = file.read(length)
    if len(content) < length or file.read(4) != marker:
        raise MelotteFileError(
            f"{path}: a record of {length} bytes is cut short or damaged at byte {file.tell()}"
        )
    return content


def _snapshot(
    path: Path,
    options: SimulationOptions,
    order: str,
    body: bytes,
    sizes: tuple[int, int],
    stellar: list[StellarRows],
) -> StarSnapshot:
    n_bodies, n_numbers = sizes
    words, rest = divmod(len(body) // 4 - n_numbers, max(n_bodies, 1))
    if rest or words not in _LAYOUTS:
        raise MelotteFileError(
            f"{path}: a record of {len(body)} bytes does not hold {n_numbers} numbers and "
            f"{n_bodies} bodies of 8 (OUT3) or 11 (conf.3) words"
        )
    real = np.frombuffer(body, order + "f4")
    numbers = real[:n_numbers].astype(np.float64)
    n_pairs = int(numbers[1])
    time, length, mass_unit, speed = numbers[0] * numbers[10], numbers[2], numbers[3], numbers[11]
    after = n_numbers + n_bodies * (1 if words == 8 else 3)
    mass = real[n_numbers : n_numbers + n_bodies] * mass_unit
    vectors = real[after : after + 6 * n_bodies].reshape(2, n_bodies, 3).astype(np.float64)
    names = np.frombuffer(body, order + "i4")[-n_bodies:].astype(np.int64)
    rows = np.arange(n_bodies - n_pairs)
    system = np.where(rows < 2 * n_pairs, rows - rows % 2, rows)
    keep = rows[mass[rows] > 0]
    position, velocity = centred(
        vectors[0, keep] * length, vectors[1, keep] * speed, mass[keep], numbers[6:9] * length
    )
    block = None
    if stellar:
        own = time if options.time is None else options.time
        block = nearest_block(stellar, own, path, options.singles)
    known: dict[str, Any] = _stellar_columns(path, names[keep], mass[keep], block)
    provenance = known.pop("provenance")
    provenance.update(pairs=n_pairs, massless_left_out=len(rows) - len(keep))
    return options.snapshot(
        path,
        _LAYOUTS[words],
        mass[keep],
        known.pop("kind"),
        time=time,
        position=position,
        velocity=velocity,
        ids=names[keep],
        system=system[keep],
        provenance=provenance,
        **known,
    )


def _stellar_columns(
    path: Path, names: NDArray[np.int64], mass: NDArray, block: StellarRows | None
) -> dict[str, Any]:
    """Types, luminosities and temperatures by name."""
    if block is None:
        return {
            "kind": main_sequence_kind(mass),
            "provenance": {"assumed": "all stars are on the main sequence"},
        }
    order = np.argsort(block.name, kind="stable")
    place = np.minimum(np.searchsorted(block.name[order], names), len(order) - 1)
    row = order[place]
    found = block.name[row] == names
    if not found.any():
        raise MelotteFileError(
            f"{path}: none of its {len(names)} names is in the stellar evolution files"
        )
    return {
        "kind": np.where(found, block.kind[row], main_sequence_kind(mass)),
        "luminosity": np.where(found, block.luminosity[row], np.nan),
        "temperature": np.where(found, block.temperature[row], np.nan),
        "provenance": {
            "stellar_time": block.time,
            "without_stellar_row": int((~found).sum()),
        },
    }
