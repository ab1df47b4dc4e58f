"""Scenes of clusters for the benchmark of maps: one drawing, recorded as each method reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.systems.base import Batch, Observation
from melotte.systems.globular_clusters.library_stars import load_stars
from melotte.systems.globular_clusters.map_readings import MapTruth
from melotte.systems.globular_clusters.observing import extinction_errors, observe
from melotte.systems.globular_clusters.scenes import (
    GlobularScenes,
    SceneSimulator,
    extinction_law,
)
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.telescope.map_smoothing import PIDOC_SMOOTHING
from melotte.telescope.projected_stars import Pointing

BATCH = 64
SMOOTHING = PIDOC_SMOOTHING
"""Of the light that pi-DOC reads, px."""
SCENES, RECORDS, EDGES, BRIGHT = 201, 202, 203, 204
PIDOC_TESTS = {
    "pixel_scale": (0.25, 0.25),
    "distances": None,
    "test_distances": (15.0, 30.0, 60.0, 80.0),
    "psf_fwhms": None,
    "test_psf_fwhms": (1.0,),
    "offset": 5.0,
    "noise": "none",
}
"""Table 1 of Chardin & Bianchini 2021."""
WIDE = {
    "metallicity": (-9.0, 9.0),
    "log_total_mass": (-9.0, 9.0),
    "log_mass_fov": (-9.0, 9.0),
    "mass_to_light_v": (1e-9, 1e9),
    "half_mass_radius": (1e-9, 1e9),
}
"""So that every truth is known."""
DUST = 3.3
"""A_V of clusters behind much dust, mag (NGC 6517 has E(B-V) = 1.08)."""
BRIGHTER = (2.0, 4.0)
MOST_TIMES = 12.0
"""As many stars at most: each time is a cluster to render."""
NEARER = (0.25, 0.5)
YOUNGER = 0.3
"""dex below the youngest."""
NEIGHBOURS = 0.5
"""Difference of logarithms of distance within which training mocks are at a distance."""


@dataclass(frozen=True)
class MockSet:
    """Mocks of one kind.

    Parameters
    ----------
    key, title : str
    data : DataSettings
        Without smoothing; bands and dispersions as ours reads them.
    """

    key: str
    title: str
    data: DataSettings

    def under_a_dark_sky(self) -> MockSet:
        """The same, stacked as long and under as dark a sky as settings have, the sky known."""
        sky = self.data.sky
        dark = {
            "brightness": (sky.brightness[1],) * 2,
            "exposures": (sky.exposures[1],) * 2,
            "level_error": 0.0,
        }
        return self.with_data(noise="survey", sky=sky.model_copy(update=dark))

    def with_data(self, **changes: Any) -> MockSet:
        """The same with other settings."""
        return replace(self, data=self.data.model_copy(update=changes))


def mock_sets(base: DataSettings, pidoc_family: str, with_dispersions: bool) -> list[MockSet]:
    """pi-DOC's test mocks, the same with the noise of a survey, and those of our own settings.

    Parameters
    ----------
    base : DataSettings
        Of our preset, with a library.
    pidoc_family : str
        Family of pi-DOC's test runs.
    with_dispersions : bool
        Whether all mocks have a map of dispersions.
    """
    families = base.families.model_copy(update={"test": (pidoc_family,)})
    common = WIDE | {
        "smoothing": 0.0,
        "missing_band_share": 0.0,
        "dispersion_share": 1.0 if with_dispersions else 0.0,
        "label_spread": 0.0,
    }
    clear: dict[str, Any] = {}
    for name, field in (("extinction", "mean"), ("dark_mass", "share")):
        clear[name] = getattr(base, name).model_copy(update={field: 0.0})
    own = base.model_copy(
        update=common
        | {name: base.served[name] for name in ("distance", "log_age") if name in base.served}
    )
    theirs = own.model_copy(update=PIDOC_TESTS | clear | {"families": families})
    return [
        MockSet("pidoc", "pi-DOC's test mocks, without noise", theirs),
        MockSet(
            "pidoc-survey",
            "pi-DOC's test clusters with a survey's noise, sky and field stars",
            theirs.model_copy(update={"noise": base.noise}),
        ),
        MockSet("ours", "mocks of our own settings", own),
    ]


class TestGround:
    """Draws mocks of a set.

    Parameters
    ----------
    mocks : MockSet
    seed : int

    Raises
    ------
    MelotteValueError
        When the library has no snapshot for them.
    """

    __test__ = False

    def __init__(self, mocks: MockSet, seed: int) -> None:
        self.mocks, self.seed = mocks, seed
        self.simulator = SceneSimulator(mocks.data, load_stars(mocks.data, "test"), "test")

    def scenes(self, n: int, case: int = 0) -> Iterator[tuple[int, GlobularScenes]]:
        """Numbered batches of scenes."""
        for number in range(-(-n // BATCH)):
            generator = keyed_generator(self.seed, SCENES, case, number)
            yield number, self.simulator.draw(min(BATCH, n - number * BATCH), generator)

    def recorded(
        self, scenes: GlobularScenes, number: int, smoothing: float, mocks: MockSet | None = None
    ) -> Batch:
        """Scenes as they are observed, smoothed afterwards; the noise is the same either way."""
        data = (mocks or self.mocks).data.model_copy(update={"smoothing": smoothing})
        return observe(scenes, data, keyed_generator(self.seed, RECORDS, number))

    def recorded_with_noise(self, scenes: GlobularScenes, number: int, clear: Batch) -> Batch:
        """What models that know no map without noise read: a dark sky's where mocks have none."""
        if self.mocks.data.noise != "none":
            return clear
        return self.recorded(scenes, number, 0.0, self.mocks.under_a_dark_sky())

    def truth(self, batch: Batch) -> MapTruth:
        """What is true of recorded mocks."""
        return MapTruth.of(batch, self.mocks.data.cluster_parameters())


