"""Every method that weighs galaxy clusters, on the same mocks: the essay's two tables.

Abbas 2019 (after Ho et al. 2019) compares power laws of the velocity dispersion, support
distribution machines and two networks. Here those, their relatives and melotte's own learn from
the same training clusters, flat in mass, and are tested on the same other haloes, natural in mass,
10^14 to 10^15 Msun/h, along three lines of sight each. Errors are eps = log10(predicted/true);
+- is the standard deviation of 200 resamples of the haloes. Rows are kept in --folder as they
come, so that an interrupted run goes on, and any row runs alone.

    python benchmarks/galaxy_clusters.py [--methods cnn2d,ours] [--seed 1] [--folder RUNS]
        [--json out.json] [--figures FOLDER] [--sizes] [--folds 10] [--quick]
    python benchmarks/galaxy_clusters.py --selection survey

The second compares the shipped models with methods that learn from mocks like theirs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from galaxy_cluster_catalogues import SELECTIONS, Catalogue, Catalogues, catalogues_of
from galaxy_cluster_methods import (
    LEVELS,
    METHODS,
    SDM_TRAIN,
    Fit,
    Method,
    ModelWeigher,
    first,
    with_training,
)
from galaxy_cluster_tables import DRAWN, RATES, draw, show
from numpy.typing import NDArray

from melotte.baselines.mass_errors import Robustness, error_statistics, robustness
from melotte.engine.json_values import plain_json

Array = NDArray[np.float64]

N_TRAIN, N_TEST = 7000, 5000
SLOW_TEST, SLOW_ROBUST = 1000, 150
"""Test clusters of methods whose predictions are slow."""
RESAMPLES = 200
SIZES = (500, 1000, 2000, 3500)
SIZE_METHODS = ("sdm2d", "fast2d", "cnn1d", "cnn2d", "boosting")
FOLD_METHODS = ("msigma", "ridge", "boosting", "cnn1d", "cnn1d-nopool", "cnn2d", "cnn2d-nopool")
SURVEY_METHODS = (
    "msigma",
    "msigma-clean",
    "fast2d",
    "boosting",
    "boosting-richness",
    "cnn1d",
    "cnn2d",
    "shipped",
    "shipped-richness",
)
"""Learn from and are tested on mocks such as the shipped models'."""


@dataclass(frozen=True)
class Budget:
    """How many clusters."""

    n_train: int = N_TRAIN
    n_test: int = N_TEST
    slow_test: int = SLOW_TEST
    slow_robust: int = SLOW_ROBUST


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], group: NDArray[np.int64], seed: int
) -> float:
    """Standard deviation of a statistic of rows over resamples of whole groups."""
    numbers, index = np.unique(group, return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(len(numbers) + 1))
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(numbers), size=len(numbers))
        rows = np.concatenate([order[starts[i] : starts[i + 1]] for i in drawn])
        found.append(statistic(rows))
    return float(np.std(found))


def measured_errors(method: Method, fit: Fit, test: Catalogue, seed: int) -> dict[str, Any]:
    """Statistics of the errors with the errors of these, time, and coverage where there is any."""
    start = time.perf_counter()
    weigher = fit.weigher
    quantiles = None
    if isinstance(weigher, ModelWeigher) and not weigher.point:
        quantiles = weigher.quantiles(test)
        predicted = quantiles[:, LEVELS.tolist().index(0.5)]
    else:
        predicted = weigher.weigh(test)
    seconds = time.perf_counter() - start
    true = test.log_mass
    found = error_statistics(predicted, true)

    def spread(name: str) -> float:
        return bootstrap(
            lambda rows: getattr(error_statistics(predicted[rows], true[rows]), name),
            test.group,
            seed,
        )

    row: dict[str, Any] = {
        **found.__dict__,
        "errors": {name: spread(name) for name in ("median", "std", "edgeworth")},
        "seconds_to_fit": fit.seconds,
        "seconds_per_cluster": seconds / len(test),
        "notes": fit.notes,
        "n_test": len(test),
        "n_galaxies_median": float(np.median(np.diff(test.offsets))),
        "true": true,
        "predicted": predicted,
    }
    if quantiles is not None:
        for name, (low, high) in {"coverage_68": (1, 3), "coverage_95": (0, 4)}.items():
            inside = (true > quantiles[:, low]) & (true < quantiles[:, high])
            row[name] = float(inside.mean())
            row["errors"][name] = bootstrap(
                lambda rows, inside=inside: float(inside[rows].mean()), test.group, seed
            )
        row["width_68"] = float(np.median(quantiles[:, 3] - quantiles[:, 1]) / 2)
    return row


