"""The two papers' losses, as terms of shape (batch,)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from melotte.parameters import Prior
from melotte.systems.base import Batch
from melotte.systems.bialopetravicius.settings import PaperOneSettings, PaperTwoSettings


def paper_one_loss(
    outputs: Mapping[str, Any], batch: Batch, settings: PaperOneSettings
) -> dict[str, Tensor]:
    """Paper I's loss, and a term of value zero that teaches the residual scales.

    Parameters
    ----------
    outputs : mapping
        Of :class:`~melotte.systems.bialopetravicius.networks.PaperOneNetwork`.
    batch : Batch
        ``theta``: log10(age/yr), log10(mass/Msun), radius in arcsec; unknown labels add nothing.
    settings : PaperOneSettings
        Of the network.

    Returns
    -------
    dict
        ``smooth_l1``: the sum over parameters of the loss of Eqs. 1-2, in dex.
        ``residual_scale`` has the gradient of the residuals' negative log density for the scales
        alone; as its value is 0, the best epoch is that of the paper's loss.

    References
    ----------
    Bialopetravičius et al. 2019, Eqs. 1-2.
    """
    known, parameters = batch.theta_known, settings.parameters()
    columns = [
        torch.log10(column) if parameter.scale == "log" else column
        for parameter, column in zip(parameters, batch.theta.unbind(-1), strict=True)
    ]
    target = torch.where(known, torch.stack(columns, -1), 0.0)
    error = torch.where(known, outputs["estimate"] - target, 0.0)
    distance = functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
    unit = torch.where(known, Prior(parameters).to_unit(batch.theta), 0.5)
    surprise = -outputs["residual_posterior"].log_prob_known(unit, known)
    return {"smooth_l1": distance.sum(-1), "residual_scale": surprise - surprise.detach()}


def paper_two_loss(
    outputs: Mapping[str, Any], batch: Batch, settings: PaperTwoSettings
) -> dict[str, Tensor]:
    """Paper II's four cross-entropies; background images have only the last two.

    Parameters
    ----------
    outputs : mapping
        Of :class:`~melotte.systems.bialopetravicius.networks.PaperTwoNetwork`.
    batch : Batch
        ``theta``: log10(age/yr), A_V, log10(mass/Msun), radius in arcsec; whatever it holds for
        a background counts for nothing. ``targets``: ``class`` (batch,), 1 for a cluster and 0
        for a background, and ``visibility`` (batch,), >= 0, 0 for a background. Unknown (NaN)
        targets add nothing.
    settings : PaperTwoSettings
        Of the network.

    Returns
    -------
    dict
        ``age_extinction_mass``, ``size``, ``class``, ``visibility``.

    References
    ----------
    Bialopetravičius & Narbutis 2020, Sect. 3.2 and Eq. 4.
    """
    present = batch.targets["class"].float()
    known = batch.theta_known & (present > 0)[:, None]
    unit = torch.where(known, Prior(settings.parameters()).to_unit(batch.theta), 0.5)
    joint, size = outputs["posterior"].groups
    n = joint.n_parameters
    low, high = settings.log_visibility
    visibility = batch.targets["visibility"].float()
    place = (torch.log10(1 + visibility) - low) / (high - low)
    # Two softmax neurons with a target of 0 or 1 are the logistic loss of their difference.
    logistic = functional.binary_cross_entropy_with_logits(
        outputs["class"], present.nan_to_num(0.0), reduction="none"
    )
    return {
        "age_extinction_mass": joint.cross_entropy(unit[:, :n], known[:, :n]),
        "size": size.cross_entropy(unit[:, n:], known[:, n:]),
        "class": torch.where(present.isfinite(), logistic, 0.0),
        "visibility": outputs["visibility_map"].cross_entropy(
            place[:, None], visibility.isfinite()[:, None]
        ),
    }
