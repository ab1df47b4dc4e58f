"""The papers' figures from the image-system benchmark's mocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import image_systems_paper1 as paper1
import image_systems_paper2 as paper2
import numpy as np
import torch
from image_systems_methods import LIMITED, Reading, Truth
from image_systems_mocks import PLANTED, TestGround
from image_systems_stored import Boxes, binned

from melotte.parameters import Parameter, on_scale
from melotte.report import cluster_image_figures as figures
from melotte.report import style
from melotte.report.cluster_image_galleries import (
    Gallery,
    Picture,
    StochasticMap,
    gallery_figure,
    stochastic_figure,
)
from melotte.report.cluster_image_grids import binned_box_figure, binned_by_truth, node_figure
from melotte.report.cluster_image_populations import (
    Track,
    colour_figure,
    mass_function_figure,
)
from melotte.report.visibility_figures import class_visibility_figure, coverage_visibility_figure
from melotte.sky.light_tables import MassDepth, light_table
from melotte.systems.cluster_images.judging import bin_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAINT_DUST = 0.2
"""A_V below which clusters are shown beside the tracks, mag (Paper II, Fig. 3)."""
PICTURE_NUMBER = 7000


def save(found: Mapping[str, Figure], folder: Path) -> None:
    """Write figures as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in found.items():
        style.save(figure, folder / f"{name}.png")
    print(f"figures: {folder}: {', '.join(found)}")


def physical(values: Any, parameters: Sequence[Parameter]) -> np.ndarray:
    """From the axes' scale to physical units."""
    columns = [
        10 ** values[..., i] if p.scale == "log" else values[..., i]
        for i, p in enumerate(parameters)
    ]
    return np.stack(columns, -1)


def test_figures(
    truth: Truth,
    readings: Mapping[str, Reading],
    found: Mapping[str, Mapping[str, Any]],
    parameters: Sequence[Parameter],
    titles: Mapping[str, str],
    published: Mapping[str, float],
) -> dict[str, Figure]:
    """True against inferred, coverage, class and selection of the test mocks."""
    known = truth.is_cluster
    true = physical(truth.theta[known], parameters)
    shown = {key: one for key, one in readings.items() if not key.endswith(LIMITED)}
    points = {key: physical(one.point, parameters) for key, one in shown.items()}
    pairs = {titles[key]: (true, points[key][known]) for key in shown}
    drawn = {"true-inferred": figures.true_inferred_figure(pairs, parameters, published)}
    for level in ("coverage_68", "coverage_95"):
        curves = {
            titles[key]: {
                name: tuple(zip(*(c[:2] for c in row[level]["by_visibility"]), strict=True))
                for name, row in entry["coverage"].items()
            }
            for key, entry in found.items()
        }
        drawn[level.replace("_", "-")] = coverage_visibility_figure(
            bin_names(),
            curves,  # type: ignore[arg-type]
            float(level[-2:]) / 100,
        )
    for key, reading in shown.items():
        if not np.isfinite(reading.probability).any() or known.all():
            continue
        drawn[f"class-{key}"] = class_visibility_figure(
            reading.probability, reading.visibility, known, truth.visibility, titles[key]
        )
        drawn[f"selection-{key}"] = figures.selection_figure(
            points[key][known], parameters, reading.visibility[known], titles[key]
        )
        drawn[f"fields-{key}"] = figures.background_selection_figure(
            points[key][~known],
            parameters,
            reading.probability[~known],
            points[key][known],
            f"{titles[key]}: empty fields",
        )
    return drawn


def stochastic_figures(
    drawn: Mapping[str, list[tuple[str, list[list[StochasticMap]]]]],
    parameters: Sequence[Parameter],
) -> dict[str, Figure]:
    """Paper II, Fig. 9, for each method."""
    by_name = {p.name: p for p in parameters}
    axes_of = [tuple(figures.axis_name(by_name[name]) for name in pair) for pair in paper2.PAIRS]
    ranges = [tuple(figures.axis_range(by_name[name]) for name in pair) for pair in paper2.PAIRS]
    return {
        f"stochastic-{key}": stochastic_figure(rows, axes_of, ranges)  # type: ignore[arg-type]
        for key, rows in drawn.items()
    }