def thinned_predictor(
    weigh: Callable[[Catalogue], Array], test: Catalogue, told: bool
) -> Callable[[Array, Array, NDArray[np.int64]], Array]:
    """From galaxies that stayed to masses, for :func:`melotte.baselines.mass_errors.robustness`.

    Parameters
    ----------
    weigh : callable
    test : Catalogue
        Complete; what stays is among its galaxies, in their order.
    told : bool
        Say to the method what share stayed.
    """
    counts = np.diff(test.offsets)

    def predict(velocity: Array, radius: Array, offsets: NDArray[np.int64]) -> Array:
        del radius
        rows = rows_of(velocity, offsets, test)
        thinned = test.with_galaxies(rows, offsets)
        if told:
            thinned = thinned.told_completeness(np.diff(offsets) / np.maximum(counts, 1))
        return weigh(thinned)

    return predict


def rows_of(numbers: Array, offsets: NDArray[np.int64], test: Catalogue) -> NDArray[np.int64]:
    """Rows of the whole catalogue; they travel in place of velocities."""
    if len(numbers) and (numbers.max() >= test.offsets[-1] or len(offsets) != len(test) + 1):
        raise ValueError("these galaxies are not of the catalogue")
    return numbers.astype(np.int64)


def measured_robustness(
    weigh: Callable[[Catalogue], Array],
    test: Catalogue,
    seed: int,
    told: bool = False,
    rates: tuple[float, float] = (0.6, 0.8),
) -> Robustness:
    """How masses change when galaxies are left out; see :mod:`melotte.baselines.mass_errors`."""
    predict = thinned_predictor(weigh, test, told)
    # Rows of galaxies take the place of velocities, so that any column can be found again.
    rows = np.arange(len(test.velocity), dtype=float)
    generator = np.random.default_rng(seed)
    return robustness(predict, rows, test.radius, test.offsets, generator, rates)


