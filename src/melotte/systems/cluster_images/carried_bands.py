"""Going on from a model of other bands: which of its inputs stand where in the new network.

A band that both have keeps its weights and its scales. A new one begins with none, so that a
network of more bands says at first what the one of fewer did, and learns what the new ones add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from melotte.systems.cluster_images.preparation import CAMERA, PER_BAND_CONTEXT

NEW = -1
"""Place of what the other model has not."""


def band_places(bands: Sequence[str], others: Sequence[str]) -> list[int]:
    """Place of each band among those of another model, or :data:`NEW`.

    Where both have the same number of bands, each band that the other lacks takes the place of one
    that is missing here: F475W goes on from F438W.

    Parameters
    ----------
    bands, others : sequence of str
        Names, each once.
    """
    places = [others.index(band) if band in others else NEW for band in bands]
    if len(bands) == len(others):
        free = iter(place for place in range(len(others)) if place not in places)
        places = [next(free) if place == NEW else place for place in places]
    return places


def context_places(places: Sequence[int], n_others: int) -> list[int]:
    """The same for the numbers of the context.

    Parameters
    ----------
    places : sequence of int
        Of :func:`band_places`.
    n_others : int
        Bands of the other model.
    """
    per_band = [
        NEW if place == NEW else block * n_others + place
        for block in range(PER_BAND_CONTEXT)
        for place in places
    ]
    return per_band + [PER_BAND_CONTEXT * n_others + i for i in range(len(CAMERA))]


def photometry_places(places: Sequence[int], n_annuli: int) -> list[int]:
    """The same for the fluxes in annuli.

    Parameters
    ----------
    places : sequence of int
    n_annuli : int
    """
    return [
        NEW if place == NEW else place * n_annuli + annulus
        for place in places
        for annulus in range(n_annuli)
    ]


def carried_constants(
    places: Sequence[int],
    n_annuli: int,
    theirs: Mapping[str, Any],
    own: Mapping[str, Any],
) -> dict[str, Any]:
    """Preparation constants: those of the other model, and for new bands those measured here.

    Parameters
    ----------
    places : sequence of int
    n_annuli : int
    theirs, own : mapping
        Of :func:`melotte.systems.cluster_images.preparation.measure_constants`.
    """
    context = context_places(places, len(theirs["scale"]))
    photometry = photometry_places(places, n_annuli)
    chosen = {
        "scale": places,
        "context_mean": context,
        "context_std": context,
        "photometry_mean": photometry,
        "photometry_std": photometry,
    }
    return {
        name: [
            mine if place == NEW else theirs[name][place]
            for place, mine in zip(chosen[name], own[name], strict=True)
        ]
        for name in own
    }
