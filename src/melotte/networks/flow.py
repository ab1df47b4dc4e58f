"""Autoregressive normalising flows in logit space: an affine map, then a spline (zuko).

Each conditional density is a monotonic map of one parameter to a standard normal variable. The
spline acts on the line, where the faces of the cube lie at infinity: a posterior piled against a
face is a skewed hump there, which a spline follows.

References
----------
Papamakarios et al. 2017 (autoregressive flows); Durkan et al. 2019 (neural splines).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from melotte.networks.autoregressive import AutoregressiveHead, Family
from melotte.networks.logit_space import EDGE, log_slope, to_cube, to_line


class FlowHead(AutoregressiveHead):
    """Posterior head: features to an autoregressive spline flow.

    Parameters
    ----------
    n_features, n_parameters : int
    bins : int, >= 2
        Of each spline.
    hidden : int
        Width of the two hidden layers of each conditional density.
    """

    def __init__(
        self, n_features: int, n_parameters: int, bins: int = 12, hidden: int = 64
    ) -> None:
        super().__init__(n_features, n_parameters, SplineFlow(bins), hidden)


class SplineFlow(Family):
    """Maps of one parameter to a standard normal variable.

    Parameters
    ----------
    bins : int, >= 2
    """

    n_uniform = 1

    def __init__(self, bins: int) -> None:
        self.bins = bins
        self.n_settings = 2 + 3 * bins - 1

    def first_bias(self) -> Tensor:
        """No affine map and no spline: close to a uniform density."""
        return torch.zeros(self.n_settings)

    def log_density(self, settings: Tensor, u: Tensor) -> Tensor:
        """Log density at ``u`` (...,) in [0, 1], settings of shape (..., n_settings)."""
        affine, spline = self._maps(settings)
        z, spline_slope = spline.call_and_ladj(affine(to_line(u)))
        slopes = log_slope(u) + affine.log_scale + spline_slope
        return slopes - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)

    def draw(self, settings: Tensor, uniform: Tensor) -> Tensor:
        """Draws (...,): the uniform number's normal score, mapped back."""
        affine, spline = self._maps(settings)
        score = torch.special.ndtri(uniform[0].clamp(EDGE, 1 - EDGE))
        return to_cube(affine.inv(spline.inv(score)))

    def _maps(self, settings: Tensor) -> tuple[Any, Any]:
        shift, scale, widths, heights, slopes = settings.split(
            (1, 1, self.bins, self.bins, self.bins - 1), -1
        )
        affine = MonotonicAffineTransform(shift[..., 0], scale[..., 0])
        return affine, _Spline(widths, heights, slopes)


class _Spline(MonotonicRQSTransform):
    """Rational-quadratic spline whose inverse cannot take the root of a rounding error."""

    def _inverse(self, y: Tensor) -> Tensor:
        """Durkan et al. 2019, Eqs. 6 to 8 of their appendix."""
        bin_numbers: Any = self.searchsorted(self.vertical, y) - 1
        inside, x0, x1, y0, y1, slope0, slope1, slope = self.bin(bin_numbers)
        rise, bend = y1 - y0, slope0 + slope1 - 2 * slope
        above = torch.where(inside, y - y0, 0.0)
        quadratic = rise * (slope - slope0) + above * bend
        linear = rise * slope0 - above * bend
        root = (linear**2 + 4 * quadratic * slope * above).clamp(min=0).sqrt()
        part = (2 * slope * above / (linear + root)).clamp(0, 1)
        return torch.where(inside, x0 + part * (x1 - x0), y)
