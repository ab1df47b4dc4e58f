"""The ``check`` command: what kind of file this is, and whether it is sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from melotte.errors import MelotteFileError, refuse_unused

if TYPE_CHECKING:
    from melotte.sky.cluster_libraries import LibraryRun


def check_file(
    path: Path,
    *,
    system: str | None = None,
    column: Mapping[str, str] | None = None,
    group_by: str | None = None,
    clusters: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Validate a model, a bank, a library of clusters, an input table or a file of images.

    Parameters
    ----------
    path : Path
        ``.safetensors`` is a model; FITS, HDF5 and npy files with images are cutouts, mosaics or
        images of globular clusters; other HDF5 a library of clusters or a bank, anything else a
        table: of members, or of images where ``system`` says so.
    system, column, group_by, clusters
        Of tables; see :func:`melotte.report.table_checks.check_table`. For images and tables of
        them, ``system`` is the preset that is to read them.
    options : mapping, optional
        Of images; see :func:`melotte.report.image_checks.check_images`.

    Returns
    -------
    str
        What was found, in one or a few lines.

    Raises
    ------
    MelotteFileError, MelotteValueError
        What is wrong, in one line.
    """
    if not path.is_file():
        what = "a folder; give a file in it" if path.is_dir() else "no such file"
        raise MelotteFileError(f"{path}: {what}")
    with path.open("rb") as stream:
        start = stream.read(8)
    if path.suffix == ".safetensors":
        return _check_model(path)
    from melotte.report.image_checks import check_images, holds_images, table_reader
    from melotte.sky.cluster_libraries import is_library

    of_members = {"--column": column, "--group-by": group_by, "--clusters": clusters}
    if start == b"\x89HDF\r\n\x1a\n" and is_library(path):
        refuse_unused(
            "libraries of clusters", {**of_members, "--system": system, "--option": options}
        )
        return _check_library(path)
    if holds_images(path):
        refuse_unused("images", of_members)
        return check_images(path, system=system, options=options)
    if start == b"\x89HDF\r\n\x1a\n":
        return _check_bank(path)
    from melotte.report.light_map_checks import check_light_maps
    from melotte.report.table_checks import SYSTEMS, check_table

    if system is not None and system not in SYSTEMS:
        reader = table_reader(system)
        refuse_unused("tables of images", of_members)
        return check_light_maps(path, system, reader.data, options or {})
    refuse_unused("tables of members", {"--option": options})
    return check_table(path, system=system, column=column, group_by=group_by, clusters=clusters)


def _check_model(path: Path) -> str:
    from melotte.api import load

    model = load(path, device="cpu")
    n_weights = sum(weight.numel() for weight in model.network.parameters())
    ranges = ", ".join(
        f"{one.name} {one.low:g} to {one.high:g} {one.unit}".rstrip() for one in model.parameters
    )
    return f"{path}: model of preset {model.name}, {n_weights} weights; {ranges}"


def _check_bank(path: Path) -> str:
    from melotte.engine.banks import BankReader, check_bank

    problems = check_bank(path)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise MelotteFileError(f"{path}: {problems[0]}{more}")
    reader = BankReader(path)
    return f"{path}: bank of {len(reader)} mocks, complete and consistent"


def _check_library(path: Path) -> str:
    from melotte.sky.cluster_libraries import ClusterLibrary

    with ClusterLibrary(path) as library:
        runs = library.runs
        if not len(library):
            raise MelotteFileError(f"{path}: a library of clusters, but it holds no snapshot")
        try:
            metallicities = [snapshot.metallicity for snapshot in library]
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise MelotteFileError(f"{path}: a damaged library of clusters: {error}") from error
        families = Counter(run.family for run in runs)
        ages = [1e-3 * time for run in runs for time in run.times]
        counts = [count for run in runs for count in run.counts]
        named = ", ".join(f"{name} ({many})" for name, many in sorted(families.items()))
        return (
            f"{path}: library of clusters, {len(runs)} runs of {len(library)} snapshots; families "
            f"(runs): {named}; ages {min(ages):.3g} to {max(ages):.3g} Gyr; [Fe/H] "
            f"{min(metallicities):.3g} to {max(metallicities):.3g}; {min(counts)} to "
            f"{max(counts)} stars a snapshot, {sum(counts)} in all{_energy_errors(runs)}"
        )


def _energy_errors(runs: Sequence[LibraryRun]) -> str:
    """How well energy was conserved in runs of melotte's own; nothing for those it only read."""
    largest = {
        run.name: max(map(abs, errors))
        for run in runs
        if (errors := run.history.get("energy_error"))
    }
    if not largest:
        return ""
    worst = max(largest, key=lambda name: largest[name])
    return (
        f"; largest energy error of a run {median(largest.values()):.1g} (median), "
        f"{largest[worst]:.1g} ({worst})"
    )
