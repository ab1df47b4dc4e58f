"""Posteriors of maps: a place and a scale for every pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from melotte.errors import MelotteValueError


@dataclass(frozen=True)
class MapPosterior:
    """Marginal posteriors of pixels: normal, or Student's t.

    Pixels of one map are not independent of each other, and how they hang together is not said:
    sums over pixels have a mean here, and no error.

    Parameters
    ----------
    mean : Tensor, shape (batch, n_maps, rows, columns)
        In the units of the network's target.
    scale : Tensor, same shape, > 0
        Standard deviation of a normal distribution, scale of Student's.
    degrees : Tensor, shape (n_maps,), > 2, optional
        Degrees of freedom; the distribution is normal without them.
    """

    mean: Tensor
    scale: Tensor
    degrees: Tensor | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def select(self, chosen: Tensor) -> MapPosterior:
        """Posteriors of some maps, by their int64 numbers."""
        return MapPosterior(self.mean[chosen], self.scale[chosen], self.degrees)

    def log_prob(self, target: Tensor) -> Tensor:
        """Log density of each pixel, the shape of ``target``; NaN where the target is."""
        score = (target - self.mean) / self.scale
        if self.degrees is None:
            return -0.5 * score.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        degrees = self.degrees[:, None, None]
        half = 0.5 * (degrees + 1)
        constant = torch.lgamma(half) - torch.lgamma(0.5 * degrees)
        constant = constant - 0.5 * torch.log(math.pi * degrees)
        return constant - self.scale.log() - half * torch.log1p(score.square() / degrees)

    def standard_deviation(self) -> Tensor:
        """Of each pixel, the shape of ``mean``."""
        if self.degrees is None:
            return self.scale
        degrees = self.degrees[:, None, None]
        return self.scale * torch.sqrt(degrees / (degrees - 2))

    def quantile(self, q: Tensor) -> Tensor:
        """Quantiles of each pixel at levels ``q`` (Q,); shape (batch, Q, n_maps, rows, columns)."""
        levels = q.to(self.mean)
        if self.degrees is None:
            scores = torch.special.ndtri(levels)[:, None]
        else:
            degrees = self.degrees.detach().cpu().double().numpy()
            found = stdtrit(degrees, q.detach().cpu().double().numpy()[:, None])
            scores = torch.from_numpy(np.asarray(found)).to(self.mean)
        return self.mean[:, None] + self.scale[:, None] * scores[..., None, None]

    def require_fit(self, target: Tensor) -> None:
        """Raise :class:`MelotteValueError` when a target map has another shape."""
        if target.shape != self.mean.shape:
            raise MelotteValueError(
                f"target maps {tuple(target.shape)} do not fit the predicted ones "
                f"{tuple(self.mean.shape)}"
            )


def map_log_likelihood(
    posterior: MapPosterior, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean log density of the known pixels of each example.

    Parameters
    ----------
    posterior : MapPosterior
    target : Tensor, shape (batch, n_maps, rows, columns)
        NaN where a pixel is not known: it contributes nothing.
    weight : Tensor, broadcastable to ``target``, >= 0, optional
        Of each pixel.

    Returns
    -------
    Tensor, shape (batch,)
        0 for an example without a known pixel.

    Raises
    ------
    MelotteValueError
        When the target has another shape than the posterior.
    """
    posterior.require_fit(target)
    known = torch.isfinite(target)
    # Replaced before the density, so that no NaN reaches a gradient.
    density = posterior.log_prob(torch.where(known, target, posterior.mean.detach()))
    share = known.to(density) if weight is None else known * weight
    total = share.sum((1, 2, 3))
    return (share * density).sum((1, 2, 3)) / torch.where(total > 0, total, 1.0)
