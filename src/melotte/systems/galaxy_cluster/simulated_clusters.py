"""Clusters of a simulation in place of those that are drawn: a library of haloes, seen anew.

Everything that a survey does to the galaxies is the preset's, by the code that observes its own
mocks; haloes, their galaxies and all that lies along the line of sight are the simulation's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.sky.phase_space import random_directions
from melotte.systems.base import Batch, System
from melotte.systems.galaxy_cluster.settings import DataSettings
from melotte.systems.galaxy_cluster.simulation_catalogues import (
    CatalogueSettings,
    ClusterCatalogue,
)
from melotte.systems.galaxy_cluster.simulator import ClusterHalos, GalaxyClusterSimulator
from melotte.systems.galaxy_cluster.system import GalaxyCluster
from melotte.telescope.cylinders import FASTEST, project
from melotte.telescope.view_counts import view_weights

TRIALS = 20
"""Lines of sight to a cluster before another takes its place for want of galaxies."""

MOST_ROUNDS = 200
"""Times that clusters are drawn anew before nothing rich enough is taken to be there."""

SIGMAS = 4.0
"""Errors of centre and velocity, in standard deviations, that cylinders are widened by."""


class CatalogueSimulator(GalaxyClusterSimulator):
    """Draws clusters of a catalogue and observes them as mocks.

    Parameters
    ----------
    data : DataSettings
    catalogue : ClusterCatalogue
    weights : array, shape (n_clusters,)
        Chance with which each is drawn.
    """

    def __init__(
        self, data: DataSettings, catalogue: ClusterCatalogue, weights: np.ndarray
    ) -> None:
        at_snapshot = (catalogue.redshift, catalogue.redshift)
        super().__init__(data.model_copy(update={"redshift": at_snapshot}))
        self.catalogue = catalogue
        self.weights = torch.from_numpy(weights)

    def draw(self, n: int, generator: torch.Generator) -> ClusterHalos:
        """Draw ``n`` clusters that show ``least_galaxies`` along some line of sight.

        The latent state is that of mocks, but ``galaxies`` holds one row a cluster: its number in
        the catalogue; ``haloes`` mean nothing.

        Raises
        ------
        MelotteValueError
            When no cluster of the catalogue does.
        """
        drawn = super()._draw_any(n, generator)
        number = self._numbers(n, generator)
        missing = torch.arange(n)
        for _ in range(MOST_ROUNDS):
            drawn = self._with_clusters(drawn, number)
            missing = missing[self._poor(drawn.select(missing), generator)]
            if not len(missing):
                return drawn
            number = number.clone()
            number[missing] = self._numbers(len(missing), generator)
        raise MelotteValueError(
            f"{len(missing)} lines of sight found no cluster with least_galaxies "
            f"{self.data.least_galaxies}; is the catalogue complete above log stellar mass "
            f"{self.data.log_stellar_mass_limit[0]:g}?"
        )

    def _numbers(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self.weights, n, replacement=True, generator=generator)

    def _with_clusters(self, halos: ClusterHalos, number: Tensor) -> ClusterHalos:
        """The same conditions of observing other clusters."""
        log_mass = torch.from_numpy(self.catalogue.log_mass)[number]
        rows = Ragged(number[:, None], torch.arange(len(number) + 1))
        return replace(halos, theta=log_mass[:, None].to(halos.theta.dtype), galaxies=rows)

    def _poor(self, halos: ClusterHalos, generator: torch.Generator) -> Tensor:
        """Which clusters never show enough galaxies."""
        waiting = torch.arange(len(halos))
        for _ in range(TRIALS):
            seen = self._look(halos.select(waiting), generator)
            waiting = waiting[seen.counts < self.data.least_galaxies]
            if not len(waiting):
                break
        poor = torch.zeros(len(halos), dtype=torch.bool)
        poor[waiting] = True
        return poor

    def _galaxies_along(
        self, halos: ClusterHalos, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Cluster and (x, y, z, v, log stellar mass, member) of all galaxies in one direction."""
        number = halos.galaxies.values[:, 0].numpy()
        directions = random_directions(len(halos), generator).double().numpy()
        rate = self.cosmology.comoving_hubble_rate(halos.redshift)
        aperture = halos.aperture + SIGMAS * self.data.centring_error
        aperture = aperture * self._comoving(halos.redshift)
        reach = (halos.velocity_cut + FASTEST + SIGMAS * halos.redshift_error) / rate
        owner, table = project(
            self.catalogue.box,
            self.catalogue.clusters.select(number),
            directions,
            aperture.double().numpy(),
            reach.double().numpy(),
            members_only=not self.data.contaminated,
        )
        if not self.catalogue.members_known:
            table[:, 5] = np.nan
        bright = table[:, 4] >= halos.log_stellar_mass_limit.double().numpy()[owner]
        return torch.from_numpy(owner[bright]), torch.from_numpy(table[bright]).float()


class SimulatedClusters(GalaxyCluster):
    """The galaxy-cluster system with a simulation's haloes for its mocks.

    Batches have the fields of the system's own; ``group`` is the halo's id in the catalogue, so
    all lines of sight to one halo are on one side of every split. Any number of random lines of
    sight may go to a cluster. Lives on the CPU.

    Parameters
    ----------
    clusters : GalaxyCluster
    catalogue : ClusterCatalogue
    settings : CatalogueSettings
    n : int
        Observations that will be made, which decides how often a cluster is looked at.
    system : System, optional
        The one whose name and parameters a bank carries, where it is another.

    Raises
    ------
    MelotteValueError
        When the catalogue has too few clusters for ``n``.
    """

    shared_groups = True

    def __init__(
        self,
        clusters: GalaxyCluster,
        catalogue: ClusterCatalogue,
        settings: CatalogueSettings,
        n: int,
        system: System | None = None,
    ) -> None:
        super().__init__(clusters.data, clusters.model)
        self.catalogue = catalogue
        if system is not None:
            self.name, self.parameters = system.name, system.parameters
        weights = view_weights(
            catalogue.log_mass, n, settings.masses == "flat", settings.most_views
        )
        self._simulator = CatalogueSimulator(clusters.data, catalogue, weights)

    def simulator(self, device: torch.device) -> GalaxyClusterSimulator:
        """The catalogue's simulator."""
        del device
        return self._simulator

    def observe(self, latent: ClusterHalos, generator: torch.Generator, views: int = 1) -> Batch:
        """Look at each cluster along ``views`` lines of sight."""
        batch = super().observe(latent, generator, views)
        number = latent.galaxies.values[:, 0].numpy()
        group = torch.from_numpy(self.catalogue.clusters.host_id[number])
        header = batch.observation.header | {
            "catalogue": self.catalogue.provenance,
            "mass": "log10(M200c/(Msun/h)) of the catalogue's halo",
        }
        return replace(
            batch,
            observation=replace(batch.observation, header=header),
            group=group.repeat_interleave(views),
        )
