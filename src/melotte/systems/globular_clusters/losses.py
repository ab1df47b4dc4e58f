"""Likelihood of maps whose faint parts are known to lie below a floor, and no more."""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.networks.map_posteriors import MapPosterior


def floored_log_likelihood(posterior: MapPosterior, target: Tensor, floor: float) -> Tensor:
    """Mean over pixels of the log likelihood of a map with a floor.

    A pixel at the floor is known to be as low or lower, so its likelihood is the probability of
    that (Tobin 1958, Econometrica 26, 24); a density there would reward ever narrower errors of
    empty pixels, which are all alike. Student's probabilities are Wallace's (1959, Ann. Math.
    Stat. 30, 1121), right to 0.003 for 3 degrees of freedom or more.

    Parameters
    ----------
    posterior : MapPosterior
    target : Tensor, shape (batch, n_maps, rows, columns)
        Finite.
    floor : float
        In the target's units.

    Returns
    -------
    Tensor, shape (batch,)

    Raises
    ------
    MelotteValueError
        When the target has another shape than the posterior.
    """
    posterior.require_fit(target)
    score = (floor - posterior.mean) / posterior.scale
    below = torch.special.log_ndtr(_normal_score(score, posterior.degrees))
    # Single precision of the logarithm.
    at_floor = target <= floor + 1e-5
    return torch.where(at_floor, below, posterior.log_prob(target)).mean((1, 2, 3))


def _normal_score(score: Tensor, degrees: Tensor | None) -> Tensor:
    """The normal deviate that is as probable as Student's ``score`` (batch, n_maps, ...)."""
    if degrees is None:
        return score
    nu = degrees[:, None, None]
    # Its limit at 0 is 1, and the ratio has no derivative there.
    squared = (score.square() / nu).clamp(min=1e-6)
    factor = (8 * nu + 1) / (8 * nu + 3)
    return factor * score * (torch.log1p(squared) / squared).sqrt()
