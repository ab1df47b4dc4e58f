"""Heads by name: what turns features into a posterior."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from melotte.errors import MelotteValueError
from melotte.networks.flow import FlowHead
from melotte.networks.grid import GridHead
from melotte.networks.mixture import MixtureHead
from melotte.networks.point import PointHead
from melotte.networks.truncated_mixture import AutoregressiveMixtureHead

HEADS: dict[str, Callable[..., nn.Module]] = {
    "point": PointHead,
    "grid": GridHead,
    "mixture": MixtureHead,
    "autoregressive": AutoregressiveMixtureHead,
    "flow": FlowHead,
}


def build_head(kind: str, n_features: int, n_parameters: int, **settings: Any) -> nn.Module:
    """Build an untrained head.

    Parameters
    ----------
    kind : {"point", "grid", "mixture", "autoregressive", "flow"}
    n_features, n_parameters : int
    settings
        Of that head; see its class.

    Returns
    -------
    nn.Module
        ``head(features)`` with features of shape (batch, n_features) gives a
        :class:`~melotte.networks.posteriors.UnitPosterior`.

    Raises
    ------
    MelotteValueError
        When the kind, a setting or its value is not allowed.
    """
    if kind not in HEADS:
        raise MelotteValueError(f"head {kind!r} is unknown; known: {', '.join(HEADS)}")
    allowed = list(inspect.signature(HEADS[kind]).parameters)[2:]
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise MelotteValueError(
            f"head {kind}: {unknown[0]!r} is not a setting; allowed: {', '.join(allowed)}"
        )
    return HEADS[kind](n_features, n_parameters, **settings)
