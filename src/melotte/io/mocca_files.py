"""Snapshots of MOCCA: text of 30 columns (spherical), or of 40 (with positions).

Columns of the first kind, from 1: 2 r (pc), 3 radial and 4 tangential velocity (km/s), 5, 6 names,
7 kind of object (0 single), 8, 9 stellar types, 10, 11 masses (Msun), 12, 13 luminosities (Lsun),
14, 15 radii (Rsun), 22 to 24 V, B-V, I of the object, 25 to 27 of the first and 28 to 30 of the
second star. Of the second kind: 2 to 4 position, 5 to 7 velocity, 8, 9 names, 10 kind of object,
11, 12 types, 13, 14 masses, 15, 16 luminosities, 17, 18 radii, 25, 26 V, 29, 30 B, 37 r; this
is how published readers take it, and was not tested on a file of a run.

References
----------
Giersz et al. 2013, MNRAS 431, 2184; Hypki & Giersz 2013, MNRAS 429, 1221.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.simulation_files import (
    SimulationOptions,
    effective_temperature,
    members,
    text_numbers,
)
from melotte.io.star_snapshots import NEUTRON_STAR, StarSnapshot
from melotte.io.table_files import read_bytes

OPTIONS = ("time", "metallicity")
WIDTHS = (30, 40)

_BY_WIDTH = {
    30: {"name": 4, "object": 6, "kind": 7, "mass": 9, "luminosity": 11, "radius": 13, "r": 1},
    40: {"name": 7, "object": 9, "kind": 10, "mass": 12, "luminosity": 14, "radius": 16, "r": 36},
}


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """The snapshot of a file, gzipped or not; the time is the user's to give, NaN without.

    Magnitudes are MOCCA's own. A binary becomes two rows with the same `system`, radius and
    motion. Positions, where the file has them, are taken to be from the centre.

    Raises
    ------
    MelotteFileError
        When the file has neither 30 nor 40 columns, or holds what is no number.
    """
    table = text_numbers(path, read_bytes(path), WIDTHS)
    at = _BY_WIDTH[table.shape[1]]
    binary = (table[:, at["object"]] != 0) & (table[:, at["mass"] + 1] > 0)
    if not (table[:, at["r"]] >= 0).all():
        raise MelotteFileError(f"{path}: a radius (column {at['r'] + 1}) is below 0; not MOCCA's")

    def both(column: int, step: int = 1) -> NDArray[np.float64]:
        return members(table[:, column], table[:, column + step], binary)

    def shared(column: int) -> NDArray[np.float64]:
        return members(table[:, column], table[:, column], binary)

    kind, luminosity = both(at["kind"]), both(at["luminosity"])
    number = np.arange(len(table), dtype=np.float64)
    if table.shape[1] == 30:
        visual = both(24, 3)
        blue = visual + both(25, 3)
        place = {
            "radius": shared(1),
            "radial_velocity": shared(2),
            "tangential_velocity": np.abs(shared(3)),
        }
    else:
        visual, blue = both(24), both(28)
        place = {
            "position": np.stack([shared(column) for column in (1, 2, 3)], axis=1),
            "velocity": np.stack([shared(column) for column in (4, 5, 6)], axis=1),
        }
    dark = kind >= NEUTRON_STAR
    yield options.snapshot(
        path,
        "mocca",
        both(at["mass"]),
        kind,
        **place,
        luminosity=luminosity,
        temperature=effective_temperature(luminosity, both(at["radius"])),
        magnitude_v=np.where(dark, np.inf, visual),
        magnitude_b=np.where(dark, np.inf, blue),
        ids=both(at["name"]),
        system=members(number, number, binary),
        provenance={"objects": len(table), "binaries": int(binary.sum())},
    )
