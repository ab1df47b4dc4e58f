"""Likelihood of maps whose faint parts are known to lie below a floor, and no more."""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.networks.map_posteriors import MapPosterior


def floored_log_likelihood(posterior: MapPosterior, target: Tensor, floor: float) -> Tensor:
    """Mean over pixels of the log likelihood of a map with a floor.

    A pixel at the floor is known to be as low or lower, so its likelihood is the probability of
    that (Tobin 1958, Econometrica 26, 24); a density there would reward ever narrower errors of
    empty pixels, which are all alike. That probability is a normal distribution's, also where the
    posterior is Student's.

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
    if target.shape != posterior.mean.shape:
        raise MelotteValueError(
            f"target maps {tuple(target.shape)} do not fit the predicted ones "
            f"{tuple(posterior.mean.shape)}"
        )
    below = torch.special.log_ndtr((floor - posterior.mean) / posterior.scale)
    # Single precision of the logarithm.
    at_floor = target <= floor + 1e-5
    return torch.where(at_floor, below, posterior.log_prob(target)).mean((1, 2, 3))
