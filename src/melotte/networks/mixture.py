"""Mixtures of normal distributions with full covariances in logit space.

The marginal over any set of unknown parameters is a mixture again, so partly known labels train
exactly, whichever they are.

References
----------
Bishop 1994, "Mixture density networks".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from melotte.networks.logit_space import log_slope, to_cube, to_line
from melotte.networks.mlp import perceptron
from melotte.networks.posteriors import UnitPosterior

SMALLEST_LOG_SCALE = -6.0
LARGEST_LOG_SCALE = 2.0
LARGEST_PLACE = 9.0
"""Means lie within this of the middle of the line: 2e-7 from the cube's faces."""

MEAN_NODES = 128
FARTHEST = 6.0
"""Standard deviations from every component within which quantiles are sought."""

BISECTIONS = 30


class MixtureHead(nn.Module):
    """Mixture density head.

    Parameters
    ----------
    n_features, n_parameters : int
    components : int
    hidden : int
        Width of the two hidden layers.
    """

    def __init__(
        self, n_features: int, n_parameters: int, components: int = 8, hidden: int = 128
    ) -> None:
        super().__init__()
        self.n_parameters, self.components = n_parameters, components
        lower = n_parameters * (n_parameters - 1) // 2
        self.sizes = (1, n_parameters, n_parameters, lower)
        self.layers = perceptron(n_features, hidden, components * sum(self.sizes))

    def forward(self, features: Tensor) -> MixturePosterior:
        """Posteriors of a batch; features of shape (batch, n_features), any float type."""
        with torch.autocast(features.device.type, enabled=False):
            raw = self.layers(features.float()).unflatten(-1, (self.components, -1))
            logits, place, scale, lower = raw.split(self.sizes, -1)
            scale = scale.clamp(SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE).exp()
            factor = torch.diag_embed(scale)
            rows, columns = torch.tril_indices(
                self.n_parameters, self.n_parameters, -1, device=features.device
            )
            # Off-diagonal entries in units of their row's scale keep correlations well defined.
            factor[..., rows, columns] = lower * scale[..., rows]
            place = LARGEST_PLACE * torch.tanh(place / LARGEST_PLACE)
            return MixturePosterior(torch.log_softmax(logits[..., 0], -1), place, factor)


class MixturePosterior(UnitPosterior):
    """Mixtures in logit space, made by :class:`MixtureHead`.

    Parameters
    ----------
    log_weight : Tensor, shape (batch, components)
    place : Tensor, shape (batch, components, n_parameters)
    factor : Tensor, shape (batch, components, n_parameters, n_parameters)
        Cholesky factors of the covariances.
    """

    def __init__(self, log_weight: Tensor, place: Tensor, factor: Tensor) -> None:
        self.log_weight, self.place, self.factor = log_weight, place, factor

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return self.place.shape[-1]

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self.place.device

    def __len__(self) -> int:
        return len(self.place)

    def select(self, chosen: Tensor) -> MixturePosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return MixturePosterior(self.log_weight[chosen], self.place[chosen], self.factor[chosen])

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at ``u`` (batch, n_parameters); ``-inf`` outside the cube."""
        inside = ((u >= 0) & (u <= 1)).all(-1)
        known = torch.ones_like(u, dtype=torch.bool)
        return torch.where(inside, self.log_prob_known(u, known), -torch.inf)

    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters, the others integrated out; exact."""
        z, slope = to_line(u), log_slope(u)
        total = self.place.new_zeros(len(self))
        patterns, which = torch.unique(known, dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = torch.nonzero(which == number)[:, 0]
            axes = torch.nonzero(pattern)[:, 0]
            if not len(axes):
                continue
            factor = self.factor[rows]
            if len(axes) < self.n_parameters:
                # Single precision cannot hold the covariance of close to degenerate normals.
                part = factor[..., axes, :].double()
                factor = torch.linalg.cholesky(part @ part.mT).float()
            offset = (z[rows][:, None, axes] - self.place[rows][..., axes])[..., None]
            score = torch.linalg.solve_triangular(factor, offset, upper=False)[..., 0]
            log_normal = (
                -0.5 * score.square().sum(-1)
                - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
                - 0.5 * len(axes) * math.log(2 * math.pi)
            )
            term = torch.logsumexp(self.log_weight[rows] + log_normal, -1)
            total = total.index_add(0, rows, term + slope[rows][:, axes].sum(-1))
        return total

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples (batch, n, n_parameters)."""
        device = self.place.device
        chosen = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator)
        rows = torch.arange(len(self), device=device)[:, None]
        noise = torch.randn(len(self), n, self.n_parameters, generator=generator, device=device)
        moved = (self.factor[rows, chosen] @ noise[..., None])[..., 0]
        return to_cube(self.place[rows, chosen] + moved).clamp(0, 1)

    def mean(self) -> Tensor:
        """Posterior mean, over points of equal probability in each component; to 2e-3."""
        steps = torch.arange(MEAN_NODES, device=self.device) + 0.5
        nodes = torch.special.ndtri(steps / MEAN_NODES)
        each = to_cube(self.place[..., None] + self._widths()[..., None] * nodes).mean(-1)
        return (self.log_weight.exp()[..., None] * each).sum(1)

    def quantile(self, q: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Marginal quantiles (batch, Q, n_parameters), from the distribution function."""
        del generator
        level = q.to(self.place)[None, :, None]
        weights, place = self.log_weight.exp()[:, None, :, None], self.place[:, None]
        widths = self._widths()[:, None]
        low = (place - FARTHEST * widths).amin(2).expand(-1, level.shape[1], -1)
        high = (place + FARTHEST * widths).amax(2).expand(-1, level.shape[1], -1)
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            score = (middle[:, :, None] - place) / widths
            below = (weights * torch.special.ndtr(score)).sum(2) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return to_cube(0.5 * (low + high)).clamp(0, 1)

    def _widths(self) -> Tensor:
        """Standard deviations along each parameter, (batch, components, n_parameters)."""
        return self.factor.square().sum(-1).sqrt()
