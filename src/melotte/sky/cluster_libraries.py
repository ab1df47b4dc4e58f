"""Libraries of evolved clusters: many runs of many snapshots in one HDF5 file.

A star takes 13 bytes: radius, velocities, mass and magnitudes in half precision (one part in
2,000), its stellar type in a byte.

========================  ==================================================================
``runs/NAME``             a group a run; attributes ``model``, ``history``, ``family`` (JSON)
``.../time``              (n_snapshots,) Myr
``.../offsets``           (n_snapshots + 1,) of the stars of each snapshot
``.../radius`` ...        (n_stars,) pc, km/s, Msun, mag; see :data:`COLUMNS`
``.../kind``              (n_stars,) stellar type; 16 is added to a star that shares an
                          unresolved binary with the one before it
========================  ==================================================================

Columns may be compressed. melotte ships a small library of its own: :func:`shipped_library`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.star_snapshots import StarSnapshot

LIBRARY_VERSION = 1

COLUMNS = (
    "radius",
    "radial_velocity",
    "tangential_velocity",
    "mass",
    "magnitude_v",
    "magnitude_b",
)
"""Kept of every star, in half precision."""

SECOND_STAR = 16

_PACKING = {"compression": "gzip", "compression_opts": 9, "shuffle": True}


@dataclass(frozen=True)
class LibraryRun:
    """One run of a library.

    Parameters
    ----------
    name : str
    family : str
    model : mapping
        Initial conditions, as :func:`melotte.sky.monte_carlo.snapshots.model_values` gives them.
    times : tuple of float, Myr
        Of its snapshots.
    counts : tuple of int
        Stars in each.
    history : mapping
        Lists of equal length, of :class:`melotte.sky.monte_carlo.evolution.History`.
    """

    name: str
    family: str
    model: Mapping[str, Any]
    times: tuple[float, ...]
    counts: tuple[int, ...]
    history: Mapping[str, Any]


class RunWriter:
    """Writes the snapshots of one run as they come; goes on where an earlier one stopped.

    Parameters
    ----------
    file : h5py.File
        Open for writing; becomes a library.
    name, family : str
    model : mapping
        JSON values.
    packed : bool
        Compress the columns of the stars; it pays for stars in an order of mass and type.
    """

    def __init__(
        self,
        file: Any,
        name: str,
        family: str,
        model: Mapping[str, Any],
        *,
        packed: bool = False,
    ) -> None:
        file.attrs["melotte_cluster_library"] = LIBRARY_VERSION
        self._packing: dict[str, Any] = dict(_PACKING) if packed else {}
        self._group = file.require_group("runs").require_group(name)
        self._group.attrs["family"] = family
        self._group.attrs["model"] = json.dumps(dict(model))
        if "time" not in self._group:
            self._group.create_dataset("time", data=np.empty(0), maxshape=(None,))
            start = np.zeros(1, dtype=np.int64)
            self._group.create_dataset("offsets", data=start, maxshape=(None,))

    def add(self, snapshot: StarSnapshot) -> None:
        """Append one snapshot; of positions it keeps what ``snapshot.spherical()`` has.

        Raises
        ------
        MelotteValueError
            When places, motions or magnitudes are unknown, or too large for half precision.
        """
        snapshot = snapshot.spherical()
        source = snapshot.provenance.get("file", "the snapshot")
        if snapshot.radius is None or snapshot.radial_velocity is None:
            raise MelotteValueError(
                f"{source}: places or motions of its stars are unknown; a library needs positions "
                "and velocities, or radii with radial and tangential velocities"
            )
        order = np.lexsort((np.arange(len(snapshot)), snapshot.system))
        systems = snapshot.system[order]
        second = np.r_[False, systems[1:] == systems[:-1]]
        kept = {name: _half_precision(snapshot, name, str(source))[order] for name in COLUMNS}
        for column, values in kept.items():
            self._append(column, values)
        self._append("kind", snapshot.kind[order] + SECOND_STAR * second.astype(np.int8))
        self._append("time", np.array([snapshot.time]))
        self._append("offsets", self._group["offsets"][-1:] + len(snapshot))

    def forget_after(self, time: float) -> None:
        """Drop snapshots later than a time, Myr."""
        kept = int((self._group["time"][:] <= time).sum())
        stars = int(self._group["offsets"][kept])
        for name in (*COLUMNS, "kind"):
            if name in self._group:
                self._group[name].resize(stars, axis=0)
        self._group["time"].resize(kept, axis=0)
        self._group["offsets"].resize(kept + 1, axis=0)

    def close(self, history: Mapping[str, Any]) -> None:
        """Write what is known at the end."""
        self._group.attrs["history"] = json.dumps(dict(history))

    def _append(self, name: str, values: np.ndarray) -> None:
        if name not in self._group:
            chunks = (max(len(values), 1),)
            self._group.create_dataset(
                name, data=values, maxshape=(None,), chunks=chunks, **self._packing
            )
            return
        dataset = self._group[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[-len(values) :] = values


class ClusterLibrary:
    """A library that is read; a context manager.

    Parameters
    ----------
    paths : path or sequence of path
        One library, or several read as one.

    Raises
    ------
    MelotteFileError
        When a file is none.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path]) -> None:
        listed = [paths] if isinstance(paths, str | Path) else list(paths)
        self._files: list[Any] = []
        self._groups: dict[str, Any] = {}
        self.runs: list[LibraryRun] = []
        try:
            for path in listed:
                self._open(Path(path))
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return sum(len(run.times) for run in self.runs)

    def __enter__(self) -> ClusterLibrary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def snapshot(self, run: LibraryRun, number: int) -> StarSnapshot:
        """One snapshot of a run.

        Parameters
        ----------
        run : LibraryRun
            One of ``runs``.
        number : int
            From 0.

        Returns
        -------
        StarSnapshot
        """
        group = self._groups[run.name]
        low, high = sum(run.counts[:number]), sum(run.counts[: number + 1])
        columns = {name: group[name][low:high].astype(np.float64) for name in COLUMNS}
        kinds = group["kind"][low:high]
        second = kinds >= SECOND_STAR
        return StarSnapshot.of(
            columns.pop("mass"),
            kinds - SECOND_STAR * second.astype(np.int8),
            time=run.times[number],
            metallicity=float(run.model["metallicity"]),
            ids=np.arange(high - low),
            system=np.cumsum(~second) - 1,
            provenance={"format": "melotte library", "run": run.name},
            **columns,
        )

    def __iter__(self) -> Iterator[StarSnapshot]:
        """All snapshots, run by run."""
        for run in self.runs:
            for number in range(len(run.times)):
                yield self.snapshot(run, number)

    def _open(self, path: Path) -> None:
        if not path.exists():
            raise MelotteFileError(f"{path}: does not exist")
        try:
            file = h5py.File(path)
        except OSError as error:
            raise MelotteFileError(f"{path}: not a library of clusters ({error})") from error
        self._files.append(file)
        version = file.attrs.get("melotte_cluster_library")
        if version is None:
            raise MelotteFileError(f"{path}: not a library of clusters (no version in it)")
        if int(version) != LIBRARY_VERSION:  # pyright: ignore[reportArgumentType]
            raise MelotteFileError(
                f"{path}: a library of version {version}; this melotte reads {LIBRARY_VERSION}"
            )
        runs: Any = file.get("runs", {})
        for name in sorted(runs):
            group = runs[name]
            if "history" not in group.attrs:
                raise MelotteFileError(f"{path}: its run {name} is unfinished")
            if name in self._groups:
                raise MelotteFileError(f"{path}: its run {name} is in another of the files too")
            self._groups[name] = group
            try:
                self.runs.append(_run_of(name, group))
            except (KeyError, OSError, TypeError, ValueError) as error:
                raise MelotteFileError(f"{path}: its run {name} is damaged ({error})") from error


