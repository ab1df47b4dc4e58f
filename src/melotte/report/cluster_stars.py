"""What ``infer`` says of the stars of open clusters: their table, counts, and predictive checks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.engine.json_values import plain_json
from melotte.engine.object_streams import PREDICTIVE_STREAM, object_generator
from melotte.engine.progress import Progress
from melotte.engine.results import InferenceResult, ResultColumn
from melotte.errors import MelotteValueError
from melotte.report.result_page import POOR_FIT, STAR_COUNTS
from melotte.systems.open_cluster.predictive import REPLICATES, check_list
from melotte.systems.open_cluster.stars import CLASSES, ClassifiedStars, classify_stars
from melotte.systems.open_cluster.system import SIMULATION

if TYPE_CHECKING:
    from astropy.table import Table

    from melotte.engine.model_files import Model
    from melotte.systems.base import Observation

SYSTEM = "open-cluster"
COUNTED = (
    "stars on the sequence of single stars",
    "probable photometric binaries, mass ratio above 0.6",
    "blue-straggler candidates",
    "stars off all sequences",
)
"""What the columns ``STAR_COUNTS`` count, in the order of ``CLASSES``."""
_VALUES = (
    ("mass", "Msun", "initial mass of the single star nearest in the diagram"),
    ("mass_error", "Msun", "its standard deviation over the posterior"),
    ("primary_mass", "Msun", "initial mass of the brighter star, companions allowed"),
    ("primary_mass_error", "Msun", "its standard deviation"),
    ("mass_ratio", "", "M2/M1 if there is a companion; empty where a binary is improbable"),
    ("mass_ratio_error", "", "its standard deviation"),
    ("single_distance", "", "errors from the single-star sequence; > 0 bright and red of it"),
    ("binary_distance", "", "errors from the equal-mass binaries; > 0 bright and red of them"),
)


@dataclass(frozen=True)
class MemberList:
    """One cluster's list as it was read.

    Parameters
    ----------
    name : str
    row : int
        In the result.
    stars : array, shape (n_stars, 7), columns of the simulator
    release : str
    source_id : array of int64, shape (n_stars,), -1 where unknown
    """

    name: str
    row: int
    stars: NDArray[np.float64]
    release: str
    source_id: NDArray[np.int64]


def require_open_clusters(system: str, option: str, values_as: str | None) -> None:
    """Refuse what only the physical posterior of an open cluster gives.

    Raises
    ------
    MelotteValueError
    """
    if system != SYSTEM:
        raise MelotteValueError(f"{option} is for open clusters; this model measures {system}")
    if values_as not in (None, SIMULATION):
        raise MelotteValueError(
            f"{option} draws isochrones, which need the physical posterior: leave out "
            f"--as {values_as}"
        )


def member_lists(
    result: InferenceResult, observations: Sequence[Observation]
) -> Iterator[MemberList]:
    """The lists of clusters that were measured, in the order of the rows.

    Of the samples of a row as a catalogue would give them, some parameters may be NaN.
    """
    # A list that was measured as several catalogues would has several rows, in turn.
    rows: dict[str, deque[int]] = {}
    for row, name in enumerate(result.ids):
        rows.setdefault(name, deque()).append(row)
    for observation in observations:
        data: Any = observation.data
        for i, name in enumerate(observation.ids):
            row = rows[name].popleft()
            stars = data["stars"][i].numpy().astype(float)
            if result.samples is None or not np.isfinite(result.samples[row]).all(0).any():
                continue
            known = data["source_id"][i].numpy() if "source_id" in data else None
            yield MemberList(
                name,
                row,
                stars,
                "DR2" if data["release"][i] > 0.5 else "EDR3",
                np.full(len(stars), -1) if known is None else known,
            )


def shown_name(result: InferenceResult, members: MemberList) -> str:
    """A list's name, and whose values its row gives where that was asked."""
    asked = result.columns.get("values_as")
    return members.name if asked is None else f"{members.name} as {asked.values[members.row]}"


def is_physical(result: InferenceResult, row: int) -> bool:
    """Whether a row is the simulation's posterior, whose isochrones go with the stars."""
    asked = result.columns.get("values_as")
    return asked is None or str(asked.values[row]) == SIMULATION


def classified(model: Model, result: InferenceResult, members: MemberList) -> ClassifiedStars:
    """Classes and masses of one cluster's stars; see :func:`.classify_stars`."""
    if result.samples is None:
        raise MelotteValueError("the result has no samples; isochrones need some")
    system: Any = model.system
    grid = system.simulator(torch.device("cpu")).grid
    samples = result.samples[members.row].astype(float)
    return classify_stars(members.stars, samples, members.release, system.data, grid)


def all_classified(
    model: Model, result: InferenceResult, lists: Sequence[MemberList]
) -> list[ClassifiedStars]:
    """Classes and masses of the stars of every cluster, with a progress bar on a terminal."""
    bar = Progress(len(lists), "stars classified")
    found = []
    try:
        for members in lists:
            found.append(classified(model, result, members))
            bar.update(len(found))
    finally:
        bar.close()
    return found


