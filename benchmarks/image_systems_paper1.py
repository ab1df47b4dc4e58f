"""Paper I: its bank of 10,000 clusters, nodes of 200 equal ones, and robustness.

References
----------
Bialopetravičius, Narbutis & Vansevičius 2019, A&A 621, A103, Sect. 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from image_systems_methods import Method, Reading, Truth, read_all
from image_systems_mocks import BATCH, PLANTED, TestGround, sizes
from numpy.typing import NDArray

from melotte.parameters import Parameter
from melotte.report.cluster_image_grids import (
    NodeScatter,
    binned_by_truth,
    node_scatter,
    separable,
)
from melotte.systems.base import Batch

Array = NDArray[np.floating[Any]]

AGES, MASSES = (6.75, 9.25), (2.25, 3.75)
RADII = (0.16, 0.25, 0.4, 0.63, 1.0)
EDGES = {
    "log_age": np.linspace(6.75, 9.25, 6),
    "log_mass": np.linspace(2.25, 3.75, 6),
    "half_number_radius": np.linspace(-0.9, 0.1, 6),
}
"""Bins of 0.5 and 0.3 dex; one for each of the five sizes."""
NODES = {
    "log_age": (7.0, 7.5, 8.0, 8.5, 9.0),
    "log_mass": (2.4, 2.7, 3.0, 3.3, 3.6),
    "half_number_radius": (-0.8, -0.6, -0.4, -0.2, 0.0),
}
"""Truths of the grids, sizes as log10(arcsec). The figures show every second one as a panel."""
PANELS = {
    "9": ("log_age", "log_mass", "half_number_radius"),
    "10": ("log_mass", "log_age", "half_number_radius"),
    "11": ("half_number_radius", "log_age", "log_mass"),
}
"""Figures: what changes from panel to panel, and the axes."""
PUBLISHED = {
    "std": {"log_age": "~0.1, from ~0.15 (lowest masses) to ~0.05 (highest)"},
    "groups": "lowest masses: 5 ages, 3 sizes; high masses: 5 sizes",
    "seconds_per_image_gtx1080": 0.004,
}
"""Sect. 5: what the paper gives in numbers."""
WRITTEN = {"log_age": "log age", "log_mass": "log mass", "half_number_radius": "log size"}
NODE_STREAM = 1000


def bank(ground: TestGround, n: int) -> Iterator[Batch]:
    """Clusters of Sect. 5.1: ages on the isochrones' grid, even in log mass, five sizes."""
    step = ground.system.data.clusters.age_step
    n_ages = round((AGES[1] - AGES[0]) / step) + 1
    radii = torch.tensor(RADII)
    for number, size in enumerate(sizes(n)):
        generator = ground.generator(PLANTED, 10_000 + number)
        u = torch.rand(3, size, generator=generator, device=ground.device).cpu()
        values = {
            "log_age": AGES[0] + step * (u[0] * n_ages).long().clamp(max=n_ages - 1),
            "log_mass": MASSES[0] + (MASSES[1] - MASSES[0]) * u[1],
            "half_number_radius": radii[(u[2] * len(RADII)).long().clamp(max=len(RADII) - 1)],
        }
        yield ground.record(ground.planted(values, number), number)


def boxes(
    truth: Truth, reading: Reading, parameters: Sequence[Parameter]
) -> dict[str, dict[str, Any]]:
    """Box statistics of every error against every truth (Fig. 8)."""
    names = [parameter.name for parameter in parameters]
    found = binned_by_truth(truth.theta, reading.point, [EDGES[name] for name in names])
    return {
        wrong: {
            against: {
                "centres": one.centres,
                "n": one.counts,
                "quantiles_2_25_50_75_98": one.quantiles,
                "std": one.std,
            }
            for against, one in zip(names, row, strict=True)
        }
        for wrong, row in zip(names, found, strict=True)
    }


Nodes = dict[tuple[float, float, float], Array]


def node_estimates(
    ground: TestGround, methods: Sequence[Method], per_node: int, step: int = 1
) -> dict[str, Nodes]:
    """Estimates of equal clusters that differ by stars, places and fields alone (Sect. 5.2).

    Parameters
    ----------
    ground : TestGround
    methods : sequence of Method
    per_node : int
        Clusters of each node.
    step : int
        Every so many nodes along each axis; the panels need 1 or 2.

    Returns
    -------
    dict of method to dict of (age, mass, log size) to array (per_node, 3)
    """
    grid = torch.tensor(list(product(*(values[::step] for values in NODES.values()))))
    rows = grid.repeat_interleave(per_node, 0)

    def batches() -> Iterator[Batch]:
        for number, part in enumerate(rows.split(BATCH)):
            values = dict(zip(NODES, part.unbind(1), strict=True))
            values["half_number_radius"] = 10 ** values["half_number_radius"]
            scenes = ground.planted(values, NODE_STREAM + number)
            yield ground.record(scenes, NODE_STREAM + number)

    _, readings = read_all(methods, batches(), ground.seed, keep_samples=False)
    order = [[p.name for p in methods[0].parameters].index(name) for name in NODES]
    found: dict[str, Nodes] = {}
    for key, reading in readings.items():
        parts = reading.point[:, order].reshape(len(grid), per_node, 3)
        names = [tuple(round(x, 3) for x in node) for node in grid.double().tolist()]
        found[key] = dict(zip(names, parts, strict=True))
    return found


def panels(nodes: Nodes, figure: str) -> dict[str, list[NodeScatter]]:
    """Scatters at the nodes of one of the figures, by panel."""
    names = list(NODES)
    fixed, x, y = (names.index(name) for name in PANELS[figure])
    found: dict[str, list[NodeScatter]] = {}
    for value in NODES[names[fixed]][::2]:
        title = f"{WRITTEN[names[fixed]]} {value:g}"
        found[title] = [
            node_scatter([key[x], key[y]], estimates[:, [x, y]])
            for key, estimates in nodes.items()
            if abs(key[fixed] - value) < 1e-6
        ]
    return found


def groups(nodes: Nodes) -> dict[str, Any]:
    """Ages and sizes that can be told apart at each mass (Sect. 5.3).

    Ages are counted among nodes of one mass and size whose ellipses of age and mass do not
    overlap (Fig. 11), sizes among nodes of one age and mass with ellipses of mass and size
    (Fig. 9).
    """
    names = list(NODES)
    found: dict[str, Any] = {}
    for what, other, plane in (
        ("log_age", "half_number_radius", ("log_age", "log_mass")),
        ("half_number_radius", "log_age", ("log_mass", "half_number_radius")),
    ):
        i, j = (names.index(name) for name in plane)
        rows: dict[str, Any] = {}
        for mass in sorted({key[1] for key in nodes}):
            counts = []
            for value in sorted({key[names.index(other)] for key in nodes}):
                line = [
                    node_scatter([key[i], key[j]], estimates[:, [i, j]])
                    for key, estimates in nodes.items()
                    if key[1] == mass and key[names.index(other)] == value
                ]
                counts.append(separable(line))
            rows[f"{mass:g}"] = {"mean": float(np.mean(counts)), "each": counts}
        found[what] = rows
    return found


def node_table(nodes: Nodes) -> list[dict[str, Any]]:
    """Bias and scatter of each node, for the JSON."""
    names = list(NODES)
    rows = []
    for key, estimates in nodes.items():
        row: dict[str, Any] = dict(zip(names, key, strict=True))
        row["bias"] = np.nanmean(estimates, 0) - np.array(key)
        row["std"] = np.nanstd(estimates, 0)
        rows.append(row)
    return rows
