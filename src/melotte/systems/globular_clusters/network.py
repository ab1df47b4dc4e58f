"""The network of the globular clusters: a map of mass and a joint posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from melotte.networks.heads import build_head
from melotte.networks.map_network import MapNetwork
from melotte.networks.map_posteriors import MapPosterior
from melotte.systems.globular_clusters.settings import ModelSettings


class GlobularNetwork(nn.Module):
    """Residual encoder and decoder of maps, with a posterior head.

    The head reads the conditions beside the features: fluxes of the whole map tell most of a
    cluster's mass and distance, to a precision that layers of features take long to pass on.

    Parameters
    ----------
    settings : ModelSettings
    n_channels, n_conditions, n_parameters : int
    of_target : (float, float)
        Mean and standard deviation of log10 mass over training mocks.
    """

    of_target: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        n_channels: int,
        n_conditions: int,
        n_parameters: int,
        of_target: tuple[float, float],
    ) -> None:
        super().__init__()
        self.maps = MapNetwork(
            n_channels,
            n_conditions,
            settings.features,
            widths=settings.widths,
            blocks=settings.blocks,
            likelihood=settings.likelihood,
            dropout=settings.dropout,
            detail=settings.detail,
        )
        self.head = build_head(
            settings.head,
            settings.features + n_conditions,
            n_parameters,
            **settings.head_settings,
        )
        self.register_buffer("of_target", torch.tensor(of_target), persistent=False)

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of a batch.

        Parameters
        ----------
        inputs : mapping
            Of :func:`melotte.systems.globular_clusters.preparation.prepared`.

        Returns
        -------
        dict
            ``posterior``; ``mass_map``: a :class:`~melotte.networks.map_posteriors.MapPosterior`
            of log10(Msun/px), shape (batch, 1, rows, columns); ``embedding`` (batch, n_features).
        """
        found, features = self.maps(inputs["maps"], inputs["conditions"])
        mean, spread = self.of_target.unbind()
        told = inputs["conditions"].to(features.dtype)
        return {
            "posterior": self.head(torch.cat([features, told], 1)),
            "mass_map": MapPosterior(
                found.mean * spread + mean, found.scale * spread, found.degrees
            ),
            "embedding": features.float(),
        }
