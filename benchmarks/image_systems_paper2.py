"""Paper II: its test mocks, and clusters that differ by chance alone.

References
----------
Bialopetravičius & Narbutis 2020, AJ 160, 264, Sects. 3.3 and 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, product
from typing import Any

import numpy as np
import torch
from image_systems_measures import class_rows
from image_systems_methods import LIMITED, Method, Reading, Truth, posterior_maps, read_all
from image_systems_mocks import TestGround
from numpy.typing import NDArray

from melotte.parameters import on_scale
from melotte.report.cluster_image_galleries import StochasticMap
from melotte.systems.base import Batch

Array = NDArray[np.floating[Any]]

GOALS = {"log_age": 0.7, "extinction_v": 1.0, "log_mass": 0.3, "half_number_radius": 0.15}
"""What is wanted of ours on the simulated fields."""
PUBLISHED_SHAPES = {"bimodal": "< 0.01", "extended": "~ 0.2"}
PUBLISHED_SCALED = "~ 1.1 (spread of each parameter, fields' flux scaled by 20 % in training)"
CALIBRATION = 0.2
"""Scatter of the fields' flux in each band (Fig. 11)."""
LOG_RADIUS = -0.6
AGES, DUST, MASSES = (7.5, 8.5, 9.5), (0.5, 1.5, 2.5), (4.0, 4.5, 5.0)
PAIRS = (("log_age", "extinction_v"), ("log_age", "log_mass"))
BINS = {"log_age": 20, "extinction_v": 10, "log_mass": 14}
PLANTED_NUMBER = 3000


def mocks(ground: TestGround, n: int) -> Iterator[Batch]:
    """As many empty fields as clusters (Fig. 12)."""
    return chain(ground.clusters(n), ground.empty(n))


def same_noise_classes(
    ground: TestGround,
    methods: Sequence[Method],
    truth: Truth,
    readings: dict[str, Reading],
    n: int,
) -> dict[str, Any]:
    """Classes where empty fields have the noise that clusters are recorded with.

    The paper adds photon noise of the background's median to clusters, not to empty fields. A
    network can learn that instead of clusters; this tells.
    """
    truth_empty, empty = read_all(
        methods, ground.empty(n, noisy=True), ground.seed, keep_samples=False
    )
    known = truth.is_cluster

    def both(one: Array, other: Array) -> Array:
        return np.concatenate([one[known], other])

    joined = Truth(
        *(
            both(getattr(truth, name), getattr(truth_empty, name))
            for name in ("theta", "is_cluster", "visibility", "magnitude")
        )  # type: ignore[arg-type]
    )
    found: dict[str, Any] = {}
    for key, reading in readings.items():
        if key.endswith(LIMITED):
            continue
        blank = np.zeros((len(joined.visibility), 0))
        one = Reading(
            blank,
            blank,
            blank,
            blank,
            both(reading.probability, empty[key].probability),
            both(reading.visibility, empty[key].visibility),
        )
        found[key] = {"class": class_rows(joined, one), "visibility": None}
    return found


def cases() -> list[list[tuple[float, float, float]]]:
    """Ages, A_V and masses of the two columns of Fig. 9."""
    dusty = [(age, dust, 5.0) for age, dust in product(AGES, DUST)]
    massive = [(age, 0.5, mass) for age, mass in product(AGES, MASSES)]
    return [dusty, massive]


def stochastic(
    ground: TestGround, methods: Sequence[Method], n: int
) -> tuple[dict[str, list[tuple[str, list[list[StochasticMap]]]]], dict[str, Any]]:
    """What is inferred of clusters of one truth: other stars, or other fields (Fig. 9).

    Parameters
    ----------
    ground : TestGround
    methods : sequence of Method
    n : int
        Draws of each case.

    Returns
    -------
    drawn : dict of method to rows for :func:`stochastic_figure`
    scatter : dict of method to kind to list of cases
        ``std`` of the estimates on the axes' scale, and the median ``visibility``.
    """
    drawn: dict[str, Any] = {}
    scatter: dict[str, Any] = {}
    field = ground.fields(1, PLANTED_NUMBER)
    fields = ground.fields(n, PLANTED_NUMBER + 1)
    kinds = (("stars differ, one field", "stars"), ("fields differ, one cluster", "fields"))
    for title, kind in kinds:
        for column, truths in enumerate(cases()):

            def batches(
                kind: str = kind, column: int = column, truths: Any = truths
            ) -> Iterator[Batch]:
                for number, (age, dust, mass) in enumerate(truths):
                    key = PLANTED_NUMBER + 100 * column + number
                    count = n if kind == "stars" else 1
                    scenes = ground.planted(_same(age, dust, mass, count), key)
                    if kind == "stars":
                        yield ground.on_field(scenes, field, key)
                        continue
                    many = scenes.__class__(
                        *(getattr(scenes, name).repeat_interleave(n, 0) for name in vars(scenes))
                    )
                    yield ground.on_field(many, fields, key + 50)

            truth, readings = read_all(methods, batches(), ground.seed)
            for key, reading in readings.items():
                if key.endswith(LIMITED):
                    continue
                rows = drawn.setdefault(key, [])
                if column == 0:
                    rows.append((title, []))
                rows[-1][1].append(_maps(reading, methods[0], PAIRS[column], truths, n))
                entries = scatter.setdefault(key, {}).setdefault(kind, [])
                for k, (age, dust, mass) in enumerate(truths):
                    part = slice(k * n, (k + 1) * n)
                    entries.append(
                        {
                            "log_age": age,
                            "extinction_v": dust,
                            "log_mass": mass,
                            "visibility": float(np.median(truth.visibility[part])),
                            "std": reading.point[part].std(0),
                            "bias": (reading.point[part] - truth.theta[part]).mean(0),
                        }
                    )
    return drawn, scatter


def _same(age: float, dust: float, mass: float, n: int) -> dict[str, torch.Tensor]:
    return {
        "log_age": torch.full((n,), age),
        "extinction_v": torch.full((n,), dust),
        "log_mass": torch.full((n,), mass),
        "half_number_radius": torch.full((n,), 10**LOG_RADIUS),
    }


def _maps(
    reading: Reading, method: Method, pair: tuple[str, str], truths: Any, n: int
) -> list[StochasticMap]:
    names = [p.name for p in method.parameters]
    axes = [names.index(name) for name in pair]
    first = np.arange(len(truths)) * n
    one = Reading(**{name: value[first] for name, value in vars(reading).items()})
    maps = posterior_maps(one, method.parameters, pair, (BINS[pair[0]], BINS[pair[1]]))
    found = []
    for k, (age, dust, mass) in enumerate(truths):
        place = {"log_age": age, "extinction_v": dust, "log_mass": mass}
        truth = [float(on_scale(method.parameters[i], [place[names[i]]])[0]) for i in axes]
        estimates = reading.point[k * n : (k + 1) * n][:, axes]
        found.append(StochasticMap((truth[0], truth[1]), maps[k], estimates.astype(float)))
    return found
