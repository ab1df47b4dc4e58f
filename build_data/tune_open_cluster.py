"""Fine-tune the shipped open-cluster model on every labelled cluster of both Gaia releases.

DIR holds the catalogues as ``benchmarks/open_cluster_catalogues.py`` describes them. Start from a
model that was trained on simulations alone (preset ``open-cluster``).

    python build_data/tune_open_cluster.py --data DIR --from simulated.safetensors \
        -o tuned.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from melotte import api
from melotte.io.cluster_labels import ClusterLabels, read_labels
from melotte.io.tables import read_table
from melotte.systems.base import Observation, RowError
from melotte.systems.open_cluster.system import OpenCluster
from melotte.systems.registry import build_system, load_preset

PRESET = "open-cluster-catalogues"
LABELS = ("labels_joint.csv", "labels_cantat_gaudin_2020.csv")


def lists(system: OpenCluster, folder: Path) -> Iterator[Observation | RowError]:
    """Member lists of both releases, named by ``key``; those without one are left out."""
    edr3 = folder / "members_gaia_edr3.parquet"
    yield from system.read(edr3, {"group_by": "key", "release": "EDR3"})
    names = read_table(folder / "clusters_gaia_dr2.csv")
    key = dict(zip(map(str, names.text("id")), map(str, names.text("key")), strict=True))
    dr2 = folder / "members_gaia_dr2.parquet"
    for entry in system.read(dr2, {"group_by": "id", "release": "DR2"}):
        if isinstance(entry, Observation):
            known = [i for i, name in enumerate(entry.ids) if key.get(name)]
            if not known:
                continue
            entry = entry.select(torch.tensor(known))
            entry = replace(entry, ids=tuple(key[name] for name in entry.ids))
        yield entry


def joined(tables: list[ClusterLabels], sources: tuple[str, ...]) -> ClusterLabels:
    """Labels of several tables; of a cluster in two, the first table's count."""
    parts = [table.of(sources) for table in tables]
    names = tuple(dict.fromkeys(name for part in parts for name in part.ids))
    values = np.full((len(names), len(sources), 4), np.nan)
    row = {name: i for i, name in enumerate(names)}
    for part in reversed(parts):
        rows = [row[name] for name in part.ids]
        values[rows] = np.where(np.isfinite(part.values), part.values, values[rows])
    return ClusterLabels(names, sources, values)


def main() -> None:
    """Parse, join, train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--from", dest="start", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    system = build_system(load_preset(PRESET))
    if not isinstance(system, OpenCluster):
        parser.error(f"preset {PRESET} is not one of open clusters")
    tables = [read_labels(arguments.data / name, id_column="key") for name in LABELS]
    labels = joined(tables, system.model.label_sources)
    examples = system.label(lists(system, arguments.data), labels)
    print("\n".join(examples.lines()))
    print(f"clusters: {len(set(examples.ids))}")
    api.train(PRESET, arguments.output, start=arguments.start, examples=examples)
    print(f"model: {arguments.output}")


if __name__ == "__main__":
    main()
