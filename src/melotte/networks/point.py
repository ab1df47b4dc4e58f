"""Point estimates: a regression, with one error for all objects.

What the seeds' networks give. So that a regression can be judged and used like a posterior, its
residuals are taken to follow one distribution per parameter, truncated to the unit cube: a
normal one for the mean-squared error, whose logarithm that loss is; Huber's for smooth L1. The
scales are learned with the network.

Training on ``log_prob_known`` is that regression: the estimate's gradient is that of the squared
or Huber loss, weighted by the scales, because the truncation's constant takes the estimate as
given. The estimates are therefore those of the seeds' loss, and the scales those of the residuals.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from melotte.errors import MelotteValueError
from melotte.networks.mlp import perceptron
from melotte.networks.posteriors import UnitPosterior

N_NODES = 1025
SMALLEST_LOG_SCALE = -7.0
Loss = Literal["mse", "smooth_l1"]


class PointHead(nn.Module):
    """Regression head.

    Parameters
    ----------
    n_features, n_parameters : int
    loss : {"mse", "smooth_l1"}
        Shape of the residuals: normal, or normal within one scale and exponential beyond (Huber
        1964).
    hidden : int
        Width of the two hidden layers.
    """

    def __init__(
        self, n_features: int, n_parameters: int, loss: Loss = "smooth_l1", hidden: int = 128
    ) -> None:
        super().__init__()
        if loss not in ("mse", "smooth_l1"):
            raise MelotteValueError(f"loss {loss!r} is unknown; known: mse, smooth_l1")
        self.loss: Loss = loss
        self.layers = perceptron(n_features, hidden, n_parameters)
        self.log_scale = nn.Parameter(torch.full((n_parameters,), -1.5))

    def forward(self, features: Tensor) -> PointPosterior:
        """Posteriors of a batch; features of shape (batch, n_features), any float type."""
        with torch.autocast(features.device.type, enabled=False):
            place = torch.sigmoid(self.layers(features.float()))
            scale = self.log_scale.clamp(min=SMALLEST_LOG_SCALE).exp().expand_as(place)
            return PointPosterior(place, scale, self.loss)


class PointPosterior(UnitPosterior):
    """Estimates with independent residuals, made by :class:`PointHead`.

    Parameters
    ----------
    place, scale : Tensor, shape (batch, n_parameters)
    loss : {"mse", "smooth_l1"}
    """

    def __init__(self, place: Tensor, scale: Tensor, loss: Loss) -> None:
        self.place, self.scale = place, scale
        self.loss: Loss = loss

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return self.place.shape[1]

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self.place.device

    def __len__(self) -> int:
        return len(self.place)

    def select(self, chosen: Tensor) -> PointPosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return PointPosterior(self.place[chosen], self.scale[chosen], self.loss)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at ``u`` (batch, n_parameters); ``-inf`` outside the cube."""
        inside = ((u >= 0) & (u <= 1)).all(-1)
        known = torch.ones_like(u, dtype=torch.bool)
        return torch.where(inside, self.log_prob_known(u, known), -torch.inf)

    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters; exact, since they are independent.

        Its gradient for the estimate leaves the truncation out; see the module.
        """
        safe = torch.where(known, u, self.place.detach())
        return torch.where(known, self._terms(safe), 0.0).sum(-1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples (batch, n, n_parameters)."""
        shape = (len(self), n, self.n_parameters)
        uniform = torch.rand(shape, generator=generator, device=self.place.device)
        return self._inverse(uniform)

    def mean(self) -> Tensor:
        """Mean of the truncated distribution, exact; near a face it is not the estimate."""
        low, high = -self.place / self.scale, (1 - self.place) / self.scale
        inside = self._cumulative(high) - self._cumulative(low)
        shift = (self._first_moment(high) - self._first_moment(low)) / inside
        return (self.place + self.scale * shift).clamp(0, 1)

    def mode(self) -> Tensor:
        """The regression's estimate."""
        return self.place

    def quantile(self, q: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Marginal quantiles (batch, Q, n_parameters), from the distribution function."""
        del generator
        return self._inverse(
            q.to(self.place)[None, :, None].expand(len(self), -1, self.n_parameters)
        )

    def _terms(self, u: Tensor) -> Tensor:
        score = (u - self.place) / self.scale
        place = self.place.detach()
        inside = self._cumulative((1 - place) / self.scale) - self._cumulative(-place / self.scale)
        return self._log_shape(score) - torch.log(self.scale) - torch.log(inside)

    def _log_shape(self, score: Tensor) -> Tensor:
        """Log density of a residual in scales, normalised over the real line."""
        if self.loss == "mse":
            return -0.5 * score**2 - 0.5 * math.log(2 * math.pi)
        distance = score.abs()
        shape = torch.where(distance < 1, -0.5 * score**2, 0.5 - distance)
        return shape - math.log(_HUBER_CORE + 2 * _HUBER_TAIL)

    def _cumulative(self, score: Tensor) -> Tensor:
        if self.loss == "mse":
            return torch.special.ndtr(score)
        total = _HUBER_CORE + 2 * _HUBER_TAIL
        distance = score.abs()
        tail = torch.exp(0.5 - distance.clamp(min=1)) / total
        core = math.sqrt(2 * math.pi) * (torch.special.ndtr(score.clamp(-1, 1)) - 0.5) / total
        return torch.where(distance < 1, 0.5 + core, torch.where(score > 0, 1 - tail, tail))

    def _first_moment(self, score: Tensor) -> Tensor:
        """Integral of a residual times its density, up to a constant."""
        if self.loss == "mse":
            return -torch.exp(-0.5 * score**2) / math.sqrt(2 * math.pi)
        distance = score.abs()
        far = math.exp(-0.5) - (distance + 1) * torch.exp(0.5 - distance.clamp(min=1))
        near = -torch.exp(-0.5 * score.clamp(-1, 1) ** 2)
        return torch.where(distance < 1, near, far) / (_HUBER_CORE + 2 * _HUBER_TAIL)

    def _inverse(self, fraction: Tensor) -> Tensor:
        """Invert the distribution function on nodes that crowd around the estimate."""
        steps = torch.linspace(-1, 1, N_NODES, device=self.place.device)
        offsets = torch.sinh(6 * steps) / math.sinh(6)
        nodes = (self.place[..., None] + offsets).clamp(0, 1)
        cumulative = self._cumulative((nodes - self.place[..., None]) / self.scale[..., None])
        low, high = cumulative[..., :1], cumulative[..., -1:]
        cumulative = ((cumulative - low) / (high - low)).contiguous()
        wanted = fraction.movedim(1, -1).contiguous()
        right = torch.searchsorted(cumulative, wanted).clamp(1, N_NODES - 1)
        below, above = cumulative.gather(-1, right - 1), cumulative.gather(-1, right)
        part = ((wanted - below) / (above - below).clamp(min=1e-12)).clamp(0, 1)
        left = nodes.gather(-1, right - 1)
        return (left + part * (nodes.gather(-1, right) - left)).movedim(-1, 1)


_HUBER_CORE = math.sqrt(2 * math.pi) * math.erf(1 / math.sqrt(2))
_HUBER_TAIL = math.exp(-0.5)
