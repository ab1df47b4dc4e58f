"""NBODY6++GPU's HDF5 snapshots (``snap.40_*.h5part``): groups ``Step#N`` of numbered datasets.

Written to ``custom_output.F`` and ``custom_output_facility.F`` of the Beijing version: masses in
Msun, positions in pc, velocities in km/s, L in Lsun, T in K; the attribute ``Time`` and the density
centre in ``000 Scalars`` in N-body units. Not read from a file of a real run. Files of older
versions, whose datasets have names without numbers, are refused.

References
----------
Wang et al. 2015, MNRAS 450, 4070.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.density_centres import centred
from melotte.io.simulation_files import SimulationOptions, main_sequence_kind, metallicity_of
from melotte.io.star_snapshots import StarSnapshot

OPTIONS = ("time", "metallicity")

_SINGLE = {"x": 1, "v": 4, "mass": 23, "luminosity": 27, "temperature": 28, "kind": 31, "name": 32}
_BINARY = {
    "x": 101,
    "v": 104,
    "mass": (123, 124),
    "luminosity": (145, 148),
    "temperature": (146, 149),
    "kind": (158, 159),
    "name": (161, 162),
}
_MERGER = {
    "x": 201,
    "v": 204,
    "mass": (207, 208, 209),
    "luminosity": (224, 227, 230),
    "temperature": (225, 228, 231),
    "kind": (244, 245, 246),
    "name": (248, 249, 250),
}
_BODY_TYPE, _CENTRE_OF_MASS = 33, 1
_PAIR_TYPE, _WIDE = 160, -1
_RBAR, _ZMBAR, _VSTAR, _TSCALE, _ZMET = 2, 3, 11, 10, 35
_UNSCALED = 2.0
"""Total mass (Msun) below which a run of more is taken to have been written in N-body units."""


def recognises(names: list[str]) -> bool:
    """Whether the groups of an HDF5 file are steps."""
    return any(name.startswith("Step#") for name in names)


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """Snapshots in the order of time.

    Members of binaries (datasets 101 on) and of merged triples (201 on) stand at their centre of
    mass with its velocity and are one `system`. Versions since 2021 list them among the single
    stars too; those rows are left out, but for wide pairs, whose members stay where they are.

    Raises
    ------
    MelotteFileError
        When a dataset is missing or its length differs.
    """
    import h5py

    with h5py.File(path, "r") as file:
        steps = sorted(
            (str(name) for name in file if str(name).startswith("Step#")),
            key=lambda name: int(name.partition("#")[2]),
        )
        for name in steps:
            yield _snapshot(path, options, name, _Step(path, name, file[name]))


class _Step:
    """Datasets of a step by their numbers."""

    def __init__(self, path: Path, name: str, group: Any) -> None:
        self.where = f"{path}, {name}"
        self._group = group
        self._names = {key[:3]: key for key in group if key[:3].isdigit()}

    def attribute(self, name: str) -> float:
        return float(np.ravel(self._group.attrs[name])[0]) if name in self._group.attrs else np.nan

    def has(self, number: int) -> bool:
        return f"{number:03d}" in self._names

    def array(self, number: int) -> NDArray[np.float64]:
        if not self.has(number):
            raise MelotteFileError(
                f"{self.where}: no dataset {number:03d}; NBODY6++GPU's numbered names such as "
                "'001 X1' and '023 M' are needed"
            )
        return np.ravel(self._group[self._names[f"{number:03d}"]][()]).astype(np.float64)

    def vectors(self, first: int) -> NDArray[np.float64]:
        return np.stack([self.array(first + k) for k in range(3)], axis=1)


def _rows(step: _Step, layout: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """One row a star; stars of an object follow its first star's place and motion."""
    numbers = {name: np.atleast_1d(at) for name, at in layout.items()}
    n_members = len(numbers["mass"])
    rows = {name: np.tile(step.vectors(int(numbers[name][0])), (n_members, 1)) for name in "xv"}
    n = len(rows["x"])
    for name in ("mass", "luminosity", "temperature", "kind", "name"):
        known = all(step.has(int(at)) for at in numbers[name])
        if not known and name in ("mass", "name"):
            step.array(int(numbers[name][0]))
        rows[name] = (
            np.concatenate([step.array(int(at)) for at in numbers[name]])
            if known
            else np.full(n, np.nan)
        )
        if len(rows[name]) != n:
            raise MelotteFileError(
                f"{step.where}: {len(rows[name]) // n_members} values of {name}, "
                f"{n // n_members} positions"
            )
    rows["system"] = np.tile(rows["name"][: n // n_members], n_members)
    return rows


def _parts(step: _Step) -> list[dict[str, NDArray[np.float64]]]:
    """Rows of single stars, of binaries and of triples, every star once."""
    single = _rows(step, _SINGLE)
    if step.has(_BODY_TYPE):
        bodies = step.array(_BODY_TYPE) != _CENTRE_OF_MASS
        single = {key: values[bodies] for key, values in single.items()}
    parts = []
    for layout in (_BINARY, _MERGER):
        if not step.has(layout["x"]):
            continue
        rows = _rows(step, layout)
        if layout is _BINARY and step.has(_PAIR_TYPE):
            wide = np.tile(step.array(_PAIR_TYPE) == _WIDE, 2)
            listed = wide & np.isin(rows["name"], single["name"])
            rows = {key: values[~listed] for key, values in rows.items()}
        parts.append(rows)
    close = [rows["name"] for rows in parts]
    alone = ~np.isin(single["name"], np.concatenate(close)) if close else slice(None)
    return [{key: values[alone] for key, values in single.items()}, *parts]


def _snapshot(path: Path, options: SimulationOptions, name: str, step: _Step) -> StarSnapshot:
    parts = _parts(step)
    rows = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    scalars = step.array(0) if step.has(0) else np.full(100, np.nan)
    scaled = not (rows["mass"].sum() < _UNSCALED < scalars[_ZMBAR])
    length, mass, speed = (1, 1, 1) if scaled else scalars[[_RBAR, _ZMBAR, _VSTAR]]
    centre = scalars[6:9] * scalars[_RBAR]
    position, velocity = centred(
        rows["x"] * length,
        rows["v"] * speed,
        rows["mass"] * mass,
        centre if np.isfinite(centre).all() else None,
    )
    time = step.attribute("Time") * scalars[_TSCALE]
    if not np.isfinite(time) and options.time is None:
        raise MelotteFileError(
            f"{step.where}: no attribute Time or no dataset '000 Scalars' to convert it with; "
            "give the time (Myr)"
        )
    kind = np.where(np.isnan(rows["kind"]), main_sequence_kind(rows["mass"] * mass), rows["kind"])
    return options.snapshot(
        path,
        "nbody6++gpu",
        rows["mass"] * mass,
        kind,
        time=time,
        metallicity=metallicity_of(scalars[_ZMET]),
        position=position,
        velocity=velocity,
        luminosity=rows["luminosity"],
        temperature=rows["temperature"],
        ids=rows["name"],
        system=rows["system"],
        provenance={"step": name, "scaled_by_reader": not scaled},
    )
