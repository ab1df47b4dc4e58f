"""HDF5 files of AMUSE particle sets, each attribute with its unit.

References
----------
Portegies Zwart et al. 2013, Comput. Phys. Commun. 184, 456; van Elteren et al. 2014, AMUSE's store
format version 2.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.density_centres import centred
from melotte.io.simulation_files import (
    SimulationOptions,
    effective_temperature,
    evolved_luminosity,
    main_sequence_kind,
)
from melotte.io.star_snapshots import MASSLESS, StarSnapshot

OPTIONS = ("time", "metallicity")

SOLAR_MASS, SOLAR_RADIUS, SOLAR_LUMINOSITY = 1.98892e30, 6.955e8, 3.839e26
"""AMUSE's own constants, SI, so that what it wrote in solar units is read as written."""
PARSEC, MEGAYEAR, KILOMETRE_PER_SECOND = 3.08567758149137e16, 3.15569259936e13, 1e3

_UNITS = {
    "mass": SOLAR_MASS,
    "initial_mass": SOLAR_MASS,
    "luminosity": SOLAR_LUMINOSITY,
    "radius": SOLAR_RADIUS,
    "temperature": 1.0,
    "age": MEGAYEAR,
    **dict.fromkeys(("x", "y", "z"), PARSEC),
    **dict.fromkeys(("vx", "vy", "vz"), KILOMETRE_PER_SECOND),
}
_SI_BASES = ("mass", "length", "time", "thermodynamic temperature", "temperature")


def recognises(names: list[str]) -> bool:
    """Whether an HDF5 file is AMUSE's."""
    return "AMUSE_INF" in names or names == ["particles"] or names == ["data"]


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """The particle sets of a file, in the order in which they were saved.

    The attributes ``mass`` and, where there are, ``x`` to ``z``, ``vx`` to ``vz``,
    ``stellar_type``, ``luminosity``, ``temperature``, ``radius``, ``initial_mass`` and ``age`` are
    read. Places are from the density centre; without them the snapshot has none. Without
    temperatures these follow from L and R. Time is the largest age unless given. AMUSE does not
    tell which particles are binaries: every one is a system.

    Raises
    ------
    MelotteFileError
        When there are no masses, a unit is no physical one (N-body units), or a stellar type is
        none of Hurley's.
    """
    import h5py

    with h5py.File(path, "r") as file:
        root: Any = file["data"] if "data" in file else file["particles"]
        sets = [root[name] for name in sorted(root) if "attributes" in root[name]]
        if not sets:
            raise MelotteFileError(f"{path} holds no AMUSE particle sets")
        for group in sets:
            yield _snapshot(path, options, group)


def si_value(unit: str) -> float:
    """What one of a unit is in SI, from AMUSE's way to write units.

    Parameters
    ----------
    unit : str
        Such as ``(1.98892e+30 * system.get('S.I.').base('mass'))``: products, quotients and powers
        of numbers and SI bases; 1 when there is none.

    Raises
    ------
    MelotteFileError
        When it is anything else, N-body units among it.
    """
    try:
        return _value(ast.parse(unit, mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise MelotteFileError(
            f"unit {unit!r} is no physical unit of AMUSE; convert N-body units before saving"
        ) from error


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            first, second = _value(left), _value(right)
            match operator:
                case ast.Mult():
                    return first * second
                case ast.Div():
                    return first / second
                case ast.Pow():
                    return first**second
        case ast.Call(
            func=ast.Attribute(value=system, attr="base"), args=[ast.Constant(value=base)]
        ) if ast.unparse(system) == "system.get('S.I.')" and base in _SI_BASES:
            return 1.0
        case ast.Call() if ast.unparse(node) in (
            "no_system.get('stellar_type')",
            "no_system.get('none')",
        ):
            return 1.0
    raise ValueError("not a physical unit")


def _snapshot(path: Path, options: SimulationOptions, group: Any) -> StarSnapshot:
    where = f"{path}, {group.name}"
    attributes = group["attributes"]

    def column(name: str) -> NDArray[np.float64] | None:
        if name not in attributes:
            return None
        dataset = attributes[name]
        stated = dataset.attrs.get("units", "1")
        stated = stated.decode() if isinstance(stated, bytes) else str(stated)
        try:
            unit = si_value(stated)
        except MelotteFileError as error:
            raise MelotteFileError(f"{where}: {name}: {error}") from error
        return dataset[()].astype(np.float64) * (unit / _UNITS.get(name, 1.0))

    def vectors(names: tuple[str, str, str]) -> NDArray[np.float64] | None:
        parts = [column(name) for name in names]
        known = [part for part in parts if part is not None]
        return np.stack(known, axis=1) if len(known) == len(names) else None

    mass = column("mass")
    if mass is None:
        raise MelotteFileError(f"{where}: the particles have no attribute mass")
    kind = column("stellar_type")
    if kind is not None and ((kind < 0) | (kind > MASSLESS)).any():
        raise MelotteFileError(
            f"{where}: stellar_type {int(kind[(kind < 0) | (kind > MASSLESS)][0])} is none of the "
            "types 0 to 15 of Hurley, Pols & Tout 2000; leave such particles out"
        )
    luminosity, radius, temperature = column("luminosity"), column("radius"), column("temperature")
    if temperature is None and luminosity is not None and radius is not None:
        temperature = effective_temperature(luminosity, radius)
    position, velocity = vectors(("x", "y", "z")), vectors(("vx", "vy", "vz"))
    if position is not None:
        position, velocity = centred(position, velocity, mass)
    age = column("age")
    return options.snapshot(
        path,
        "amuse",
        mass,
        main_sequence_kind(mass) if kind is None else kind,
        time=float(age.max()) if age is not None and len(age) else np.nan,
        position=position,
        velocity=velocity if position is not None else None,
        luminosity=None if luminosity is None else evolved_luminosity(luminosity),
        temperature=temperature,
        initial_mass=column("initial_mass"),
        ids=group["keys"][()].astype(np.uint64).view(np.int64) if "keys" in group else None,
        provenance={"set": group.name},
    )
