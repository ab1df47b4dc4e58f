"""How much more bands tell age from extinction: three-band and five-band models, same clusters.

Both models go on from the shipped m83, or begin anew (--start none), on the same number of views
from the preset m83-five-bands, one of them with three of its bands; or two model files are given.
Then both read the same mocks, clusters and noise alike, in fields that no training saw; the
three-band model sees three of the five pictures.

    python benchmarks/image_bands.py [--views 300000] [--start none] [--folder RUNS] [-n 3000]
        [--seed 1]
    python benchmarks/image_bands.py --models THREE.safetensors FIVE.safetensors [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from image_degeneracy import DegeneratePair, degenerate_pair, magnitude_differences
from image_systems_measures import bound_and_error, coverage_rows, in_bin
from image_systems_methods import Method, Reading, Truth, read_all
from image_systems_mocks import TestGround
from numpy.typing import NDArray
from torch import Tensor

from melotte import api
from melotte.engine.json_values import plain_json
from melotte.engine.model_files import Model
from melotte.engine.training import train
from melotte.parameters import Parameter
from melotte.report.posterior_shapes import map_shapes
from melotte.systems.base import Batch
from melotte.systems.cluster_images.judging import bin_names
from melotte.systems.registry import build_system, load_preset

PRESET = "m83-five-bands"
THREE = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")
LARGE_ERROR = 0.5
"""Error of log age from which an age is wrong."""
AGE_EDGES = (6.5, 7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.3)
PER_BAND = ("image", "exposure", "fwhm")
PLANTED_SIZE = 0.15
"""Half-number radius of the degenerate clusters, arcsec."""
NEAR = 0.35
"""Distance in log age within which a posterior sample belongs to a cluster of the pair."""
SMALL = ("data.fields.tiles=2", "data.fields.held_out_tiles=2", "data.fields.size=160")
QUICK = (
    *SMALL,
    "data.clusters.age_step=0.2",
    "training.validation_size=64",
    "training.constants_size=256",
)
QUICK_VIEWS = 512
GOING_ON = ("training.learning_rate=1e-3", "training.warmup_batches=60")
"""Of trainings that begin from a model."""


def overrides_of(bands: Sequence[str], views: int, quick: bool = False) -> tuple[str, ...]:
    """Changes of the preset for some of its bands and a number of views."""
    data = load_preset(PRESET).data
    chosen = [data["bands"].index(band) for band in bands]

    def some(values: Sequence[Any]) -> list[Any]:
        return [values[i] for i in chosen]

    return (
        f"data.bands={json.dumps(some(data['bands']))}",
        f"data.camera.exposure={json.dumps(some(data['camera']['exposure']))}",
        f"data.clusters.faintest={json.dumps(some(data['clusters']['faintest']))}",
        f"training.total_mocks={views}",
        *((*QUICK, f"training.n_batches={max(1, views // 512)}") if quick else ()),
    )


def trained(
    bands: Sequence[str], views: int, folder: Path, quick: bool = False, start: str = ""
) -> Model:
    """The model of some bands, trained now or before, from nothing or from another model.

    A quick one has coarser ages, another prior, and begins from nothing.
    """
    start = "" if quick else start
    begun = f"-from-{Path(start).stem}" if start else ""
    path = folder / f"{len(bands)}-bands-{views}{begun}.safetensors"
    if path.exists():
        return api.load(path, device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    overrides = overrides_of(bands, views, quick)
    if start:
        overrides += GOING_ON
    if not quick:
        return api.train(PRESET, path, overrides=overrides, start=start or None)
    # The domain check and the metrics of a whole model take longer than a short training.
    preset = load_preset(PRESET, overrides)
    content = preset.model_dump(mode="json")
    return train(build_system(preset), content, preset.training, preset.local, path)


def in_bands(batch: Batch, chosen: Sequence[int]) -> Batch:
    """The same mocks seen in some of their bands."""
    data = dict(batch.observation.data)
    for name in PER_BAND:
        values = data[name]
        assert isinstance(values, Tensor)
        data[name] = values[:, list(chosen)]
    return replace(batch, observation=replace(batch.observation, data=data))


def seen_by(model: Model, batch: Batch, every: Sequence[str]) -> Batch:
    """The same mocks in a model's bands, of ``every`` band that they were made in."""
    return in_bands(batch, [every.index(band) for band in model.preset["data"]["bands"]])


def read_both(
    models: Sequence[Model], batches: Iterator[Batch], seed: int
) -> tuple[Truth, list[Reading]]:
    """What each model says of the same clusters, in its own bands.

    Parameters
    ----------
    models : sequence of Model
        The last has all bands of the mocks.
    batches : iterator of Batch
    seed : int
    """
    kept = list(batches)
    every = models[-1].preset["data"]["bands"]
    truth, readings = None, []
    for model in models:
        method = Method("model", model.name, model, model.parameters)
        truth, found = read_all([method], (seen_by(model, batch, every) for batch in kept), seed)
        readings.append(found["model"])
    assert truth is not None
    return truth, readings


