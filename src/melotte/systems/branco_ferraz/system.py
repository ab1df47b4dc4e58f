"""The system of the seed's networks: open clusters, as Branco & Ferraz 2023 read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from melotte.engine.random import Stream, keyed_generator
from melotte.networks.point import PointPosterior
from melotte.parameters import Parameter, Prior
from melotte.ragged import Ragged
from melotte.systems.base import Batch, Field, Observation, Output, RowError
from melotte.systems.branco_ferraz import augmentation, diagrams
from melotte.systems.branco_ferraz.guesses import guesses
from melotte.systems.branco_ferraz.networks import SeedNetwork, inputs_of
from melotte.systems.branco_ferraz.settings import DataSettings, ModelSettings
from melotte.systems.open_cluster import labelled
from melotte.systems.open_cluster import settings as open_cluster
from melotte.systems.open_cluster.simulator import Clusters
from melotte.systems.open_cluster.system import OpenCluster

if TYPE_CHECKING:
    from melotte.io.cluster_labels import ClusterLabels

LABEL_SOURCE = "CG20"
"""The paper's labels: Cantat-Gaudin et al. 2020."""
AUGMENTATION_SEED = 0
LARGEST_GUESS = 8.0
"""Standardised guesses are clamped to this: few stars may have any slope."""


class BrancoFerraz:
    """Log age, A_V and distance of a Gaia member list, by one of the paper's networks.

    Parameters
    ----------
    data : DataSettings
    model : AnnSettings, CnnSettings or MdmSettings
    """

    name = "branco-ferraz"
    outputs = (Output("posterior", "vector", "age, extinction and distance"),)

    def __init__(self, data: DataSettings, model: ModelSettings) -> None:
        self.data = data
        self.model = model
        self.parameters: tuple[Parameter, ...] = data.labels.parameters()
        self.clusters = OpenCluster(data.mocks, open_cluster.ModelSettings())

    def draw(self, n: int, generator: torch.Generator) -> Clusters:
        """Draw the hidden state of ``n`` detectable clusters, as the open-cluster system does."""
        return self.clusters.draw(n, generator)

    def observe(self, latent: Clusters, generator: torch.Generator, views: int = 1) -> Batch:
        """List the members of each cluster; [Fe/H] is not among the labels."""
        batch = self.clusters.observe(latent, generator, views)
        n = len(self.parameters)
        return replace(batch, theta=batch.theta[:, :n], theta_known=batch.theta_known[:, :n])

    def enlarged(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Labelled clusters with the copies of ``data.augmentation``; see :mod:`.augmentation`.

        To be called once on a set to train on; :meth:`label` does.
        """
        return augmentation.enlarged(batch, self.data, generator)

    def constants(self, batch: Batch) -> dict[str, Any]:
        """Means and standard deviations of the guesses; the CNN has none."""
        if "guesses" not in inputs_of(self.model):
            return {}
        values = guesses(self._read_stars(batch.observation))
        return {
            "guess_mean": values.mean(0).tolist(),
            "guess_std": values.std(0).nan_to_num(0.0).clamp(min=1e-3).tolist(),
        }

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """What the network reads of ``histogram``, ``image`` and standardised ``guesses``."""
        stars = self._read_stars(observation)
        wanted = inputs_of(self.model)
        inputs: dict[str, Field] = {}
        if "histogram" in wanted:
            inputs["histogram"] = diagrams.histogram(stars)
        if "image" in wanted:
            inputs["image"] = diagrams.image(stars)
        if "guesses" in wanted:
            values = guesses(stars)
            mean = values.new_tensor(constants["guess_mean"])
            spread = values.new_tensor(constants["guess_std"])
            scaled = ((values - mean) / spread).clamp(-LARGEST_GUESS, LARGEST_GUESS)
            inputs["guesses"] = scaled
        return inputs

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`SeedNetwork`."""
        del constants
        return SeedNetwork(self.model, len(self.parameters))

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """The paper's loss, and a term of value zero that teaches the residual scales.

        ``squared_error`` is the mean over the known labels of the squared error on the min-max
        scale, shape (batch,). ``residual_scale`` has the gradient of the residuals' negative log
        density for the scales alone; as its value is 0, the best epoch is that of the squared
        error.
        """
        known = batch.theta_known
        unit = torch.where(known, Prior(self.parameters).to_unit(batch.theta), 0.0)
        error = torch.where(known, outputs["estimate"] - unit, 0.0)
        n_known = known.sum(-1).clamp(min=1)
        posterior: PointPosterior = outputs["posterior"]
        residuals = PointPosterior(posterior.place.detach(), posterior.scale, posterior.loss)
        surprise = -residuals.log_prob_known(unit, known)
        return {
            "squared_error": (error**2).sum(-1) / n_known,
            "residual_scale": surprise - surprise.detach(),
        }

    def read(self, source: Any, options: Mapping[str, Any]) -> Iterator[Observation | RowError]:
        """Member lists in tables, as the open-cluster system reads them."""
        return self.clusters.read(source, options)

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        """Physical summaries of the lists, those of the open-cluster system."""
        return self.clusters.summaries(observation)

    def label(
        self,
        entries: Iterable[Observation | RowError],
        labels: ClusterLabels,
        match: Callable[[str], str] = str,
    ) -> labelled.LabelledLists:
        """Join lists with the labels of Cantat-Gaudin et al. 2020, and add the copies.

        Parameters
        ----------
        entries : iterable of Observation or RowError
        labels : ClusterLabels
        match : callable
            Applied to both sides' names before they are compared.

        Returns
        -------
        LabelledLists
            ``theta`` holds the labels; copies (see :meth:`enlarged`) stand behind the clusters.

        Raises
        ------
        MelotteValueError
            When no list has such a label.
        """
        metallicity = self.clusters.parameters[-1]
        prior = Prior((*self.parameters, metallicity))
        joined = labelled.label_lists(entries, labels, (LABEL_SOURCE,), prior, match)
        n = len(self.parameters)
        theta = joined.batch.targets["labels"][:, 0, :n]
        data = {
            name: joined.batch.observation.data[name] for name in ("stars", "n_listed", "release")
        }
        batch = Batch.labelled(Observation(data), theta, group=joined.batch.group)
        generator = keyed_generator(AUGMENTATION_SEED, Stream.EXAMPLES)
        return replace(joined, batch=self.enlarged(batch, generator))

    def _read_stars(self, observation: Observation) -> Ragged:
        stars = observation.data["stars"]
        assert isinstance(stars, Ragged)
        return stars.where(stars.values[:, 0] <= self.data.magnitude_limit)
