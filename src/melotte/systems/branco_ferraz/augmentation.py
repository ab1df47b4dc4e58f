"""Copies of labelled clusters, farther away and behind more dust, added to a fixed set.

The paper doubles its clusters after Cantat-Gaudin et al. 2020, Sect. 3.2, with copies of distance
modulus up to 10 and A_V up to 3. A list can only be moved away and into dust: nearer or in the
clear, stars would be missing that its magnitude limit has cut. So a copy's distance modulus and
A_V are uniform between the cluster's own and the upper limit; a cluster beyond a limit keeps its
value. Moved stars that pass the faintest star of their list leave it, errors grow as Gaia's do,
and a list that would keep fewer than ten stars is copied as it is.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from melotte.engine.mocks import concatenate
from melotte.ragged import Ragged
from melotte.systems.base import Batch
from melotte.systems.branco_ferraz.settings import DataSettings
from melotte.systems.open_cluster.shifts import FEWEST_STARS, moved

LARGEST_MODULUS = 10.0
LARGEST_EXTINCTION = 3.0
"""The paper's upper limits, mag."""

EXTINCTION, DISTANCE = 1, 2
"""Columns of the labels."""


def enlarged(batch: Batch, settings: DataSettings, generator: torch.Generator) -> Batch:
    """The clusters and the copies that ``settings.augmentation`` adds.

    Parameters
    ----------
    batch : Batch
        Labelled clusters; ``theta`` is (log_age, extinction_v, distance).
    settings : DataSettings
    generator : torch.Generator

    Returns
    -------
    Batch
        The clusters first, then their copies in the same order. A copy shares the group of its
        cluster, so that no split parts them.
    """
    if settings.augmentation == "none":
        return batch
    original = _bright(batch, settings.magnitude_limit)
    if settings.augmentation == "paper":
        return doubled(original, generator)
    larger = settings.larger
    farthest = settings.labels.parameters()[DISTANCE].high
    most_dust = settings.labels.parameters()[EXTINCTION].high
    copies = [
        thinned(
            shifted(
                original,
                generator,
                min(larger.largest_modulus, _modulus(torch.tensor(farthest)).item()),
                min(larger.largest_extinction, most_dust),
            ),
            larger.stars_kept,
            generator,
        )
        for _ in range(larger.copies)
    ]
    return concatenate([original, *copies])


def doubled(batch: Batch, generator: torch.Generator) -> Batch:
    """The paper's augmentation: every cluster, then one shifted copy of every cluster.

    Parameters
    ----------
    batch : Batch of n clusters
    generator : torch.Generator

    Returns
    -------
    Batch of 2 n clusters
    """
    return concatenate([batch, shifted(batch, generator)])


def shifted(
    batch: Batch,
    generator: torch.Generator,
    largest_modulus: float = LARGEST_MODULUS,
    largest_extinction: float = LARGEST_EXTINCTION,
) -> Batch:
    """Each cluster moved away and into dust, its labels with it.

    Parameters
    ----------
    batch : Batch
        Of ``theta``, A_V in mag and distance in kpc are read. A cluster of which one of them is
        unknown stays as it is.
    generator : torch.Generator
    largest_modulus, largest_extinction : float, mag

    Returns
    -------
    Batch
    """
    observation, theta = batch.observation, batch.theta.clone()
    stars, release = observation.data["stars"], observation.data["release"]
    assert isinstance(stars, Ragged)
    assert isinstance(release, Tensor)
    known = batch.theta_known[:, [EXTINCTION, DISTANCE]].all(-1)
    extinction = torch.where(known, theta[:, EXTINCTION], 0.0)
    distance = torch.where(known, theta[:, DISTANCE], 1.0)
    modulus = _modulus(distance)
    share = torch.rand((2, len(theta)), generator=generator, device=generator.device) * known
    added_modulus = share[0] * (largest_modulus - modulus).clamp(min=0)
    added_extinction = share[1] * (largest_extinction - extinction).clamp(min=0)
    stars, done = moved(
        stars, release, extinction, distance, added_extinction, added_modulus, generator
    )
    done = done & known
    theta[:, EXTINCTION] += torch.where(done, added_extinction, 0.0)
    theta[:, DISTANCE] *= torch.where(done, 10 ** (added_modulus / 5), 1.0)
    return _with_stars(batch, stars, theta)


def thinned(batch: Batch, kept: tuple[float, float], generator: torch.Generator) -> Batch:
    """Each list with a random part of its stars.

    Parameters
    ----------
    batch : Batch
    kept : (lowest, highest), fractions
        A list's fraction is uniform between them, but leaves ten stars where there are as many.
    generator : torch.Generator

    Returns
    -------
    Batch
    """
    stars = batch.observation.data["stars"]
    assert isinstance(stars, Ragged)
    device = generator.device
    counts, index = stars.counts, stars.index
    fraction = torch.rand(len(counts), generator=generator, device=device)
    fraction = kept[0] + (kept[1] - kept[0]) * fraction
    wanted = (fraction * counts).round().long().clamp(min=FEWEST_STARS)
    order = torch.argsort(torch.rand(len(index), generator=generator, device=device))
    order = order[torch.argsort(index[order], stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=device) - stars.offsets[:-1][index]
    return _with_stars(batch, stars.where(rank < wanted[index]), batch.theta)


def _modulus(distance: Tensor) -> Tensor:
    """Distance modulus, mag, of a distance in kpc."""
    return 5 * torch.log10(distance) + 10


def _bright(batch: Batch, limit: float) -> Batch:
    """The lists without their stars fainter than the limit, which networks do not read."""
    stars = batch.observation.data["stars"]
    assert isinstance(stars, Ragged)
    return _with_stars(batch, stars.where(stars.values[:, 0] <= limit), batch.theta)


def _with_stars(batch: Batch, stars: Ragged, theta: Tensor) -> Batch:
    data = dict(batch.observation.data)
    data |= {"stars": stars, "n_listed": stars.counts.to(theta.dtype)}
    return replace(batch, observation=replace(batch.observation, data=data), theta=theta)
