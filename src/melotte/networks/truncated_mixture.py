"""Autoregressive mixtures on the unit cube: every conditional density a truncated mixture.

Nothing lies outside the cube, and a posterior piled against a face of it is representable.

References
----------
Bishop 1994, "Mixture density networks".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melotte.networks.autoregressive import AutoregressiveHead, Family
from melotte.networks.logit_space import EDGE

SMALLEST_SCALE = 2e-4
LARGEST_SCALE = 2.0


class AutoregressiveMixtureHead(AutoregressiveHead):
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
        super().__init__(n_features, n_parameters, TruncatedNormalMixture(components), hidden)


class TruncatedNormalMixture(Family):
    """Mixtures of normal distributions truncated to [0, 1], with means inside it.

    Parameters
    ----------
    components : int
    """

    n_uniform = 2

    def __init__(self, components: int) -> None:
        self.components = components
        self.n_settings = 3 * components

    def first_bias(self) -> Tensor:
        """Components of one weight, spread over the cube, a quarter of it wide."""
        flat = torch.zeros(self.components)
        return torch.cat([flat, torch.linspace(-2, 2, self.components), flat - 1.4])

    def log_density(self, settings: Tensor, u: Tensor) -> Tensor:
        """Log density at ``u`` (...,) in [0, 1], settings of shape (..., n_settings)."""
        logits, places, scales = self._mixture(settings)
        weights = torch.log_softmax(logits, -1)
        score = (u[..., None] - places) / scales
        log_normal = -0.5 * score**2 - torch.log(scales) - 0.5 * math.log(2 * math.pi)
        inside = torch.special.ndtr((1 - places) / scales) - torch.special.ndtr(-places / scales)
        return torch.logsumexp(weights + log_normal - torch.log(inside), -1)

    def draw(self, settings: Tensor, uniform: Tensor) -> Tensor:
        """Draws (...,): one uniform number chooses the component, one the place in it."""
        logits, places, scales = self._mixture(settings)
        # The first parameter's mixture is one for all draws of an object.
        shape = (*uniform.shape[1:], self.components)
        cumulative = torch.softmax(logits, -1).cumsum(-1).expand(shape)
        chosen = (uniform[0, ..., None] > cumulative[..., :-1]).sum(-1, keepdim=True)
        place = places.expand(shape).gather(-1, chosen)[..., 0]
        scale = scales.expand(shape).gather(-1, chosen)[..., 0]
        low = torch.special.ndtr(-place / scale)
        high = torch.special.ndtr((1 - place) / scale)
        fraction = (low + (high - low) * uniform[1]).clamp(EDGE, 1 - EDGE)
        return (place + scale * torch.special.ndtri(fraction)).clamp(0, 1)

    def _mixture(self, settings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unnormalised log weights, means and scales, each (..., components)."""
        logits, places, scales = settings.chunk(3, -1)
        scale = scales.clamp(math.log(SMALLEST_SCALE), math.log(LARGEST_SCALE)).exp()
        return logits, torch.sigmoid(places), scale
