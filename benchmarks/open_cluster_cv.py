"""Cross-validation on real open clusters: every method on the same lists, folds and labels.

Clusters, not lists, are dealt into folds, over both Gaia releases together: no cluster that a
method is tested on was in its training set under another release. Each method learns from the
lists of the other folds and is tested on the fold's lists, EDR3 and DR2 apart. Printed and written
are, per method: R2 and mean absolute error of each target, mean R2, seconds to train and per
cluster; the bootstrap over clusters of the difference to the best baseline; scores against each
catalogue beside the catalogues' scores against each other; for methods with a posterior, coverage
and PIT histograms. Only aggregate numbers leave the program; ``--cache`` keeps out-of-fold
predictions in your own folder, so that long methods run one at a time.

    python benchmarks/open_cluster_cv.py --data DIR [--methods boosting,boosting-mlp]
        [--folds 5] [--seed 0] [--cache FOLDER] [--again] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_cluster_catalogues import LabelledClusters, read_catalogues, together
from open_cluster_methods import CLASSICAL, LEVELS, N_TARGETS, SOURCE, Method, Predictions
from open_cluster_networks import NETWORKS

from melotte.engine.coverage import interval_coverage
from melotte.engine.json_values import plain_json
from melotte.engine.paired_scores import compare_paired, mean_r2, target_errors
from melotte.errors import MelotteError, MelotteValueError
from melotte.io.cluster_labels import TARGETS

Array = NDArray[np.float64]

METHODS = CLASSICAL | NETWORKS
"""Methods by name, in the order of the table."""
NAMES = TARGETS[:N_TARGETS]
LEAST = 30
"""Clusters without which a catalogue is not scored."""
AGE_RANGES = ((6.0, 7.5), (7.5, 8.2), (8.2, 8.8), (8.8, 10.3))
PIT_BINS = 10
STORED_SOURCE = "source "
MIDDLE = int(np.searchsorted(LEVELS, 0.5))


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of a method for every list, each by a training that never saw its cluster.

    Parameters
    ----------
    estimate : array, shape (n, 3)
    quantiles : array, shape (n, n_levels, 3), or None
    seconds_to_train : float
        Mean over folds.
    seconds_per_cluster : float
        Mean over folds.
    by_source : dict of str to array (n, n_levels, 3)
        Quantiles as each catalogue would give them.
    """

    estimate: Array
    quantiles: Array | None
    seconds_to_train: float
    seconds_per_cluster: float
    by_source: dict[str, Array] = field(default_factory=dict)

    def for_source(self, source: str, chosen: NDArray[np.int64]) -> tuple[Array, Array | None]:
        """Estimate and quantiles of some lists that are scored against a catalogue."""
        if source in self.by_source:
            quantiles = self.by_source[source][chosen]
            return quantiles[:, MIDDLE], quantiles
        return self.estimate[chosen], None if self.quantiles is None else self.quantiles[chosen]


def out_of_fold(
    method: Method, lists: LabelledClusters, folds: NDArray[np.int64], seed: int
) -> OutOfFold:
    """Train and test a method on every fold.

    Parameters
    ----------
    method : Method
    lists : LabelledClusters of n lists
    folds : array of int, shape (n,)
    seed : int
        Of the trainings; fold ``k`` gets ``seed + k``.
    """
    allowed = np.where(lists.dr2, "DR2" in method.releases, "EDR3" in method.releases)
    estimate = np.full((len(lists), N_TARGETS), np.nan)
    quantiles: Array | None = None
    by_source: dict[str, Array] = {}
    done: list[Predictions] = []
    for fold in np.unique(folds):
        test = np.flatnonzero(folds == fold)
        train = lists.select(allowed & (folds != fold))
        observation = lists.observation.select(torch.as_tensor(test))
        found = method.fit_predict(train, observation, seed + int(fold))
        estimate[test] = found.estimate
        if found.quantiles is not None:
            if quantiles is None:
                quantiles = np.full((len(lists), len(LEVELS), N_TARGETS), np.nan)
            quantiles[test] = found.quantiles
        for source, values in found.by_source.items():
            whole = by_source.setdefault(
                source, np.full((len(lists), len(LEVELS), N_TARGETS), np.nan)
            )
            whole[test] = values
        done.append(found)
        print(f"  fold {fold}: {found.seconds_to_train:.1f} s to train", file=sys.stderr)
    return OutOfFold(
        estimate,
        quantiles,
        float(np.mean([one.seconds_to_train for one in done])),
        float(np.mean([one.seconds_per_cluster for one in done])),
        by_source,
    )


