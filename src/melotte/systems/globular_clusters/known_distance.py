"""Distances of globular clusters that users know, for models that are told them."""

from __future__ import annotations

import math

import torch

from melotte.errors import MelotteValueError
from melotte.io.light_maps import LightImages
from melotte.systems.globular_clusters.known_extinction import ERROR_SLACK
from melotte.systems.globular_clusters.settings import DataSettings


def known_distance(
    images: LightImages, data: DataSettings
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The distance as the user knows it.

    Parameters
    ----------
    images : LightImages
    data : DataSettings

    Returns
    -------
    fields : dict of str to Tensor, shape (1,)
        ``distance_told``, kpc, and ``distance_error``, as part of it; NaN where not given, none
        for models that are not told it. An error below the least of training counts as that; one
        that is not given is the middle of training's.
    outside : tuple of str
        What of it was not trained on.

    Raises
    ------
    MelotteValueError
        When a distance is given to a model that is not told any, or an error without a distance.
    """
    value, error = images.options.distance, images.options.distance_error
    given = not math.isnan(value)
    if not given and not math.isnan(error):
        raise MelotteValueError(f"{images.id}: distance_error without distance; give both")
    if data.distance_share is None:
        if given:
            raise MelotteValueError(
                f"{images.id}: the model is told no distance with an error; give --known "
                "distance=KPC, which takes it as exact"
            )
        return {}, ()
    low, high = data.distance_error
    told = math.sqrt(low * high) if math.isnan(error) else max(error / value, low)
    outside = []
    if given and not data.distance_range[0] <= value <= data.distance_range[1]:
        ends = ", ".join(f"{one:g}" for one in data.distance_range)
        outside.append(f"distance {value:g} kpc outside [{ends}]")
    elif given and told > (1 + ERROR_SLACK) * high:
        outside.append(f"distance_error {error:.3g} kpc above {high * value:.3g}")
    fields = {
        "distance_told": torch.tensor([value]),
        "distance_error": torch.tensor([told if given else math.nan]),
    }
    return fields, tuple(outside)
