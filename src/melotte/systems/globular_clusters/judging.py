"""Judges models of globular clusters' maps: what ``evaluate`` adds for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.engine.random import keyed_generator
from melotte.errors import MelotteError
from melotte.systems.base import Batch
from melotte.systems.globular_clusters.derived_maps import luminosity
from melotte.systems.globular_clusters.library_stars import load_stars
from melotte.systems.globular_clusters.map_readings import (
    MAP_MASS,
    MapReading,
    MapTruth,
    read_outputs,
)
from melotte.systems.globular_clusters.map_scores import MapScores
from melotte.systems.globular_clusters.photometry import map_fluxes, map_number
from melotte.systems.globular_clusters.sampling_noise import SamplingNoise, sampling_noise
from melotte.telescope.map_measurements import filled
from melotte.telescope.map_smoothing import smoothed

if TYPE_CHECKING:
    from melotte.systems.globular_clusters.system import ClusterMapSystem

Array = NDArray[np.floating[Any]]

PUBLISHED: dict[str, Any] = {
    "pixel_percent_error": 27.4,
    "pixel_percent_error_bright": 17.6,
    "total_mass_percent_error": 15.6,
    "map_mass_percent_error": 15.6,
    "mass_to_light_percent_error": 11.8,
    "map_mass_to_light_percent_error": 11.8,
    "age_mae_gyr": 1.26,
    "distance_mae_kpc": {"15": 5.6, "30": 7.4, "60": 6.5, "80": 6.0},
    "distance_mean_kpc": {"15": 20.3, "30": 35.2, "60": 60.6, "80": 77.6},
    "distance_std_kpc": {"15": 5.0, "30": 8.3, "60": 8.8, "80": 7.9},
}
"""Chardin & Bianchini 2021: Sects. 4.1.2, 4.1.3 and 4.2.1, Table 2."""
PUBLISHED_BINS = {
    "pixel_percent_error": (13.7, 95.0),
    "pixel_percent_error_bright": (13.7, 22.1),
    "total_mass_percent_error": (6.2, 43.5),
    "mass_to_light_percent_error": (5.1, 18.1),
    "age_mae_gyr": (0.33, 1.64),
}
"""Least and greatest error of a bin, of the same source."""
CANDIDATES = 48
"""Clusters that examples are chosen from."""
_SEED, _STREAM = 1, 77


@dataclass(frozen=True)
class MapExample:
    """One cluster, to be shown.

    Parameters
    ----------
    light : array, shape (rows, columns)
        Flux in V as it was observed, in units of a source of magnitude 25.
    true, predicted : array, shape (rows, columns), log10(Msun/px)
    scale : array, shape (rows, columns), or None
        Standard error of the prediction, dex.
    luminosity : array, shape (rows, columns), Lsun_V
        Of the pixels, at the true distance, without the dust that is told, smoothed as the mass.
    pixel_scale : float, arcsec
    age, distance : tuple of float
        Gyr and kpc: true and predicted.
    mass : float, Msun
        True, of the map.
    """

    light: Array
    true: Array
    predicted: Array
    scale: Array | None
    luminosity: Array
    pixel_scale: float
    age: tuple[float, float]
    distance: tuple[float, float]
    mass: float


class MapJudge:
    """Collects what a network says of mocks, and measures it.

    Parameters
    ----------
    system : ClusterMapSystem
    """

    def __init__(self, system: ClusterMapSystem) -> None:
        self.system = system
        self.scores = MapScores(math.log10(system.data.mass_floor))
        self.candidates: list[MapExample] = []
        self._noise: SamplingNoise | None = None
        self._batches = 0

    def add(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """Count a batch."""
        truth = MapTruth.of(batch, self.system.parameters)
        device = outputs["embedding"].device
        generator = keyed_generator(_SEED, _STREAM, self._batches, device=device)
        reading = read_outputs(outputs, self.system.parameters, truth, generator)
        self.scores.add(truth, reading)
        wanted = CANDIDATES - len(self.candidates)
        if wanted > 0:
            data = self.system.data
            sigma = 0.0 if data.smoothing > 0 else data.mass_smoothing
            self.candidates += examples_of(batch, truth, reading, wanted, sigma)
        self._batches += 1

    def result(self, progress: bool | None = None) -> dict[str, Any]:
        """Numbers of the scores, with ``sampling_noise_floor`` where a library is at hand.

        Parameters
        ----------
        progress : bool, optional
            Of measuring that: a bar on a terminal, plain lines elsewhere, by default.
        """
        found = self.scores.result()
        noise = self.noise(progress)
        if noise is not None:
            found["sampling_noise_floor"] = noise.as_json()
        return found

    def noise(self, progress: bool | None = None) -> SamplingNoise | None:
        """Errors that chance alone leaves; None without a library of the area "test"."""
        data = self.system.data
        if self._noise is None and data.library:
            try:
                stars = load_stars(data, "test")
            except MelotteError:
                # A model names the files that it was trained on; who has a bank needs none of them.
                return None
            low, high = data.distance_range
            listed = data.test_distances or data.distances
            places = listed or tuple(np.geomspace(low, high, 5).tolist())
            generator = torch.Generator().manual_seed(_SEED)
            self._noise = sampling_noise(data, stars, places, generator, progress=progress)
        return self._noise

    def examples(self, n: int = 6) -> list[MapExample]:
        """``n`` clusters from the least to the most massive."""
        order = sorted(self.candidates, key=lambda one: one.mass)
        if len(order) <= n:
            return order
        return [order[round(k)] for k in np.linspace(0, len(order) - 1, n)]


def examples_of(
    batch: Batch, truth: MapTruth, reading: MapReading, most: int, sigma: float
) -> list[MapExample]:
    """The first clusters of a batch as pictures, their light smoothed by ``sigma`` pixels."""
    flux, _ = map_fluxes(batch.observation)
    scales = map_number(batch.observation, "pixel_scale")
    dust = torch.zeros(len(batch))
    if "extinction_v" in batch.observation.data:
        dust = map_number(batch.observation, "extinction_v").cpu()
    known, given = truth.values, reading.values
    found = []
    for i in range(min(most, len(batch))):
        light = flux[i, 0].cpu()
        distance = float(known["distance"][i])
        whole = smoothed(torch.from_numpy(filled(light.numpy()))[None], sigma)
        solar = luminosity(whole, torch.tensor([distance]), dust[i : i + 1])[0]
        found.append(
            MapExample(
                light.numpy(),
                truth.log_map[i],
                reading.log_map[i],
                None if reading.scale is None else reading.scale[i],
                solar.numpy(),
                float(scales[i]),
                (float(known["age"][i]), float(given["age"][i])),
                (distance, float(given["distance"][i])),
                float(known[MAP_MASS][i]),
            )
        )
    return found
