"""Colours of a SLUG population as it ages, beside those of the shipped stellar table.

The track is a population of 10,000 Msun without stochastic sampling, in AB magnitudes without dust
and nebulae; it is put on the Vega scale with the zero points of :mod:`melotte.telescope.passbands`.

    python benchmarks/slug_tracks.py --data DIR [--quick] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits

from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.populations import expected_magnitudes
from melotte.telescope.passbands import passband

BANDS = (
    "WFC3_UVIS_F336W",
    "WFC3_UVIS_F438W",
    "WFC3_UVIS_F555W",
    "WFC3_UVIS_F814W",
    "WFC3_IR_F110W",
    "WFC3_IR_F160W",
)
SUN_Z = 0.0185
METAL_CONTENTS = (0.008, 0.0142, 0.02)
AGE_RANGES = ((6.0, 6.6), (6.6, 7.0), (7.0, 7.4), (7.4, 7.7), (7.7, 9.001))


def differences(folder: Path, z: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Log ages (n,) and SLUG minus ours (n, n_bands), Vega mag."""
    track = fits.getdata(folder / "catalogues" / "cluster_tracks_cluster_phot.fits")
    time = np.log10(np.asarray(track["Time"], float))
    theirs = np.stack([np.asarray(track[band], float) for band in BANDS], 1)
    theirs -= [passband(band).ab_minus_vega for band in BANDS]
    log_age = np.arange(6.0, 9.0 + step / 2, step)
    theirs = np.stack([np.interp(log_age, time, column) for column in theirs.T], 1)
    grid, metallicity = StellarGrid.shipped(BANDS), math.log10(z / SUN_Z)
    ours = [
        expected_magnitudes(
            grid, float(age), metallicity, BANDS, total_mass=1e4, imf=Kroupa2001()
        ).numpy()
        for age in log_age
    ]
    return log_age, theirs - np.stack(ours)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds catalogues/")
    parser.add_argument("--quick", action="store_true", help="ages 0.1 dex apart, not 0.025")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    short = [band.rsplit("_", 1)[1] for band in BANDS]
    pairs = [f"{blue}-{red}" for blue, red in pairwise(short)]
    results = []
    print("SLUG - ours, Vega mag: median (largest)")
    print(f"{'Z':>7} {'log age':>10}" + "".join(f"{name:>15}" for name in (*pairs, "F555W")))
    for z in METAL_CONTENTS:
        log_age, difference = differences(arguments.data, z, 0.1 if arguments.quick else 0.025)
        colour = -np.diff(difference, axis=1)
        values = np.concatenate([colour, difference[:, [short.index("F555W")]]], 1)
        for low, high in AGE_RANGES:
            chosen = values[(log_age >= low - 1e-6) & (log_age < high - 1e-6)]
            middle, largest = np.median(chosen, 0), np.abs(chosen).max(0)
            print(f"{z:7.4f} {low:5.2f}-{high:4.2f}", end="")
            print("".join(f"{m:+8.2f} ({x:.2f})" for m, x in zip(middle, largest, strict=True)))
            results.append(
                {
                    "z": z,
                    "log_age": [low, round(high, 2)],
                    "median": dict(zip((*pairs, "F555W"), middle.round(3).tolist(), strict=True)),
                    "largest": dict(zip((*pairs, "F555W"), largest.round(3).tolist(), strict=True)),
                }
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