def degeneracy_rows(
    truth: Truth, reading: Reading, parameters: Sequence[Parameter]
) -> dict[str, Any]:
    """Widths, correlation and shapes of posteriors of age and extinction, and wrong ages.

    ``width`` is half of the range that holds the middle 68 % of a posterior, median over clusters;
    ``correlation`` the median of Pearson's coefficient of age and extinction within posteriors;
    ``area_68`` the median area, mag dex, of the smallest region with 68 % of a posterior.
    """
    names = [parameter.name for parameter in parameters]
    age, dust = names.index("log_age"), names.index("extinction_v")
    known = truth.is_cluster
    samples = reading.samples[known].astype(float)
    error = (reading.median - truth.theta)[known]
    row: dict[str, Any] = {}
    for name, i in (("log_age", age), ("extinction_v", dust)):
        low, high = np.quantile(samples[..., i], [0.16, 0.84], axis=1)
        bound, bound_error = bound_and_error(error[:, i])
        row[name] = {
            "width": float(np.median((high - low) / 2)),
            "p95_abs": bound,
            "p95_error": bound_error,
            "bias": float(error[:, i].mean()),
            "std": float(error[:, i].std()),
        }
    coverage = coverage_rows(truth, reading, parameters)
    for name in ("log_age", "extinction_v"):
        row[name] |= {level: coverage[name][level]["all"][:2] for level in coverage[name]}
    row["correlation"] = float(np.nanmedian(correlations(samples[..., age], samples[..., dust])))
    cell = np.prod([(parameters[i].high - parameters[i].low) for i in (age, dust)])
    cell /= np.prod(reading.maps.shape[1:])
    row["area_68"] = float(np.median(areas(reading.maps[known], 0.68)) * cell)
    row["shapes"] = map_shapes(reading.maps[known]).as_json()
    wrong = np.abs(error[:, age]) > LARGE_ERROR
    row["wrong_ages"] = share(wrong)
    true_age, seen = truth.theta[known, age], truth.visibility[known]
    row["wrong_ages_by_age"] = [
        share(wrong[(true_age >= low) & (true_age < high)]) for low, high in pairwise(AGE_EDGES)
    ]
    row["wrong_ages_by_visibility"] = [
        share(wrong[in_bin(seen, k)]) for k in range(len(bin_names()))
    ]
    return row


