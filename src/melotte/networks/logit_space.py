"""The unit cube seen through the logit: where unbounded densities become bounded ones."""

from __future__ import annotations

import torch
from torch import Tensor

EDGE = 1e-6
"""Values closer to 0 or 1 count as being this far from them."""

STRETCH = 1.7
"""A uniform density becomes one close to a standard normal density."""


def to_line(u: Tensor) -> Tensor:
    """Map (0, 1) to the real line (any shape); NaN becomes the middle."""
    return torch.logit(u.float().nan_to_num(0.5).clamp(EDGE, 1 - EDGE)) / STRETCH


def to_cube(z: Tensor) -> Tensor:
    """Inverse of :func:`to_line`."""
    return torch.sigmoid(STRETCH * z)


def log_slope(u: Tensor) -> Tensor:
    """Log of d(line)/d(cube) at ``u``, any shape."""
    inner = u.float().nan_to_num(0.5).clamp(EDGE, 1 - EDGE)
    return -torch.log(STRETCH * inner * (1 - inner))
