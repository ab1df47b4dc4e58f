"""The open-cluster system: Gaia member lists, read as sets of stars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from melotte.flags import Flag
from melotte.networks.heads import build_head
from melotte.networks.sets import SetEncoder
from melotte.parameters import Parameter, Prior
from melotte.systems.base import Batch, Field, Observation, Output, RowError
from melotte.systems.open_cluster import preparation
from melotte.systems.open_cluster.settings import DataSettings, ModelSettings
from melotte.systems.open_cluster.simulator import COLUMNS, Clusters, ClusterSimulator
from melotte.telescope.gaia import gaia_release

READ_BATCH = 256


class OpenCluster:
    """Posterior over (log_age, extinction_v, distance, metallicity) of a Gaia member list.

    Parameters
    ----------
    data : DataSettings
    model : ModelSettings
    """

    name = "open-cluster"
    outputs = (Output("posterior", "vector", "age, extinction, distance and metallicity"),)

    def __init__(self, data: DataSettings, model: ModelSettings) -> None:
        self.data = data
        self.model = model
        self.parameters: tuple[Parameter, ...] = data.prior.parameters()
        self._simulators: dict[torch.device, ClusterSimulator] = {}

    def draw(self, n: int, generator: torch.Generator) -> Clusters:
        """Draw the hidden state of ``n`` detectable clusters."""
        return self.simulator(generator.device).draw(n, generator)

    def observe(self, latent: Clusters, generator: torch.Generator, views: int = 1) -> Batch:
        """List the members of each cluster ``views`` times, with new stars and errors."""
        if views > 1:
            rows = torch.arange(len(latent), device=latent.theta.device)
            latent = latent.select(rows.repeat_interleave(views))
        stars, n_listed = self.simulator(generator.device).observe(latent, generator)
        data: dict[str, Field] = {
            "stars": stars,
            "n_listed": n_listed,
            "release": latent.release.to(n_listed.dtype),
        }
        group = torch.arange(len(latent) // views, device=latent.theta.device)
        return Batch.labelled(Observation(data), latent.theta, group=group.repeat_interleave(views))

    def constants(self, batch: Batch) -> dict[str, Any]:
        """Means and standard deviations of the features over mocks."""
        return preparation.measure_constants(batch.observation, self.data.max_stars)

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """Standardised features of stars (Ragged) and lists (batch, n_context)."""
        return preparation.standardised(observation, constants, self.data.max_stars)

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`ClusterNetwork`."""
        del constants
        return ClusterNetwork(self.model, len(self.parameters))

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Negative log posterior density of the known labels in the unit cube, (batch,)."""
        unit = Prior(self.parameters).to_unit(batch.theta)
        log_prob = outputs["posterior"].log_prob_known(unit, batch.theta_known)
        return {"negative_log_posterior": -log_prob}

    def read(self, source: Any, options: Mapping[str, Any]) -> Iterator[Observation | RowError]:
        """Member lists in tables, in batches of up to 256 clusters.

        Parameters
        ----------
        source : path, astropy Table, or a sequence of them
        options : mapping
            ``column``: mapping of our names to the table's; ``group_by``: column that names the
            cluster; ``release``: ``"DR2"``, ``"EDR3"`` or ``"DR3"``; ``min_probability``: float.

        Yields
        ------
        Observation or RowError
            A list without a usable star is a RowError; one shorter than the mocks' shortest is
            flagged FEW_MEMBERS.

        Raises
        ------
        MelotteFileError, MelotteValueError
            When a file cannot be read or lacks a column.
        """
        from melotte.io.gaia_members import RejectedCluster, read_members

        waiting: list[Any] = []
        for entry in read_members(source, **options):
            if isinstance(entry, RejectedCluster):
                yield RowError(entry.id, entry.reason, int(Flag.FAILED | Flag.FEW_MEMBERS))
                continue
            waiting.append(entry)
            if len(waiting) == READ_BATCH:
                yield self._observation(waiting)
                waiting = []
        if waiting:
            yield self._observation(waiting)

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        """Counts, magnitudes, colours, parallax and scatter of each list."""
        return preparation.summaries(observation, self.data.max_stars), preparation.SUMMARIES

    def simulator(self, device: torch.device) -> ClusterSimulator:
        """The simulator on a device, built on first use."""
        if device not in self._simulators:
            self._simulators[device] = ClusterSimulator(self.data, device)
        return self._simulators[device]

    def _observation(self, lists: list[Any]) -> Observation:
        tables = [
            torch.stack(
                [torch.as_tensor(getattr(one, name), dtype=torch.float32) for name in COLUMNS], -1
            )
            for one in lists
        ]
        counts = [len(table) for table in tables]
        dr2 = [gaia_release(one.release or "EDR3").name == "DR2" for one in lists]
        few = torch.tensor([count < self.data.members[0] for count in counts])
        dropped = {one.id: dict(one.n_dropped) for one in lists}
        return Observation(
            preparation.pack_lists(tables, counts, dr2),
            ids=tuple(str(one.id) for one in lists),
            flags=few.long() * int(Flag.FEW_MEMBERS),
            header={"n_members": counts, "n_dropped": dropped},
        )


class ClusterNetwork(nn.Module):
    """Set encoder and posterior head.

    Parameters
    ----------
    settings : ModelSettings
    n_parameters : int
    """

    def __init__(self, settings: ModelSettings, n_parameters: int) -> None:
        super().__init__()
        self.encoder = SetEncoder(
            n_element=len(preparation.STAR_FEATURES),
            n_context=len(preparation.CONTEXT_FEATURES),
            width=settings.width,
            blocks=settings.blocks,
            attention_seeds=settings.attention_seeds,
            features=settings.features,
        )
        self.head = build_head(
            settings.head, settings.features, n_parameters, **settings.head_settings
        )

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Posterior in the unit cube, and the embedding (batch, features) behind it."""
        embedding = self.encoder(inputs["stars"], inputs["context"])
        return {"posterior": self.head(embedding), "embedding": embedding}