def with_counts(
    result: InferenceResult, lists: Sequence[MemberList], found: Sequence[ClassifiedStars]
) -> InferenceResult:
    """The result with the columns ``STAR_COUNTS``; 0 where a row failed."""
    counts = np.zeros((len(result), len(CLASSES)), dtype=np.int64)
    for members, stars in zip(lists, found, strict=True):
        counts[members.row] = np.bincount(stars.kind, minlength=len(CLASSES))
    columns = {
        name: ResultColumn(counts[:, number], "", text)
        for number, (name, text) in enumerate(zip(STAR_COUNTS, COUNTED, strict=True))
    }
    return replace(result, columns={**result.columns, **columns})


def with_predictive(
    model: Model, result: InferenceResult, lists: Sequence[MemberList], seed: int
) -> InferenceResult:
    """The result with ``predictive_p`` and ``predictive_worst``; NaN and empty where it failed."""
    system: Any = model.system
    simulator = system.simulator(torch.device("cpu"))
    p = np.full(len(result), np.nan)
    worst = [""] * len(result)
    bar = Progress(len(lists), "fits checked")
    samples: Any = result.samples
    try:
        for number, members in enumerate(lists, start=1):
            generator = object_generator(seed, PREDICTIVE_STREAM, members.name)
            own = samples[members.row].astype(float)
            check = check_list(simulator, members.stars, own, members.release, generator)
            p[members.row], worst[members.row] = check.p, check.worst
            bar.update(number)
    finally:
        bar.close()
    columns = {
        "predictive_p": ResultColumn(
            p,
            "",
            f"share of {REPLICATES} lists replicated from the posterior that deviate as much; "
            "small: the fit does not look like the data",
        ),
        "predictive_worst": ResultColumn(
            np.array(worst, dtype=str), "", "statistic that deviates most from the replicates"
        ),
    }
    return replace(result, columns={**result.columns, **columns})


def star_table(
    result: InferenceResult, lists: Sequence[MemberList], found: Sequence[ClassifiedStars]
) -> Table:
    """One row a star, clusters in the order of the result and stars in that of the file.

    Parameters
    ----------
    result : InferenceResult
        Gives the provenance.
    lists : sequence of MemberList
    found : sequence of ClassifiedStars, one a list

    Returns
    -------
    astropy Table
        ``id``, ``source_id`` where any file gives one, photometry, membership, masses, mass
        ratio, distances from the sequences, a probability of each class, and the class.
    """
    from astropy.table import Column, Table

    table: Any = Table()

    def joined(parts: list[NDArray[Any]], kind: Any = float) -> NDArray[Any]:
        return np.concatenate(parts) if parts else np.array([], dtype=kind)

    def add(name: str, values: NDArray[Any], unit: str, description: str) -> None:
        table[name] = Column(values, unit=unit or None, description=description)

    names = [np.full(len(one.stars), one.name) for one in lists]
    add("id", joined(names, "U1"), "", "object")
    source_id = joined([one.source_id for one in lists], np.int64)
    if (source_id >= 0).any():
        add("source_id", source_id, "", "Gaia source identifier; -1 where unknown")
    add("g", joined([one.stars[:, 0] for one in lists]), "mag", "G")
    add("bp_rp", joined([one.stars[:, 1] for one in lists]), "mag", "BP - RP")
    add(
        "membership",
        joined([one.membership for one in found]),
        "",
        "membership probability as listed; 1 where the list has none",
    )
    for name, unit, description in _VALUES:
        add(name, joined([getattr(one, name) for one in found]), unit, description)
    for number, kind in enumerate(CLASSES):
        values = joined([one.probability[:, number] for one in found])
        add(f"p_{kind}", values, "", f"probability of the class {kind}")
    kinds = np.array(CLASSES)[joined([one.kind for one in found], np.int64)]
    add("class", kinds, "", "most probable class")
    table.meta["melotte"] = plain_json(
        {"provenance": dict(result.provenance)}, "provenance", nulls=True
    )
    return table


def summary_lines(lists: Sequence[MemberList], found: Sequence[ClassifiedStars]) -> Iterator[str]:
    """How many stars of each class there are, for a person."""
    kinds = np.concatenate([one.kind for one in found]) if found else np.array([], dtype=int)
    counts = np.bincount(kinds, minlength=len(CLASSES))
    text = ", ".join(
        f"{int(n)} {kind.replace('_', ' ')}" for kind, n in zip(CLASSES, counts, strict=True)
    )
    yield f"stars of {len(lists)} clusters: {text}"


def predictive_lines(result: InferenceResult) -> Iterator[str]:
    """How many fits do not look like their data."""
    p = np.asarray(result.columns["predictive_p"].values)
    poor = np.isfinite(p) & (p < POOR_FIT)
    yield f"fits that do not look like the data (p < {POOR_FIT}): {int(poor.sum())} of {len(p)}"
    worst, counts = np.unique(result.columns["predictive_worst"].values[poor], return_counts=True)
    for name, n in sorted(zip(worst, counts, strict=True), key=lambda pair: -pair[1]):
        yield f"  worst in {name}: {n}"
