"""The systems of globular clusters: mocks from libraries of evolved clusters, maps of mass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from melotte.engine.result_maps import DerivedTables
from melotte.engine.results import ResultColumn, described
from melotte.parameters import Parameter, Prior
from melotte.systems.areas import Area, PlacedSystem
from melotte.systems.base import Batch, Field, Observation, Output, RowError
from melotte.systems.globular_clusters import preparation
from melotte.systems.globular_clusters.derived_maps import derived_maps, smoothed_light
from melotte.systems.globular_clusters.judging import PUBLISHED, MapJudge
from melotte.systems.globular_clusters.library_stars import load_stars
from melotte.systems.globular_clusters.losses import floored_log_likelihood
from melotte.systems.globular_clusters.mass_profiles import mass_profiles
from melotte.systems.globular_clusters.network import GlobularNetwork
from melotte.systems.globular_clusters.observing import observe
from melotte.systems.globular_clusters.photometry import (
    SUMMARIES,
    map_fluxes,
    map_number,
    map_summaries,
)
from melotte.systems.globular_clusters.scenes import GlobularScenes, SceneSimulator
from melotte.systems.globular_clusters.settings import DataSettings, ModelSettings
from melotte.telescope.map_noise import FLUX_ZERO_POINT


class ClusterMapSystem(PlacedSystem):
    """What the systems that read maps of clusters share: mocks, areas, summaries.

    Parameters
    ----------
    data : DataSettings
    parameters : tuple of Parameter
    """

    name: str
    shared_groups = True
    """Groups are runs of the library, the same in every batch."""
    published: Mapping[str, Any] = {"extra": PUBLISHED}
    """What an evaluation is shown beside."""
    described_columns: Mapping[str, tuple[str, str]] = {
        "log_map_mass": ("", "log10(sum of the predicted map of mass/Msun)"),
        "field_magnitude_v": ("mag", "apparent magnitude in V of the known pixels"),
    }
    """Units and descriptions of columns that the network's outputs add to a result."""

    def __init__(self, data: DataSettings, parameters: tuple[Parameter, ...]) -> None:
        self.data = data
        self.parameters = parameters
        self._simulators: dict[tuple[Area, torch.device], SceneSimulator] = {}

    def simulator(self, device: torch.device | str = "cpu") -> SceneSimulator:
        """The simulator of this area on a device; its library is read on first use."""
        key = (self.area, torch.device(device))
        if key not in self._simulators:
            stars = load_stars(self.data, self.area).to(key[1])
            self._simulators[key] = SceneSimulator(self.data, stars, self.area)
        return self._simulators[key]

    def draw(self, n: int, generator: torch.Generator) -> GlobularScenes:
        """Draw and render ``n`` clusters."""
        return self.simulator(generator.device).draw(n, generator)

    def observe(self, latent: GlobularScenes, generator: torch.Generator, views: int = 1) -> Batch:
        """Record each scene ``views`` times.

        See :func:`melotte.systems.globular_clusters.observing.observe`.
        """
        return observe(latent, self.data, generator, views)

    def judge(self) -> MapJudge:
        """What ``evaluate`` measures beside the parameters: maps, masses, profiles."""
        return MapJudge(self)

    def read(self, source: Any, options: Mapping[str, Any]) -> Iterator[Observation | RowError]:
        """Maps in users' images; see :mod:`melotte.systems.globular_clusters.reading`."""
        from melotte.systems.globular_clusters.reading import observations

        yield from observations(source, options, self.data)

    def named_files(self, sources: Sequence[Any]) -> list[Path]:
        """Images, masks and dispersions that tables of images name, and no output may replace."""
        from melotte.io.light_maps import named_files

        return named_files(sources)

    def derived_maps(
        self,
        observation: Observation,
        outputs: Mapping[str, Any],
        medians: Mapping[str, Any],
    ) -> Mapping[str, tuple[Any, str, str] | DerivedTables]:
        """Mass and M/L of each pixel, and radial profiles of mass, light and M/L.

        See :func:`.derived_maps.derived_maps` and :mod:`.mass_profiles`.
        """
        mass_map, light = outputs["mass_map"], smoothed_light(observation, medians, self.data)
        maps = derived_maps(mass_map, light, self.data)
        return {**maps, "profile": mass_profiles(observation, mass_map, light).tables()}

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        """Flux, colour, size and noise of each map."""
        return map_summaries(observation), SUMMARIES


