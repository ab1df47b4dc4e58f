"""The ``infer`` command: read, measure, write the table, the samples and the figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from melotte import api
from melotte.engine.result_maps import check_maps_path
from melotte.engine.result_tables import check_result_path, check_samples_path, write_table
from melotte.engine.results import REMARKS
from melotte.errors import MelotteError, MelotteFileError, MelotteValueError
from melotte.flags import Flag
from melotte.io.literature_tables import id_column, read_literature
from melotte.report.image_products import (
    images_of,
    with_image_products,
    write_mass_function,
)
from melotte.report.inference_outputs import check_named_files, check_output_files
from melotte.report.literature_comparison import comparison_lines, with_offset, write_comparison
from melotte.report.object_figures import Drawing, figure_lines, with_named, write_figures
from melotte.report.stored_figures import with_figure_folder
from melotte.systems.base import Observation, RowError

if TYPE_CHECKING:
    from melotte.engine.model_files import Model
    from melotte.engine.results import InferenceResult
    from melotte.io.table_files import TableFile
    from melotte.report.cluster_galaxies import ClusterGalaxies

FIGURE_SAMPLES = 500
MOST_REMARKS = 10
OWN_OPTIONS = {
    "values_as": "--as",
    "source_id": "--stars",
    "identity": "--galaxies",
    "positions": "--mosaic and --positions",
    "deredden": "--deredden",
}
"""Options of a reader that options of the command set, with more that belongs to them."""


@dataclass(frozen=True)
class InferenceRequest:
    """All that the ``infer`` command was asked; names as in its options."""

    model: str
    inputs: tuple[Path, ...]
    output: Path
    mosaic: bool = False
    positions: Path | None = None
    deredden: str | None = None
    background_draws: int = 0
    samples: int = 0
    samples_file: Path | None = None
    group_by: str | None = None
    column: Mapping[str, str] = field(default_factory=dict)
    release: str | None = None
    min_probability: float | None = None
    values_as: str | None = None
    clusters: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    prior: Path | None = None
    compare: Path | None = None
    compare_extinction_offset: float = 0.0
    figures: Path | None = None
    figures_of: tuple[str, ...] = ()
    stars: Path | None = None
    galaxies: Path | None = None
    predictive: bool = False
    known: Mapping[str, float] = field(default_factory=dict)
    maps: Path | None = None
    seed: int = 0
    device: str = "auto"
    json_rows: bool = False


def run_inference(request: InferenceRequest, echo: Callable[[str], None]) -> InferenceResult:
    """Measure every object of some tables and write what was asked for.

    Everything that can be wrong is checked before anything is written.

    Parameters
    ----------
    request : InferenceRequest
    echo : callable
        Takes lines for a person.

    Returns
    -------
    InferenceResult

    Raises
    ------
    MelotteValueError, MelotteFileError
    """
    check_output_files(request)
    check_result_path(request.output)
    if request.samples_file is not None:
        check_samples_path(request.samples_file)
    if (request.samples_file is None) != (request.samples == 0):
        raise MelotteValueError(
            "--samples N and --samples-file FILE go together: how many, and where to"
        )
    _check_folder(request.figures)
    for table in (request.stars, request.galaxies):
        if table is not None:
            check_result_path(table)
    _check_reader_options(request)
    model = api.load(request.model, request.device)
    _check_system_options(model, request)
    check_named_files(model, request)
    if request.maps is not None:
        check_maps_path(request.maps, model.system)
    # What can be wrong with a table is said before the work, not behind it.
    literature = None if request.compare is None else _literature(model, request.compare)
    drawn: list[Observation] = []
    products = (request.stars, request.galaxies, request.predictive, request.background_draws)
    remembers = any((request.figures, *products))
    n_kept = max(request.samples, FIGURE_SAMPLES if remembers else 0)
    entries: Iterable[Observation | RowError] = _entries(model, request)
    if request.figures_of:
        entries = with_named(entries, request.figures_of)
    result = api.infer_observations(
        model,
        _remembered(entries, drawn if remembers else None),
        samples=n_kept,
        seed=request.seed,
        prior=request.prior,
        inputs=request.inputs,
        known=request.known,
        maps=request.maps is not None,
    )
    joined, trouble = None, None
    if literature is not None:
        try:
            joined = api.compare(result.table(), literature)
            joined = with_offset(joined, "extinction_v", request.compare_extinction_offset)
            result = _with_literature(model, result, literature)
        except MelotteError as error:
            # The results stand, and are written before this is raised.
            joined, literature, trouble = None, None, error
    lines: list[str] = []
    if images_of(model) is not None:
        result, lines = with_image_products(model, result, drawn, request)
    elif request.stars is not None or request.predictive:
        result, lines = _with_star_products(model, result, drawn, request)
    galaxies = None
    if request.galaxies is not None:
        result, galaxies, lines = _with_galaxy_products(model, result, drawn, request.galaxies)
    if request.figures is not None:
        compared = None if joined is None else request.compare
        result = with_figure_folder(result, request.figures, request.output, compared)
    result.write(request.output)
    if request.samples_file is not None and result.samples is not None:
        asked = replace(result, samples=result.samples[:, : request.samples])
        asked.write_samples(request.samples_file)
    if request.maps is not None:
        lines.append(maps_written(result, request.maps))
    for line in summary_lines(result, request.output):
        echo(line)
    for line in lines:
        echo(line)
    if joined is not None:
        for line in comparison_lines(joined, str(request.compare)):
            echo(line)
    if request.figures is not None:
        drawing = Drawing(model, result, drawn, literature, galaxies, request.figures_of)
        n = write_figures(drawing, request.figures)
        write_mass_function(model, result, request.figures)
        if joined is not None and images_of(model) is not None:
            write_comparison(result, joined, request.figures)
        from melotte.report.map_comparison import write_map_figures

        write_map_figures(model, result, drawn, literature, request.figures)
        for line in figure_lines(drawing, request.figures, n):
            echo(line)
    if request.json_rows:
        for line in json_lines(result):
            echo(line)
    if trouble is not None:
        raise trouble
    return result


def summary_lines(result: InferenceResult, output: Path) -> Iterator[str]:
    """What a person wants to know first: how many, how sure, what was flagged."""
    flags = result.flags
    yield f"measured {result.measured.sum()} of {len(result)} objects: {output}"
    for flag in Flag:
        n = int(((flags & flag) > 0).sum())
        if n:
            yield f"  {flag.name}: {n}"
    told = {name: [reason] for name, reason in result.reasons.items()}
    for name, remarks in result.header.get(REMARKS, {}).items():
        told.setdefault(name, []).extend(remarks)
    for name, remarks in list(told.items())[:MOST_REMARKS]:
        for remark in remarks:
            yield f"  {name}: {remark}"
    if len(told) > MOST_REMARKS:
        yield f"  and {len(told) - MOST_REMARKS} more, in the table's metadata"
    dropped = result.header.get("n_dropped", {})
    reasons: dict[str, int] = {}
    for counts in dropped.values():
        for reason, count in counts.items():
            reasons[reason] = reasons.get(reason, 0) + int(count)
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        yield f"  rows dropped, {reason}: {count}"


def maps_written(result: InferenceResult, path: Path) -> str:
    """Write the maps of a result; a line for a person."""
    n = sum(bool(layers) for layers in result.maps)
    if not n:
        return f"  no maps: no object could be measured, {path} is not written"
    names = dict.fromkeys(layer.name for layers in result.maps for layer in layers)
    return f"  maps of {n} objects ({', '.join(names)}): {result.write_maps(path)}"


def json_lines(result: InferenceResult) -> Iterator[str]:
    """One JSON object a row, with null for what is not finite."""
    table: Any = result.table()
    for row in table:
        entry = {}
        for name in table.colnames:
            value = row[name].item() if hasattr(row[name], "item") else row[name]
            bad = isinstance(value, float) and not np.isfinite(value)
            entry[name] = None if bad else value
        yield json.dumps(entry, default=str)


def _check_reader_options(request: InferenceRequest) -> None:
    """Refuse options of the reader that have one of their own, and a prior for a catalogue."""
    from melotte.engine.inference import refuse_prior

    for name, own in OWN_OPTIONS.items():
        if name in request.options:
            raise MelotteValueError(f"--option {name}: give {own} in its place")
    for name in request.known:
        if name in request.options:
            raise MelotteValueError(f"--known {name} and --option {name}: give one of the two")
    if request.prior is not None:
        refuse_prior(request.values_as)
    if request.mosaic != (request.positions is not None):
        raise MelotteValueError(
            "--mosaic and --positions TABLE go together: images to cut from, and where"
        )
    if request.deredden is not None and not request.mosaic:
        raise MelotteValueError(
            "--deredden COLUMN is of the table of positions; give --mosaic and --positions, or of "
            "cutouts --option deredden_v=A_V"
        )
    if request.figures_of and request.figures is None:
        raise MelotteValueError("--figures-of ID goes with --figures FOLDER")
    if request.background_draws == 1:
        raise MelotteValueError("--background-draws 1: a scatter needs 2 or more, or 0 for none")
    if request.compare_extinction_offset and request.compare is None:
        raise MelotteValueError("--compare-extinction-offset goes with --compare TABLE")


def _check_system_options(model: Model, request: InferenceRequest) -> None:
    """Refuse options that this model's system does not know."""
    from melotte.report.cluster_galaxies import require_memberships
    from melotte.report.cluster_stars import require_open_clusters

    if request.galaxies is not None:
        require_memberships(model, "--galaxies")
    images = images_of(model) is not None
    if request.values_as is not None and not hasattr(model.system, "sources"):
        raise MelotteValueError(
            "--as is for models that know how catalogues of open clusters differ, not for "
            f"{model.name}"
        )
    for option, asked in (
        ("--mosaic", request.mosaic),
        ("--background-draws", request.background_draws),
    ):
        if asked and not images:
            raise MelotteValueError(
                f"{option} is for images of clusters; this model measures {model.system.name}"
            )
    for option, asked in (("--stars", request.stars), ("--predictive", request.predictive)):
        if asked and not (images and option == "--predictive"):
            require_open_clusters(model.system.name, option, request.values_as)


