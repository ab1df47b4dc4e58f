"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """A second network whose weights follow those of the first.

    Parameters
    ----------
    network : nn.Module
        The network that is trained.
    average : nn.Module
        Another of the same architecture; its weights are overwritten.
    """

    def __init__(self, network: nn.Module, average: nn.Module) -> None:
        self.network = average.requires_grad_(False)
        self.network.load_state_dict(network.state_dict())

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """Move towards the weights of ``network`` by ``1 - decay`` of the way.

        Buffers (running statistics, fixed tables) are copied.
        """
        ours: list[Tensor] = list(self.network.parameters())
        theirs: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(other)
