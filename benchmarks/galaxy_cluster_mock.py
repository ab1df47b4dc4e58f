"""How the mock galaxy clusters' velocity dispersions scale with mass, beside the published mocks.

Regresses log sigma on log M200c over a catalogue flat in log mass, and inverts the relation for a
catalogue that follows the halo mass function from 10^14 to 10^15 Msun/h, as Ho et al. 2019 do.
Does so for catalogues of true members and with interlopers; prints the time a cluster takes.

    python benchmarks/galaxy_cluster_mock.py [-n 20000] [--seed 1] [--quick]
    python benchmarks/galaxy_cluster_mock.py --coma SAMPLE [--figure phase-space.png]

``--coma`` is the Coma sample that RCausticMass ships (galaxycluster/rcausticmass_coma_sample.txt
in the data folder): instead, its galaxies are counted in radius and velocity, and their dispersion
measured, beside mocks with haloes of every mass and with satellites in massive ones only.
``--figure`` draws it beside five mocks in phase space.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melotte.ragged import Ragged
from melotte.systems.galaxy_cluster.settings import DataSettings, PriorSettings
from melotte.systems.galaxy_cluster.simulator import GalaxyClusterSimulator
from melotte.systems.galaxy_cluster.velocity_dispersion import (
    DispersionRelation,
    log_velocity_dispersion,
)

PUBLISHED = {
    "pure": (0.3658, 1087.0, 0.0689, 0.1826, 0.027),
    "contaminated": (0.2412, 1002.5, 0.1038, 0.3691, -0.085),
}
"""Slope, sigma15 (km/s), scatter in log sigma; standard deviation and median of the error in
log M200c: the public notebook of Ho et al. 2019."""

COMA_REDSHIFT = 0.0235
COMA_H = 0.7
"""Of the sample's projected distances, Mpc."""

COMA_LOG_MASS = (14.9, 15.15)
COMA_MOCKS = 400
COMA_RADII = ((0.0, 1.5), (1.5, 2.3))
COMA_VELOCITIES = ((0.0, 1000.0), (1000.0, 2000.0), (2000.0, 3785.0))
DISPERSION_RADII = (0.0, 0.4, 0.8, 1.2, 1.6, 2.3)
DISPERSION_CUT = 2000.0
"""km/s: velocities that count in the dispersion profile."""


def catalogue(
    n: int, seed: int, contaminated: bool, masses: PriorSettings
) -> tuple[Tensor, Ragged, float]:
    """True log masses and galaxies of ``n`` clusters, and milliseconds that each took."""
    simulator = GalaxyClusterSimulator(DataSettings(contaminated=contaminated, prior=masses))
    generator = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    halos = simulator.draw(n, generator)
    galaxies, _ = simulator.observe(halos, generator)
    return halos.theta[:, 0], galaxies, (time.perf_counter() - start) / n * 1e3


def measure(n: int, seed: int, contaminated: bool) -> tuple[list[float], float]:
    """The five published statistics, and milliseconds a cluster."""
    flat = PriorSettings(log_m200c=(13.5, 15.3))
    log_mass, galaxies, spent = catalogue(n, seed, contaminated, flat)
    relation = DispersionRelation.fit(log_mass, log_velocity_dispersion(galaxies))
    natural = PriorSettings(log_m200c=(14.0, 15.0), mass_function=True)
    log_mass, galaxies, _ = catalogue(n, seed + 1, contaminated, natural)
    error = relation.log_mass(log_velocity_dispersion(galaxies)) - log_mass
    sigma15 = 10**relation.log_sigma15
    values = [relation.slope, sigma15, relation.scatter, float(error.std()), float(error.median())]
    return values, spent


def coma_settings(every_halo: bool, masses: tuple[float, float]) -> DataSettings:
    """Clusters like Coma in the spectroscopic sample of SDSS."""
    return DataSettings(
        prior=PriorSettings(log_m200c=masses),
        redshift=COMA_REDSHIFT,
        apertures=("large",),
        magnitude_limit=17.77,
        log_stellar_mass_limit=7.5,
        centrals=every_halo,
        haloes="all" if every_halo else "massive",
        fibre_separation=55.0,
    )


def coma_table(sample: Path) -> tuple[np.ndarray, np.ndarray]:
    """Velocities, km/s, and projected radii, comoving Mpc/h, of the sample."""
    table = np.loadtxt(sample, skiprows=1)
    return table[:, 2], table[:, 1] * COMA_H * (1 + COMA_REDSHIFT)


def phase_space_profile(velocity: np.ndarray, radius: np.ndarray) -> dict[str, float]:
    """Numbers of galaxies by radius and velocity, and dispersions, km/s, by radius."""
    speed = np.abs(velocity)
    found: dict[str, float] = {}
    for low, high in COMA_RADII:
        ring = (radius >= low) & (radius < high)
        for slow, fast in COMA_VELOCITIES:
            name = f"N, R {low:g}-{high:g}, |v| {slow:g}-{fast:g}"
            found[name] = float((ring & (speed >= slow) & (speed < fast)).sum())
    for low, high in itertools.pairwise(DISPERSION_RADII):
        ring = (radius >= low) & (radius < high) & (speed < DISPERSION_CUT)
        found[f"sigma, R {low:g}-{high:g}"] = float(velocity[ring].std())
    return found