def _with_star_products(
    model: Model,
    result: InferenceResult,
    observations: list[Observation],
    request: InferenceRequest,
) -> tuple[InferenceResult, list[str]]:
    """The result with columns of the stars and of the check; lines for a person.

    The table of stars is written too, where one was asked for.
    """
    from melotte.report import cluster_stars

    lists = list(cluster_stars.member_lists(result, observations))
    lines: list[str] = []
    if request.predictive:
        result = cluster_stars.with_predictive(model, result, lists, request.seed)
        lines.extend(cluster_stars.predictive_lines(result))
    if request.stars is not None:
        found = cluster_stars.all_classified(model, result, lists)
        write_table(cluster_stars.star_table(result, lists, found), request.stars)
        result = cluster_stars.with_counts(result, lists, found)
        lines.extend(cluster_stars.summary_lines(lists, found))
        lines.append(f"  table of stars: {request.stars}")
    return result, lines


def _with_galaxy_products(
    model: Model,
    result: InferenceResult,
    observations: list[Observation],
    path: Path,
) -> tuple[InferenceResult, list[ClusterGalaxies], list[str]]:
    """The result with ``n_members``, the galaxies and lines for a person; writes their table."""
    from melotte.report import cluster_galaxies
    from melotte.report.galaxy_page import GALAXY_TABLE

    clusters = list(cluster_galaxies.galaxy_lists(result, observations))
    clusters = cluster_galaxies.with_memberships(model, clusters)
    write_table(cluster_galaxies.galaxy_table(result, clusters), path)
    lines = [*cluster_galaxies.summary_lines(clusters), f"  table of galaxies: {path}"]
    result = cluster_galaxies.with_n_members(result, clusters)
    # The report looks for the table beside the result.
    header = {**result.header, GALAXY_TABLE: path.name}
    return replace(result, header=header), clusters, lines