def cached(
    name: str,
    lists: LabelledClusters,
    folds: NDArray[np.int64],
    seed: int,
    folder: Path | None,
    again: bool = False,
) -> OutOfFold:
    """Out-of-fold predictions of a named method, from the cache where it has them."""
    path = None if folder is None else folder / f"{name}.npz"
    identity = {"keys": np.array(lists.keys), "dr2": lists.dr2, "folds": folds, "levels": LEVELS}
    identity["seed"] = np.array(seed)
    if path is not None and path.is_file() and not again:
        with np.load(path, allow_pickle=False) as stored:
            for key, value in identity.items():
                if not np.array_equal(stored[key], value):
                    raise MelotteValueError(
                        f"{path} holds predictions with other {key}; give another --cache, or "
                        "--again to make them anew"
                    )
            return OutOfFold(
                stored["estimate"],
                stored.get("quantiles"),
                float(stored["seconds_to_train"]),
                float(stored["seconds_per_cluster"]),
                {
                    key.removeprefix(STORED_SOURCE): stored[key]
                    for key in stored.files
                    if key.startswith(STORED_SOURCE)
                },
            )
    print(name, file=sys.stderr)
    found = out_of_fold(METHODS[name], lists, folds, seed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        given = {key: value for key, value in vars(found).items() if value is not None}
        sources = given.pop("by_source")
        given |= {STORED_SOURCE + source: values for source, values in sources.items()}
        np.savez_compressed(path, **identity, **given)
    return found


def pit_of(quantiles: Array, truth: Array) -> Array:
    """Probability below the truth, by interpolation between LEVELS, (n, n_targets).

    Beyond the outermost level: the middle of what is left. NaN without truth.
    """
    pit = np.full(truth.shape, np.nan)
    for i, j in zip(*np.nonzero(np.isfinite(truth)), strict=True):
        ends = LEVELS[0] / 2, (1 + LEVELS[-1]) / 2
        pit[i, j] = np.interp(truth[i, j], quantiles[i, :, j], LEVELS, *ends)
    return pit


def calibration(quantiles: Array, truth: Array) -> dict[str, Any]:
    """Coverage of the 68 and 95 % intervals and the PIT histogram, per target."""
    pit = pit_of(quantiles, truth)
    found = {}
    for j, name in enumerate(NAMES):
        values = pit[np.isfinite(pit[:, j]), j]
        entry: dict[str, Any] = {"n": len(values)}
        for level in (0.68, 0.95):
            one = interval_coverage(values, level)
            entry |= {
                f"coverage_{level * 100:.0f}": one.fraction,
                f"error_{level * 100:.0f}": one.error,
            }
        counts, _ = np.histogram(values, PIT_BINS, (0.0, 1.0))
        found[name] = entry | {"pit_histogram": (counts / max(len(values), 1)).tolist()}
    return found


def scores(estimate: Array, truth: Array) -> dict[str, Any]:
    """Errors of each target, over all clusters and by the label's age, and mean R2."""
    errors = target_errors(estimate, truth)
    ages = {}
    for low, high in AGE_RANGES:
        part = (truth[:, 0] >= low) & (truth[:, 0] < high)
        if part.sum() >= LEAST:
            one = target_errors(estimate[part], truth[part])[0]
            ages[f"{low}-{high}"] = {"n": one.n, "bias": one.bias, "mae": one.mae}
    each = {name: {"n": one.n, **one.as_json()} for name, one in zip(NAMES, errors, strict=True)}
    rms = {
        "log_age": root_mean_square(estimate[:, 0] - truth[:, 0]),
        "extinction_v": root_mean_square(estimate[:, 1] - truth[:, 1]),
        "distance_modulus": root_mean_square(5 * np.log10(estimate[:, 2] / truth[:, 2])),
    }
    return {"mean_r2": mean_r2(errors), "rms": rms, "targets": each, "log_age_by_age": ages}


def root_mean_square(difference: Array) -> float:
    """Root mean square of what is finite."""
    return float(np.sqrt(np.nanmean(difference**2)))


def judge(
    found: dict[str, OutOfFold], lists: LabelledClusters, release: str, seed: int
) -> dict[str, Any]:
    """All that is reported of one release: JSON values."""
    chosen = np.flatnonzero(lists.dr2 == (release == "DR2"))
    labels = {source: values[chosen][:, :N_TARGETS] for source, values in lists.labels.items()}
    # R2 is compared on clusters with every label, so that all targets speak of the same ones.
    complete = {
        source: np.where(np.isfinite(values).all(1, keepdims=True), values, np.nan)
        for source, values in labels.items()
    }
    enough = [s for s, values in complete.items() if np.isfinite(values[:, 0]).sum() >= LEAST]
    rows: dict[str, Any] = {}
    for name, one in found.items():
        row: dict[str, Any] = {
            "title": METHODS[name].title,
            "seconds_to_train": one.seconds_to_train,
            "seconds_per_cluster": one.seconds_per_cluster,
            "sources": {},
        }
        for source in enough:
            own, quantiles = one.for_source(source, chosen)
            row["sources"][source] = scores(own, complete[source])
            if quantiles is not None:
                entry = row.setdefault("calibration", {})
                entry[source] = calibration(quantiles, complete[source])
        rows[name] = row
    if SOURCE not in enough:
        raise MelotteValueError(f"fewer than {LEAST} {release} clusters have labels of {SOURCE}")
    baselines = [name for name in rows if METHODS[name].baseline]
    best = max(baselines, key=lambda name: rows[name]["sources"][SOURCE]["mean_r2"], default=None)
    if best is not None:
        for name in rows:
            if name != best:
                pair = found[name].estimate[chosen], found[best].estimate[chosen]
                compared = compare_paired(*pair, complete[SOURCE], seed=seed)
                rows[name]["difference_to_best_baseline"] = compared.as_json(NAMES)
    among = {
        one: {
            other: scores(complete[one], complete[other])
            for other in enough
            if other != one
            and (np.isfinite(complete[one]) & np.isfinite(complete[other]))[:, 0].sum() >= LEAST
        }
        for one in enough
    }
    return {
        "release": release,
        "n_lists": len(chosen),
        "n_labelled": int(np.isfinite(complete[SOURCE][:, 0]).sum()),
        "best_baseline": best,
        "methods": rows,
        "catalogues": among,
    }


def show(report: dict[str, Any]) -> None:
    """Print one release's report as text tables."""
    rows, best = report["methods"], report["best_baseline"]
    print(
        f"\nGaia {report['release']}: {report['n_lists']} lists, {report['n_labelled']} with "
        f"labels of {SOURCE}, out of fold"
    )
    print(
        "method                     R2 age   A_V     d    mean   MAE age   A_V      d  "
        "train s  ms/cluster  mean R2 less the best baseline's, 95 %, wins"
    )
    for name, row in rows.items():
        own = row["sources"][SOURCE]
        r2 = " ".join(f"{own['targets'][t]['r2']:6.3f}" for t in NAMES)
        mae = " ".join(f"{own['targets'][t]['mae']:6.3f}" for t in NAMES)
        compared = row.get("difference_to_best_baseline")
        words = "the best baseline" if name == best else ""
        if compared is not None:
            mean = compared["mean_r2"]
            words = (
                f"{mean['difference']:+.4f} [{mean['low']:+.4f}, {mean['high']:+.4f}] "
                f"{mean['share_first_wins']:.3f}; "
                + ", ".join(f"{t} {compared['r2'][t]['difference']:+.4f}" for t in NAMES)
            )
        print(
            f"{row['title']:26s} {r2} {own['mean_r2']:7.4f}   {mae}  {row['seconds_to_train']:7.1f}"
            f"  {row['seconds_per_cluster'] * 1e3:9.2f}   {words}"
        )
    print("\nbias of log_age by the label's age")
    for row in rows.values():
        ages = row["sources"][SOURCE]["log_age_by_age"]
        print(f"{row['title']:26s} " + "  ".join(f"{k}: {v['bias']:+.3f}" for k, v in ages.items()))
    print(f"\nroot mean square error of log_age, A_V and distance modulus against {SOURCE}")
    entries = {row["title"]: row["sources"][SOURCE] for row in rows.values()}
    for one, others in report["catalogues"].items():
        if SOURCE in others:
            entries[f"catalogue {one}"] = others[SOURCE]
    for title, entry in entries.items():
        print(f"{title:26s} " + "  ".join(f"{value:.3f}" for value in entry["rms"].values()))
    _show_sources(report)
    for row in rows.values():
        for name, entry in row.get("calibration", {}).get(SOURCE, {}).items():
            histogram = " ".join(f"{share:.3f}" for share in entry["pit_histogram"])
            print(
                f"{row['title']:26s} {name:13s} in 68 % {entry['coverage_68']:.3f}  "
                f"in 95 % {entry['coverage_95']:.3f}  PIT {histogram}"
            )


def _show_sources(report: dict[str, Any]) -> None:
    """Scores against each catalogue, of methods and of the other catalogues."""
    print("\nagainst each catalogue: R2 (MAE) of age, A_V, distance; n")
    sources = list(report["catalogues"])
    for source in sources:
        print(f"{source}")
        entries = {row["title"]: row["sources"][source] for row in report["methods"].values()}
        entries |= {
            f"catalogue {one}": others[source]
            for one, others in report["catalogues"].items()
            if source in others
        }
        for title, entry in entries.items():
            each = "  ".join(
                f"{entry['targets'][t]['r2']:7.3f} ({entry['targets'][t]['mae']:.3f})"
                for t in NAMES
            )
            print(f"  {title:26s} {each}  {entry['targets'][NAMES[0]]['n']:5d}")


def main() -> None:
    """Parse, run or load every method, judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the catalogues")
    parser.add_argument("--methods", help=f"of {','.join(METHODS)}; all by default")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of folds, trainings and bootstrap")
    parser.add_argument("--cache", type=Path, help="folder for out-of-fold predictions")
    parser.add_argument("--again", action="store_true", help="do not read the cache, write it")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = arguments.methods.split(",") if arguments.methods else list(METHODS)
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")
    if arguments.folds < 2:
        parser.error(f"--folds {arguments.folds}: at least 2")
    try:
        catalogues = read_catalogues(arguments.data, arguments.folds, arguments.seed)
        lists = together(catalogues.values())
        folds = np.concatenate([one.folds for one in catalogues.values()])
        found = {
            name: cached(name, lists, folds, arguments.seed, arguments.cache, arguments.again)
            for name in names
        }
        reports = [judge(found, lists, release, arguments.seed) for release in catalogues]
    except MelotteError as error:
        parser.error(str(error))
    print(
        f"{arguments.folds} folds over {len(set(lists.keys))} clusters, seed {arguments.seed}, "
        f"{torch.get_num_threads()} threads"
    )
    for report in reports:
        show(report)
    if arguments.json:
        document = {
            "folds": arguments.folds,
            "seed": arguments.seed,
            "threads": torch.get_num_threads(),
            "n_clusters": len(set(lists.keys)),
            "levels": LEVELS,
            "releases": {report["release"]: report for report in reports},
        }
        arguments.json.write_text(json.dumps(plain_json(document, "report", nulls=True), indent=1))


if __name__ == "__main__":
    main()
