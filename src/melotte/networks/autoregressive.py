"""Autoregressive mixtures on the unit cube: one conditional density after the other.

``p(u) = prod_i p(u_i | u_<i, features)`` in the fixed order of the parameters; each factor is a
mixture of normal distributions truncated to [0, 1]. Nothing lies outside the cube, a posterior
piled against an edge is representable, and the marginal of any leading set of parameters is exact.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from melotte.networks.posteriors import UnitPosterior

SMALLEST_SCALE = 2e-4
LARGEST_SCALE = 2.0
EDGE = 1e-6
"""Values closer to 0 or 1 count as being this far from them."""


class AutoregressiveMixtureHead(nn.Module):
    """Posterior head: features to an autoregressive mixture.

    Parameters
    ----------
    n_features : int
    n_parameters : int
    components : int
        Truncated normals in each conditional density.
    hidden : int
        Width of the two hidden layers of each conditional density.
    """

    def __init__(
        self, n_features: int, n_parameters: int, components: int = 8, hidden: int = 128
    ) -> None:
        super().__init__()
        self.conditionals = nn.ModuleList(
            _Conditional(n_features, i, components, hidden) for i in range(n_parameters)
        )

    def forward(self, features: Tensor) -> AutoregressiveMixture:
        """Posteriors of a batch; features of shape (batch, n_features), any float type."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            reads = [cast(_Conditional, one).read(features) for one in self.conditionals]
            return AutoregressiveMixture(self, reads)