def compare_coma(
    sample: Path, seed: int, masses: tuple[float, float]
) -> dict[str, dict[str, list[float]]]:
    """Print where Coma is among mocks; 16, 50, 84 % of these and the share of them below it."""
    coma = phase_space_profile(*coma_table(sample))
    rows: dict[str, dict[str, list[float]]] = {}
    print(f"Coma among {COMA_MOCKS} mocks of log M {masses}, R in comoving Mpc/h, v in km/s")
    for label, every_halo in (("every halo", True), ("satellites only", False)):
        simulator = GalaxyClusterSimulator(coma_settings(every_halo, masses))
        generator = torch.Generator().manual_seed(seed)
        start = time.perf_counter()
        galaxies, extras = simulator.observe(simulator.draw(COMA_MOCKS, generator), generator)
        spent = (time.perf_counter() - start) / COMA_MOCKS * 1e3
        limit = float(extras["log_stellar_mass_limit"].mean())
        tables = [galaxies[number].numpy() for number in range(COMA_MOCKS)]
        mocks = [phase_space_profile(table[:, 0], table[:, 1]) for table in tables]
        print(f"{label}: {spent:.2f} ms a mock, stellar masses above 10^{limit:.2f} Msun")
        print(f"{'':34s}{'Coma':>7s}{'16 %':>8s}{'50 %':>8s}{'84 %':>8s}{'below':>8s}")
        rows[label] = {}
        for name, value in coma.items():
            values = np.array([mock[name] for mock in mocks])
            row = [*np.nanpercentile(values, [16, 50, 84]), float((values < value).mean())]
            rows[label][name] = [value, *row]
            print(f"{name:34s}{value:7.0f}" + "{:8.0f}{:8.0f}{:8.0f}{:8.2f}".format(*row))
    return rows


def draw_figure(sample: Path, output: Path, seed: int, masses: tuple[float, float]) -> None:
    """The Coma cluster and five mocks in phase space, member galaxies marked in the mocks."""
    import matplotlib.pyplot as plt

    simulator = GalaxyClusterSimulator(coma_settings(every_halo=True, masses=masses))
    generator = torch.Generator().manual_seed(seed)
    halos = simulator.draw(5, generator)
    galaxies, extras = simulator.observe(halos, generator)
    velocity, radius = coma_table(sample)
    inside = (radius < 2.3) & (np.abs(velocity) < 3785)
    panels = plt.subplots(2, 3, figsize=(11, 6), sharex=True, sharey=True)[1].ravel()
    panels[0].scatter(radius[inside], velocity[inside], s=2, color="k")
    panels[0].set_title(f"Coma, {inside.sum()} galaxies")
    for number, panel in enumerate(panels[1:]):
        speed, distance, _, member = galaxies[number].numpy().T
        colours = np.where(member > 0, "k", "tab:red")
        panel.scatter(distance, speed, s=2, c=colours)
        mass = float(halos.theta[number, 0])
        panel.set_title(f"mock, log M = {mass:.2f}, {int(extras['n_galaxies'][number])} galaxies")
    for panel in panels[3:]:
        panel.set_xlabel("projected radius (comoving Mpc/h)")
    for panel in panels[::3]:
        panel.set_ylabel("velocity (km/s)")
    plt.tight_layout()
    plt.savefig(output, dpi=90)


def main() -> None:
    """Print the table; draw the figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=20_000, help="clusters in each catalogue")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="2000 clusters a catalogue")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--coma", type=Path, help="the Coma sample of RCausticMass")
    parser.add_argument(
        "--coma-mass", type=float, nargs=2, default=COMA_LOG_MASS, help="log M200c of its mocks"
    )
    parser.add_argument("--figure", type=Path, help="where to draw Coma beside mocks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.coma:
        low, high = options.coma_mass
        rows = compare_coma(options.coma, options.seed, (low, high))
        if options.json:
            options.json.write_text(json.dumps({"seed": options.seed, "coma": rows}, indent=1))
        if options.figure:
            draw_figure(options.coma, options.figure, options.seed, (low, high))
        return
    n = 2000 if options.quick else options.n
    print(f"{n} clusters in each catalogue, seed {options.seed}, CPU, 1 thread")
    print(f"{'':24s}{'slope':>8s}{'sigma15':>9s}{'scatter':>9s}{'std':>8s}{'median':>8s}{'ms':>7s}")
    numbers: dict[str, dict[str, object]] = {}
    for name, published in PUBLISHED.items():
        values, spent = measure(n, options.seed, name == "contaminated")
        numbers[name] = {"here": values, "published": published, "ms_per_cluster": spent}
        for label, row, end in (
            (f"{name}, here", values, f"{spent:7.2f}"),
            (f"{name}, published", published, ""),
        ):
            slope, sigma15, scatter, spread, median = row
            print(
                f"{label:24s}{slope:8.4f}{sigma15:9.0f}{scatter:9.4f}{spread:8.4f}{median:8.3f}{end}"
            )
    if options.json:
        options.json.write_text(json.dumps({"n": n, "seed": options.seed, **numbers}, indent=1))


if __name__ == "__main__":
    main()
