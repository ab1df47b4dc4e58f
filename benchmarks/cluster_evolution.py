"""Clusters evolved by the Monte Carlo method: time, energy, collapse, and CMC's runs beside.

    python benchmarks/cluster_evolution.py                         50,000 stars, and equal ones
    python benchmarks/cluster_evolution.py --sizes 1e4 5e4 2e5     cost against the number of stars
    python benchmarks/cluster_evolution.py --data DIR --runs 6     the CMC catalogue's clusters

``--data`` holds the CMC Cluster Catalog's table (globular/cmc/cmc_params.csv.gz, Kremer et al.
2020): for its models of 200,000 stars, or some spread over them, a King model of W0 = 5 begins with
the same number of stars, virial radius, metallicity and orbit, and is compared at 12 Gyr.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from melotte.sky.monte_carlo.binaries import HEAT
from melotte.sky.monte_carlo.equilibria import King, Plummer
from melotte.sky.monte_carlo.evolution import ClusterEvolution, ClusterModel
from melotte.sky.monte_carlo.snapshots import snapshot_of
from melotte.sky.monte_carlo.steps import STEPS
from melotte.sky.monte_carlo.tides import CircularOrbit
from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_MYR

SOLAR_METAL_FRACTION = 0.0185
KING_DEPTH = 5.0


def virial_over_half_mass_radius(depth: float) -> float:
    """Virial radius of a King model, G M^2 / (2 |W|), in half-mass radii."""
    masses = np.full(200_000, 1.0)
    radius = np.sort(King(1.0, depth).draw(len(masses), 1.0, np.random.default_rng(1))[0])
    inside = np.arange(len(radius))
    return len(radius) ** 2 / (2 * float((inside / radius).sum()))


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


def cmc_table(
    folder: Path, runs: int, n_stars: int, seed: int, until: float
) -> list[dict[str, Any]]:
    """Clusters of the CMC catalogue and ours that began alike."""
    with gzip.open(folder / "globular" / "cmc" / "cmc_params.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    chosen: dict[str, dict[str, str]] = {}
    for row in rows:
        late = abs(1000 * float(row["age"]) - until)
        before = chosen.get(row["model"])
        if late < 100 and (before is None or late < abs(1000 * float(before["age"]) - until)):
            chosen[row["model"]] = row
    names = [name for name in sorted(chosen) if name.startswith(f"N{n_stars // 100_000}-")]
    ratio = virial_over_half_mass_radius(KING_DEPTH)
    found = []
    print(f"\n{'CMC model':24} {'M':>7} {'CMC':>7} {'M/L_V':>6} {'CMC':>6} {'R_hl':>6} {'CMC':>6} "
          f"{'BHs':>4} {'CMC':>4} {'s':>6}")  # fmt: skip
    for name in names[:: max(1, len(names) // runs)][:runs]:
        parsed = re.fullmatch(r"N(\d+)-RV([\d.]+)-RG(\d+)-Z([\d.]+)", name)
        assert parsed is not None
        metals = 0.02 * float(parsed[4])
        model = ClusterModel(
            n_stars,
            King(float(parsed[2]) / ratio, KING_DEPTH),
            metallicity=math.log10(metals / SOLAR_METAL_FRACTION),
            lowest_mass=0.08,
            highest_mass=150.0,
            orbit=CircularOrbit(float(parsed[3])),
            seed=seed,
        )
        cluster, seconds = evolved(model, until)
        snapshot = snapshot_of(cluster)
        row = chosen[name]
        found.append(
            {
                "model": name,
                "mass": snapshot.total_mass,
                "cmc_mass": float(row["Mtot"]),
                "ml": snapshot.total_mass / snapshot.total_light_v,
                "cmc_ml": float(row["ML_V"]),
                "size": snapshot.half_light_radius,
                "cmc_size": float(row["Rhl_V"]),
                "black_holes": int((snapshot.kind == 14).sum()),
                "cmc_black_holes": int(float(row["N_14"])),
                "seconds": seconds,
                "energy_error": cluster.energy_error,
            }
        )
        print("{model:24} {mass:7.0f} {cmc_mass:7.0f} {ml:6.2f} {cmc_ml:6.2f} {size:6.2f} "
              "{cmc_size:6.2f} {black_holes:4d} {cmc_black_holes:4d} {seconds:6.0f}"
              .format(**found[-1]), flush=True)  # fmt: skip
    for ours, theirs, what in (("ml", "cmc_ml", "M/L_V"), ("size", "cmc_size", "R_hl"),
                               ("mass", "cmc_mass", "mass")):  # fmt: skip
        ratios = np.array([row[ours] / row[theirs] for row in found])
        print(f"{what}: median ratio {np.median(ratios):.2f}, "
              f"{ratios.min():.2f} to {ratios.max():.2f}")  # fmt: skip
    return found


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="*", default=[5e4])
    parser.add_argument("--until", type=float, default=14_000.0, help="Myr")
    parser.add_argument("--collapse", type=int, default=10_000, help="equal stars; 0 for none")
    parser.add_argument("--data", type=Path, help="folder with globular/cmc/cmc_params.csv.gz")
    parser.add_argument("--runs", type=int, default=6, help="of the CMC catalogue")
    parser.add_argument("--cmc-stars", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small clusters, seconds")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.quick:
        given.sizes, given.until, given.collapse = [2e3], 500.0, 1000
    warm_up()
    results: dict[str, Any] = {}
    if given.data is None:
        sizes = [round(size) for size in given.sizes]
        results["sizes"] = sizes_table(sizes, given.until, given.seed)
        if given.collapse:
            results["collapse"] = collapse_table(given.collapse, given.seed)
    else:
        results["cmc"] = cmc_table(given.data, given.runs, given.cmc_stars, given.seed, 12_000.0)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
