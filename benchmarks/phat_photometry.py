"""Clusters of M31 from their catalogued age, mass and A_V, beside their six measured magnitudes.

Every cluster is drawn star by star, many times, anywhere in the cell of the catalogue's grid of
age, mass and A_V, at 785 kpc. The catalogue's values came from the same magnitudes: this tests
models, zero points, units and distance, not ages.

    python benchmarks/phat_photometry.py --data DIR [--quick] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits

from melotte.sky.cluster_light import ClusterLight
from melotte.sky.imf import BrokenPowerLaw, InitialMassFunction, Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.remnants import remnant_mass

SEED = 1
DISTANCE_MODULUS = 5 * math.log10(785e3 / 10)
BANDS = {
    "F275W": "WFC3_UVIS_F275W",
    "F336W": "WFC3_UVIS_F336W",
    "F475W": "ACS_WFC_F475W",
    "F814W": "ACS_WFC_F814W",
    "F110W": "WFC3_IR_F110W",
    "F160W": "WFC3_IR_F160W",
}
COLOURS = (("F336W", "F475W"), ("F475W", "F814W"))
AGE_EDGES = (6.0, 7.0, 7.48, 7.90, 8.48, 9.0, 9.4, 10.3)

# Half cells of the catalogue's grid: log age, log mass, A_V.
HALF_CELL = (0.1075, 0.1376, 0.15)
AGES_PER_CELL = 5
SUN_Z = 0.0185


@dataclass(frozen=True)
class Clusters:
    """Measured absolute magnitudes (n, 6) and catalogued values (n,) each."""

    magnitudes: np.ndarray
    log_age: np.ndarray
    log_mass: np.ndarray
    extinction_v: np.ndarray
    aperture_correction: np.ndarray


@dataclass(frozen=True)
class Assumption:
    """How a catalogued mass becomes stars."""

    name: str
    imf: InitialMassFunction
    z: float = 0.0185
    mass: str = "initial"
    aperture_corrected: bool = False


KROUPA_1993 = BrokenPowerLaw(0.1, 120.0, (0.5, 1.0), (1.3, 2.2, 2.7))
"""Kroupa, Tout & Gilmore 1993, MNRAS 262, 545, Eq. 13: steeper than Kroupa 2001 above 1 Msun."""

ASSUMPTIONS = (
    Assumption("Kroupa 2001, initial mass", Kroupa2001()),
    Assumption("the same, Z = 0.009", Kroupa2001(), z=0.009),
    Assumption("the same, 0.01-120 Msun", Kroupa2001(0.01)),
    Assumption("the same, aperture corrections added", Kroupa2001(), aperture_corrected=True),
    Assumption("Kroupa 2001, mass of living stars", Kroupa2001(), mass="living"),
    Assumption("Kroupa et al. 1993, initial mass", KROUPA_1993),
    Assumption("Kroupa et al. 1993, living stars and remnants", KROUPA_1993, mass="present"),
    Assumption("Kroupa et al. 1993, mass of living stars", KROUPA_1993, mass="living"),
)
SHOWN_IN_FULL = (0, len(ASSUMPTIONS) - 1)


def read(folder: Path) -> Clusters:
    """Join Johnson et al. 2012 and Fouesneau et al. 2014 on the cluster's number."""
    measured = fits.getdata(folder / "catalogues" / "johnson2012_m31.fits")
    derived = fits.getdata(folder / "catalogues" / "fouesneau2014_m31.fits")
    row_of = {int(number): i for i, number in enumerate(measured["PCID"])}
    measured = measured[[row_of[int(number)] for number in derived["PCID"]]]
    values = [np.asarray(derived[name], float) for name in ("logA-best", "logM-bset", "AV-best")]
    known = np.isfinite(sum(values))
    magnitudes = np.stack([np.asarray(measured[band], float) for band in BANDS], 1)
    correction = np.nan_to_num(np.asarray(measured["ApCor"], float))
    return Clusters(
        magnitudes[known] - DISTANCE_MODULUS, *(value[known] for value in values), correction[known]
    )


def mass_left(grid: StellarGrid, assumption: Assumption, log_age: float) -> float:
    """Mass now over initial mass."""
    if assumption.mass == "initial":
        return 1.0
    imf = assumption.imf
    isochrone = grid.isochrone(log_age, math.log10(assumption.z / SUN_Z))
    mass = isochrone.initial_mass
    edges = np.concatenate([[imf.low], (mass[1:] + mass[:-1]) / 2, [min(mass[-1], imf.high)]])
    stars = np.diff(imf.cdf(torch.from_numpy(edges)).numpy()) / imf.mean_mass
    left = float(stars @ isochrone.current_mass)
    if assumption.mass == "present" and mass[-1] < imf.high:
        dead = torch.linspace(float(mass[-1]), imf.high, 100_001, dtype=torch.float64)
        left += float(torch.trapezoid(imf.pdf(dead) * remnant_mass(dead), dead)) / imf.mean_mass
    return left


