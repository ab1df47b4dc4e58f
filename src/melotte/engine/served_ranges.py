"""Ranges that a model serves, inside those it was trained on.

A network that was trained only up to an edge piles up at it, whatever lies beyond. So models train
wider than they serve, and a posterior that lies beyond what is served says that the object does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from melotte.flags import Flag

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

UNSERVED_SHARE = 0.9
"""Share of a posterior beyond one end of a served range that flags a row, where none is set."""


def flag_unserved(model: Model, unit: Tensor) -> tuple[NDArray[np.int64], list[str]]:
    """OUT_OF_RANGE where a posterior lies beyond an end of what the model serves.

    Parameters
    ----------
    model : Model
        Whose system may have ``served``: a mapping from names to (low, high);
        ``served_shares``: one from some of these names to the share that flags; and
        ``derived(theta)``: a mapping from names of its own to values (n, n_samples) that follow
        from parameters (n, n_samples, n_parameters).
    unit : Tensor, shape (n, n_samples, n_parameters), unit cube

    Returns
    -------
    flags : array of int64, shape (n,)
    reasons : list of str
        Which quantity lies beyond which end; empty where none does.
    """
    served: Mapping[str, tuple[float, float]] = getattr(model.system, "served", {})
    shares: Mapping[str, float] = getattr(model.system, "served_shares", {})
    reasons = [""] * len(unit)
    if not served:
        return np.zeros(len(unit), dtype=np.int64), reasons
    theta = model.prior.from_unit(unit)
    values = dict(zip(model.prior.names, theta.unbind(-1), strict=True))
    derive = getattr(model.system, "derived", None)
    if derive is not None:
        values |= derive(theta)
    for name, (low, high) in served.items():
        drawn = values[name].numpy()
        ends = ((drawn < low, f"below {low:g}"), (drawn > high, f"above {high:g}"))
        for beyond, end in ends:
            for row in np.flatnonzero(beyond.mean(1) > shares.get(name, UNSERVED_SHARE)).tolist():
                reasons[row] = reasons[row] or f"{name} {end}, the end of what the model serves"
    flags = [int(Flag.OUT_OF_RANGE) if reason else 0 for reason in reasons]
    return np.array(flags, dtype=np.int64), reasons
