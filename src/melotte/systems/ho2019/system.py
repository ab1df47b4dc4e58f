"""The system of the seed's networks: galaxy clusters, as Ho et al. 2019 read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from melotte.engine.prior_densities import NamedPriors
from melotte.networks.point import PointPosterior
from melotte.parameters import Parameter, Prior
from melotte.ragged import Ragged
from melotte.systems.base import Batch, Field, Observation, Output, RowError
from melotte.systems.galaxy_cluster import settings as galaxy_cluster
from melotte.systems.galaxy_cluster.simulator import ClusterHalos
from melotte.systems.galaxy_cluster.system import GalaxyCluster
from melotte.systems.ho2019.networks import DensityNetwork, published_scale
from melotte.systems.ho2019.phase_space_density import phase_space_density, velocity_density
from melotte.systems.ho2019.settings import DataSettings, ModelSettings


class Ho2019:
    """log10(M200c/(Msun/h)) of the galaxies in a cylinder, by CNN1D or CNN2D.

    Parameters
    ----------
    data : DataSettings
    model : ModelSettings
    """

    name = "ho2019"
    outputs = (Output("posterior", "vector", "mass"),)

    def __init__(self, data: DataSettings, model: ModelSettings) -> None:
        self.data = data
        self.model = model
        self.parameters: tuple[Parameter, ...] = data.parameters()
        self.clusters = GalaxyCluster(data.mocks, galaxy_cluster.ModelSettings())

    def draw(self, n: int, generator: torch.Generator) -> ClusterHalos:
        """Draw ``n`` clusters, as the galaxy-cluster system does."""
        return self.clusters.draw(n, generator)

    def observe(self, latent: ClusterHalos, generator: torch.Generator, views: int = 1) -> Batch:
        """Look at each cluster along ``views`` lines of sight."""
        return self.clusters.observe(latent, generator, views)

    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Turn the velocities of half of a fixed set's examples round, anew each time."""
        return self.clusters.augment(batch, generator)

    def constants(self, batch: Batch) -> dict[str, Any]:
        """None: a density has its own scale."""
        del batch
        return {}

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """The ``density``: (batch, 1, bins) of velocities, or (batch, radii, velocities)."""
        del constants
        galaxies, numbers = observation.data["galaxies"], observation.data
        velocity_cut, aperture = numbers["velocity_cut"], numbers["aperture"]
        assert isinstance(galaxies, Ragged)
        assert isinstance(velocity_cut, Tensor)
        assert isinstance(aperture, Tensor)
        bins, bandwidth = self.data.bins, self.data.bandwidth
        if self.model.network == "cnn1d":
            density = velocity_density(galaxies, velocity_cut, bins, bandwidth)[:, None]
        else:
            density = phase_space_density(galaxies, velocity_cut, aperture, bins, bandwidth)
            density = density.transpose(1, 2).contiguous()
        return {"density": density}

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`DensityNetwork`."""
        del constants
        return DensityNetwork(self.model, self.data.bins)

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """The published loss, and a term of value zero that teaches the residual scale.

        ``squared_error``, (batch,), is on the output neuron's scale: four times that in the unit
        cube. ``residual_scale`` has the gradient of the residuals' negative log density for
        the scale alone; its value is 0, so that the best epoch is that of the squared error.
        """
        known = batch.theta_known
        unit = torch.where(known, Prior(self.parameters).to_unit(batch.theta), 0.5)
        error = torch.where(known, outputs["output"] - published_scale(unit), 0.0)
        posterior: PointPosterior = outputs["posterior"]
        about = PointPosterior(posterior.place.detach(), posterior.scale, posterior.loss)
        surprise = -about.log_prob_known(unit, known)
        return {
            "squared_error": (error**2).sum(-1),
            "residual_scale": surprise - surprise.detach(),
        }

    def read(self, source: Any, options: Mapping[str, Any]) -> Iterator[Observation | RowError]:
        """Clusters in tables of galaxies, as the galaxy-cluster system reads them."""
        return self.clusters.read(source, options)

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        """Physical summaries, those of the galaxy-cluster system."""
        return self.clusters.summaries(observation)

    def named_priors(self) -> NamedPriors:
        """Priors by name, those of the galaxy-cluster system."""
        return self.clusters.named_priors()