def draw(clusters: Clusters, assumption: Assumption, draws: int) -> np.ndarray:
    """Absolute magnitudes (n, draws, 6) of drawn clusters; NaN beyond the draws of heavy ones."""
    metallicity = math.log10(assumption.z / SUN_Z)
    centres, cell = np.unique(clusters.log_age.round(3), return_inverse=True)
    shifts = (np.arange(AGES_PER_CELL) - (AGES_PER_CELL - 1) / 2) / AGES_PER_CELL * 2
    nodes = (centres[:, None] + shifts * HALF_CELL[0]).reshape(-1)
    grid = StellarGrid.shipped(tuple(BANDS.values()))
    light = ClusterLight(
        grid,
        list(BANDS.values()),
        torch.from_numpy(nodes),
        torch.tensor([metallicity]),
        imf=assumption.imf,
        faint_share=0.05,
        least_stars=300,
    )
    left = torch.tensor([mass_left(grid, assumption, float(age)) for age in nodes])
    generator = torch.Generator().manual_seed(SEED)
    # The light of heavy clusters hardly varies, and costs most.
    counts = torch.from_numpy(np.clip(2e5 / 10**clusters.log_mass, 10, draws).astype(int))
    cluster = torch.repeat_interleave(torch.arange(len(counts)), counts)
    uniform = 2 * torch.rand(2, len(cluster), generator=generator, dtype=torch.float64) - 1
    age = torch.randint(0, AGES_PER_CELL, (len(cluster),), generator=generator)
    age += torch.from_numpy(cell)[cluster] * AGES_PER_CELL
    log_mass = torch.from_numpy(clusters.log_mass)[cluster] + HALF_CELL[1] * uniform[0]
    dust = torch.from_numpy(clusters.extinction_v)[cluster] + HALF_CELL[2] * uniform[1]
    magnitudes = light.integrated(
        10**log_mass / left[age], age, torch.zeros_like(age), dust.clamp(min=0), generator
    )
    found = np.full((len(counts), draws, len(BANDS)), np.nan)
    for row, drawn in zip(found, magnitudes.split(counts.tolist()), strict=True):
        row[: len(drawn)] = drawn.numpy()
    return found


def by_age(clusters: Clusters, assumption: Assumption, drawn: np.ndarray) -> list[dict]:
    """Observed minus median drawn magnitudes and colours, in bins of age."""
    measured = clusters.magnitudes
    if assumption.aperture_corrected:
        measured = measured + clusters.aperture_correction[:, None]
    names = list(BANDS)
    difference = measured - np.nanmedian(drawn, 1)
    pairs = [(names.index(blue), names.index(red)) for blue, red in COLOURS]
    drawn_colour = np.stack([drawn[..., b] - drawn[..., r] for b, r in pairs], -1)
    colour = np.stack([measured[:, b] - measured[:, r] for b, r in pairs], 1)
    colour = colour - np.nanmedian(drawn_colour, 1)
    fainter = np.where(np.isnan(drawn), np.nan, drawn > measured[:, None])
    rank = np.nanmean(fainter, 1)
    rank[~np.isfinite(measured)] = np.nan
    rows = []
    bins = [*pairwise(AGE_EDGES), (7.48, 8.48), (7.48, 10.3)]
    for low, high in bins:
        chosen = (clusters.log_age >= low) & (clusters.log_age < high)
        middle = np.nanmedian(difference[chosen], 0)
        spread = 1.4826 * np.nanmedian(np.abs(difference[chosen] - middle), 0)
        green = rank[chosen, names.index("F475W")]
        green = green[np.isfinite(green)]
        rows.append(
            {
                "log_age": [low, high],
                "clusters": int(chosen.sum()),
                "offset": dict(zip(names, middle.round(3).tolist(), strict=True)),
                "scatter": dict(zip(names, spread.round(3).tolist(), strict=True)),
                "colour_offset": {
                    f"{blue}-{red}": round(float(value), 3)
                    for (blue, red), value in zip(
                        COLOURS, np.nanmedian(colour[chosen], 0), strict=True
                    )
                },
                "inside_central_95": round(float(np.mean(np.abs(green - 0.5) <= 0.475)), 3),
            }
        )
    return rows


def print_full(name: str, rows: list[dict]) -> None:
    """All bands of one assumption."""
    print(f"\n{name}: observed - median drawn, mag (robust scatter)")
    print(f"{'log age':>12} {'n':>4}" + "".join(f"{band:>14}" for band in BANDS), end="")
    print("".join(f"{blue + '-' + red:>13}" for blue, red in COLOURS) + "  in 95 %")
    for row in rows:
        low, high = row["log_age"]
        print(f"{low:6.2f}-{high:5.2f} {row['clusters']:4d}", end="")
        for band in BANDS:
            print(f"{row['offset'][band]:+.2f} ({row['scatter'][band]:.2f})".rjust(14), end="")
        print("".join(f"{value:+13.2f}" for value in row["colour_offset"].values()), end="")
        print(f"{row['inside_central_95']:9.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds catalogues/")
    parser.add_argument("--quick", action="store_true", help="10 draws a cluster, not 200")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clusters = read(arguments.data)
    draws = 10 if arguments.quick else 200
    fewer = 10 if arguments.quick else 40
    print(
        f"{len(clusters.log_age)} clusters, up to {draws} draws each ({fewer} where only F475W is "
        f"shown), seed {SEED}, CPU, 1 thread"
    )
    results = {}
    for number, assumption in enumerate(ASSUMPTIONS):
        in_full = number in SHOWN_IN_FULL
        drawn = draw(clusters, assumption, draws if in_full else fewer)
        results[assumption.name] = by_age(clusters, assumption, drawn)
        if in_full:
            print_full(assumption.name, results[assumption.name])
    print("\nF475W, observed - median drawn, by log age")
    edges = pairwise(AGE_EDGES)
    print(" " * 48 + "".join(f"{low:6.2f}-{high:5.2f}" for low, high in edges))
    for name, rows in results.items():
        values = [row["offset"]["F475W"] for row in rows[: len(AGE_EDGES) - 1]]
        print(f"{name:48}" + "".join(f"{value:+12.2f}" for value in values))
    if arguments.json:
        arguments.json.write_text(json.dumps({"draws": draws, "results": results}, indent=1))


if __name__ == "__main__":
    main()