def correlations(
    one: NDArray[np.floating[Any]], two: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Pearson's coefficient of each row of two arrays (n, n_samples)."""
    one, two = one - one.mean(1, keepdims=True), two - two.mean(1, keepdims=True)
    scale = np.sqrt((one**2).sum(1) * (two**2).sum(1))
    return (one * two).sum(1) / np.where(scale > 0, scale, np.nan)


def areas(maps: NDArray[np.floating[Any]], level: float) -> NDArray[np.floating[Any]]:
    """Cells, the last in part, of the smallest regions that hold a share of each map."""
    flat = -np.sort(-maps.reshape(len(maps), -1), axis=1)
    flat = flat / flat.sum(1, keepdims=True)
    summed = flat.cumsum(1)
    last = (summed < level).sum(1)
    rows = np.arange(len(flat))
    before = np.where(last > 0, summed[rows, last - 1], 0.0)
    return last + (level - before) / flat[rows, last]


def share(chosen: NDArray[np.bool_]) -> list[float]:
    """Share that is true, its standard error, and of how many."""
    n = len(chosen)
    part = float(chosen.mean()) if n else float("nan")
    return [part, float(np.sqrt(part * (1 - part) / n)) if n else float("nan"), n]


def planted_pair(
    models: Sequence[Model], ground: TestGround, pair: DegeneratePair, n: int
) -> dict[str, list[dict[str, Any]]]:
    """Posteriors of copies of both clusters of a pair, for each model.

    ``own`` and ``other`` are mean posterior masses within ``NEAR`` in log age of the true and of
    the other cluster; ``bimodal`` the fraction with two separate peaks; ``covered`` the fraction
    whose 95 % intervals of age hold the truth.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for number, (name, true, other) in enumerate(
        (("young", pair.young, pair.old), ("old", pair.old, pair.young))
    ):
        values = {key: torch.full((n,), value) for key, value in true.items()}
        values["half_number_radius"] = torch.full((n,), PLANTED_SIZE)
        batch = ground.record(ground.planted(values, number), 300_000 + number)
        _, readings = read_both(models, iter([batch]), ground.seed)
        rows[name] = []
        for model, reading in zip(models, readings, strict=True):
            i = [parameter.name for parameter in model.parameters].index("log_age")
            ages = reading.samples[..., i]
            low, high = np.quantile(ages, [0.025, 0.975], axis=1)
            rows[name].append(
                {
                    "own": float((np.abs(ages - true["log_age"]) < NEAR).mean()),
                    "other": float((np.abs(ages - other["log_age"]) < NEAR).mean()),
                    "bimodal": float(map_shapes(reading.maps).bimodal.mean()),
                    "covered": share((low <= true["log_age"]) & (true["log_age"] <= high))[:2],
                }
            )
    return rows


def measured(
    models: Sequence[Model],
    n: int,
    seed: int,
    tiles: int = 16,
    pair: DegeneratePair | None = None,
) -> dict[str, Any]:
    """All numbers of models with more and more bands, on the same clusters.

    Parameters
    ----------
    models : sequence of Model
        The bands of each are among those of the last.
    n : int
    seed : int
    tiles : int
        Fields.
    pair : DegeneratePair, optional
        Of the first model's bands; searched for without.
    """
    ground = TestGround(models[-1].preset, seed, tiles)
    truth, readings = read_both(models, ground.clusters(n), seed)
    rows = [
        {"model": model.name, "bands": list(model.preset["data"]["bands"])}
        | degeneracy_rows(truth, reading, model.parameters)
        for model, reading in zip(models, readings, strict=True)
    ]
    metallicity = ground.simulator.set_ups.cameras[0].metallicity
    pair = pair or degenerate_pair(rows[0]["bands"], metallicity)
    return {
        "n": n,
        "seed": seed,
        "models": rows,
        "pair": vars(pair)
        | {
            "in_all_bands": magnitude_differences(pair, rows[-1]["bands"], metallicity),
            "posteriors": planted_pair(models, ground, pair, max(20, n // 20)),
        },
    }


def show(found: dict[str, Any]) -> None:
    """Columns are models."""
    models = found["models"]
    print(f"{'':34s}" + "".join(f"{len(row['bands']):>9d} bands" for row in models))

    def line(title: str, values: Sequence[float]) -> None:
        print(f"{title:34s}" + "".join(f"{value:15.3f}" for value in values))

    for name in ("log_age", "extinction_v"):
        line(f"{name}: width of posteriors", [row[name]["width"] for row in models])
        line(f"{name}: 95 % bound of errors", [row[name]["p95_abs"] for row in models])
        line(f"{name}: in 68 %", [row[name]["coverage_68"][0] for row in models])
        line(f"{name}: in 95 %", [row[name]["coverage_95"][0] for row in models])
    line("correlation of the two", [row["correlation"] for row in models])
    line("area of 68 % of posteriors", [row["area_68"] for row in models])
    for name in ("bimodal", "extended"):
        line(f"{name} posteriors", [row["shapes"][name] for row in models])
    line(f"age wrong by > {LARGE_ERROR:g} dex", [row["wrong_ages"][0] for row in models])
    for k, (low, high) in enumerate(pairwise(AGE_EDGES)):
        line(f"  log age {low:g}-{high:g}", [row["wrong_ages_by_age"][k][0] for row in models])
    for k, name in enumerate(bin_names()):
        values = [row["wrong_ages_by_visibility"][k][0] for row in models]
        line(f"  visibility {name}", values)
    pair = found["pair"]
    print("\nclusters alike in the first model's bands, young minus old:")
    print(
        "  ".join(f"{b.rsplit('_', 1)[-1]} {d:+.3f}" for b, d in pair["in_all_bands"].items())
        + " mag"
    )
    for name, rows in pair["posteriors"].items():
        true = pair[name]
        print(
            f"{name}: log age {true['log_age']:g}, A_V {true['extinction_v']:.2f}, "
            f"log mass {true['log_mass']:.2f}"
        )
        for key in ("own", "other", "bimodal"):
            line(f"  {key}", [row[key] for row in rows])
        line("  covered", [row["covered"][0] for row in rows])


def main() -> None:
    """Train or load both models, and judge them on the same clusters."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", help="files, the one of all bands last")
    parser.add_argument("--views", type=int, default=300_000, help="of each training")
    parser.add_argument("--start", default="m83", help="model to go on from; none: from nothing")
    parser.add_argument("--folder", type=Path, default=Path("runs/image-bands"))
    parser.add_argument("-n", type=int, default=3000, help="test clusters")
    parser.add_argument("--seed", type=int, default=1, help="of the test clusters")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_VIEWS} views, 60 clusters")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, tiles = (60, 2) if options.quick else (options.n, 16)
    if options.models:
        models = [api.load(path, device="cpu") for path in options.models]
    else:
        views = QUICK_VIEWS if options.quick else options.views
        every = load_preset(PRESET).data["bands"]
        with tempfile.TemporaryDirectory() as passing:
            folder = Path(passing) if options.quick else options.folder
            start = "" if options.start == "none" else options.start
            models = [
                trained(bands, views, folder, options.quick, start) for bands in (THREE, every)
            ]
    found = measured(models, n, options.seed, tiles)
    print(f"{n} clusters, seed {options.seed}, CPU, 1 thread")
    show(found)
    if options.json:
        options.json.write_text(json.dumps(plain_json(found, "report", nulls=True), indent=1))


if __name__ == "__main__":
    main()