def _run_of(name: str, group: Any) -> LibraryRun:
    """A finished run, without its stars; ValueError when columns are not as long as it says."""
    offsets = group["offsets"][:]
    lengths = {len(group[column]) for column in (*COLUMNS, "kind")} if len(offsets) > 1 else set()
    if len(group["time"]) != len(offsets) - 1 or lengths - {int(offsets[-1])}:
        raise ValueError("its columns are not as long as its snapshots say")
    return LibraryRun(
        name,
        str(group.attrs["family"]),
        json.loads(group.attrs["model"]),
        tuple(group["time"][:].tolist()),
        tuple(np.diff(offsets).tolist()),
        json.loads(group.attrs["history"]),
    )


def _half_precision(snapshot: StarSnapshot, name: str, source: str) -> np.ndarray:
    """A column as it is kept; magnitudes may be +inf, nothing else that is no number."""
    values = getattr(snapshot, name)
    with np.errstate(over="ignore"):
        kept = values.astype(np.float16)
    lost = ~np.isfinite(kept) & ~(name.startswith("magnitude") & np.isposinf(values))
    if lost.any():
        star = int(np.argmax(lost))
        raise MelotteValueError(
            f"{source}: star {star + 1} of the snapshot has {name} {values[star]:g}; a library "
            f"keeps numbers up to {np.finfo(np.float16).max:,.0f}"
        )
    return kept


def is_library(path: str | Path) -> bool:
    """Whether an HDF5 file says that it is a library of clusters, with finished runs or not.

    Raises
    ------
    MelotteFileError
        When it cannot be opened.
    """
    try:
        with h5py.File(path) as file:
            return "melotte_cluster_library" in file.attrs
    except OSError as error:
        raise MelotteFileError(f"{path}: damaged HDF5 file ({error})") from error


def check_library_path(path: Path) -> None:
    """Refuse a place for a library where a file lies that is none.

    Raises
    ------
    MelotteFileError
    """
    try:
        free = not path.exists() or is_library(path)
    except MelotteFileError:
        free = False
    if not free:
        kind = "is a folder" if path.is_dir() else "exists and is no library of clusters"
        raise MelotteFileError(f"{path}: {kind}, and is not replaced; name another file to write")


@contextmanager
def shipped_library() -> Iterator[Path]:
    """The file of the small library that melotte ships: a few clusters of the family ``test``."""
    with as_file(files("melotte") / "data" / "small_clusters.h5") as path:
        yield path


def join_libraries(
    parts: Sequence[str | Path], output: str | Path, about: Mapping[str, Any]
) -> None:
    """Put the runs of libraries into one.

    Parameters
    ----------
    parts : sequence of path
    output : path
        Replaced when it exists.
    about : mapping
        JSON values for the attribute ``provenance``.
    """
    output = Path(output)
    partial = output.with_name(output.name + ".partial")
    with h5py.File(partial, "w") as file:
        file.attrs["melotte_cluster_library"] = LIBRARY_VERSION
        file.attrs["provenance"] = json.dumps(dict(about))
        runs = file.create_group("runs")
        for part in parts:
            with h5py.File(part) as source:
                given: Any = source["runs"]
                for name in given:
                    source.copy(given[name], runs, name)
    partial.replace(output)
