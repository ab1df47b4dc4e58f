"""The network of the cluster-image system: encoder, posterior, class and visibility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from melotte.networks.heads import build_head
from melotte.networks.image_encoder import ImageEncoder
from melotte.networks.mlp import perceptron
from melotte.parameters import Parameter
from melotte.systems.cluster_images import carried_bands, preparation
from melotte.systems.cluster_images.settings import ModelSettings

VISIBILITY = Parameter("visibility", 1e-3, 1e5, scale="log", description="signal to noise")
"""Range that the visibility's posterior lives on; outside, its ends."""


class ClusterImageNetwork(nn.Module):
    """Residual encoder and its heads.

    Parameters
    ----------
    settings : ModelSettings
    bands : sequence of str
    n_parameters : int
    """

    def __init__(self, settings: ModelSettings, bands: Sequence[str], n_parameters: int) -> None:
        super().__init__()
        self.bands, self.n_annuli = tuple(bands), len(settings.apertures)
        n_context = preparation.context_size(len(bands)) + len(bands) * self.n_annuli
        self.encoder = ImageEncoder(
            len(bands),
            n_context,
            settings.features,
            settings.widths,
            settings.blocks,
            settings.stem_stride,
            settings.rings,
            settings.dropout,
        )
        self.head = build_head(
            settings.head, settings.features, n_parameters, **settings.head_settings
        )
        self.presence = perceptron(settings.features, 64, 1)
        self.visibility = build_head(
            "autoregressive", settings.features, 1, components=4, hidden=64
        )

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the network says of a batch.

        Returns
        -------
        dict
            ``posterior`` in the unit cube; the ``embedding`` (batch, features) behind it; the
            logit ``class`` (batch,) that there is a cluster; and ``visibility``, a posterior over
            the unit range of :data:`VISIBILITY`.
        """
        context = torch.cat([inputs["context"], inputs["photometry"]], 1)
        features = self.encoder(inputs["image"], context)
        return {
            "posterior": self.head(features),
            "embedding": features,
            "class": self.presence(features)[:, 0],
            "visibility": self.visibility(features),
        }

    def adopt(self, other: ClusterImageNetwork) -> None:
        """Take the weights of a model's network, of the same bands or of others.

        Parameters
        ----------
        other : ClusterImageNetwork
            Bands that it has not begin without weight; see
            :func:`melotte.systems.cluster_images.carried_bands.band_places`.

        Raises
        ------
        RuntimeError
            When anything but the bands is of another shape.
        """
        weights = dict(other.state_dict())
        if self.bands != other.bands and self.n_annuli == other.n_annuli:
            places = carried_bands.band_places(self.bands, other.bands)
            n_context = preparation.context_size(len(other.bands))
            photometry = carried_bands.photometry_places(places, self.n_annuli)
            context = carried_bands.context_places(places, len(other.bands)) + [
                carried_bands.NEW if place == carried_bands.NEW else n_context + place
                for place in photometry
            ]
            inputs = other.encoder.rearranged(places, context)
            weights |= {f"encoder.{name}": value for name, value in inputs.items()}
        self.load_state_dict(weights)


def visibility_in_unit(visibility: Tensor) -> Tensor:
    """Visibility (batch,) as place in the range of its posterior, (batch, 1); NaN stays NaN."""
    held = visibility.clamp(VISIBILITY.low, VISIBILITY.high)
    return VISIBILITY.to_unit(held)[:, None]


def visibility_quantiles(outputs: Mapping[str, Any], levels: Tensor) -> Tensor:
    """Quantiles (batch, n_levels) of the visibility."""
    return VISIBILITY.from_unit(outputs["visibility"].quantile(levels)[..., 0])


def class_terms(logit: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy (batch,) of the class; 0 where the target is not known."""
    known = torch.isfinite(target)
    loss = nn.functional.binary_cross_entropy_with_logits(
        logit.float(), target.nan_to_num(0.5), reduction="none"
    )
    return torch.where(known, loss, 0.0)
