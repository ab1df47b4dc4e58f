"""Dust before a cluster in a user's image: told to models that read it, taken off for others."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.io.light_maps import LightImages
from melotte.systems.globular_clusters.observing import extinction_errors
from melotte.systems.globular_clusters.scenes import extinction_law
from melotte.systems.globular_clusters.settings import DataSettings

NEGATIVE = 3.0
"""Least errors below 0 that an A_V may be, as training's scatter below it too."""
ERROR_SLACK = 0.05
"""Part by which an error may be larger than the largest that is told in training."""


def dust_removal(extinction_v: float, data: DataSettings) -> NDArray[np.float32]:
    """Factors, shape (n_bands,), that take dust off the light for models that know none.

    Parameters
    ----------
    extinction_v : float, mag
        NaN where not given.
    data : DataSettings
        Factors are 1 where its models are told the extinction.
    """
    if data.extinction.mean > 0 or math.isnan(extinction_v):
        return np.ones(len(data.bands), dtype=np.float32)
    return (10 ** (0.4 * extinction_v * np.array(extinction_law(data)))).astype(np.float32)


def known_extinction(
    images: LightImages, data: DataSettings
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """A_V as the user knows it, for models that are told it.

    Parameters
    ----------
    images : LightImages
    data : DataSettings

    Returns
    -------
    fields : dict of str to Tensor, shape (1,), mag
        ``extinction_v`` and ``extinction_error``; none for models that are not told it. An error
        below the least that is told in training counts as that; one that is not given is the
        middle of training's.
    outside : tuple of str
        What of it was not trained on.

    Raises
    ------
    MelotteValueError
        When the model is told the extinction and none is given.
    """
    settings, options = data.extinction, images.options
    if settings.mean <= 0:
        return {}, ()
    if math.isnan(options.extinction_v):
        raise MelotteValueError(
            f"{images.id}: the model is told the extinction; give extinction_v=A_V, and "
            "extinction_error if it is known"
        )
    value = torch.tensor([options.extinction_v])
    error = torch.tensor([options.extinction_error])
    low, high = settings.relative_error
    least, usual, most = (
        extinction_errors(value.clamp(min=0), torch.tensor([one]), settings.least_error)
        for one in (low, math.sqrt(low * high), high)
    )
    told = torch.where(error > 0, error, usual).maximum(least)
    outside = []
    if not -NEGATIVE * settings.least_error <= options.extinction_v <= settings.most:
        outside.append(f"extinction_v {options.extinction_v:g} mag outside [0, {settings.most:g}]")
    elif float(told) > (1 + ERROR_SLACK) * float(most):
        outside.append(f"extinction_error {float(told):.2g} mag above {float(most):.2g}")
    return {"extinction_v": value, "extinction_error": told}, tuple(outside)
