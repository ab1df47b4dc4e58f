"""Runs of a library, written without evolving them."""

import numpy as np

from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.cluster_libraries import RunWriter

TIMES = (500.0, 4000.0, 12000.0)
SMALL = [
    "data.size=48",
    "data.least_stars=100",
    "data.distance=[10, 60]",
    "data.size_spread=0",
    "data.number_factor=1",
    "data.nearer_factor=1",
    "data.metallicity_spread=0",
    "model.widths=[8, 16]",
    "model.blocks=[1, 1]",
    "model.features=16",
    "model.head_settings={components: 2, hidden: 16}",
]


def snapshot(n, time, seed):
    """Plummer's model of n stars; the last is bound to the fourth, some are dark."""
    generator = np.random.default_rng(seed)
    radius = 2.0 / np.sqrt(generator.random(n) ** (-2 / 3) - 1)
    mass = generator.uniform(0.1, 1.0, n)
    kind = np.where(generator.random(n) < 0.2, 11, np.where(generator.random(n) < 0.05, 14, 1))
    magnitude = np.where(kind == 14, np.inf, 8 - 6 * np.log10(mass) - 4 * generator.random(n))
    system = np.arange(n)
    system[-1] = 3
    radius[-1] = radius[3]
    return StarSnapshot.of(
        mass,
        kind,
        time=time,
        metallicity=-1.0 - 0.1 * seed,
        radius=np.minimum(radius, 50.0),
        radial_velocity=generator.normal(0, 3, n),
        tangential_velocity=np.abs(generator.normal(0, 4, n)),
        magnitude_v=magnitude,
        magnitude_b=magnitude + 0.7,
        system=system,
    )


def write_run(file, name, family, seed, n=400):
    writer = RunWriter(file, name, family, {"metallicity": -1.0 - 0.1 * seed})
    for step, time in enumerate(TIMES):
        writer.add(snapshot(n - 20 * step, time, seed))
    writer.close({"time": list(TIMES)})
