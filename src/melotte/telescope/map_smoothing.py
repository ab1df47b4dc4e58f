"""Gaussian smoothing of maps that keeps their totals."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from melotte.errors import MelotteValueError

PIDOC_SMOOTHING = 4.0
"""Standard deviation, pixels, of the kernel of Chardin & Bianchini 2021, Sect. 2.2."""

_REACH = 4.0
"""Standard deviations after which the kernel is cut off."""


def smoothed(
    maps: Tensor,
    sigma: float = PIDOC_SMOOTHING,
    boundary: Literal["reflect", "zero"] = "reflect",
) -> Tensor:
    """Smooth maps with a Gaussian along both axes.

    Parameters
    ----------
    maps : Tensor, shape (..., rows, columns)
        Finite: a NaN spreads over the whole map.
    sigma : float, pixels, >= 0
        Standard deviation; the kernel ends at 4 of them. 0 changes nothing.
    boundary : {"reflect", "zero"}
        Whether what would leave the map is turned back at its edge, so that the total is kept
        ("global properties ... are conserved", Chardin & Bianchini 2021, Sect. 2.2), or lost.

    Returns
    -------
    Tensor, the shape and type of ``maps``

    Raises
    ------
    MelotteValueError
        When sigma is negative or the boundary is not known.

    References
    ----------
    Chardin & Bianchini 2021, MNRAS 504, 5656, Sect. 2.2.
    """
    if not 0 <= sigma < math.inf:
        raise MelotteValueError(f"sigma must be 0 pixels or more, found {sigma:g}")
    if boundary not in ("reflect", "zero"):
        raise MelotteValueError(f"boundary must be 'reflect' or 'zero', found {boundary!r}")
    if sigma == 0:
        return maps
    down, across = (
        _weights(n, sigma, boundary == "reflect").to(maps.device, maps.dtype)
        for n in maps.shape[-2:]
    )
    return down @ maps @ across.T


@lru_cache(maxsize=16)
def _weights(n: int, sigma: float, reflect: bool) -> Tensor:
    """What each of n places gives to each: shape (n to, n from); columns sum to 1 if reflected."""
    reach = round(_REACH * sigma)
    steps = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (steps.double() / sigma).square())
    kernel = kernel / kernel.sum()
    places = torch.arange(n)
    target = places + steps[:, None]
    share = kernel[:, None].expand(-1, n)
    if reflect:
        # The image of a map in a mirror at its edge, and of that in the other: period 2 n.
        target = target.remainder(2 * n)
        target = torch.minimum(target, 2 * n - 1 - target)
    else:
        share = share * ((target >= 0) & (target < n))
        target = target.clamp(0, n - 1)
    weights = torch.zeros(n, n, dtype=torch.float64)
    return weights.index_put_((target, places.expand_as(target)), share, accumulate=True)