def as_read(
    batch: Batch, smooth: Batch, data: DataSettings, channels: tuple[str, ...]
) -> Observation:
    """The observation as a model of some settings takes it.

    Parameters
    ----------
    batch, smooth : Batch
        As recorded, and smoothed.
    data : DataSettings
        Of the model.
    channels : tuple of str
        Of "V", "B", "dispersion" and "distance": what there is; the model is told that the rest is
        missing. A distance is the true one, told as well as any in training.
    """
    taken = smooth if data.smoothing > 0 else batch
    fields: dict[str, Any] = dict(taken.observation.data)
    n_bands = len(data.bands)
    for name in ("flux", "noise"):
        fields[name] = fields[name][:, :n_bands].clone()
        if n_bands > 1 and "B" not in channels:
            fields[name][:, 1:] = torch.nan
    for name in ("dispersion", "dispersion_error"):
        if data.dispersion_share == 0:
            fields.pop(name, None)
        elif "dispersion" not in channels:
            fields[name] = torch.full_like(fields[name], torch.nan)
    if data.extinction.mean == 0:
        fields = {name: one for name, one in fields.items() if not name.startswith("extinction")}
    elif "extinction_v" not in fields:
        nothing = torch.zeros_like(fields["pixel_scale"])
        fields["extinction_v"] = nothing
        fields["extinction_error"] = extinction_errors(
            nothing, nothing, data.extinction.least_error
        )
    for name in ("distance_told", "distance_error"):
        fields.pop(name, None)
    if data.distance_share is not None:
        told = torch.full_like(fields["pixel_scale"], torch.nan)
        error = told
        if "distance" in channels:
            # The first parameter of every system of maps of mass.
            told, error = batch.theta[:, 0], torch.full_like(told, data.distance_error[0])
        fields |= {"distance_told": told, "distance_error": error}
    return Observation(fields)


def brightest(data: DataSettings, seed: int, n: int = 1024) -> tuple[Tensor, Tensor]:
    """Distances (kpc) and log10 light of the field (Lsun_V) of training mocks of a model."""
    plain = data.model_copy(update={"dispersion_share": 0.0, "noise": "none", "label_spread": 0.0})
    simulator = SceneSimulator(plain, load_stars(plain, "training"), "training")
    scenes = simulator.draw(n, keyed_generator(seed, EDGES))
    return scenes.pointing.distance, scenes.log_light_fov


def served(scenes: GlobularScenes, mocks: MockSet, of: DataSettings) -> Tensor:
    """Which scenes are within the ranges that a model is for, BoolTensor (n,)."""
    names = [one.name for one in mocks.data.cluster_parameters()]
    known = dict(zip(names, scenes.theta.unbind(1), strict=True))
    known["log_luminosity_fov"] = scenes.log_light_fov
    inside = torch.ones(len(scenes), dtype=torch.bool)
    for name, (low, high) in of.served.items():
        if name in known:
            inside &= (known[name] >= low) & (known[name] <= high)
    return inside


