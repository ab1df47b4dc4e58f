"""The cluster-image system: cutouts in several bands, read by a residual network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from melotte.engine.results import ResultColumn, described
from melotte.flags import Flag
from melotte.parameters import Parameter, Prior
from melotte.systems.areas import Area, PlacedSystem
from melotte.systems.base import Batch, Field, Observation, Output, RowError
from melotte.systems.cluster_images import carried_bands, preparation
from melotte.systems.cluster_images.network import (
    ClusterImageNetwork,
    class_terms,
    visibility_in_unit,
    visibility_quantiles,
)
from melotte.systems.cluster_images.scenes import ClusterScenes
from melotte.systems.cluster_images.settings import DataSettings, ModelSettings
from melotte.systems.cluster_images.simulator import ClusterImageSimulator
from melotte.systems.cluster_images.summaries import SUMMARIES, image_summaries

if TYPE_CHECKING:
    from melotte.systems.cluster_images.judging import ImageJudge

LOW_VISIBILITY = 1.0
"""Visibility below which a cluster hardly stands out (Paper II, Sect. 2.3)."""
LEVELS = (0.16, 0.5, 0.84)
_VISIBILITY = "mean flux a pixel within the half-number radius over the background's scatter"


class ImageSystem(PlacedSystem):
    """What the systems that read cluster images share: mocks, areas, readers.

    Parameters
    ----------
    data : DataSettings
    parameters : tuple of Parameter
    """

    name: str

    def __init__(self, data: DataSettings, parameters: tuple[Parameter, ...]) -> None:
        self.data = data
        self.parameters = parameters
        self._simulators: dict[tuple[Area, torch.device], ClusterImageSimulator] = {}

    def simulator(self, device: torch.device | str = "cpu") -> ClusterImageSimulator:
        """The simulator of this area on a device, built on first use."""
        key = (self.area, torch.device(device))
        if key not in self._simulators:
            names = tuple(parameter.name for parameter in self.parameters)
            self._simulators[key] = ClusterImageSimulator(self.data, names, *key)
        return self._simulators[key]

    def draw(self, n: int, generator: torch.Generator) -> ClusterScenes:
        """Draw and render ``n`` clusters, or empty places."""
        return self.simulator(generator.device).draw(n, generator)

    def observe(self, latent: ClusterScenes, generator: torch.Generator, views: int = 1) -> Batch:
        """Record each scene ``views`` times; see :meth:`ClusterImageSimulator.observe`."""
        return self.simulator(generator.device).observe(latent, generator, views)

    def judge(self) -> ImageJudge:
        """What ``evaluate`` measures beside the parameters: errors by visibility, selection."""
        from melotte.systems.cluster_images.judging import ImageJudge

        return ImageJudge(self)

    def read(self, source: Any, options: Mapping[str, Any]) -> Iterator[Observation | RowError]:
        """Cutouts in users' files; see :mod:`melotte.systems.cluster_images.reading`."""
        from melotte.systems.cluster_images.reading import observations

        yield from observations(source, options, self.data)

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        """Brightness, colours, concentration and texture of each image."""
        return image_summaries(observation, self.data.bands), SUMMARIES


class ClusterImages(ImageSystem):
    """Posterior over extinction, age, mass and size; presence; visibility.

    Parameters
    ----------
    data : DataSettings
    model : ModelSettings
    """

    name = "cluster-images"
    outputs = (
        Output("posterior", "vector", "extinction, age, mass and size"),
        Output("class", "class", "a cluster, or background alone"),
    )

    def __init__(self, data: DataSettings, model: ModelSettings) -> None:
        super().__init__(data, data.parameters)
        self.model = model

    described_columns: Mapping[str, tuple[str, str]] = {
        "class_probability": ("", "probability of a cluster"),
        "visibility_16": ("", f"visibility, 16 %: {_VISIBILITY}"),
        "visibility": ("", f"visibility, median: {_VISIBILITY}"),
        "visibility_84": ("", f"visibility, 84 %: {_VISIBILITY}"),
    }
    """Units and descriptions of :meth:`result_columns`."""

    def constants(self, batch: Batch) -> dict[str, Any]:
        """Scales of the bands; means and deviations of photometry and context."""
        return preparation.measure_constants(batch.observation, self.model)

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """Network input; see :func:`melotte.systems.cluster_images.preparation.standardised`."""
        return preparation.standardised(observation, constants, self.model)

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`ClusterImageNetwork`."""
        del constants
        return ClusterImageNetwork(self.model, self.data.bands, len(self.parameters))

    def carried_constants(
        self,
        other: ClusterImages,
        theirs: dict[str, Any],
        measure: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """Constants of a training that goes on from a model, of other bands perhaps.

        Parameters
        ----------
        other : ClusterImages
            System of that model.
        theirs : dict
            Its constants.
        measure : callable
            Gives those of this training's own mocks.
        """
        bands, n_annuli = self.data.bands, len(self.model.apertures)
        if bands == other.data.bands or n_annuli != len(other.model.apertures):
            return theirs
        places = carried_bands.band_places(bands, other.data.bands)
        return carried_bands.carried_constants(places, n_annuli, theirs, measure())

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss, each (batch,).

        The negative log posterior density of clusters in the unit cube, the cross-entropy of the
        class, and the negative log density of clusters' visibility.
        """
        unit = Prior(self.parameters).to_unit(batch.theta)
        log_prob = outputs["posterior"].log_prob_known(unit, batch.theta_known)
        present = batch.targets["class"]
        visible = (present > 0.5) & torch.isfinite(batch.targets["visibility"])
        place = visibility_in_unit(batch.targets["visibility"])
        visibility = outputs["visibility"].log_prob_known(place, visible[:, None])
        return {
            "negative_log_posterior": -log_prob,
            "class": self.model.class_weight * class_terms(outputs["class"], present),
            "visibility": -self.model.visibility_weight * visibility,
        }

    def result_columns(
        self, observation: Observation, outputs: Mapping[str, Any]
    ) -> dict[str, ResultColumn]:
        """Probability of a cluster, and quantiles of its visibility."""
        del observation
        probability = torch.sigmoid(outputs["class"].float()).cpu().numpy()
        found = visibility_quantiles(outputs, torch.tensor(LEVELS)).cpu().numpy()
        values = {
            "class_probability": probability,
            "visibility_16": found[:, 0],
            "visibility": found[:, 1],
            "visibility_84": found[:, 2],
        }
        return described(values, self.described_columns)

    def result_flags(self, observation: Observation, outputs: Mapping[str, Any]) -> Tensor:
        """Flags that follow from the outputs, int64 (batch,): LOW_VISIBILITY."""
        del observation
        median = visibility_quantiles(outputs, torch.tensor([0.5]))[:, 0]
        return torch.where(median < LOW_VISIBILITY, int(Flag.LOW_VISIBILITY), 0).cpu()
