"""Which galaxies belong to their cluster, as the network says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from melotte.engine.inference import chunks
from melotte.engine.network_outputs import run_network
from melotte.errors import MelotteValueError
from melotte.systems.base import Observation

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

BATCH = 256


def member_probabilities(model: Model, observation: Observation) -> Tensor:
    """Chance that each galaxy belongs to its cluster's halo.

    A member of the mocks is a galaxy bound within 1.3 R200c, wherever it is seen; the chance is
    that of the mocks' mixture of members and interlopers at such a place in phase space, in a
    cluster such as this. Like the mass, it is averaged over the cluster and its mirror image.

    Parameters
    ----------
    model : Model
        Of the galaxy-cluster system, trained with ``membership_weight``.
    observation : Observation
        Its ``galaxies`` are asked for, in their order.

    Returns
    -------
    Tensor, shape (n_galaxies,), float32 on the CPU, 0 to 1

    Raises
    ------
    MelotteValueError
        When the model does not give memberships.
    """
    found: list[Tensor] = []
    for chunk in chunks(observation, BATCH):
        outputs = run_network(model, chunk)
        if "member" not in outputs:
            raise MelotteValueError(f"model {model.name} does not give memberships of galaxies")
        found.append(torch.sigmoid(outputs["member"].float()).cpu())
    return torch.cat(found) if found else torch.zeros(0)
