"""The simulator-trained open-cluster model against every catalogue of real clusters.

Reads the member lists and the labels in DIR (see ``--data``), infers every cluster with a model
that never saw a label, and prints, per label source and target:

* bias (median difference), mean absolute error (also by age) and R2;
* the share of labels inside our 68 % interval, alone and widened (in quadrature) by the
  catalogue's disagreement with the others: the 68 % quantile of the absolute difference, offsets
  included, the median over the other catalogues; relative for distances;
* the width that would have to be added for the interval to hold 68 % of the labels.

Beside them it prints the catalogues' mutual disagreement. Only aggregate numbers are printed or
written.

    python benchmarks/open_cluster_real.py --data DIR [--model open-cluster] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

import melotte
from melotte.flags import Flag

TARGETS = ("log_age", "extinction_v", "distance", "metallicity")
AGE_RANGES = ((6.0, 7.5), (7.5, 8.2), (8.2, 8.8), (8.8, 10.3))
SOURCES = {
    "CG20": {"log_age": "AgeNN", "extinction_v": "AVNN", "distance": "DistPc"},
    "Dias 2021": {
        "log_age": "D21_logage",
        "extinction_v": "D21_AV",
        "distance": "D21_dist_pc",
        "metallicity": "D21_FeH",
    },
    "Hunt 2023": {"log_age": "H23_logAge50", "extinction_v": "H23_AV50", "distance": "H23_dist50"},
    "Cavallo 2024": {
        "log_age": "C24_logAge50",
        "extinction_v": "C24_AV50",
        "distance": "C24_dMod50",
        "metallicity": "C24_[Fe/H]50",
    },
    "Almeida 2022": {
        "log_age": "A22_logage",
        "extinction_v": "A22_AV",
        "distance": "A22_dist_pc",
        "metallicity": "A22_FeH",
    },
    "Bossini 2019": {"log_age": "B19_logage", "extinction_v": "B19_AV", "distance": "B19_DM"},
}
MODULI = {"C24_dMod50", "B19_DM"}


def labels_of(folder: Path) -> dict[str, pd.DataFrame]:
    """Labels of each source by ``key``: columns of TARGETS, distances in kpc."""
    joint = pd.read_csv(folder / "labels_joint.csv").drop_duplicates("key").set_index("key")
    tables = {}
    for source, columns in SOURCES.items():
        table = pd.DataFrame(index=joint.index, columns=list(TARGETS), dtype=float)
        for target, column in columns.items():
            values = joint[column].astype(float)
            if target == "distance":
                values = 10 ** (values / 5 - 2) if column in MODULI else values / 1000
            table[target] = values
        tables[source] = table
    return tables


def ours(
    model: str, folder: Path, release: str, min_probability: float | None
) -> tuple[pd.DataFrame, float]:
    """Our quantiles and flags by ``key``, and the seconds the whole inference took."""
    start = time.perf_counter()
    source = folder / f"members_gaia_{release.lower()}.parquet"
    group_by = "key" if release == "EDR3" else "id"
    result = melotte.infer(
        model, source, group_by=group_by, release=release, min_probability=min_probability
    )
    seconds = time.perf_counter() - start
    table = result.table().to_pandas()
    table["id"] = table["id"].astype(str)
    if release == "DR2":
        names = pd.read_csv(folder / "clusters_gaia_dr2.csv")
        keys = dict(zip(names["id"].astype(str), names["key"], strict=True))
        table["id"] = [keys.get(name, f"dr2-{name}") for name in table["id"]]
    return table.drop_duplicates("id").set_index("id"), seconds


def score(predicted: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Bias, scatter, mean absolute error and R2 of predictions against labels (n,)."""
    difference = predicted - label
    variance = float(np.var(label))
    return {
        "n": len(label),
        "bias": float(np.median(difference)),
        "std": float(np.std(difference)),
        "mae": float(np.mean(np.abs(difference))),
        "r2": 1 - float(np.mean(difference**2)) / variance if variance > 0 else float("nan"),
    }


def typical(differences: np.ndarray) -> float:
    """The 68 % quantile of the absolute difference: offset and scatter together."""
    return float(np.quantile(np.abs(differences), 0.68))


def disagreement(labels: dict[str, pd.DataFrame], keys: pd.Index) -> dict[str, dict]:
    """Per target and pair of sources: scores of the one against the other."""
    pairs: dict[str, dict] = {target: {} for target in TARGETS}
    for (one, first), (other, second) in combinations(labels.items(), 2):
        for target in TARGETS:
            both = pd.concat([first[target], second[target]], axis=1).reindex(keys).dropna()
            if len(both) >= 30:
                values = both.to_numpy()
                entry = score(values[:, 0], values[:, 1])
                difference = values[:, 0] - values[:, 1]
                entry["typical"] = typical(difference)
                entry["typical_relative"] = typical(difference / np.maximum(values.mean(1), 1e-6))
                pairs[target][f"{one} - {other}"] = entry
    return pairs


