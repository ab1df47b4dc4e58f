"""How fast stars are evolved and lit, beside a star-by-star numpy interpolation.

The comparison interpolates the four isochrones around each star with ``numpy.interp``, as a
simple script would; both are timed in one run, so that their ratio does not depend on the machine.

    python benchmarks/stellar_populations.py [--quick] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from melotte.sky import stellar_table
from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.populations import sample_cluster

SEED = 1
BANDS = ["WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "ACS_WFC_F475W", "Bessell_V", "ACS_WFC_F814W"]


def best_ms(work: Callable[[], object], repeats: int) -> float:
    """Shortest wall time of several runs, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def load_ms(repeats: int) -> tuple[float, float]:
    """Time to read the isochrones with five bands, and all bands, from the file."""

    def read(bands: tuple[str, ...]) -> None:
        for cached in (
            stellar_table.shipped_isochrones,
            stellar_table.shipped_corrections,
            stellar_table.shipped_band,
        ):
            cached.cache_clear()
        stellar_table.shipped_isochrones()
        stellar_table.shipped_corrections().restricted(bands)

    every = StellarGrid.shipped().bands
    return best_ms(lambda: read(tuple(BANDS)), repeats), best_ms(lambda: read(every), repeats)


def star_by_star(grid: StellarGrid, mass: np.ndarray, log_age: float, metallicity: float) -> None:
    """Luminosity, temperature and mass of each star by one ``numpy.interp`` call a column."""
    isochrone = grid.isochrone(log_age, metallicity)
    columns = (isochrone.log_luminosity, isochrone.log_teff, isochrone.current_mass)
    for one in mass:
        for column in columns:
            np.interp(one, isochrone.initial_mass, column)


def main() -> None:
    """Print the timings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    repeats = 3 if arguments.quick else 15
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    numbers: dict[str, float] = {}
    numbers["load five bands, ms"], numbers["load all bands, ms"] = load_ms(min(repeats, 5))

    grid = StellarGrid.shipped(BANDS)
    imf = Kroupa2001(0.1, 120.0)

    def uniform(n: int, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, 1, generator=generator)

    for name, n_clusters, n_stars in (
        ("1 cluster of 50,000 stars", 1, 50_000),
        ("256 clusters of 400 stars", 256, 400),
        ("100,000 field stars, each of its own age and [Fe/H]", 100_000, 1),
    ):
        mass = imf.sample((n_clusters, n_stars), generator).float()
        log_age, metallicity = uniform(n_clusters, 7, 10.1), uniform(n_clusters, -1.5, 0.4)
        dust = uniform(n_clusters, 0, 2)
        stars = grid.evolve(mass, log_age, metallicity)
        evolve = best_ms(lambda m=mass, a=log_age, z=metallicity: grid.evolve(m, a, z), repeats)
        light = best_ms(
            lambda s=stars, d=dust, z=metallicity: grid.magnitudes(s, d, BANDS, z), repeats
        )
        numbers[f"{name}: evolve, ms"] = evolve
        numbers[f"{name}: five bands, ms"] = light

    mass = imf.sample((50_000,), generator).numpy()[:5000]
    slow = 10 * best_ms(lambda: star_by_star(grid, mass, 8.13, -0.31), 1)
    fast = numbers["1 cluster of 50,000 stars: evolve, ms"]
    numbers["50,000 stars by numpy.interp star by star, ms"] = slow
    numbers["times faster than star by star"] = slow / fast
    zero = torch.zeros(64)
    numbers["64 clusters of 1,000 Msun drawn and lit, ms"] = best_ms(
        lambda: sample_cluster(
            grid, zero + 1000, uniform(64, 7, 10)[:, 0], zero, zero, BANDS, generator
        ),
        repeats,
    )
    print(f"CPU, {platform.machine()}, 1 thread, torch {torch.__version__}, seed {SEED}")
    for name, value in numbers.items():
        print(f"{value:10.1f}  {name}")
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
