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
from melotte.engine.result_maps import map_outputs
from melotte.engine.results import InferenceResult
from melotte.errors import MelotteFileError
from melotte.flags import decode_flags
from melotte.report.page import PageFigure, PageTable, Section, write_page
from melotte.report.result_page import interval_text
from melotte.systems.base import Batch, System

N_MOCKS = 300
N_SHOWN = 8
N_MAPPED, N_ROWS = 100, 5
"""Mocks of which there are maps, and how many of them are drawn."""
DEMO_STREAM_SEED = 20_000
DEMO_TILES, DEMO_TILE = 4, 192
"""Simulated fields that the demo's images are cut from, and their side, px."""
LEAST_MASS = 0.1
"""Msun: pixels of less are left out of what is said of the maps."""
_IMAGE_NAMES = {
    "log_age": "log age",
    "extinction_v": "A_V",
    "log_mass": "log mass",
    "half_number_radius": "size",
}


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
        # Presets of one system show the same kind of mocks: one gallery is enough. Images do not.
        kind = _kind(model)
        sections += demo_sections(name, model, output, seed, gallery=kind not in drawn)
        drawn.add(kind)
    lead = (
        "Mock observations with known truth, measured by the shipped models. "
        "Everything on this page was simulated and inferred just now."
    )
    provenance = {"melotte": __version__, "seed": seed, "models": ", ".join(shipped)}
    return write_page(output / "report.html", "melotte demo", lead, sections, provenance)


def _kind(model: Model) -> str:
    """What a gallery shows: the system, and of images the galaxy."""
    fields = model.preset.get("data", {}).get("fields", {})
    return f"{model.system.name} {fields.get('galaxy', '')}".strip()


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
    mocks: Any = demo_system(model)
    mapped = bool(map_outputs(model.system))
    n = min(N_MOCKS, N_MAPPED) if mapped else N_MOCKS
    batch = concatenate(draw_mocks(mocks, n, DEMO_STREAM_SEED + seed, 100))
    ids = tuple(f"mock-{i:03d}" for i in range(len(batch)))
    observation = replace(batch.observation, ids=ids)
    start = time.perf_counter()
    kept = mapped and gallery
    result = api.infer_observations(
        model, [observation], samples=400, seed=seed, progress=False, maps=kept
    )
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
        good = np.isfinite(middle) & np.isfinite(truth[:, i])
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


def image_gallery(model: Model, batch: Batch, result: InferenceResult) -> list[Section]:
    """Pictures of some mock clusters and empty places, and how well they are told apart."""
    from melotte.report.image_gallery import (
        GalleryImage,
        gallery_figure,
        presence_figure,
        roc_area,
    )

    truth = batch.theta.numpy()
    data: Any = batch.observation.data
    images, scale = data["image"].numpy(), data["pixel_scale"].numpy()
    known = np.isfinite(images).any((2, 3)).all(1)
    present = batch.targets["class"].numpy() > 0.5
    seen = batch.targets["visibility"].numpy()
    names = result.names
    chance, visibility = (
        np.asarray(result.columns[name].values, dtype=float)
        if name in result.columns
        else np.full(len(batch), np.nan)
        for name in ("class_probability", "visibility")
    )
    # A cluster that hardly stands out, or an empty place, comes last.
    chosen = _spread(np.where(present, seen, np.inf), known & present & (seen > 0.3))
    chosen = chosen[: N_SHOWN - 1] + np.flatnonzero(known & ~present).tolist()[:1]
    entries = []
    for i in chosen:
        found = {name: result.quantiles[i, 1, k] for k, name in enumerate(names)}
        real = {name: truth[i, k] for k, name in enumerate(names)}
        lines = [
            f"{text} {real[name]:.2f} → {found[name]:.2f}"
            for name, text in _IMAGE_NAMES.items()
            if name in found
        ]
        lines.append(f"visibility {seen[i]:.1f} → {visibility[i]:.1f}, P {chance[i]:.2f}")
        if not present[i]:
            lines = ["empty place", f"visibility 0 → {visibility[i]:.1f}, P {chance[i]:.2f}"]
        radius = found["half_number_radius"] / scale[i] if present[i] else np.nan
        entries.append(GalleryImage(images[i], "\n".join(lines), float(radius)))
    caption = (
        "Mock clusters in front of simulated fields, by visibility, in false colour; the circle "
        "has the half-number radius that was found. Titles: truth → posterior median; P is the "
        "probability that there is a cluster."
    )
    text = []
    area = roc_area(present, chance)
    if np.isfinite(area):
        bright = roc_area(present[~present | (seen > 2)], chance[~present | (seen > 2)])
        text = [
            f"{int(present.sum())} of the {len(batch)} mocks hold a cluster. A cluster gets a "
            f"higher probability than an empty place in {100 * area:.1f} % of all pairs, and in "
            f"{100 * bright:.1f} % where its visibility is above 2."
        ]
    figures = [PageFigure(gallery_figure(entries), caption, "mock clusters with what was found")]
    if np.isfinite(chance).any():
        drawn = presence_figure(present, chance, seen, visibility)
        about = "Probabilities of clusters and of empty places; visibilities of the clusters."
        figures.append(PageFigure(drawn, about, "class and visibility"))
    return [Section(f"{model.name}: clusters and empty places", text, None, figures)]


