"""The demo: mock observations of every system, measured with the shipped models, on one page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from melotte import __version__, api
from melotte.engine.mocks import concatenate, draw_mocks
from melotte.engine.model_files import Model
from melotte.engine.results import InferenceResult
from melotte.errors import MelotteFileError
from melotte.flags import decode_flags
from melotte.report.page import PageFigure, PageTable, Section, write_page
from melotte.report.result_page import interval_text
from melotte.systems.base import Batch

N_MOCKS = 300
N_SHOWN = 8
DEMO_STREAM_SEED = 20_000


def run_demo(output: Path, *, seed: int = 0) -> Path:
    """Make mocks of every system that has a shipped model, infer them, write one report.

    Parameters
    ----------
    output : Path
        Folder for the report, the result tables and the figures; made if missing.
    seed : int

    Returns
    -------
    Path
        The HTML report.

    Raises
    ------
    MelotteFileError
        When the folder cannot be made, or no model is shipped.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MelotteFileError(f"{output}: is not a folder and cannot be made one") from error
    shipped = api.shipped_models()
    if not shipped:
        raise MelotteFileError("no model is shipped with this installation")
    sections = []
    drawn: set[str] = set()
    for name in sorted(shipped):
        model = api.load(name, device="cpu")
        # Presets of one system show the same kind of mocks: one gallery is enough.
        gallery = model.system.name not in drawn
        sections += demo_sections(name, model, output, seed, gallery=gallery)
        drawn.add(model.system.name)
    lead = (
        "Mock observations with known truth, measured by the shipped models. "
        "Everything on this page was simulated and inferred just now."
    )
    provenance = {"melotte": __version__, "seed": seed, "models": ", ".join(shipped)}
    return write_page(output / "report.html", "melotte demo", lead, sections, provenance)