class GlobularClusters(ClusterMapSystem):
    """Joint posterior over distance, age, mass and structure; map of mass with errors.

    Parameters
    ----------
    data : DataSettings
    model : ModelSettings
    """

    name = "globular-clusters"
    outputs = (
        Output("posterior", "vector", "distance, age, metallicity, mass, M/L, size, darkness"),
        Output("mass_map", "map", "log10(mass/(Msun/px)), smoothed, dark mass included"),
    )

    def __init__(self, data: DataSettings, model: ModelSettings) -> None:
        super().__init__(data, data.cluster_parameters())
        self.model = model

    @property
    def served(self) -> Mapping[str, tuple[float, float]]:
        """Ranges beyond which a posterior is flagged OUT_OF_RANGE."""
        return self.data.served

    @property
    def served_shares(self) -> Mapping[str, float]:
        """Shares of a posterior beyond them that flag it."""
        return self.data.served_shares

    def derived(self, theta: Tensor) -> dict[str, Tensor]:
        """What ``served`` may name beside parameters; see :data:`.settings.DERIVED`.

        Parameters
        ----------
        theta : Tensor, shape (..., n_parameters)
        """
        values = dict(zip((one.name for one in self.parameters), theta.unbind(-1), strict=True))
        light = values["log_mass_fov"] - torch.log10(values["mass_to_light_v"])
        return {"log_luminosity_fov": light}

    def with_known(self, observation: Observation, known: Mapping[str, float]) -> Observation:
        """Observations told a known distance, where the network can be told one: maps follow it.

        Parameters
        ----------
        observation : Observation
        known : mapping
            Values of parameters; ``distance`` is in kpc.
        """
        if self.data.distance_share is None or "distance" not in known:
            return observation
        like = map_number(observation, "pixel_scale")
        told = {
            "distance_told": torch.full_like(like, float(known["distance"])),
            "distance_error": torch.full_like(like, self.data.distance_error[0]),
        }
        return replace(observation, data={**observation.data, **told})

    def constants(self, batch: Batch) -> dict[str, Any]:
        """Units and spreads; see ``preparation.measure_constants``."""
        return preparation.measure_constants(batch)

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """Network input; see :func:`.preparation.prepared`."""
        return preparation.prepared(observation, constants)

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`GlobularNetwork`."""
        sizes = preparation.input_sizes(self.data)
        of_target = (constants["map_mean"], constants["map_std"])
        return GlobularNetwork(self.model, *sizes, len(self.parameters), of_target)

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss, each (batch,).

        The negative log posterior density in the unit cube, and the mean over pixels of the
        negative log likelihood of log10 mass; see :func:`.losses.floored_log_likelihood`.
        """
        unit = Prior(self.parameters).to_unit(batch.theta)
        log_prob = outputs["posterior"].log_prob_known(unit, batch.theta_known)
        floor = math.log10(self.data.mass_floor)
        target = batch.targets["log_mass_map"]
        pixels = floored_log_likelihood(outputs["mass_map"], target, floor)
        return {
            "negative_log_posterior": -log_prob,
            "map": -self.model.map_weight * pixels,
        }

    def result_columns(
        self, observation: Observation, outputs: Mapping[str, Any]
    ) -> dict[str, ResultColumn]:
        """The mass of the predicted map, and the magnitude of the field of view."""
        values = {
            "log_map_mass": map_mass(outputs["mass_map"].mean),
            "field_magnitude_v": field_magnitude(observation),
        }
        return described(values, self.described_columns)


def field_magnitude(observation: Observation) -> Any:
    """Apparent magnitude in V of the light in the field of view; an array (batch,)."""
    flux, _ = map_fluxes(observation)
    total = flux[:, 0].nan_to_num(0.0).double().sum((-2, -1))
    magnitude = FLUX_ZERO_POINT - 2.5 * torch.log10(torch.where(total > 0, total, torch.nan))
    return magnitude.cpu().numpy()


def map_mass(log_map: Tensor) -> Any:
    """Sum of maps of log10 mass (batch, 1, rows, columns), as log10; an array (batch,)."""
    return torch.log10((10 ** log_map.double()).sum((1, 2, 3))).cpu().numpy()
