"""Black holes sink among stars: the Monte Carlo method beside direct summation.

    python benchmarks/cluster_nbody.py --stars 2048 --seeds 2

Both begin with the same Plummer spheres, of which one star in a hundred is twenty times as heavy
as the others. Direct summation: leapfrog with fixed steps and Plummer softening. The Coulomb
logarithm of the Monte Carlo runs is that of softened encounters up to 0.275 half-mass radii, the
reach that ln(0.11 N) stands for in a Plummer sphere of equal stars, so nothing is fitted. Times
are in initial half-mass relaxation times (Spitzer's, with that logarithm), radii in initial
half-mass radii.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from numba import njit

from melotte.sky.monte_carlo.equilibria import Plummer
from melotte.sky.monte_carlo.evolution import ClusterEvolution, ClusterModel
from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_MYR

HEAVY = 20.0
HEAVY_SHARE = 0.01
REACH = 0.275
"""Largest impact parameter, half-mass radii: 0.11 N times that of deflections by 90 degrees."""


@njit(cache=True, fastmath=True)
def accelerate(place, mass, softening, out):
    """Accelerations of all stars in units of G = 1, by summation over pairs; in place."""
    n = len(mass)
    square = softening * softening
    out[:] = 0.0
    for i in range(n):
        x, y, z = place[0, i], place[1, i], place[2, i]
        ax, ay, az = 0.0, 0.0, 0.0
        for j in range(n):
            dx, dy, dz = place[0, j] - x, place[1, j] - y, place[2, j] - z
            distance = dx * dx + dy * dy + dz * dz + square
            weight = mass[j] / (distance * math.sqrt(distance))
            ax += weight * dx
            ay += weight * dy
            az += weight * dz
        out[0, i], out[1, i], out[2, i] = ax, ay, az


@njit(cache=True)
def leap(place, velocity, mass, softening, step, count):
    """Advance by a number of equal steps; in place."""
    force = np.empty_like(place)
    accelerate(place, mass, softening, force)
    for _ in range(count):
        velocity += 0.5 * step * force
        place += step * velocity
        accelerate(place, mass, softening, force)
        velocity += 0.5 * step * force


def masses_of(n_stars: int, generator: np.random.Generator) -> np.ndarray:
    """Equal stars, one in a hundred of them twenty times as heavy; of total mass 1."""
    mass = np.ones(n_stars)
    mass[generator.permutation(n_stars)[: round(HEAVY_SHARE * n_stars)]] = HEAVY
    return mass / mass.sum()


def radii(radius: np.ndarray, mass: np.ndarray) -> tuple[float, float]:
    """Median radius of heavy stars and of the others."""
    heavy = mass > 2 * mass.min()
    return float(np.median(radius[heavy])), float(np.median(radius[~heavy]))


def directions(radius, radial, across, generator):
    """Places and velocities in space of shells."""
    unit = generator.normal(size=(3, len(radius)))
    unit /= np.sqrt((unit**2).sum(0))
    other = generator.normal(size=(3, len(radius)))
    other -= unit * (unit * other).sum(0)
    other /= np.sqrt((other**2).sum(0))
    return radius * unit, radial * unit + across * other


def direct(n_stars: int, seed: int, times: np.ndarray, softening: float, step: float) -> np.ndarray:
    """Radii of heavy and light stars at times in units of G = M = r_h = 1, shape (n_times, 2)."""
    generator = np.random.default_rng(seed)
    mass = masses_of(n_stars, generator)
    begin = Plummer(1.0).draw(n_stars, 1 / GRAVITY, generator)
    place, velocity = directions(*begin, generator)
    velocity -= (mass * velocity).sum(1)[:, None]
    found, now = [], 0
    for moment in times:
        target = round(moment / step)
        leap(place, velocity, mass, softening, step, target - now)
        now = target
        centre = np.median(place, axis=1)[:, None]
        found.append(radii(np.sqrt(((place - centre) ** 2).sum(0)), mass))
    return np.array(found)


def monte_carlo(
    n_stars: int, seed: int, times: np.ndarray, coulomb: float, deflection: float
) -> np.ndarray:
    """The same of the Monte Carlo method."""
    generator = np.random.default_rng(seed)
    mass = 0.5 * n_stars * masses_of(n_stars, generator)
    model = ClusterModel(
        n_stars, Plummer(1.0), stellar_evolution=False, binaries=False, deflection=deflection,
        coulomb_factor=math.exp(coulomb) / n_stars, seed=seed,
    )  # fmt: skip
    cluster = ClusterEvolution(model, mass)
    # One unit of time, Myr.
    unit = 1 / math.sqrt(GRAVITY * mass.sum()) / PC_PER_MYR
    found = []
    for _ in cluster.run(float(times[-1] * unit), times * unit):
        held = cluster.stars[0, cluster.names[: cluster.n]]
        found.append(radii(cluster.shells[0, : cluster.n], held))
    return np.array(found)


def main() -> None:
    """Run both and print the radii."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=2, help="direct runs")
    parser.add_argument("--monte-carlo-seeds", type=int, default=8)
    parser.add_argument("--softening", type=float, default=0.01, help="in half-mass radii")
    parser.add_argument("--step", type=float, default=1 / 256, help="in units of G = M = r_h = 1")
    parser.add_argument("--until", type=float, default=0.183, help="relaxation times")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.quick:
        given.stars, given.seeds, given.monte_carlo_seeds, given.until = 1000, 1, 2, 0.05
    # The sum of b^3 db / (b^2 + eps^2)^2 up to the reach.
    coulomb = math.log(REACH / given.softening) - 0.5
    relaxation = 0.138 * given.stars / coulomb
    times = relaxation * np.linspace(given.until / 6, given.until, 6)
    begun = time.process_time()
    summed = np.mean(
        [direct(given.stars, seed, times, given.softening, given.step)
         for seed in range(given.seeds)], axis=0,
    )  # fmt: skip
    seconds = time.process_time() - begun
    print(f"{given.stars} stars, ln Lambda {coulomb:.2f}; direct summation {seconds:.0f} s for "
          f"{given.seeds} runs")  # fmt: skip
    results = {"times": (times / relaxation).tolist(), "direct": summed.tolist()}
    for deflection in (0.02, 0.1):
        begun = time.process_time()
        runs = [
            monte_carlo(given.stars, 100 + seed, times, coulomb, deflection)
            for seed in range(given.monte_carlo_seeds)
        ]
        seconds = time.process_time() - begun
        results[f"monte carlo {deflection}"] = np.mean(runs, axis=0).tolist()
        print(f"  Monte Carlo, deflection {deflection}: {seconds:.0f} s for {len(runs)} runs")
    print(f"{'t / t_rh':>10} {'heavy: sum':>11} {'0.02':>7} {'0.1':>7} {'light: sum':>11} "
          f"{'0.02':>7} {'0.1':>7}")  # fmt: skip
    for i, moment in enumerate(results["times"]):
        rows = [results[name][i] for name in ("direct", "monte carlo 0.02", "monte carlo 0.1")]
        print(f"{moment:10.3f} " + " ".join(
            f"{row[kind]:{11 if k == 0 else 7}.3f}" for kind in (0, 1) for k, row in enumerate(rows)
        ))  # fmt: skip
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
