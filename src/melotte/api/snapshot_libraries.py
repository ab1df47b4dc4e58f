"""Libraries of clusters that users simulated themselves, to train from as from melotte's own."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte.api.sources import Paths, listed
from melotte.errors import MelotteFileError, MelotteValueError, did_you_mean

if TYPE_CHECKING:
    from melotte.engine.progress import Progress
    from melotte.io.star_snapshots import StarSnapshot
    from melotte.sky.cluster_libraries import RunWriter

READING = ("format", "time", "metallicity", "conversion", "singles", "binaries")
"""Options of :func:`melotte.io.snapshot_files.read_snapshots` that are words or numbers."""

LEAST_MASS = 1e-4
"""Msun; a snapshot without a heavier star is one of other units, or of none."""

_NUMBERS = ("time", "metallicity")
_UNIT = "unit."
_METALLICITY_ERROR = 1e-3


def library_of_snapshots(
    runs: Paths | Mapping[str, Iterable[str | Path | StarSnapshot]],
    output: str | Path | None = None,
    *,
    family: str = "training",
    column: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Path:
    """Write snapshots of users' own simulations as a library that ``globular`` trains from.

    V and B magnitudes are filled in where files have none
    (:func:`~melotte.sky.snapshot_photometry.with_photometry`); positions and velocities become
    radii and velocities along and across them about the centre of the positions, which readers put
    at the density centre (:meth:`~melotte.io.star_snapshots.StarSnapshot.spherical`).

    Parameters
    ----------
    runs : path, paths, or mapping of str to iterables of paths or StarSnapshot
        By name, the snapshots of each run. Of paths alone, ``RUN=FILE`` names the run; files
        without belong together by their folder, whose name is the run's. All snapshots of one
        simulation must be in one run: what is held out to judge a network are whole runs.
    output : path, optional
        ``clusters.h5`` by default; a library that exists is replaced.
    family : str
        Of all the runs: who trains and who judges follows from it.
    column : mapping of str to str, optional
        Of tables: melotte's names to theirs.
    options : mapping, optional
        Of the reader, for every file alike: those of :data:`READING` (``time`` in Myr,
        ``metallicity`` [Fe/H]), and ``unit.NAME`` for the unit of a table's quantity.
    progress : bool, optional
        A bar on a terminal, plain lines elsewhere, by default.

    Returns
    -------
    Path

    Raises
    ------
    MelotteFileError
        When a file cannot be read, or the library not be written, or another file lies there.
    MelotteValueError
        When an option is not allowed; when times (above 0 Myr), [Fe/H], masses, places or motions
        are unknown; when snapshots of a run are of one time, or of different [Fe/H].
    """
    import h5py

    from melotte import __version__
    from melotte.engine.progress import Progress
    from melotte.sky.cluster_libraries import check_library_path

    reading = {"column": column or {}, **_reading(options or {})}
    found = _runs(runs)
    path = Path("clusters.h5" if output is None else output)
    files = {name: [str(one) for one in items if _is_path(one)] for name, items in found.items()}
    if path.resolve() in {Path(one).resolve() for items in files.values() for one in items}:
        raise MelotteValueError(f"{path}: is one of the snapshots; name another file to write")
    check_library_path(path)
    about = {"melotte": __version__, "family": family, "snapshots": files}
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = h5py.File(partial, "w")
    except OSError as error:
        raise MelotteFileError(f"{path}: cannot be written ({error})") from error
    shown = Progress(sum(map(len, found.values())), "files and snapshots", style=progress)
    begun = 0
    try:
        with file:
            file.attrs["provenance"] = json.dumps(about)
            for name, items in found.items():
                _write_run(file, name, family, _snapshots(items, reading, shown, begun))
                begun += len(items)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        shown.close()
    return path


def _runs(given: Any) -> dict[str, list[Any]]:
    """Files and snapshots by the name of their run."""
    runs: dict[str, list[Any]] = {}
    if isinstance(given, Mapping):
        runs = {str(name): listed(items) for name, items in given.items()}
    else:
        folders: dict[str, Path] = {}
        for one in listed(given):
            name, path = _named(one)
            folder = path.resolve().parent
            if not name:
                name = folder.name
                if folders.setdefault(name, folder) != folder:
                    raise MelotteValueError(
                        f"{folders[name]} and {folder} have one name, and files of a folder are "
                        "one run; name the runs: RUN=FILE"
                    )
            runs.setdefault(name, []).append(path)
    if not runs:
        raise MelotteValueError("snapshots of which files? Name one or more")
    for name in runs:
        if not name.strip() or "/" in name or name.startswith("."):
            raise MelotteValueError(f"a run cannot be called {name!r}; name it: RUN=FILE")
    return runs


def _named(word: str | Path) -> tuple[str, Path]:
    """Run and file of ``RUN=FILE``; the run is empty where none is named."""
    name, equals, rest = str(word).partition("=")
    if equals and rest and "/" not in name and not Path(word).exists():
        return name.strip(), Path(rest.strip())
    return "", Path(word)


def _reading(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``read_snapshots`` from those of a user."""
    reading: dict[str, Any] = {"unit": {}}
    for name, value in options.items():
        if name.startswith(_UNIT) and name != _UNIT:
            reading["unit"][name.removeprefix(_UNIT)] = str(value)
        elif name not in READING:
            allowed = [*READING, "unit.NAME"]
            raise MelotteValueError(
                f"{name!r} is no option of snapshots{did_you_mean(name, allowed)}; allowed: "
                f"{', '.join(allowed)}"
            )
        else:
            reading[name] = _number(name, value) if name in _NUMBERS else str(value)
    return reading


