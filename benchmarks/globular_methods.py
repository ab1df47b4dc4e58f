"""Models of maps for the benchmark: how they read mocks, what they flag, how long they take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import globular_mocks as mocks
import numpy as np
import torch
from numpy.typing import NDArray

from melotte.engine.binned_errors import ratio_and_error
from melotte.engine.coverage import pit_values, sbc_ranks
from melotte.engine.inference import infer_batches
from melotte.engine.model_files import Model
from melotte.engine.network_outputs import run_network
from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.systems.base import Observation
from melotte.systems.globular_clusters.map_readings import MapReading, MapTruth, read_outputs
from melotte.systems.globular_clusters.map_scores import MapScores, coverage_of
from melotte.systems.globular_clusters.sampling_noise import SamplingNoise, sampling_noise
from melotte.systems.globular_clusters.scenes import GlobularScenes
from melotte.systems.globular_clusters.settings import DataSettings

SAMPLE_STREAM, NOISE_STREAM = 211, 212
QUANTILE_SAMPLES = 200
WARNED = int(Flag.OUT_OF_DOMAIN | Flag.OUT_OF_RANGE)
CASES = ("in domain", "brighter", "nearer", "younger", "unknown dust", "known dust")


@dataclass(frozen=True)
class Method:
    """A model with what it is given.

    Parameters
    ----------
    key : str
    model : Model
    channels : tuple of str
        Of "V", "B", "dispersion" and "distance".
    """

    key: str
    model: Model
    channels: tuple[str, ...]

    @property
    def data(self) -> DataSettings:
        """Settings of the model's mocks."""
        system: Any = self.model.system
        return system.data

    def observation(self, batch: Any, smooth: Any) -> Observation:
        """Recorded mocks as this method reads them."""
        return mocks.as_read(batch, smooth, self.data, self.channels)

    def read(self, observation: Observation, truth: MapTruth, seed: int, number: int) -> MapReading:
        """What the model says."""
        outputs = run_network(self.model, observation)
        generator = keyed_generator(seed, SAMPLE_STREAM, number)
        absent = np.full(len(truth.light), np.nan)
        parameters = self.model.parameters
        missing = {one.name: absent for one in parameters if one.name not in truth.values}
        known = MapTruth(truth.log_map, truth.light, dict(truth.values) | missing, truth.group)
        return read_outputs(outputs, parameters, known, generator)


def methods_of(models: Mapping[str, Model]) -> list[Method]:
    """Every model with everything it can be given."""
    found = []
    for key, model in models.items():
        system: Any = model.system
        for name, channels in mocks.channel_sets(system.data).items():
            found.append(Method(f"{key}, {name}" if name else key, model, channels))
    return found


def read_all(
    methods: Sequence[Method], ground: mocks.TestGround, n: int
) -> tuple[dict[str, MapScores], float]:
    """Scores of every method on the same mocks, and seconds a mock took to make."""
    floor = float(np.log10(ground.mocks.data.mass_floor))
    scores = {method.key: MapScores(floor) for method in methods}
    making = 0.0
    for number, scenes in ground.scenes(n):
        begun = time.process_time()
        batch = ground.recorded(scenes, number, 0.0)
        smooth = ground.recorded(scenes, number, mocks.SMOOTHING)
        making += time.process_time() - begun
        noisy = ground.recorded_with_noise(scenes, number, batch)
        truth = ground.truth(batch)
        for method in methods:
            seen = batch if method.data.noise == "none" else noisy
            reading = method.read(method.observation(seen, smooth), truth, ground.seed, number)
            scores[method.key].add(truth, reading)
    return scores, making / max(n, 1)


def measured(scores: Mapping[str, MapScores], baseline: str | None) -> dict[str, dict[str, Any]]:
    """Numbers of every method, with ratios of errors to the baseline's on the same mocks."""
    binned = {key: one.binned() for key, one in scores.items()}
    found: dict[str, dict[str, Any]] = {}
    for key, one in scores.items():
        found[key] = one.result()
        known = one.arrays()
        found[key]["coverage"] = {
            name.removeprefix("pit "): coverage_of(known[name], known["group"])
            for name in known
            if name.startswith("pit ")
        }
        found[key]["n_runs"] = len(np.unique(known["group"]))
        if baseline is not None and key != baseline:
            found[key]["over_baseline"] = {
                name: ratio_and_error(mean, binned[baseline][name])
                for name, mean in binned[key].items()
                if name in binned[baseline]
            }
    return found


def floor_of(ground: mocks.TestGround, n: int) -> SamplingNoise:
    """Errors that chance alone leaves, of the clusters of a set."""
    data = ground.mocks.data
    low, high = data.distance_range
    places = data.test_distances or data.distances or tuple(np.geomspace(low, high, 5).tolist())
    generator = keyed_generator(ground.seed, NOISE_STREAM, 99)
    return sampling_noise(data, ground.simulator.stars, places, generator, n=n)


def training_edge(method: Method, library: tuple[str, ...] | None, seed: int) -> Any:
    """Distances and light of training mocks of a method; None where none can be made."""
    try:
        return mocks.brightest(method.data.model_copy(update={"library": library}), seed)
    except MelotteValueError:
        return None


