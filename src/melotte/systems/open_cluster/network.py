"""The network of the open-cluster system: the physical posterior, and that of each catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from melotte.errors import MelotteValueError
from melotte.networks.ensemble import EnsemblePosterior
from melotte.networks.heads import build_head
from melotte.networks.posteriors import UnitPosterior
from melotte.networks.sets import SetEncoder
from melotte.ragged import Ragged
from melotte.systems.open_cluster import preparation
from melotte.systems.open_cluster.settings import ModelSettings

N_PARAMETERS = 4
SOURCE_FEATURES = 16
LEARNED = "catalogues."
"""Where weights begin that were learned from labelled clusters."""


class ListPosterior(nn.Module):
    """Set encoder and posterior head.

    Parameters
    ----------
    settings : ModelSettings
    """

    def __init__(self, settings: ModelSettings) -> None:
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
            settings.head, settings.features, N_PARAMETERS, **settings.head_settings
        )


class CataloguePosterior(ListPosterior):
    """A posterior of the values that a catalogue would give, for each of several catalogues.

    The features of a list are scaled and shifted for the catalogue (Perez et al. 2018), and a
    small network adds what depends on both. At first all of this does nothing.

    Parameters
    ----------
    settings : ModelSettings
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        n, width = len(settings.label_sources), settings.features
        self.modulation = nn.Embedding(n, 2 * width)
        self.source = nn.Embedding(n, SOURCE_FEATURES)
        self.adapter = nn.Sequential(
            nn.Dropout(settings.adapter_dropout),
            nn.Linear(width + SOURCE_FEATURES, settings.adapter_width),
            nn.GELU(),
            nn.Dropout(settings.adapter_dropout),
            nn.Linear(settings.adapter_width, width),
        )
        last = self.adapter[-1]
        for weight in (self.modulation.weight, *last.parameters()):
            nn.init.zeros_(weight)

    def posterior(self, features: Tensor, source: Tensor) -> UnitPosterior:
        """Posterior as the catalogues ``source`` (batch,) of features (batch, n_features)."""
        scale, shift = self.modulation(source).chunk(2, -1)
        added = self.adapter(torch.cat([features, self.source(source)], -1))
        return self.head(features * (1 + scale) + shift + added)


class CatalogueEnsemble(nn.Module):
    """Several networks that learn the same catalogues; their posteriors are mixed.

    Each training batch goes to one member, drawn at random, so that members see the clusters in
    another order and otherwise augmented. Labelled clusters are few: single networks differ more
    than the error that they admit, and their mean is better than any.

    Parameters
    ----------
    settings : ModelSettings

    Attributes
    ----------
    taught : BoolTensor, shape (n_catalogues, 4)
        Which parameters each catalogue gave in training; of the others nothing was learned.
    """

    taught: Tensor

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.members = nn.ModuleList(CataloguePosterior(settings) for _ in range(settings.ensemble))
        shape = len(settings.label_sources), N_PARAMETERS
        self.register_buffer("taught", torch.zeros(shape, dtype=torch.bool))

    def forward(
        self, stars: Ragged, context: Tensor, rows: Tensor, sources: Tensor
    ) -> UnitPosterior:
        """Posteriors of (list, catalogue) pairs.

        Parameters
        ----------
        stars, context
            Of all lists.
        rows, sources : Tensor of int64, shape (n_pairs,)
            Numbers of lists and of catalogues.
        """
        members = list(self.members)
        if self.training and len(members) > 1:
            members = [members[int(torch.randint(len(members), ()))]]
        posteriors = []
        for member in members:
            assert isinstance(member, CataloguePosterior)
            features = member.encoder(stars, context)
            posteriors.append(member.posterior(features[rows], sources))
        return posteriors[0] if len(posteriors) == 1 else EnsemblePosterior(posteriors)


class ClusterNetwork(ListPosterior):
    """The physical posterior; with ``settings.label_sources``, also that of each catalogue.

    The two share nothing once they are trained: fine-tuning on catalogues leaves the physical
    posterior bit by bit as it was, and what it was calibrated to be.

    Parameters
    ----------
    settings : ModelSettings
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self.label_sources = settings.label_sources
        self.catalogues = CatalogueEnsemble(settings) if settings.label_sources else None

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Posterior in the unit cube, and what it was made from.

        Parameters
        ----------
        inputs : mapping
            ``stars``, ``context``; where given, ``source`` (batch,): 0 for the physical
            posterior, ``i`` for that of catalogue ``i - 1``; all 0, or none. With
            ``labels_known`` (batch, s, 4), the posteriors of all known (list, catalogue) pairs are
            given in its place.

        Returns
        -------
        dict
            ``posterior``: UnitPosterior of the batch, or of the pairs; ``pairs``: (n_pairs, 2)
            of int64 in that case, else ``embedding``: features of the physical network (batch, n).
        """
        stars, context = inputs["stars"], inputs["context"]
        source, known = inputs.get("source"), inputs.get("labels_known")
        physical = known is None and (source is None or not bool(source.any()))
        if self.catalogues is None or physical:
            embedding = self.encoder(stars, context)
            return {"posterior": self.head(embedding), "embedding": embedding}
        if known is not None:
            if self.training:
                self.catalogues.taught |= known.any(0)
            pairs = torch.nonzero(known.any(-1))
            posterior = self.catalogues(stars, context, pairs[:, 0], pairs[:, 1])
            return {"posterior": posterior, "pairs": pairs}
        if source is None or not bool(source.all()):
            raise MelotteValueError("a batch asks for simulated and catalogued values at once")
        embedding = self.encoder(stars, context)
        rows = torch.arange(len(source), device=source.device)
        posterior = self.catalogues(stars, context, rows, source.long() - 1)
        return {"posterior": posterior, "embedding": embedding}

    def adopt(self, other: ClusterNetwork) -> None:
        """Take the weights of a model's network.

        Where it knows other catalogues, or the same in another order, or its parts for them are
        of another shape, those of this network start as the physical one: weights stand for
        catalogues by their place.

        Parameters
        ----------
        other : ClusterNetwork

        Raises
        ------
        RuntimeError
            When the physical weights are of another shape.
        """
        own, weights = self.state_dict(), other.state_dict()
        merged = {name: value for name, value in weights.items() if not name.startswith(LEARNED)}
        learned = {name: value for name, value in own.items() if name.startswith(LEARNED)}
        fits = self.label_sources == other.label_sources and all(
            name in weights and weights[name].shape == value.shape
            for name, value in learned.items()
        )
        for name, value in learned.items():
            # catalogues.members.0.encoder.x starts as encoder.x; what only catalogues have stays.
            physical = name.removeprefix(LEARNED).split(".", 2)[-1]
            merged[name] = weights[name] if fits else weights.get(physical, value)
        self.load_state_dict(merged)