def _number(name: str, value: Any) -> float:
    """A number, also as ``12e3``, which YAML takes for text."""
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise MelotteValueError(f"{name}={value}: must be a number")


def _is_path(item: Any) -> bool:
    return isinstance(item, str | Path)


def _snapshots(
    items: Iterable[Any], reading: Mapping[str, Any], shown: Progress, begun: int
) -> Iterator[StarSnapshot]:
    """Snapshots one by one; ``begun`` items of other runs were read before."""
    from melotte.io.snapshot_files import read_snapshots

    for number, item in enumerate(items, begun + 1):
        if _is_path(item):
            yield from read_snapshots(item, **reading)
        else:
            yield item
        shown.update(number)


def _write_run(file: Any, name: str, family: str, snapshots: Iterable[StarSnapshot]) -> None:
    """Write the snapshots of one run, no more than one in memory at a time."""
    from melotte.sky.cluster_libraries import RunWriter
    from melotte.sky.snapshot_photometry import with_photometry

    writer: RunWriter | None = None
    metallicity = math.nan
    assumed = False
    history: dict[str, list[float]] = {"time": [], "n_stars": [], "mass": []}
    for snapshot in snapshots:
        source = f"{snapshot.provenance.get('file', 'a snapshot')} (run {name})"
        _refuse_unknown(snapshot, source)
        if writer is None:
            metallicity = snapshot.metallicity
            model = {"metallicity": metallicity, "format": snapshot.provenance.get("format", "")}
            writer = RunWriter(file, name, family, model)
        if abs(snapshot.metallicity - metallicity) > _METALLICITY_ERROR:
            raise MelotteValueError(
                f"{source}: [Fe/H] is {snapshot.metallicity:g}, before it was {metallicity:g}; a "
                "run has one: name the runs, RUN=FILE"
            )
        if snapshot.time in history["time"]:
            raise MelotteValueError(
                f"{source}: another snapshot of this run is of {snapshot.time:g} Myr too; drop "
                "one, or name the runs, RUN=FILE, where these are several"
            )
        if "assumed" in snapshot.provenance and not assumed:
            assumed = True
            logging.getLogger(__name__).warning(
                "%s: types of stars are unknown; all count as main-sequence stars, none as a "
                "remnant, and so a network will learn it",
                source,
            )
        writer.add(with_photometry(snapshot))
        history["time"].append(snapshot.time)
        history["n_stars"].append(len(snapshot))
        history["mass"].append(snapshot.total_mass)
    if writer is None:
        raise MelotteValueError(f"run {name}: holds no snapshot")
    writer.close(history)


def _refuse_unknown(snapshot: StarSnapshot, source: str) -> None:
    """Refuse a snapshot whose truths are unknown."""
    if not 0 < snapshot.time < math.inf:
        raise MelotteValueError(
            f"{source}: the time is {_known(snapshot.time, ' Myr')}; an age above 0 Myr is needed: "
            "give time=MYR, or a table's metadata time_myr"
        )
    if not math.isfinite(snapshot.metallicity):
        raise MelotteValueError(
            f"{source}: [Fe/H] is {_known(snapshot.metallicity)}; give metallicity=[Fe/H], or a "
            "table's metadata metallicity"
        )
    if not snapshot.mass.max(initial=0.0) > LEAST_MASS:
        raise MelotteValueError(
            f"{source}: its {len(snapshot)} stars have no mass above {LEAST_MASS:g} Msun; masses "
            "are needed, in Msun where a table states no unit"
        )


def _known(value: float, unit: str = "") -> str:
    return "unknown" if math.isnan(value) else f"{value:g}{unit}"
