"""Build ``src/melotte/data/small_clusters.h5``, the shipped library of evolved clusters.

    OMP_NUM_THREADS=1 python build_data/small_clusters.py

Evolves clusters of the family ``test`` of a seed that no other library has, keeps two snapshots of
each, and compresses them: see README.md beside this.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from melotte import __version__
from melotte.api.cluster_runs import simulate_clusters
from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.cluster_libraries import ClusterLibrary, LibraryRun, RunWriter

WORDS = ["test", "n_stars=1.5e4,5e4", "snapshots=16", "first_snapshot=900", "until=13500"]
N_RUNS, SEED = 8, 7
KEPT = 2
"""Snapshots of a run."""
LEAST_STARS = 2000
"""Of a snapshot: fewer are the last of a cluster that dissolves."""
LARGEST = 2_500_000
"""Bytes of the file."""


def main() -> None:
    """Evolve, choose, write."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        default=here.parent / "src" / "melotte" / "data" / "small_clusters.h5",
    )
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole = simulate_clusters(
            WORDS, Path(folder) / "whole.h5", N_RUNS, seed=SEED, workers=arguments.workers
        )
        write_small(whole, arguments.output)


def write_small(whole: Path, output: Path) -> None:
    """Write what is kept of a library, and say what it is."""
    about = {"words": WORDS, "n": N_RUNS, "seed": SEED, "kept": KEPT, "melotte": __version__}
    partial = output.with_suffix(".partial")
    print("run              Gyr    stars    Msun  [Fe/H]")
    with ClusterLibrary(whole) as library, h5py.File(partial, "w") as file:
        file.attrs["provenance"] = json.dumps(about)
        for number, run in enumerate(library.runs):
            writer = RunWriter(file, run.name, run.family, run.model, packed=True)
            steps = chosen_steps(run, number)
            for step in steps:
                snapshot = library.snapshot(run, step)
                writer.add(in_order_of_mass(snapshot))
                print(
                    f"{run.name:15} {snapshot.time / 1e3:5.2f} {len(snapshot):8} "
                    f"{snapshot.total_mass:7.0f} {snapshot.metallicity:7.2f}"
                )
            writer.close(history_at(run, steps))
    size = partial.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{partial}: {size} bytes, at most {LARGEST} are shipped")
    partial.replace(output)
    print(f"{output}: {size / 1e6:.2f} MB")


def chosen_steps(run: LibraryRun, number: int) -> list[int]:
    """Numbers of the snapshots that are kept; runs take turns, so that ages differ."""
    large = [step for step, count in enumerate(run.counts) if count >= LEAST_STARS]
    places = (np.arange(KEPT) + (number + 0.5) / N_RUNS) / KEPT
    return sorted({large[int(place * len(large))] for place in places})


def in_order_of_mass(snapshot: StarSnapshot) -> StarSnapshot:
    """The same stars, systems by type and falling mass: alike ones together compress well."""
    first = np.r_[True, np.diff(snapshot.system) != 0]
    order = np.lexsort((-snapshot.mass[first], snapshot.kind[first]))
    return replace(snapshot, system=np.argsort(order)[snapshot.system])


def history_at(run: LibraryRun, steps: list[int]) -> dict[str, Any]:
    """The run's history at the snapshots that are kept."""
    times = np.asarray(run.history["time"])
    rows = [int(np.argmin(np.abs(times - run.times[step]))) for step in steps]
    return {name: [values[row] for row in rows] for name, values in run.history.items()}


if __name__ == "__main__":
    main()
