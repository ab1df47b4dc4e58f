"""The open-cluster system: Gaia member lists, read as sets of stars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.io.cluster_labels import ClusterLabels
from melotte.parameters import Parameter, Prior
from melotte.ragged import Ragged
from melotte.systems.base import Batch, Field, Observation, Output, RowError
from melotte.systems.open_cluster import labelled, preparation
from melotte.systems.open_cluster.network import ClusterNetwork
from melotte.systems.open_cluster.settings import DataSettings, ModelSettings
from melotte.systems.open_cluster.simulator import COLUMNS, Clusters, ClusterSimulator
from melotte.telescope.gaia import gaia_release

READ_BATCH = 256
READER_OPTIONS = ("column", "group_by", "release", "min_probability")
SIMULATION = "simulation"
ASKED = ("source", "labels_known")
"""Fields of an observation that say whose values are asked for; nothing that was observed."""


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

    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Change real, labelled lists as physics allows; see :mod:`.labelled`."""
        return labelled.augmented(batch, self.data.augmentation, generator, Prior(self.parameters))

    def constants(self, batch: Batch) -> dict[str, Any]:
        """Means and standard deviations of the features over mocks."""
        return preparation.measure_constants(batch.observation, self.data.max_stars)

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """Standardised features of stars (Ragged) and lists (batch, n_context), and the source."""
        inputs = preparation.standardised(observation, constants, self.data.max_stars)
        asked = {name: observation.data[name] for name in ASKED if name in observation.data}
        return inputs | asked

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`ClusterNetwork`."""
        del constants
        return ClusterNetwork(self.model)

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Negative log posterior density of the known labels in the unit cube, (batch,).

        For lists with labels of catalogues, the sum over the catalogues.
        """
        prior = Prior(self.parameters)
        if "pairs" in outputs:
            return {"negative_log_posterior": labelled.pair_loss(prior, outputs, batch)}
        unit = prior.to_unit(batch.theta)
        log_prob = outputs["posterior"].log_prob_known(unit, batch.theta_known)
        return {"negative_log_posterior": -log_prob}

    def read(self, source: Any, options: Mapping[str, Any]) -> Iterator[Observation | RowError]:
        """Member lists in tables, in batches of up to 256 clusters.

        Parameters
        ----------
        source : path, astropy Table, or a sequence of them
        options : mapping
            ``column``: mapping of our names to the table's; ``group_by``: column that names the
            cluster; ``release``: ``"DR2"``, ``"EDR3"`` or ``"DR3"``; ``min_probability``: float;
            ``values_as``: whose values are asked for, see :meth:`sources`; ``source_id``: whether
            the observations carry the stars' identifiers (Ragged of int64, -1 where unknown).

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

        ours = ("values_as", "source_id")
        columns = {name: value for name, value in options.items() if name not in ours}
        unknown = [name for name in columns if name not in READER_OPTIONS]
        if unknown:
            raise MelotteValueError(
                f"{unknown[0]!r} is not an option of open clusters; allowed: "
                f"{', '.join((*READER_OPTIONS, *ours))}"
            )
        with_ids = bool(options.get("source_id"))
        sources = self.sources(options.get("values_as"))
        waiting: list[Any] = []
        for entry in read_members(source, **columns):
            if isinstance(entry, RejectedCluster):
                yield RowError(entry.id, entry.reason, int(Flag.FAILED | Flag.FEW_MEMBERS))
                continue
            waiting.append(entry)
            if len(waiting) == READ_BATCH:
                yield from self._asked(waiting, sources, with_ids)
                waiting = []
        if waiting:
            yield from self._asked(waiting, sources, with_ids)

    def withheld(self, observation: Observation, network: nn.Module) -> Tensor | None:
        """Parameters of which the catalogue that is asked for says nothing, (n_parameters,)."""
        source = observation.data.get("source")
        catalogues = getattr(network, "catalogues", None)
        if not isinstance(source, Tensor) or catalogues is None or not bool(source.any()):
            return None
        return ~catalogues.taught[int(source[0]) - 1]

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        """Counts, magnitudes, colours, parallax and scatter of each list."""
        return preparation.summaries(observation, self.data.max_stars), preparation.SUMMARIES

    def label(
        self,
        entries: Iterable[Observation | RowError],
        labels: ClusterLabels,
        match: Callable[[str], str] = str,
    ) -> labelled.LabelledLists:
        """Lists with what the preset's catalogues say of them; see :func:`.label_lists`."""
        if not self.model.label_sources:
            raise MelotteValueError("model.label_sources is empty: name the catalogues to learn")
        prior = Prior(self.parameters)
        return labelled.label_lists(entries, labels, self.model.label_sources, prior, match)

    def sources(self, values_as: str | None) -> tuple[int, ...]:
        """Numbers of the sources that ``values_as`` names.

        Parameters
        ----------
        values_as : str or None
            ``"simulation"`` (or None) for the physical posterior; a catalogue of the preset's
            ``model.label_sources`` for the values that it would give; ``"all"`` for these in turn.

        Returns
        -------
        tuple of int
            0 is the physical posterior.

        Raises
        ------
        MelotteValueError
            When the model does not know that catalogue.
        """
        if values_as is None:
            return (0,)
        names = (SIMULATION, *self.model.label_sources)
        if values_as == "all":
            return tuple(range(len(names)))
        plain = [name.replace(" ", "").lower() for name in names]
        asked = values_as.replace(" ", "").lower()
        if asked not in plain:
            raise MelotteValueError(
                f"this model does not know {values_as!r}; it gives values as "
                f"{', '.join(names)}, or all"
            )
        return (plain.index(asked),)

    def simulator(self, device: torch.device) -> ClusterSimulator:
        """The simulator on a device, built on first use."""
        if device not in self._simulators:
            self._simulators[device] = ClusterSimulator(self.data, device)
        return self._simulators[device]

    def _asked(
        self, lists: list[Any], sources: tuple[int, ...], with_ids: bool
    ) -> Iterator[Observation]:
        """The lists, once for each source that is asked for."""
        observation = self._observation(lists)
        if with_ids:
            identifiers = Ragged.pack([torch.as_tensor(one.source_id) for one in lists])
            data = dict(observation.data) | {"source_id": identifiers}
            observation = replace(observation, data=data)
        if sources == (0,):
            yield observation
            return
        names = (SIMULATION, *self.model.label_sources)
        for source in sources:
            data = dict(observation.data) | {"source": torch.full((len(lists),), float(source))}
            header = observation.header | {"values_as": [names[source]] * len(lists)}
            yield replace(observation, data=data, header=header)

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