def demo_sections(
    name: str, model: Model, output: Path, seed: int, *, gallery: bool = True
) -> list[Section]:
    """Sections on one model: its mocks, what it made of them, how often it was right.

    Parameters
    ----------
    name : str
        Under which the model is shipped.
    model : Model
    output : Path
        Folder of the result table.
    seed : int
    gallery : bool
        Whether some of the mocks are drawn.
    """
    batch = concatenate(draw_mocks(model.system, N_MOCKS, DEMO_STREAM_SEED + seed, 100))
    ids = tuple(f"mock-{i:03d}" for i in range(len(batch)))
    observation = replace(batch.observation, ids=ids)
    start = time.perf_counter()
    result = api.infer_observations(model, [observation], samples=400, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    result.write(output / f"{name}.ecsv")
    truth = batch.theta.numpy()
    text = [
        f"{len(batch)} mock observations were measured in {seconds:.1f} s. The table "
        f"{name}.ecsv beside this page has a row for each."
    ]
    sections = [Section(f"{name}: agreement with the truth", text, accuracy(result, truth))]
    draw = _GALLERIES.get(model.system.name)
    if gallery and draw is not None:
        sections += draw(model, replace(batch, observation=observation), result)
    sections.append(some_rows(result, truth))
    return sections


def accuracy(result: InferenceResult, truth: np.ndarray) -> PageTable:
    """Bias, scatter and coverage of every parameter over the demo's mocks."""
    rows = []
    for i, parameter in enumerate(result.parameters):
        low, middle, high = (result.quantiles[:, k, i] for k in range(3))
        good = np.isfinite(middle)
        error = (middle - truth[:, i])[good]
        inside = ((truth[:, i] >= low) & (truth[:, i] <= high))[good]
        rows.append(
            [
                f"{parameter.name} {parameter.unit}".strip(),
                f"{np.median(error):+.3f}",
                f"{np.mean(np.abs(error)):.3f}",
                f"{inside.mean():.2f} ± {np.sqrt(0.68 * 0.32 / len(inside)):.2f}",
            ]
        )
    return PageTable(["parameter", "median error", "mean |error|", "truth in 68 % interval"], rows)


def cluster_gallery(model: Model, batch: Batch, result: InferenceResult) -> list[Section]:
    """Diagrams of some mock open clusters with the posterior's isochrones."""
    from melotte.report.cluster_diagrams import gallery

    samples: Any = result.samples
    truth = batch.theta.numpy()
    stars: Any = batch.observation.data["stars"]
    release: Any = batch.observation.data["release"]
    counts = stars.counts.numpy()
    allowed = (counts >= 60) & (release.numpy() < 0.5)
    entries = []
    for i in _spread(truth[:, 0], allowed):
        found = np.median(samples[i], axis=0)
        age, dust, distance, metals = (
            f"{real:.2f} → {middle:.2f}" for real, middle in zip(truth[i], found, strict=True)
        )
        title = f"log age {age}   A_V {dust}\nd {distance} kpc   [Fe/H] {metals}"
        entries.append((title, stars[i].numpy(), samples[i]))
    caption = (
        "Colour-magnitude diagrams of mock Gaia member lists (dots, shaded by membership "
        "probability). Red: the isochrone of the posterior median, and of posterior samples. "
        "Titles: truth → posterior median."
    )
    figure = PageFigure(gallery(entries), caption, "mock clusters with fitted isochrones")
    return [Section(f"{model.system.name}: isochrones of the posterior", figures=[figure])]


def phase_space_gallery(model: Model, batch: Batch, result: InferenceResult) -> list[Section]:
    """Some mock galaxy clusters in phase space; none where the model judges no galaxy."""
    from melotte.report import cluster_galaxies
    from melotte.report.galaxy_cluster_diagrams import phase_space_gallery as gallery

    if not cluster_galaxies.gives_memberships(model):
        return []
    truth = batch.theta.numpy()[:, 0]
    data: Any = batch.observation.data
    counts = data["galaxies"].counts.numpy()
    measured = {one.row: one for one in cluster_galaxies.galaxy_lists(result, [batch.observation])}
    allowed = (counts >= 30) & np.isin(np.arange(len(batch)), list(measured))
    shown = [measured[i] for i in _spread(truth, allowed)]
    entries = []
    for one in cluster_galaxies.with_memberships(model, shown):
        is_member = data["is_member"][one.row][:, 0].numpy() > 0.5
        chances: Any = one.membership
        title = (
            f"log $M_{{200c}}$ {truth[one.row]:.2f} → {result.quantiles[one.row, 1, 0]:.2f}\n"
            f"{len(chances)} galaxies, members {is_member.sum()} → {chances.sum():.0f}"
        )
        entries.append((title, one, is_member))
    caption = (
        "Mock clusters in projected phase space: dots are true members, crosses are true "
        "interlopers, both coloured by the probability of being a member that the network gives. "
        "The line is where a further galaxy would be a member with probability 0.5. "
        "Titles: truth → posterior median, and → sum of the probabilities."
    )
    figure = PageFigure(gallery(entries), caption, "mock galaxy clusters in phase space")
    return [Section(f"{model.system.name}: members and interlopers", figures=[figure])]


def _spread(values: np.ndarray, allowed: np.ndarray) -> list[int]:
    """Numbers of up to ``N_SHOWN`` mocks, evenly in the order of their values."""
    ordered = [int(i) for i in np.argsort(values, kind="stable") if allowed[i]]
    chosen = np.linspace(0, len(ordered) - 1, min(N_SHOWN, len(ordered)))
    return [ordered[int(k)] for k in chosen]


def some_rows(result: InferenceResult, truth: np.ndarray, n: int = 25) -> Section:
    """The first rows: truth and interval of every parameter."""
    rows = []
    for row in range(min(n, len(result))):
        cells = [result.ids[row]]
        for i in range(len(result.parameters)):
            cells += [f"{truth[row, i]:.2f}", interval_text(*result.quantiles[row, :, i])]
        cells.append(" ".join(decode_flags(int(result.flags[row]))))
        rows.append(cells)
    header = ["id"]
    for parameter in result.parameters:
        header += [f"true {parameter.name}", parameter.name]
    return Section("The first rows", [], PageTable([*header, "flags"], rows))


_GALLERIES: dict[str, Callable[[Model, Batch, InferenceResult], list[Section]]] = {
    "open-cluster": cluster_gallery,
    "galaxy-cluster": phase_space_gallery,
}
