"""The loss of a network: on a batch, and on the fixed validation mocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from melotte.engine.random import Stream, seed_globally
from melotte.systems.base import Batch, System


def weighted_loss(terms: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """Weighted mean over a batch of the sum of the loss terms.

    Parameters
    ----------
    terms : mapping of str to Tensor (batch,)
    weight : Tensor, shape (batch,), >= 0

    Returns
    -------
    Tensor, shape ()
    """
    total = torch.stack([term.float() for term in terms.values()]).sum(0)
    return (total * weight).sum() / weight.sum().clamp(min=1e-12)


class ValidationSet:
    """Fixed batches with their network input, and the loss on them.

    Parameters
    ----------
    system : System
    constants : mapping
        Preparation constants.
    batches : sequence of Batch
        On ``device``; without one the loss is NaN, and the last weights are kept.
    seed : int
        Keys the noise inside the loss.
    device : torch.device
    """

    def __init__(
        self,
        system: System,
        constants: Mapping[str, Any],
        batches: Sequence[Batch],
        seed: int,
        device: torch.device,
    ) -> None:
        self.system = system
        self.seed = seed
        self.device = device
        self.batches = batches
        with torch.no_grad():
            self.inputs = [system.prepare(one.observation, constants) for one in batches]

    @torch.no_grad()
    def measure(self, network: nn.Module, rank: int = 0, world_size: int = 1) -> dict[str, float]:
        """Mean loss and its terms.

        Parameters
        ----------
        network : nn.Module
            Is put in evaluation mode while it is measured. The global generators are keyed anew.
        rank, world_size : int
            Ranks share the batches and add up their sums; all get the same answer.

        Returns
        -------
        dict of str to float
            ``loss`` and each term by its name.
        """
        if not self.batches:
            return {"loss": float("nan")}
        training = network.training
        network.eval()
        # A loss may draw (unknown labels are integrated out): always the same numbers.
        seed_globally(self.device, self.seed, Stream.VALIDATION, Stream.NETWORK_NOISE, rank)
        sums: dict[str, Tensor] = {}
        first = self.batches[0]
        weight = torch.zeros((), device=first.weight.device)
        for inputs, batch in list(zip(self.inputs, self.batches, strict=True))[rank::world_size]:
            terms = self.system.loss(network(inputs), batch)
            weight += batch.weight.sum()
            for name, term in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(weight)) + term @ batch.weight
        network.train(training)
        if world_size > 1:
            weight, sums = self._added(weight, sums)
        means = {name: float(value / weight) for name, value in sums.items()}
        return {"loss": sum(means.values())} | means

    def _added(self, weight: Tensor, sums: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        # A rank without a batch knows no term's name: the names come from the first rank.
        names: list[Any] = [sorted(sums)]
        torch.distributed.broadcast_object_list(names, src=0)
        zero = torch.zeros_like(weight)
        row = torch.stack([weight, *(sums.get(name, zero) for name in names[0])])
        torch.distributed.all_reduce(row)
        return row[0], dict(zip(names[0], row[1:], strict=True))