def bank_colours(ground: TestGround, n: int) -> dict[str, Figure]:
    """Colours of the bank, with SSP tracks (Paper II, Fig. 3)."""
    simulator = ground.simulator
    generator = ground.generator(PLANTED, PICTURE_NUMBER)
    set_up = torch.zeros(n, dtype=torch.long, device=ground.device)
    stars = simulator.scenes.draw_stars(set_up, generator)
    theta = dict(zip(ground.names, stars.theta.cpu().numpy().T, strict=True))
    dust = theta.get("extinction_v")
    columns = {figures.axis_name(p): on_scale(p, theta[p.name]) for p in ground.parameters[:3]}
    mass = theta["log_mass"]
    low, high = simulator.data.clusters.log_mass
    middles = [low + 0.1 * (high - low), (low + high) / 2, high - 0.1 * (high - low)]
    near = np.abs(mass[:, None] - middles).min(1) < 0.06 * (high - low)
    if dust is not None:
        near &= dust < FAINT_DUST
    name = "log mass, beside the tracks" + (f", $A_V$ < {FAINT_DUST}" if dust is not None else "")
    columns[name] = np.where(near, mass, np.nan)
    ssp = ssp_magnitudes(ground, 0.0)
    tracks = [Track(f"{m:.1f}", ssp - 2.5 * m) for m in middles]
    limit = simulator.data.clusters.faintest
    return {
        "bank-colours": colour_figure(
            stars.magnitude.cpu().numpy(),
            simulator.data.bands,
            columns,
            tracks,
            None if limit is None else limit[-1],
        )
    }


def ssp_magnitudes(ground: TestGround, log_mass: float) -> np.ndarray:
    """Apparent magnitudes (n_ages, n_bands) of a cluster's expected light, without dust."""
    light = ground.simulator.scenes.light
    camera = ground.simulator.set_ups.cameras[0]
    masses = MassDepth(light.imf, light.grid.device)
    rows = [
        light_table(light.grid, masses, light.bands, age, camera.metallicity).mean_luminosity()
        for age in light.log_age.tolist()
    ]
    expected = torch.stack(rows).cpu().numpy() * 10**log_mass / light.imf.mean_mass
    return -2.5 * np.log10(expected) + camera.distance_modulus


def _pictures(
    ground: TestGround,
    field: torch.Tensor,
    rows: Sequence[Mapping[str, float]],
    number: int,
) -> list[Picture]:
    """One picture of each cluster, in front of the same field."""
    values = {name: torch.tensor([row[name] for row in rows]) for name in (*ground.names,)}
    batch = ground.on_field(ground.planted(values, number), field, number)
    data = batch.observation.data
    camera = ground.simulator.set_ups.cameras[0]
    width = float(data["fwhm"].mean())  # type: ignore[union-attr]
    pictures = []
    for i, row in enumerate(rows):
        seen = math.hypot(row["half_number_radius"], width / 2) / camera.pixel_scale
        image = data["image"][i].cpu().numpy()  # type: ignore[index]
        pictures.append(Picture(image, float(batch.targets["visibility"][i]), seen))
    return pictures


def catalogue_figures(path: Path) -> dict[str, Figure]:
    """Masses of a catalogue (Paper II, Fig. 20): a result table with ages and masses."""
    from astropy.table import Table

    table = Table.read(path)
    columns = {}
    for name in ("log_mass", "log_age"):
        given = f"{name}_50" if f"{name}_50" in table.colnames else name
        if given not in table.colnames:
            raise SystemExit(f"{path}: has no column {name}_50 or {name}")
        columns[name] = np.ma.filled(np.ma.asarray(table[given], float), np.nan)
    chosen = np.ones(len(table), dtype=bool)
    if "class_probability" in table.colnames:
        chosen = np.asarray(table["class_probability"], float) > 0.5
    drawn = mass_function_figure(columns["log_mass"][chosen], columns["log_age"][chosen])
    return {"mass-function": drawn}


