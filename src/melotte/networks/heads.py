"""Heads by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from melotte.errors import MelotteValueError
from melotte.networks.autoregressive import AutoregressiveMixtureHead

HEADS = {"autoregressive": AutoregressiveMixtureHead}


def build_head(kind: str, n_features: int, n_parameters: int, **settings: Any) -> nn.Module:
    """Build a head by its name."""
    if kind not in HEADS:
        raise MelotteValueError(f"head {kind!r} is unknown; known: {', '.join(HEADS)}")
    return HEADS[kind](n_features, n_parameters, **settings)