def summed_up(found: Robustness, group: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """JSON values of a robustness, with errors over haloes."""

    def width(values: Array) -> float:
        low, high = np.nanpercentile(values, [16, 84])
        return float(high - low)

    return {
        "median": found.median,
        "width": found.width,
        "single_median": found.single_median,
        "single_width": found.single_width,
        "rate_slope": found.rate_slope,
        "by_richness": found.by_richness,
        "errors": {
            "median": bootstrap(lambda rows: float(np.nanmedian(found.eps[rows])), group, seed),
            "width": bootstrap(lambda rows: width(found.eps[rows]), group, seed),
        },
    }


def measure(
    name: str, catalogues: Catalogues, budget: Budget, seed: int, folder: Path
) -> dict[str, Any]:
    """A row of both tables."""
    method = METHODS[name]
    fit = method.fit(catalogues, seed, folder)
    test = method.test_of(catalogues)
    if method.slow:
        test = first(test, budget.slow_test)
    row = {"title": method.title, **measured_errors(method, fit, test, seed)}
    part = first(test, budget.slow_robust) if method.slow else test
    weigh = fit.weigher.weigh
    row["robustness"] = summed_up(measured_robustness(weigh, part, seed), part.group, seed)
    row["robustness"]["n"] = len(part)
    if method.network and not getattr(fit.weigher, "point", True):
        told = measured_robustness(weigh, part, seed, told=True)
        row["robustness_told"] = summed_up(told, part.group, seed)
    if name in DRAWN:
        few = first(test, budget.slow_test)
        curve = [measured_robustness(weigh, few, seed, rates=(r, r)).eps for r in RATES]
        row["by_rate"] = [np.nanpercentile(values, [16, 50, 84]) for values in curve]
    return row


def remembered(folder: Path, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result from the folder, or made and put there."""
    path = folder / f"{key}.json"
    if not path.exists():
        print(f"measuring {key}", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        row = make() | {"wall_seconds": time.perf_counter() - begun}
        path.write_text(json.dumps(plain_json(row, key, nulls=True)))
    return json.loads(path.read_text())


def by_size(catalogues: Catalogues, seed: int, folder: Path, budget: Budget) -> dict[str, Any]:
    """Standard deviation of the errors against the number of training clusters."""
    found: dict[str, Any] = {}
    for name in SIZE_METHODS:
        method = METHODS[name]
        found[name] = {}
        # The largest is that of the table.
        for size in SIZES:
            if size > len(catalogues.train) or (method.slow and size >= SDM_TRAIN):
                continue

            def make(method: Method = method, size: int = size) -> dict[str, Any]:
                fit = method.fit(with_training(catalogues, np.arange(size)), seed, folder)
                test = method.test_of(catalogues)
                test = first(test, budget.slow_test) if method.slow else test
                errors = measured_errors(method, fit, test, seed)
                return {k: v for k, v in errors.items() if k not in ("true", "predicted")}

            found[name][size] = remembered(folder, f"size-{name}-{size}", make)
    return found


def by_fold(
    catalogues: Catalogues, seed: int, folder: Path, n_folds: int, names: tuple[str, ...]
) -> dict[str, Any]:
    """Errors out of fold: haloes are dealt, all lines of sight of one to the same fold."""
    found: dict[str, Any] = {}
    for name in names:
        method = METHODS[name]

        def make(method: Method = method) -> dict[str, Any]:
            train, test = method.train_of(catalogues), method.test_of(catalogues)
            true, predicted, stds = [], [], []
            for fold in range(n_folds):
                rows = np.flatnonzero(train.group % n_folds != fold)
                fit = method.fit(with_training(catalogues, rows), seed, folder)
                part = test.select(np.flatnonzero(test.group % n_folds == fold))
                predicted.append(fit.weigher.weigh(part))
                true.append(part.log_mass)
                stds.append(error_statistics(predicted[-1], true[-1]).std)
            whole = error_statistics(np.concatenate(predicted), np.concatenate(true))
            return {**whole.__dict__, "std_between_folds": float(np.std(stds))}

        found[name] = remembered(folder, f"fold-{name}-{n_folds}", make)
    return found


def main() -> None:
    """Measure the rows, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", help=f"of {','.join(METHODS)}; all by default")
    parser.add_argument("--seed", type=int, default=1, help="of mocks, trainings and resamples")
    parser.add_argument("--folder", type=Path, help="where rows and models are kept")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--figures", type=Path, help="folder for figures")
    parser.add_argument("--sizes", action="store_true", help="scatter against training clusters")
    parser.add_argument("--folds", type=int, default=0, help="also out of so many folds by halo")
    parser.add_argument(
        "--selection",
        choices=list(SELECTIONS),
        default="published",
        help="of mocks: as Ho et al. 2019, or surveys of every galaxy, for the shipped models",
    )
    parser.add_argument("--quick", action="store_true", help="400 clusters, no networks, no k-NN")
    options = parser.parse_args()
    torch.set_num_threads(1)
    usual = [name for name in METHODS if not name.startswith("shipped")]
    if options.selection == "survey":
        usual = list(SURVEY_METHODS)
    budget = Budget()
    if options.quick:
        budget = Budget(400, 300)
        usual = [name for name, one in METHODS.items() if not (one.slow or one.network)]
    names = options.methods.split(",") if options.methods else usual
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")
    if options.folds and not 2 <= options.folds <= 50:
        parser.error(f"--folds {options.folds}: 2 to 50")
    survey = "" if options.selection == "published" else "survey-"
    kind = f"galaxy-clusters-{survey}{budget.n_train}-{budget.n_test}-{options.seed}"
    folder = (options.folder or Path("runs")) / kind
    folder.mkdir(parents=True, exist_ok=True)
    catalogues = catalogues_of(options.selection, budget.n_train, budget.n_test, options.seed)
    rows = {
        name: remembered(
            folder, name, lambda name=name: measure(name, catalogues, budget, options.seed, folder)
        )
        for name in names
    }
    show(rows, budget.n_train, budget.n_test, options.seed, beside=not survey)
    document: dict[str, Any] = {"seed": options.seed, "budget": budget.__dict__, "rows": rows}
    if options.sizes:
        document["sizes"] = by_size(catalogues, options.seed, folder, budget)
        for name, sizes in document["sizes"].items():
            entries = "  ".join(f"{n}: {row['std']:.3f}" for n, row in sizes.items())
            print(f"std against training clusters, {METHODS[name].title}: {entries}")
    if options.folds:
        chosen = tuple(name for name in FOLD_METHODS if name in names)
        document["folds"] = by_fold(catalogues, options.seed, folder, options.folds, chosen)
        for name, row in document["folds"].items():
            print(
                f"out of {options.folds} folds, {METHODS[name].title}: median {row['median']:.3f}, "
                f"std {row['std']:.3f}, between folds {row['std_between_folds']:.3f}"
            )
    if options.figures:
        draw(rows, options.figures)
    if options.json:
        kept = {
            name: {k: v for k, v in row.items() if k not in ("true", "predicted")}
            for name, row in rows.items()
        }
        options.json.write_text(
            json.dumps(plain_json({**document, "rows": kept}, "report"), indent=1)
        )


if __name__ == "__main__":
    main()
