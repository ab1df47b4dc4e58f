"""Clusters evolved by the Monte Carlo method: processor time, energy, collapse.

python benchmarks/cluster_evolution.py                         50,000 stars, and equal ones
python benchmarks/cluster_evolution.py --sizes 1e4 5e4 2e5     cost against the number of stars

The clusters of the first table are those of Chardin & Bianchini 2021: half-mass radius 3.2 pc,
Z = 0.001, a circular orbit at 15 kpc; 14 Gyr long unless ``--until`` says otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from melotte.sky.monte_carlo.binaries import HEAT
from melotte.sky.monte_carlo.equilibria import Plummer
from melotte.sky.monte_carlo.evolution import ClusterEvolution, ClusterModel
from melotte.sky.monte_carlo.steps import STEPS
from melotte.sky.monte_carlo.tides import CircularOrbit
from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_MYR


def papers_cluster(n_stars: int, seed: int) -> ClusterModel:
    """Half-mass radius 3.2 pc, Z = 0.001, a circular orbit at 15 kpc."""
    return ClusterModel(
        n_stars, Plummer(3.2), metallicity=-1.267, orbit=CircularOrbit(15.0), seed=seed
    )


def evolved(model: ClusterModel, until: float) -> tuple[ClusterEvolution, float]:
    """The cluster at the end, and processor seconds."""
    begun = time.process_time()
    cluster = ClusterEvolution(model)
    for _ in cluster.run(until):
        pass
    return cluster, time.process_time() - begun


def warm_up() -> None:
    """Compile."""
    evolved(papers_cluster(1000, 1), 30.0)


def sizes_table(sizes: list[int], until: float, seed: int) -> list[dict[str, Any]]:
    """Cost and energy by number of stars."""
    rows = []
    print(f"{'stars':>9} {'seconds':>8} {'steps':>8} {'stars left':>10} {'Msun':>8} {'energy':>9}")
    for n_stars in sizes:
        cluster, seconds = evolved(papers_cluster(n_stars, seed), until)
        rows.append(
            {
                "n_stars": n_stars,
                "seconds": seconds,
                "steps": int(cluster.counters[STEPS]),
                "n_left": cluster.history.n_stars[-1],
                "mass": cluster.history.mass[-1],
                "energy_error": cluster.energy_error,
            }
        )
        print("{n_stars:9d} {seconds:8.0f} {steps:8d} {n_left:10d} {mass:8.0f} {energy_error:9.1e}"
              .format(**rows[-1]), flush=True)  # fmt: skip
    return rows


def collapse_table(n_stars: int, seed: int) -> list[dict[str, Any]]:
    """When equal stars collapse, by accuracy, in initial half-mass relaxation times."""
    rows = []
    relaxation = 0.138 * n_stars / math.sqrt(GRAVITY * n_stars) / PC_PER_MYR
    relaxation /= math.log(0.11 * n_stars)
    print(f"\ncollapse of {n_stars} equal stars (literature: 15 to 18)")
    for deflection in (0.02, 0.05, 0.1, 0.2):
        model = ClusterModel(
            n_stars, Plummer(1.0), stellar_evolution=False, coulomb_factor=0.11,
            deflection=deflection, seed=seed,
        )  # fmt: skip
        cluster = ClusterEvolution(model, np.ones(n_stars))
        begun = time.process_time()
        collapse = math.nan
        for moment in cluster.run(25 * relaxation, relaxation * np.arange(0.25, 25.1, 0.25)):
            if cluster.ledger[HEAT] > 0:
                collapse = moment / relaxation
                break
        rows.append({"deflection": deflection, "collapse": collapse,
                     "energy_error": cluster.energy_error})  # fmt: skip
        seconds = time.process_time() - begun
        print(f"  deflection {deflection:5.2f}: {collapse:5.2f} t_rh, energy "
              f"{cluster.energy_error:.1e}, {seconds:.0f} s", flush=True)  # fmt: skip
    return rows


def expansion(n_stars: int, seed: int) -> dict[str, float]:
    """How fast equal stars expand after their collapse, as binaries heat them.

    Growth of the half-mass radius per its relaxation time of the moment, between 20 and 40 initial
    ones; Henon (1965, Ann. Astrophys. 28, 62) has 0.0926.
    """
    mass = 1.0

    def relaxation(count: int, radius: float) -> float:
        time_scale = math.sqrt(count * radius**3 / (GRAVITY * mass)) / PC_PER_MYR
        return 0.138 * time_scale / math.log(0.11 * count)

    first = relaxation(n_stars, 1.0)
    model = ClusterModel(
        n_stars, Plummer(1.0), stellar_evolution=False, coulomb_factor=0.11, seed=seed
    )
    cluster = ClusterEvolution(model, np.full(n_stars, mass))
    radii, passed, before = [], 0.0, math.nan
    for moment in cluster.run(40 * first, first * np.arange(20, 40.1, 0.5)):
        radii.append(float(cluster.lagrangian_radii([0.5])[0]))
        if len(radii) > 1:
            middle = math.sqrt(radii[-1] * radii[-2])
            passed += (moment - before) / relaxation(cluster.n, middle)
        before = moment
    rate = math.log(radii[-1] / radii[0]) / passed
    print(
        f"\nexpansion of {n_stars} equal stars after collapse: {rate:.3f} per relaxation time over "
        f"{passed:.1f} of them (Henon 1965: 0.0926), energy {cluster.energy_error:.1e}"
    )
    return {"rate": rate, "relaxation_times": passed, "energy_error": cluster.energy_error}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="*", default=[5e4])
    parser.add_argument("--until", type=float, default=14_000.0, help="Myr")
    parser.add_argument("--collapse", type=int, default=10_000, help="equal stars; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small clusters, seconds")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.quick:
        given.sizes, given.until, given.collapse = [2e3], 500.0, 1000
    warm_up()
    sizes = [round(size) for size in given.sizes]
    results: dict[str, Any] = {"sizes": sizes_table(sizes, given.until, given.seed)}
    if given.collapse:
        results["collapse"] = collapse_table(given.collapse, given.seed)
        results["expansion"] = expansion(given.collapse, given.seed)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
