"""What a model's network says of observations: outputs, posteriors, draws by object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from melotte.engine.object_streams import INFERENCE_STREAM, object_generator
from melotte.networks.posteriors import Posterior
from melotte.systems.base import Observation

if TYPE_CHECKING:
    from melotte.engine.model_files import Model


def infer_posterior(model: Model, observation: Observation) -> tuple[Posterior, Tensor]:
    """Posteriors of a batch of observations, in physical units.

    Parameters
    ----------
    model : Model
    observation : Observation

    Returns
    -------
    posterior : Posterior
    embedding : Tensor, shape (batch, n_features)
    """
    outputs = run_network(model, observation)
    return Posterior(outputs["posterior"], model.prior), outputs["embedding"]


def run_network(model: Model, observation: Observation) -> dict[str, Any]:
    """Outputs of the network for a batch of observations, without gradients."""
    device = device_of(model)
    inputs = model.system.prepare(observation.to(device), model.constants)
    if model.network.training:
        model.network.eval()
    with torch.no_grad():
        return model.network(inputs)


def device_of(model: Model) -> torch.device:
    """Where the weights of a model are."""
    parameter = next(model.network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def draw_by_object(outputs: Mapping[str, Any], n: int, seed: int, ids: Sequence[str]) -> Tensor:
    """Samples of a batch of posteriors, each object's from its own random stream.

    Parameters
    ----------
    outputs : mapping
        Of the network: ``posterior`` over the batch, and ``embedding``, whose device decides
        where the draws are made (a GPU draws other numbers than a CPU).
    n : int
        Samples of each.
    seed : int
    ids : sequence of str, length batch

    Returns
    -------
    Tensor, shape (batch, n, n_parameters), unit cube
    """
    posterior, device = outputs["posterior"], outputs["embedding"].device
    drawn = []
    with torch.no_grad():
        for i, name in enumerate(ids):
            one = posterior.select(torch.tensor([i], device=device))
            drawn.append(one.sample(n, object_generator(seed, INFERENCE_STREAM, name, device)))
    return torch.cat(drawn)