def gallery_figures(ground: TestGround) -> dict[str, Figure]:
    """Mocks over the ranges: masses and sizes by age, and ages by extinction where it varies."""
    clusters = ground.system.data.clusters
    reddened = clusters.reddened
    ages = (7.0, 8.0, 9.0, 9.5) if reddened else (7.0, 8.0, 8.5, 9.0)
    masses = (5.25, 4.75, 4.25, 3.75) if reddened else (3.6, 3.2, 2.8, 2.4)
    sizes = (-1.2, -0.9, -0.6, -0.45) if reddened else (-0.8, -0.5, -0.2, 0.1)
    field = ground.fields(1, PICTURE_NUMBER)

    def of_age(age: float, dust: float, number: int) -> Gallery:
        pictures = []
        for k, mass in enumerate(masses):
            rows = [
                {
                    "log_age": age,
                    "extinction_v": dust,
                    "log_mass": mass,
                    "half_number_radius": 10**size,
                }
                for size in sizes
            ]
            pictures.append(_pictures(ground, field, rows, number + k))
        title = f"log(age/yr) = {age:g}" + (f", $A_V$ = {dust:g}" if reddened else "")
        names = [f"{size:g}" for size in sizes]
        return Gallery(title, pictures, [f"{mass:g}" for mass in masses], names)

    across, down = r"log10($r_h$/arcsec)", r"log10(mass/M$_\odot$)"
    drawn = {}
    for dust in (0.0, 1.0) if reddened else (0.0,):
        panels = [
            of_age(age, dust, PICTURE_NUMBER + 100 * int(dust) + 10 * k)
            for k, age in enumerate(ages)
        ]
        drawn[f"mocks-av{dust:g}" if reddened else "mocks"] = gallery_figure(panels, down, across)
    if reddened:
        drawn["mocks-ages-extinctions"] = _ages_extinctions(ground)
    return drawn


def _ages_extinctions(ground: TestGround) -> Figure:
    """Paper II, Fig. 4: in front of a sparse and of a dense field."""
    candidates = ground.fields(40, PICTURE_NUMBER + 5)
    order = candidates.median(-1).values.median(-1).values.mean(1).argsort()
    panels = []
    ages = (7.0, 7.5, 8.0, 8.5, 9.0, 9.5)
    dusts = (0.0, 1.0, 2.0, 3.0)
    for number, (title, which) in enumerate(
        (("sparse field", order[2]), ("dense field", order[-3]))
    ):
        field = candidates[which : which + 1]
        pictures = [
            _pictures(
                ground,
                field,
                [
                    {
                        "log_age": age,
                        "extinction_v": dust,
                        "log_mass": 4.5,
                        "half_number_radius": 10**-0.7,
                    }
                    for age in ages
                ],
                PICTURE_NUMBER + 500 + 10 * number + k,
            )
            for k, dust in enumerate(dusts)
        ]
        names = [f"{age:g}" for age in ages]
        panels.append(Gallery(title, pictures, [f"{dust:g}" for dust in dusts], names))
    return gallery_figure(panels, "$A_V$ / mag", "log(age/yr)", n_across=1)


def bank_figures(
    truth: Truth,
    readings: Mapping[str, Reading],
    nodes: Mapping[str, paper1.Nodes],
    parameters: Sequence[Parameter],
    titles: Mapping[str, str],
    stored: Mapping[str, Boxes],
) -> dict[str, Figure]:
    """Paper I, Figs. 8-11; methods of an earlier run have boxes alone."""
    names = [figures.axis_name(p) for p in parameters]
    edges = [paper1.EDGES[p.name] for p in parameters]
    boxes = {
        # Beside boxes whose dots are not stored, dots would look like more outliers.
        key: binned(paper1.boxes(truth, one, parameters), parameters)
        if stored
        else binned_by_truth(truth.theta, one.point, edges)
        for key, one in readings.items()
    } | {key: binned(one, parameters) for key, one in stored.items() if key not in readings}
    shown = {titles[key]: boxes[key] for key in titles if key in boxes and LIMITED not in key}
    drawn = {"boxes": binned_box_figure(shown, names, edges)}
    by_name = {p.name: p for p in parameters}
    for number, (_, x, y) in paper1.PANELS.items():
        panels = {
            titles[key]: paper1.panels(one, number)
            for key, one in nodes.items()
            if not key.endswith(LIMITED)
        }
        if panels:
            drawn[f"nodes-{number}"] = node_figure(
                panels, figures.axis_name(by_name[x]), figures.axis_name(by_name[y])
            )
    return drawn