def _literature(model: Model, path: Path) -> TableFile:
    """The table that results are compared with, in the units of the model's parameters."""
    units = {one.name: one.unit for one in model.system.parameters}
    table = read_literature(path, model.system.name, units)
    id_column(table)
    return table


def _with_literature(model: Model, result: InferenceResult, table: TableFile) -> InferenceResult:
    """The result of galaxy clusters with the literature values that the report draws."""
    from melotte.report.cluster_galaxies import SYSTEMS
    from melotte.report.galaxy_page import LITERATURE, listed_literature
    from melotte.report.literature import literature_values

    if model.system.name not in SYSTEMS:
        return result
    known = literature_values(table, result.names[0])
    own = {
        name: known[api.plain_name(name)] for name in result.ids if api.plain_name(name) in known
    }
    return replace(result, header={**result.header, LITERATURE: listed_literature(own)})


def _entries(model: Model, request: InferenceRequest) -> Iterator[Observation | RowError]:
    return model.system.read(request.inputs, _reader_options(request))


def _reader_options(request: InferenceRequest) -> dict[str, Any]:
    options: dict[str, Any] = {
        "column": dict(request.column),
        "group_by": request.group_by,
        "release": request.release,
        "min_probability": request.min_probability,
    }
    if request.values_as is not None:
        options["values_as"] = request.values_as
    if request.stars is not None:
        options["source_id"] = True
    if request.galaxies is not None:
        options["identity"] = True
    for name in ("clusters", "positions", "deredden"):
        if getattr(request, name) is not None:
            options[name] = getattr(request, name)
    return options | dict(request.options)


def _remembered(
    entries: Iterable[Observation | RowError], memory: list[Observation] | None
) -> Iterator[Observation | RowError]:
    for entry in entries:
        if memory is not None and isinstance(entry, Observation):
            memory.append(entry)
        yield entry


def _check_folder(folder: Path | None) -> None:
    if folder is not None and folder.exists() and not folder.is_dir():
        raise MelotteFileError(f"{folder}: is a file; --figures needs a folder")