def flagged(
    listed: Sequence[Method], mock_set: mocks.MockSet, case: str, n: int, seed: int, edge: Any
) -> list[dict[str, float] | None]:
    """Share of mocks of a case with OUT_OF_DOMAIN or OUT_OF_RANGE, and what the rest says.

    Parameters
    ----------
    listed : sequence of Method
        Of one model, which read the same drawings.
    mock_set : MockSet
    case : str
        Of ``CASES``.
    n, seed : int
    edge : tuple of Tensor, or None
        Of :func:`training_edge`.

    Returns
    -------
    list of dict or None
        Of each method ``n``, ``flagged``, which a told distance that was not trained on is always,
        as by ``melotte infer``; ``distance_inside``: share of those without a flag whose true
        distance is in the central 95 % of the posterior (only of methods with a posterior). None
        where no mock of the case can be made.
    """
    nothing: list[dict[str, float] | None] = [None] * len(listed)
    data = listed[0].data
    if case in ("nearer", "younger"):
        mock_set = mocks.outside(mock_set, case, data)
    if case == "brighter" and edge is None:
        return nothing
    if case == "known dust" and data.extinction.mean == 0:
        return nothing
    try:
        ground = mocks.TestGround(mock_set, seed)
    except MelotteValueError:
        return nothing
    flags: list[list[NDArray[np.int64]]] = [[] for _ in listed]
    inside: list[list[NDArray[np.bool_]]] = [[] for _ in listed]
    for number, scenes, usable in _scenes_of(case, ground, data, n, edge):
        batch = ground.recorded(scenes, number, 0.0)
        smooth = ground.recorded(scenes, number, mocks.SMOOTHING)
        rows = torch.nonzero(usable)[:, 0]
        far = scenes.pointing.distance[rows].numpy()
        for place, method in enumerate(listed):
            observation = method.observation(batch, smooth).select(rows)
            if not len(observation):
                continue
            found = infer_batches(
                method.model, [observation], QUANTILE_SAMPLES, seed, progress=False
            )
            flags[place].append(found.flags | _told_beyond(method, observation))
            inside[place].append(_distance_inside(found, far))
    return [_share(*one) for one in zip(flags, inside, strict=True)]


def _share(
    flags: Sequence[NDArray[np.int64]], inside: Sequence[NDArray[np.bool_]]
) -> dict[str, float]:
    """Of mocks that are flagged, and of others' distances in the posterior; NaN of none."""
    if not flags:
        return {"n": 0, "flagged": math.nan, "distance_inside": math.nan}
    warned = (np.concatenate(flags) & WARNED) > 0
    held = np.concatenate(inside)[~warned]
    rest = float(held.mean()) if len(held) else math.nan
    return {"n": len(warned), "flagged": float(warned.mean()), "distance_inside": rest}


def _scenes_of(
    case: str, ground: mocks.TestGround, data: DataSettings, n: int, edge: Any
) -> Iterator[tuple[int, GlobularScenes, torch.Tensor]]:
    """Numbered batches of scenes of a case, and which of them are of it."""
    place = 1 + CASES.index(case)
    if case == "brighter":
        most = data.served.get("log_luminosity_fov", (0.0, math.inf))[1]
        yield from mocks.brighter_scenes(ground, 2 * n, place, edge, most)
        return
    for number, scenes in ground.scenes(n, place):
        usable = torch.ones(len(scenes), dtype=torch.bool)
        if case in ("in domain", "known dust"):
            usable = mocks.served(scenes, ground.mocks, data)
        if case in ("unknown dust", "known dust"):
            scenes = mocks.dimmed(scenes, ground.mocks.data, told=case == "known dust")
        if case == "known dust":
            usable &= scenes.extinction_v <= data.extinction.most
        yield number, scenes, usable


def _told_beyond(method: Method, observation: Observation) -> NDArray[np.int64]:
    """OUT_OF_RANGE where a distance is told that was not trained on."""
    if "distance" not in method.channels:
        return np.zeros(len(observation), dtype=np.int64)
    told = observation.data["distance_told"].numpy()
    low, high = method.data.distance_range
    return np.where((told < low) | (told > high), int(Flag.OUT_OF_RANGE), 0)


def _distance_inside(found: Any, distance: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether true distances lie in the central 95 % of samples."""
    place = found.names.index("distance")
    samples = np.asarray(found.samples)[:, :, place : place + 1]
    pit = pit_values(sbc_ranks(samples, distance[:, None]), samples.shape[1])[:, 0]
    return np.abs(pit - 0.5) <= 0.475


def seconds_per_map(
    methods: Sequence[Method], ground: mocks.TestGround, size: int, repeats: int
) -> dict[str, float]:
    """Processor time of one core for a map with preparation, map and quantiles of 200 samples.

    Parameters
    ----------
    methods : sequence of Method
    ground : TestGround
    size : int
        Maps at a time.
    repeats : int
        The least of the times counts, as disturbances only add to it.
    """
    number, scenes = next(ground.scenes(size, 8))
    batch = ground.recorded(scenes, number, 0.0)
    smooth = ground.recorded(scenes, number, mocks.SMOOTHING)
    levels = torch.tensor([0.16, 0.5, 0.84])
    taken: dict[str, list[float]] = {method.key: [] for method in methods}
    for _ in range(repeats):
        for method in methods:
            observation = method.observation(batch, smooth)

            def whole(method: Method = method, observation: Observation = observation) -> None:
                outputs = run_network(method.model, observation)
                if "estimate" not in outputs:
                    with torch.no_grad():
                        unit = outputs["posterior"].sample(QUANTILE_SAMPLES)
                    torch.quantile(unit, levels, dim=1)

            taken[method.key].append(processor_time(whole) / size)
    return {key: min(times) for key, times in taken.items()}


def processor_time(call: Callable[[], Any]) -> float:
    """Of a call, seconds."""
    begun = time.process_time()
    call()
    return time.process_time() - begun