def covered(table: pd.DataFrame, target: str, label: np.ndarray, extra: np.ndarray) -> float:
    """Share of labels inside our 68 % interval, ``extra`` added to it in quadrature."""
    low, middle, high = (table[f"{target}_{q}"].to_numpy() for q in (16, 50, 84))
    below = np.hypot(middle - low, extra)
    above = np.hypot(high - middle, extra)
    return float(((label >= middle - below) & (label <= middle + above)).mean())


def needed(table: pd.DataFrame, target: str, label: np.ndarray, unit: np.ndarray) -> float:
    """Width, in units of ``unit``, that makes our 68 % interval hold 68 % of the labels."""
    if covered(table, target, label, 0 * unit) >= 0.68:
        return 0.0
    low, high = 0.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        enough = covered(table, target, label, middle * unit) >= 0.68
        low, high = (low, middle) if enough else (middle, high)
    return high


def compare(
    table: pd.DataFrame, labels: dict[str, pd.DataFrame], pairs: dict[str, dict]
) -> list[dict]:
    """One row a source and target."""
    rows = []
    for source, truth in labels.items():
        for target in TARGETS:
            label = truth[target].reindex(table.index)
            good = label.notna() & table[f"{target}_50"].notna()
            if good.sum() < 30:
                continue
            chosen, value = table[good], label[good].to_numpy()
            predicted = chosen[f"{target}_50"].to_numpy()
            relative = target == "distance"
            key = "typical_relative" if relative else "typical"
            widths = [entry[key] for pair, entry in pairs[target].items() if source in pair]
            extra = float(np.median(widths)) if widths else 0.0
            unit = value if relative else np.ones(len(value))
            row = {"source": source, "target": target, **score(predicted, value)}
            row |= {
                "coverage_68": covered(chosen, target, value, 0 * unit),
                "coverage_68_widened": covered(chosen, target, value, extra * unit),
                "disagreement": extra,
                "needed": needed(chosen, target, value, unit),
            }
            age = truth["log_age"].reindex(chosen.index).to_numpy()
            row["by_age"] = {
                f"{low}-{high}": score(predicted[part], value[part])
                for low, high in AGE_RANGES
                if (part := (age >= low) & (age < high)).sum() >= 20
            }
            rows.append(row)
    return rows


def show(title: str, rows: list[dict], pairs: dict[str, dict]) -> None:
    """Print the comparison as text tables."""
    print(f"\n{title}")
    head = (
        "source        target         n    bias    MAE     R2  in 68 %  widened  disagree   needed"
    )
    print(head + "  MAE by age " + "  ".join(f"{low}-{high}" for low, high in AGE_RANGES))
    for row in rows:
        ages = "  ".join(
            f"{row['by_age'][key]['mae']:7.3f}" if key in row["by_age"] else "      -"
            for key in (f"{low}-{high}" for low, high in AGE_RANGES)
        )
        print(
            f"{row['source']:13s} {row['target']:13s}{row['n']:4d} {row['bias']:+7.3f} "
            f"{row['mae']:6.3f} {row['r2']:6.3f}  {row['coverage_68']:6.3f}   "
            f"{row['coverage_68_widened']:6.3f}     {row['disagreement']:6.3f}  "
            f"{row['needed']:6.3f}"
            f"             {ages}"
        )
    print("\ncatalogues against each other")
    for target, entries in pairs.items():
        for pair, entry in entries.items():
            print(
                f"{target:13s} {pair:28s}{entry['n']:4d}  bias {entry['bias']:+.3f}  "
                f"MAE {entry['mae']:.3f}  R2 {entry['r2']:6.3f}  std {entry['std']:.3f}"
            )


def main() -> None:
    """Parse, infer, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the catalogues")
    parser.add_argument("--model", default="open-cluster")
    parser.add_argument("--release", default="EDR3", choices=("EDR3", "DR2"))
    parser.add_argument("--min-probability", type=float, help="drop stars of lower membership")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not (arguments.data / "labels_joint.csv").is_file():
        parser.error(f"{arguments.data} has no labels_joint.csv")
    table, seconds = ours(
        arguments.model, arguments.data, arguments.release, arguments.min_probability
    )
    labels = labels_of(arguments.data)
    pairs = disagreement(labels, table.index)
    rows = compare(table, labels, pairs)
    flags = table["flags"].to_numpy()
    shares = {flag.name: float(np.mean((flags & flag) > 0)) for flag in Flag}
    show(f"{len(table)} clusters, Gaia {arguments.release}, {seconds:.1f} s", rows, pairs)
    print("\nflags: " + ", ".join(f"{k} {v:.3f}" for k, v in shares.items() if v > 0))
    clean = table[(flags & Flag.OUT_OF_DOMAIN) == 0]
    clean_rows = compare(clean, labels, pairs) if len(clean) < len(table) else rows
    if len(clean) < len(table):
        show(f"the {len(clean)} clusters inside the domain", clean_rows, {})
    if arguments.json:
        document = {
            "release": arguments.release,
            "n_clusters": len(table),
            "seconds": seconds,
            "rows": rows,
            "rows_in_domain": clean_rows,
            "disagreement": pairs,
            "flags": shares,
        }
        arguments.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