def mass_map_gallery(model: Model, batch: Batch, result: InferenceResult) -> list[Section]:
    """Maps of mass of some mock globular clusters, true and inferred, with their errors."""
    from melotte.report.mass_map_rows import inferred_maps, mass_map_rows, mock_rows

    true = batch.targets["log_mass_map"][:, 0].numpy()
    inferred, deviation = maps = inferred_maps(result, true.shape)
    measured: Any = np.isfinite(inferred).all((1, 2))
    shown = measured & (result.flags == 0)
    system: Any = model.system
    for name, (low, high) in system.served.items():
        if name in result.names:
            values = batch.theta[:, result.names.index(name)].numpy()
            shown &= (values >= low) & (values <= high)
    distances = batch.theta[:, result.names.index("distance")].numpy()
    entries = mock_rows(batch, result, maps, _spread(distances, shown, N_ROWS))
    caption = (
        "Mock globular clusters inside the ranges that the model serves, from near to far: light "
        "as it was observed (red: saturated), the map of mass behind it, the inferred median, and "
        "the standard deviation of each pixel's posterior. Left: truth → posterior median; masses "
        "and M/L are those of the field of view."
    )
    seen = (true > np.log10(LEAST_MASS)) & measured[:, None, None]
    error = np.abs(inferred - true)[seen]
    text = [
        f"The mocks are clusters of the small library, on which no model was trained. In pixels "
        f"of more than {LEAST_MASS:g} Msun the inferred mass is off by "
        f"{100 * (10 ** np.median(error) - 1):.0f} % in the median, and "
        f"{100 * np.mean(error < deviation[seen]):.0f} % are within a standard deviation."
    ]
    figure = PageFigure(mass_map_rows(entries), caption, "mock globular clusters in light and mass")
    return [Section(f"{model.name}: maps of mass", text, None, [figure])]


def demo_system(model: Model) -> System:
    """The system that the demo's mocks come from.

    Of images, one of few fields; of globular clusters, one of the small library.
    """
    from melotte.api.models import with_other_mocks
    from melotte.systems.cluster_images.system import ImageSystem
    from melotte.systems.globular_clusters.settings import SMALL_LIBRARY
    from melotte.systems.globular_clusters.system import ClusterMapSystem

    if isinstance(model.system, ClusterMapSystem):
        settings = {"library": SMALL_LIBRARY, "families": "{}"}
    elif isinstance(model.system, ImageSystem):
        # A few small tiles take seconds to simulate, the training's take many minutes.
        data = model.preset["data"]
        settings = {
            "fields.tiles": DEMO_TILES,
            "fields.held_out_tiles": DEMO_TILES,
            "fields.size": min(int(data["fields"].get("size", DEMO_TILE)), DEMO_TILE),
            "setups": min(int(data.get("setups", 1)), DEMO_TILES),
        }
    else:
        return model.system
    changed = with_other_mocks(model, [f"data.{name}={value}" for name, value in settings.items()])
    system: Any = changed.system
    return system.in_area("test")


def _spread(values: np.ndarray, allowed: np.ndarray, n: int | None = None) -> list[int]:
    """Numbers of up to ``n`` mocks, ``N_SHOWN`` by default, evenly in the order of their values."""
    ordered = [int(i) for i in np.argsort(values, kind="stable") if allowed[i]]
    chosen = np.linspace(0, len(ordered) - 1, min(n or N_SHOWN, len(ordered)))
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
    "cluster-images": image_gallery,
    "globular-clusters": mass_map_gallery,
}
