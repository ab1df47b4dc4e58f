"""Normalising flows in logit space: autoregressive rational-quadratic splines (zuko).

Every transform keeps the order of the parameters, so that the marginal of any leading set is
exact: labels that a catalogue does not give come last in the order.

References
----------
Papamakarios et al. 2017 (masked autoregressive flows); Durkan et al. 2019 (neural splines).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from melotte.networks.logit_space import log_slope, to_cube, to_line
from melotte.networks.posteriors import UnitPosterior


class FlowHead(nn.Module):
    """Autoregressive flow: an affine transform, then splines, all in one order.

    Parameters
    ----------
    n_features, n_parameters : int
    transforms : int
        Spline transforms after the affine one.
    bins : int
        Of each spline.
    hidden : int
        Width of the two hidden layers of each transform.
    """

    def __init__(
        self,
        n_features: int,
        n_parameters: int,
        transforms: int = 2,
        bins: int = 8,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        common: dict[str, Any] = {
            "features": n_parameters,
            "context": n_features,
            "order": torch.arange(n_parameters),
            "hidden_features": (hidden, hidden),
        }
        splines = [
            MaskedAutoregressiveTransform(
                univariate=MonotonicRQSTransform, shapes=[(bins,), (bins,), (bins - 1,)], **common
            )
            for _ in range(transforms)
        ]
        affine = MaskedAutoregressiveTransform(
            univariate=MonotonicAffineTransform, shapes=[(), ()], **common
        )
        self.transforms = nn.ModuleList([affine, *splines])
        self.n_parameters = n_parameters

    def forward(self, features: Tensor) -> FlowPosterior:
        """Posteriors of a batch; features of shape (batch, n_features), any float type."""
        return FlowPosterior(self, features.float())


class FlowPosterior(UnitPosterior):
    """A batch of flows, made by :class:`FlowHead`.

    Parameters
    ----------
    head : FlowHead
    features : Tensor, shape (batch, n_features)
    """

    def __init__(self, head: FlowHead, features: Tensor) -> None:
        self._head, self._features = head, features

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return self._head.n_parameters

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self._features.device

    def __len__(self) -> int:
        return len(self._features)

    def select(self, chosen: Tensor) -> FlowPosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return FlowPosterior(self._head, self._features[chosen])

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at ``u`` (batch, n_parameters); ``-inf`` outside the cube."""
        inside = ((u >= 0) & (u <= 1)).all(-1)
        return torch.where(inside, self._terms(u, self._features).sum(-1), -torch.inf)

    def log_prob_known(self, u: Tensor, known: Tensor, n_draws: int = 32) -> Tensor:
        """Log density of the known parameters, the others integrated out.

        Exact where the known parameters come first in the order; elsewhere the unknown ones
        before a known one are averaged over ``n_draws`` draws from the flow (an unbiased
        estimate of the density).
        """
        if bool((known.long().diff(dim=-1) <= 0).all()):
            return torch.where(known, self._terms(u, self._features), 0.0).sum(-1)
        batch, n = known.shape
        features = self._features.repeat_interleave(n_draws, 0)
        values = u.repeat_interleave(n_draws, 0)
        here = known.repeat_interleave(n_draws, 0)
        noise = torch.randn(batch * n_draws, n, device=u.device)
        for i in range(n):
            with torch.no_grad():
                drawn = self._inverse(self._noise_with(values, noise, features, i), features)
            values = torch.where(here | (torch.arange(n, device=u.device) != i), values, drawn)
        terms = torch.where(here, self._terms(values, features), 0.0).sum(-1)
        return torch.logsumexp(terms.view(batch, n_draws), 1) - math.log(n_draws)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples (batch, n, n_parameters)."""
        shape = (len(self) * n, self.n_parameters)
        noise = torch.randn(shape, generator=generator, device=self._features.device)
        drawn = self._inverse(noise, self._features.repeat_interleave(n, 0))
        return drawn.view(len(self), n, self.n_parameters)

    def _terms(self, u: Tensor, features: Tensor) -> Tensor:
        """Log density of each parameter given those before it, (batch, n_parameters)."""
        with torch.autocast(features.device.type, enabled=False):
            z, total = to_line(u), log_slope(u)
            for transform in self._head.transforms:
                conditional: Any = transform(features).meta(z)
                z, log_slopes = conditional.base.call_and_ladj(z)
                total = total + log_slopes
            return total - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)

    def _inverse(self, noise: Tensor, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            z = noise
            for transform in reversed(list(self._head.transforms)):
                z = transform(features).inv(z)
            return to_cube(z)

    def _noise_with(self, values: Tensor, noise: Tensor, features: Tensor, i: int) -> Tensor:
        """Noise of the values before parameter ``i``, fresh noise from it on."""
        z = to_line(values)
        for transform in self._head.transforms:
            z = transform(features)(z)
        return torch.where(torch.arange(values.shape[1], device=z.device) < i, z, noise)
