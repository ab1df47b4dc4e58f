"""Initial conditions of CMC, as COSMIC writes them: HDF5 tables of objects and of binaries.

``CLUS_OBJ_DATA`` and ``CLUS_BINARY_DATA`` are pandas tables in N-body units; attributes hold the
mass of the cluster (``MCLUS``, Msun), its virial radius (``RVIR``, pc) and Z. The first and the
last object are sentinels without mass.

References
----------
Rodriguez et al. 2022, ApJS 258, 22; Breivik et al. 2020, ApJ 898, 71.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.simulation_files import SimulationOptions, members, metallicity_of
from melotte.io.star_snapshots import StarSnapshot

OPTIONS = ("time", "metallicity")

GRAVITATIONAL_CONSTANT = 4.30091e-3
"""G in pc (km/s)^2 / Msun."""

_OBJECTS, _BINARIES = "CLUS_OBJ_DATA", "CLUS_BINARY_DATA"


def recognises(names: list[str]) -> bool:
    """Whether an HDF5 file holds the table of objects."""
    return _OBJECTS in names


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """The initial cluster, at time 0; masses are initial masses too.

    N-body units have G = 1, the mass of the cluster and its virial radius 1. A binary becomes two
    rows with the same `system`, radius and motion.

    Raises
    ------
    MelotteFileError
        When a table, column or attribute is missing, or a binary is not in the table of binaries.
    """
    import h5py

    with h5py.File(path, "r") as file:
        objects, attributes = _table(path, file, _OBJECTS)
        binaries, _ = _table(path, file, _BINARIES) if _BINARIES in file else ({}, {})
    for name in ("MCLUS", "RVIR"):
        if name not in attributes:
            raise MelotteFileError(f"{path}: the table {_OBJECTS} has no attribute {name}")
    unit, length = float(attributes["MCLUS"]), float(attributes["RVIR"])
    speed = np.sqrt(GRAVITATIONAL_CONSTANT * unit / length)
    real = objects["m"] > 0
    objects = {name: values[real] for name, values in objects.items()}
    place = objects["binind"].astype(np.int64)
    binary = place > 0
    if binary.any() and (not binaries or place.max() >= len(binaries["m1"])):
        raise MelotteFileError(f"{path}: an object is a binary that {_BINARIES} does not hold")

    def both(single: str, of_binary: str) -> NDArray[np.float64]:
        primary = objects[single].copy()
        secondary = np.full(len(primary), np.nan)
        if binary.any():
            primary[binary] = binaries[f"{of_binary}1"][place[binary]]
            secondary[binary] = binaries[f"{of_binary}2"][place[binary]]
        return members(primary, secondary, binary)

    def shared(name: str, scale: float) -> NDArray[np.float64]:
        return members(objects[name] * scale, objects[name] * scale, binary)

    mass = both("m", "m") * unit
    number = np.arange(len(place), dtype=np.float64)
    yield options.snapshot(
        path,
        "cmc-initial",
        mass,
        both("k", "k"),
        time=0.0,
        metallicity=metallicity_of(float(attributes.get("Z", 0.0))),
        radius=shared("r", length),
        radial_velocity=shared("vr", speed),
        tangential_velocity=np.abs(shared("vt", speed)),
        initial_mass=mass,
        ids=both("id", "id"),
        system=members(number, number, binary),
        provenance={"mass": unit, "virial_radius": length},
    )


def _table(path: Path, file: Any, name: str) -> tuple[dict[str, NDArray[np.float64]], Any]:
    group = file[name]
    try:
        values = group["block0_values"]
        names = [one.decode() for one in group["block0_items"][()]]
        table = values[()]
    except (KeyError, TypeError, AttributeError) as error:
        raise MelotteFileError(
            f"{path}: {name} is no pandas table of one block, as COSMIC writes it"
        ) from error
    return dict(zip(names, table.T, strict=True)), dict(values.attrs)
