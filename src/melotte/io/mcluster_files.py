"""Initial conditions of McLuster, ``*.dat.10``: mass, position and velocity, 7 columns of text.

References
----------
Küpper et al. 2011, MNRAS 417, 2300.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.cmc_initial_files import GRAVITATIONAL_CONSTANT
from melotte.io.density_centres import centred
from melotte.io.simulation_files import SimulationOptions, main_sequence_kind, text_numbers
from melotte.io.star_snapshots import StarSnapshot
from melotte.io.table_files import read_bytes

OPTIONS = ("time", "metallicity")
WIDTHS = (7,)

_UNIT_MASS = 1e-3
"""How near to 1 the masses must sum for a file to be in N-body units."""


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """The initial cluster, at time 0; masses are initial masses too.

    Centred on the density centre. McLuster lists the members of primordial binaries first, two by
    two: pairs of lines from the top are binaries up to the first that is not bound by itself, and
    become one `system`; their members stay where they are.

    Raises
    ------
    MelotteFileError
        When the file has not 7 columns or is in N-body units (``-u 0``), whose size and mass it
        does not say.
    """
    table = text_numbers(path, read_bytes(path), WIDTHS)
    mass, position, velocity = table[:, 0], table[:, 1:4], table[:, 4:7]
    if abs(mass.sum() - 1) < _UNIT_MASS:
        raise MelotteFileError(
            f"{path}: the masses sum to 1, so the file is in N-body units; "
            "Msun, pc and km/s are needed (McLuster's option -u 1)"
        )
    n_binaries = bound_pairs(mass, position, velocity)
    rows = np.arange(len(mass))
    centred_position, centred_velocity = centred(position, velocity, mass)
    yield options.snapshot(
        path,
        "mcluster",
        mass,
        main_sequence_kind(mass),
        time=0.0,
        position=centred_position,
        velocity=centred_velocity,
        initial_mass=mass,
        system=np.where(rows < 2 * n_binaries, rows - rows % 2, rows),
        provenance={"binaries": n_binaries},
    )


def bound_pairs(
    mass: NDArray[np.float64], position: NDArray[np.float64], velocity: NDArray[np.float64]
) -> int:
    """How many pairs of rows, from the top, are bound by themselves.

    Parameters
    ----------
    mass : array, shape (n,), Msun
    position, velocity : array, shape (n, 3), pc and km/s
    """
    even = len(mass) - len(mass) % 2
    first, second = slice(0, even, 2), slice(1, even, 2)
    separation = np.linalg.norm(position[first] - position[second], axis=1)
    speed = np.linalg.norm(velocity[first] - velocity[second], axis=1)
    attraction = GRAVITATIONAL_CONSTANT * (mass[first] + mass[second])
    free = 0.5 * speed**2 * separation >= attraction
    return int(np.argmax(free)) if free.any() else len(free)
