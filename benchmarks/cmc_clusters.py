"""Clusters of the CMC Cluster Catalog beside ours that began alike.

    python benchmarks/cmc_clusters.py --data DIR --runs 6
    python benchmarks/cmc_clusters.py --data DIR --models N2-RV2-RG20-Z0.1

``--data`` holds the catalogue's table (globular/cmc/cmc_params.csv.gz; Kremer et al. 2020, ApJS
247, 48). For its models of 200,000 stars, or some spread over them, a King model of W0 = 5 begins
with the same number of stars, virial radius, metallicity and orbit, and is compared at 12 Gyr.
CMC's clusters begin with 5 % binaries, ours with none. Half-mass radii stand beside a third
opinion: the two-component model of Antonini & Gieles (2020, MNRAS 492, 2936), whose four numbers
were fitted to direct N-body runs, given our mass at first and our black holes at 30 Myr. CMC's
half-mass radius follows from its velocity dispersion, by the virial theorem.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from melotte.io.simulation_files import SOLAR_METAL_FRACTION
from melotte.io.star_snapshots import BLACK_HOLE
from melotte.sky.monte_carlo.equilibria import King
from melotte.sky.monte_carlo.evolution import FRACTIONS, ClusterEvolution, ClusterModel
from melotte.sky.monte_carlo.snapshots import snapshot_of
from melotte.sky.monte_carlo.tides import CircularOrbit
from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_MYR

KING_DEPTH = 5.0
UNTIL = 12_000.0
YOUNG = 30.0
"""When the black holes have been born, Myr."""
TIMES = (100.0, 300.0, 700.0, 1000.0, 2000.0, 4000.0, 6000.0, UNTIL)
"""Of the table of expansion, Myr."""
BINDING = 0.4
"""Potential energy in G M^2 / r_h."""


def virial_over_half_mass_radius(depth: float) -> float:
    """Virial radius of a King model, G M^2 / (2 |W|), in half-mass radii."""
    masses = np.full(200_000, 1.0)
    radius = np.sort(King(1.0, depth).draw(len(masses), 1.0, np.random.default_rng(1))[0])
    inside = np.arange(len(radius))
    return len(radius) ** 2 / (2 * float((inside / radius).sum()))


def balanced_half_mass_radii(
    mass: float, mean: float, radius: float, black_holes: float, orbit: CircularOrbit
) -> list[float]:
    """Half-mass radius at :data:`TIMES` by Antonini & Gieles 2020, pc; NaN once that dissolved.

    Parameters
    ----------
    mass, mean : float, Msun
        Of the cluster and of a star, at first.
    radius : float, pc
        That of half the mass, at first.
    black_holes : float, Msun
        In all, after their natal kicks.
    orbit : CircularOrbit
    """
    # Their fits: wait for balance, loss of black holes, loss of stars, black holes' relaxation.
    wait, ejection, winds, boost, heating, coulomb = 3.21, 0.0028, 0.0823, 147.0, 0.1, 10.0

    def relaxation(total: float, size: float, share: float) -> float:
        time_scale = math.sqrt(total * size**3 / GRAVITY) / PC_PER_MYR
        return 0.138 * time_scale / (mean * (1 + boost * share) * coulomb)

    balance = wait * relaxation(mass, radius, black_holes / mass)

    def change(time: float, state: Any) -> list[float]:
        stars, holes, size = max(state[0], 1.0), state[1], max(state[2], 1e-3)
        total = stars + max(holes, 0.0)
        scale = relaxation(total, size, max(holes, 0.0) / total)
        lost = winds * stars / time if time >= 2 else 0.0
        growth = lost / total * size
        filling = size / orbit.tidal_radius(total) / 0.125
        lost += 0.6 * heating * filling**1.5 * total / scale
        thrown = 0.0
        if time > balance:
            thrown = ejection * total / scale if holes > 0 else 0.0
            growth += size * (heating / scale - 2 * (lost + thrown) / total)
        return [-lost, -thrown, growth]

    def dissolved(time: float, state: Any) -> float:
        del time
        return min(float(state[0]) / mass - 0.05, float(state[2]))

    dissolved.terminal = True
    begin = [mass, black_holes, radius]
    found = solve_ivp(change, (0.1, UNTIL), begin, t_eval=TIMES, max_step=5.0, events=dissolved)
    radii = found.y[2].tolist()
    return radii + [math.nan] * (len(TIMES) - len(radii))


def cmc_table(
    folder: Path, runs: int, n_stars: int, seed: int, models: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Clusters of the CMC catalogue and ours that began alike.

    Of those of ``n_stars`` stars, ``runs`` spread over their names, or the named ``models`` alone.
    """
    with gzip.open(folder / "globular" / "cmc" / "cmc_params.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    chosen: dict[str, dict[str, str]] = {}
    for row in rows:
        late = abs(1000 * float(row["age"]) - UNTIL)
        before = chosen.get(row["model"])
        if late < 100 and (before is None or late < abs(1000 * float(before["age"]) - UNTIL)):
            chosen[row["model"]] = row
    names = [name for name in sorted(chosen) if name.startswith(f"N{n_stars // 100_000}-")]
    unknown = [name for name in models if name not in names]
    if unknown:
        raise SystemExit(f"no model {unknown[0]} near 12 Gyr; there are {', '.join(names)}")
    taken = list(models) or names[:: max(1, len(names) // runs)][:runs]
    ratio = virial_over_half_mass_radius(KING_DEPTH)
    found = []
    print(f"\n{'CMC model':24} {'M':>7} {'CMC':>7} {'M/L_V':>6} {'CMC':>6} {'R_hl':>6} {'CMC':>6} "
          f"{'r_h':>5} {'CMC':>5} {'AG20':>5} {'BHs':>4} {'CMC':>4} {'s':>6}")  # fmt: skip
    for name in taken:
        parsed = re.fullmatch(r"N(\d+)-RV([\d.]+)-RG(\d+)-Z([\d.]+)", name)
        assert parsed is not None
        metals = 0.02 * float(parsed[4])
        king = King(float(parsed[2]) / ratio, KING_DEPTH)
        orbit = CircularOrbit(float(parsed[3]))
        model = ClusterModel(
            n_stars,
            king,
            metallicity=math.log10(metals / SOLAR_METAL_FRACTION),
            lowest_mass=0.08,
            highest_mass=150.0,
            orbit=orbit,
            seed=seed,
        )
        begun = time.process_time()
        cluster = ClusterEvolution(model)
        first_mass = cluster.total_mass
        holes = 0.0
        for _ in cluster.run(UNTIL, [YOUNG]):
            snapshot = snapshot_of(cluster)
            holes = float(snapshot.mass[snapshot.kind == BLACK_HOLE].sum())
        seconds = time.process_time() - begun
        snapshot = snapshot_of(cluster)
        row = chosen[name]
        dispersion = float(row["sig"])
        model_radii = balanced_half_mass_radii(
            first_mass, first_mass / n_stars, king.half_mass_radius, holes, orbit
        )
        history = cluster.history
        half = [radii[FRACTIONS.index(0.5)] for radii in history.lagrangian_radii]
        radii = np.interp(TIMES, history.time, half, right=math.nan).tolist()
        counts = np.interp(TIMES, history.time, history.n_black_holes, right=0).round().tolist()
        found.append(
            {
                "model": name,
                "mass": snapshot.total_mass,
                "cmc_mass": float(row["Mtot"]),
                "ml": snapshot.total_mass / snapshot.total_light_v,
                "cmc_ml": float(row["ML_V"]),
                "size": snapshot.half_light_radius,
                "cmc_size": float(row["Rhl_V"]),
                "radius": snapshot.half_mass_radius,
                "cmc_radius": BINDING * GRAVITY * float(row["Mtot"]) / (3 * dispersion**2),
                "model_radius": model_radii[-1],
                "times": TIMES,
                "radii": radii,
                "model_radii": model_radii,
                "black_hole_numbers": counts,
                "black_holes": int((snapshot.kind == BLACK_HOLE).sum()),
                "cmc_black_holes": int(float(row["N_14"])),
                "seconds": seconds,
                "energy_error": cluster.energy_error,
            }
        )
        print("{model:24} {mass:7.0f} {cmc_mass:7.0f} {ml:6.2f} {cmc_ml:6.2f} {size:6.2f} "
              "{cmc_size:6.2f} {radius:5.2f} {cmc_radius:5.2f} {model_radius:5.2f} "
              "{black_holes:4d} {cmc_black_holes:4d} {seconds:6.0f}"
              .format(**found[-1]), flush=True)  # fmt: skip
        for what, values in (("Gyr", np.array(TIMES) / 1000), ("r_h", radii),
                             ("r_h AG20", model_radii), ("BHs", counts)):  # fmt: skip
            print(f"    {what:8}" + "".join(f"{value:7.4g}" for value in values), flush=True)
    for ours, theirs, what in (("ml", "cmc_ml", "M/L_V"), ("size", "cmc_size", "R_hl"),
                               ("mass", "cmc_mass", "mass"), ("radius", "cmc_radius", "r_h"),
                               ("radius", "model_radius", "r_h over AG20")):  # fmt: skip
        ratios = np.array([row[ours] / row[theirs] for row in found])
        print(f"{what}: median ratio {np.nanmedian(ratios):.2f}, "
              f"{np.nanmin(ratios):.2f} to {np.nanmax(ratios):.2f}")  # fmt: skip
    return found


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="has globular/cmc")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--models", nargs="*", default=(), help="these alone, by name")
    parser.add_argument("--stars", type=int, default=200_000, choices=[200_000, 400_000, 800_000])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = cmc_table(given.data, given.runs, given.stars, given.seed, given.models)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