class _Conditional(nn.Module):
    """Mixture of one parameter given the features and the parameters before it."""

    def __init__(self, n_features: int, n_before: int, components: int, hidden: int) -> None:
        super().__init__()
        self.reads = nn.Linear(n_features, hidden)
        self.before = nn.Linear(n_before, hidden, bias=False) if n_before else None
        self.layers = nn.Sequential(
            nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 3 * components)
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            # Components start spread over the cube, a quarter of it wide.
            places = torch.linspace(-2, 2, components)
            last.bias.copy_(
                torch.cat([torch.zeros(components), places, torch.full((components,), -1.4)])
            )

    def read(self, features: Tensor) -> Tensor:
        """What this density takes from the features (batch, n_features), (batch, hidden)."""
        return self.reads(features)

    def forward(self, read: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and scales, shape (..., components), given u_<i (..., i)."""
        if self.before is not None:
            # The cube seen from its centre, stretched to unit variance.
            read = read + self.before((before - 0.5) * math.sqrt(12))
        logits, places, scales = self.layers(read).chunk(3, -1)
        scale = scales.clamp(math.log(SMALLEST_SCALE), math.log(LARGEST_SCALE)).exp()
        return torch.log_softmax(logits, -1), torch.sigmoid(places), scale


class AutoregressiveMixture(UnitPosterior):
    """A batch of autoregressive mixtures, made by :class:`AutoregressiveMixtureHead`."""

    def __init__(self, head: AutoregressiveMixtureHead, reads: list[Tensor]) -> None:
        self._conditionals = head.conditionals
        self._head = head
        self._reads = reads

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return len(self._reads)

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self._reads[0].device

    def __len__(self) -> int:
        return len(self._reads[0])

    def select(self, chosen: Tensor) -> AutoregressiveMixture:
        """Posteriors of some objects, by their int64 numbers."""
        return AutoregressiveMixture(self._head, [read[chosen] for read in self._reads])

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at points of the cube; ``-inf`` outside.

        Parameters
        ----------
        u : Tensor, shape (batch, n_parameters)

        Returns
        -------
        Tensor, shape (batch,)
        """
        inside = ((u >= 0) & (u <= 1)).all(-1)
        safe = u.float().nan_to_num(0.5).clamp(EDGE, 1 - EDGE)
        total = torch.stack([self._term(i, safe) for i in range(self.n_parameters)], -1).sum(-1)
        return torch.where(inside, total, -torch.inf)

    def log_prob_known(self, u: Tensor, known: Tensor, n_draws: int = 32) -> Tensor:
        """Log density of the known parameters, the others integrated out.

        Exact where the known parameters come first in the order; elsewhere the unknown ones
        before a known one are averaged over ``n_draws`` draws from the posterior itself (an
        unbiased estimate of the density).

        Parameters
        ----------
        u : Tensor, shape (batch, n_parameters)
            Anything, NaN too, where not known.
        known : BoolTensor, shape (batch, n_parameters)
        n_draws : int

        Returns
        -------
        Tensor, shape (batch,)
        """
        safe = u.float().nan_to_num(0.5).clamp(EDGE, 1 - EDGE)
        leading = bool((known.long().diff(dim=-1) <= 0).all())
        if leading:
            terms = [
                torch.where(known[:, i], self._term(i, safe), 0.0) for i in range(self.n_parameters)
            ]
            return torch.stack(terms, -1).sum(-1)
        drawn = safe[:, None].expand(-1, n_draws, -1).clone()
        total = torch.zeros(drawn.shape[:2], device=u.device)
        for i in range(self.n_parameters):
            weights, places, scales = self._mixture(i, drawn[..., :i])
            uniform = torch.rand(2, *drawn.shape[:2], device=u.device)
            new = _draw(weights, places, scales, uniform).detach()
            here = known[:, i, None]
            total = total + torch.where(here, _density(drawn[..., i], weights, places, scales), 0.0)
            drawn = torch.cat(
                [
                    drawn[..., :i],
                    torch.where(here, drawn[..., i], new)[..., None],
                    drawn[..., i + 1 :],
                ],
                -1,
            )
        return torch.logsumexp(total, 1) - math.log(n_draws)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples.

        Parameters
        ----------
        n : int
        generator : torch.Generator, optional

        Returns
        -------
        Tensor, shape (batch, n, n_parameters), in [0, 1]
        """
        device = self._reads[0].device
        drawn = torch.zeros(len(self), n, 0, device=device)
        with torch.no_grad():
            for i in range(self.n_parameters):
                uniform = torch.rand(2, len(self), n, generator=generator, device=device)
                new = _draw(*self._mixture(i, drawn), uniform)
                drawn = torch.cat([drawn, new[..., None]], -1)
        return drawn

    def _term(self, i: int, u: Tensor) -> Tensor:
        conditional = self._conditionals[i]
        return _density(u[:, i], *conditional(self._reads[i], u[:, :i]))

    def _mixture(self, i: int, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._conditionals[i](self._reads[i][:, None], before)


def _density(u: Tensor, weights: Tensor, places: Tensor, scales: Tensor) -> Tensor:
    """Log density of a mixture of truncated normals at ``u`` (...,); mixtures (..., components)."""
    score = (u[..., None] - places) / scales
    log_normal = -0.5 * score**2 - torch.log(scales) - 0.5 * math.log(2 * math.pi)
    inside = torch.special.ndtr((1 - places) / scales) - torch.special.ndtr(-places / scales)
    return torch.logsumexp(weights + log_normal - torch.log(inside), -1)


def _draw(weights: Tensor, places: Tensor, scales: Tensor, uniform: Tensor) -> Tensor:
    """One draw from each mixture, given two uniform numbers (2, ...)."""
    # The first parameter's mixture is one for all draws of an object.
    shape = (*uniform.shape[1:], weights.shape[-1])
    cumulative = weights.exp().cumsum(-1).expand(shape)
    chosen = (uniform[0, ..., None] > cumulative[..., :-1]).sum(-1, keepdim=True)
    place = places.expand(shape).gather(-1, chosen)[..., 0]
    scale = scales.expand(shape).gather(-1, chosen)[..., 0]
    low = torch.special.ndtr(-place / scale)
    high = torch.special.ndtr((1 - place) / scale)
    fraction = (low + (high - low) * uniform[1]).clamp(EDGE, 1 - EDGE)
    return (place + scale * torch.special.ndtri(fraction)).clamp(0, 1)