def brighter_scenes(
    ground: TestGround, n: int, case: int, edge: tuple[Tensor, Tensor], most_served: float
) -> Iterator[tuple[int, GlobularScenes, Tensor]]:
    """Numbered batches of scenes 2 to 4 times as bright as any training mock at their distance.

    Clusters grow in number of stars: each is looked at again and again from other directions, so
    its giants are more, not brighter.

    Parameters
    ----------
    ground : TestGround
    n, case : int
        Scenes to draw, of which a part is usable.
    edge : tuple of Tensor
        Of :func:`brightest`. Its light is ``most_served``, log10(Lsun_V), where that is fainter.
    most_served : float

    Yields
    ------
    number : int
    scenes : GlobularScenes
    usable : BoolTensor, shape (n,)
        False where no training mock is at that distance, where more than 12 times the stars
        would be needed, or where chance left the field short of twice the edge.
    """
    for number in range(-(-n // BATCH)):
        many = min(BATCH, n - number * BATCH)
        uniform = torch.rand(many, generator=keyed_generator(ground.seed, BRIGHT, case, number))
        low, high = BRIGHTER
        more = low * (high / low) ** uniform
        factors = partial(_factors, more, edge, most_served)
        generator = keyed_generator(ground.seed, SCENES, case, number)
        scenes = ground.simulator.draw(many, generator, factors)
        least = _edge_at(scenes.pointing, edge, most_served) + np.log10(low)
        yield number, scenes, scenes.log_light_fov >= least


def _factors(
    more: Tensor,
    edge: tuple[Tensor, Tensor],
    most_served: float,
    pointing: Pointing,
    log_light_fov: Tensor,
) -> Tensor:
    """Factors of the numbers of stars that bring fields to ``more`` times the edge, or 1."""
    wanted = _edge_at(pointing, edge, most_served) + torch.log10(more)
    factor = 10 ** (wanted - log_light_fov)
    return torch.where(factor <= MOST_TIMES, factor, 1.0)


def _edge_at(pointing: Pointing, edge: tuple[Tensor, Tensor], most_served: float) -> Tensor:
    """log10 of the light of the brightest training mock near each distance; inf without any."""
    far, light = edge
    apart = torch.log(pointing.distance[:, None] / far).abs()
    most = torch.where(apart < NEIGHBOURS, light, -torch.inf).amax(1)
    return torch.where(torch.isfinite(most), most.clamp(max=most_served), torch.inf)


def dimmed(scenes: GlobularScenes, data: DataSettings, told: bool = False) -> GlobularScenes:
    """The scenes behind more dust, of A_V = ``DUST``, that the observer knows of or not."""
    law = scenes.light.new_tensor(extinction_law(data))
    factor = 10 ** (-0.4 * DUST * law)
    known = scenes.extinction_v + (DUST if told else 0.0)
    return replace(scenes, light=scenes.light * factor[:, None, None], extinction_v=known)


def outside(mocks: MockSet, case: str, of: DataSettings) -> MockSet:
    """The set whose clusters are nearer or younger than what a model serves, or trains on.

    Parameters
    ----------
    mocks : MockSet
    case : {"nearer", "younger"}
    of : DataSettings

    Raises
    ------
    MelotteValueError
        For another case.
    """
    if case == "nearer":
        low = min(of.distances) if of.distances else of.distance[0]
        low = of.served.get("distance", (low,))[0]
        near = (NEARER[0] * low, NEARER[1] * low)
        return mocks.with_data(test_distances=None, distances=None, distance=near)
    if case == "younger":
        youngest = of.served.get("log_age", of.log_age)[0]
        return mocks.with_data(log_age=(0.0, youngest - YOUNGER))
    raise MelotteValueError(f"cases are nearer and younger, found {case!r}")


def channel_sets(data: DataSettings) -> Mapping[str, tuple[str, ...]]:
    """What a model of these settings can be given, by name; the first is what it is judged by."""
    if len(data.bands) == 1:
        return {"": ("V",)}
    found: dict[str, tuple[str, ...]] = {"V+B": ("V", "B")}
    if data.missing_band_share > 0:
        found["V alone"] = ("V",)
    if data.dispersion_share > 0:
        found["V+B and dispersions"] = ("V", "B", "dispersion")
    if data.distance_share is not None:
        found["V+B and distance"] = ("V", "B", "distance")
    return found
