"""Real member lists with catalogued labels: joining, augmentation and loss.

A labelled list has, beside its stars, one row of values per catalogue. What the truth is nobody
knows: ``theta`` stays unknown, and each catalogue's values are learned as that catalogue's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.cluster_labels import ClusterLabels, source_scatter
from melotte.parameters import Prior
from melotte.ragged import Ragged, offsets_of
from melotte.systems.base import Batch, Field, Observation, RowError
from melotte.systems.open_cluster.settings import AugmentationSettings
from melotte.systems.open_cluster.shifts import moved

if TYPE_CHECKING:
    from collections.abc import Callable

TAIL_FREEDOM = 3
"""Degrees of freedom of the noise on labels."""
SHARE_MOVED = 0.5
"""Share of the lists that augmentation moves, in distance and in dust each."""
SMALLEST_SCATTER = 0.5
"""Catalogues whose scatter comes out smaller than this share of the median get that share."""


@dataclass(frozen=True)
class LabelledLists:
    """Labelled lists, and what became of those without labels.

    Parameters
    ----------
    batch : Batch
        Observation with the field ``labels_known`` (batch, s, 4); targets ``labels`` and
        ``label_scatter`` (batch, s, 4); lists of the same id share a group.
    ids : tuple of str
    n_unlabelled, n_rejected : int
        Lists that no catalogue names, and lists that could not be read.
    """

    batch: Batch
    ids: tuple[str, ...]
    n_unlabelled: int
    n_rejected: int


def label_lists(
    entries: Iterable[Observation | RowError],
    labels: ClusterLabels,
    sources: tuple[str, ...],
    prior: Prior,
    match: Callable[[str], str] = str,
) -> LabelledLists:
    """Join member lists with catalogued labels.

    Parameters
    ----------
    entries : iterable of Observation or RowError
        Lists, named as the labels are.
    labels : ClusterLabels
    sources : tuple of str
        Catalogues in the network's order; labels of others are left out.
    prior : Prior
        Labels outside it count as unknown.
    match : callable
        Applied to both sides' names before they are compared.

    Returns
    -------
    LabelledLists

    Raises
    ------
    MelotteValueError
        When no list has a label of any of the sources.
    """
    chosen = labels.of(sources)
    row = {match(name): number for number, name in enumerate(chosen.ids)}
    scatter = torch.tensor(_floored(source_scatter(chosen)), dtype=torch.float32)
    values = torch.tensor(chosen.values, dtype=torch.float32)
    unit = prior.to_unit(values)
    good = torch.isfinite(values) & (unit >= 0) & (unit <= 1)
    values = torch.where(good, values, torch.nan)
    observations: list[Observation] = []
    rows: list[int] = []
    ids: list[str] = []
    n_unlabelled = n_rejected = 0
    for entry in entries:
        if isinstance(entry, RowError):
            n_rejected += 1
            continue
        found = [row.get(match(name), -1) for name in entry.ids]
        kept = [i for i, number in enumerate(found) if number >= 0 and bool(good[number].any())]
        n_unlabelled += len(found) - len(kept)
        if kept:
            observations.append(entry.select(torch.tensor(kept)))
            rows += [found[i] for i in kept]
            ids += [entry.ids[i] for i in kept]
    if not rows:
        raise MelotteValueError(
            f"no list has a label of {', '.join(sources)}: {n_unlabelled} lists are not in the "
            f"labels or have none, {n_rejected} could not be read"
        )
    chosen_rows = torch.tensor(rows)
    data = _joined(observations) | {"labels_known": good[chosen_rows]}
    n = len(rows)
    batch = Batch(
        Observation(data),
        torch.full((n, len(prior)), torch.nan),
        torch.zeros(n, len(prior), dtype=torch.bool),
        {"labels": values[chosen_rows], "label_scatter": scatter.expand(n, -1, -1).clone()},
        chosen_rows,
        torch.ones(n),
    )
    return LabelledLists(batch, tuple(ids), n_unlabelled, n_rejected)


def augmented(batch: Batch, settings: AugmentationSettings, generator: torch.Generator) -> Batch:
    """Labelled lists as they might have been recorded: fewer stars, other errors, more dust.

    Parameters
    ----------
    batch : Batch
        As :func:`label_lists` makes it; a batch without labels is returned as it is.
    settings : AugmentationSettings
    generator : torch.Generator

    Returns
    -------
    Batch
    """
    if "labels" not in batch.targets:
        return batch
    data = dict(batch.observation.data)
    stars = data["stars"]
    assert isinstance(stars, Ragged)
    device = generator.device
    labels = batch.targets["labels"]
    if settings.extinction_shift or settings.distance_shift:
        stars, labels = _moved(stars, data, labels, settings, generator)
    counts, index = stars.counts, stars.index
    low, high = settings.kept_stars
    share = low + (high - low) * torch.rand(len(counts), generator=generator, device=device)
    share = torch.minimum(share, settings.most_stars / counts.clamp(min=1))
    keep = torch.rand(len(index), generator=generator, device=device) < share[index]
    values = stars.values.clone()
    error = torch.nan_to_num(values[:, 3], nan=0.0)
    noise = torch.randn(len(values), generator=generator, device=device)
    values[:, 2] += settings.error_share * error * noise
    data["stars"] = Ragged(values, stars.offsets).where(keep)
    data["n_listed"] = data["stars"].counts.to(values.dtype)
    noise = _heavy_tailed(labels.shape, generator)
    scale = labels.new_tensor(settings.label_noise)
    shift = scale * batch.targets["label_scatter"] * noise
    noisy = labels + shift
    noisy[..., 2] = labels[..., 2] * torch.exp(shift[..., 2])
    observation = replace(batch.observation, data=data)
    return replace(batch, observation=observation, targets=batch.targets | {"labels": noisy})


def pair_loss(prior: Prior, outputs: Mapping[str, Any], batch: Batch) -> Tensor:
    """Negative log density of every catalogue's values, summed over catalogues, (batch,)."""
    pairs = outputs["pairs"]
    labels = batch.targets["labels"][pairs[:, 0], pairs[:, 1]]
    known = torch.isfinite(labels)
    # Noise may carry a label over the prior's edge, where no posterior reaches.
    unit = prior.to_unit(labels).clamp(1e-3, 1 - 1e-3)
    unit = torch.where(known, unit, 0.5)
    log_prob = outputs["posterior"].log_prob_known(unit, known)
    return -log_prob.new_zeros(len(batch)).index_add(0, pairs[:, 0], log_prob)


def _heavy_tailed(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Noise of Student's t distribution: catalogues agree well, and now and then not at all."""
    draws = torch.randn((TAIL_FREEDOM + 1, *shape), generator=generator, device=generator.device)
    return draws[0] / torch.sqrt((draws[1:] ** 2).mean(0))


def _moved(
    stars: Ragged,
    data: Mapping[str, Field],
    labels: Tensor,
    settings: AugmentationSettings,
    generator: torch.Generator,
) -> tuple[Ragged, Tensor]:
    """Half of the lists farther away and behind more dust, and their labels with them."""
    release = data["release"]
    assert isinstance(release, Tensor)
    # The middle catalogue says where the list is now.
    middle = labels.nanmedian(1).values
    known = torch.isfinite(middle[:, 1]) & torch.isfinite(middle[:, 2])
    shape = (2, len(labels))
    chosen = torch.rand(shape, generator=generator, device=labels.device) < SHARE_MOVED
    added = torch.rand(shape, generator=generator, device=labels.device) * (chosen & known)
    dust, modulus = added[0] * settings.extinction_shift, added[1] * settings.distance_shift
    stars, done = moved(
        stars,
        release,
        middle[:, 1].nan_to_num(0.0).clamp(min=0),
        middle[:, 2].nan_to_num(1.0),
        dust,
        modulus,
        generator,
    )
    shifted = labels.clone()
    shifted[..., 1] += (dust * done)[:, None]
    shifted[..., 2] *= 10 ** (modulus * done / 5)[:, None]
    return stars, shifted


def _joined(observations: list[Observation]) -> dict[str, Field]:
    stars = [one.data["stars"] for one in observations]
    lists = [one for one in stars if isinstance(one, Ragged)]
    joined: dict[str, Field] = {
        "stars": Ragged(
            torch.cat([one.values for one in lists]),
            offsets_of(torch.cat([one.counts for one in lists])),
        )
    }
    for name in ("n_listed", "release"):
        fields = [one.data[name] for one in observations]
        joined[name] = torch.cat([one for one in fields if isinstance(one, Tensor)])
    return joined


def _floored(scatter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scatter with a floor a target, in place of what the fit could not tell."""
    found = [column[np.isfinite(column)] for column in scatter.T]
    typical = np.array([np.median(column) if len(column) else 0.0 for column in found])
    return np.maximum(np.nan_to_num(scatter, nan=0.0), SMALLEST_SCATTER * typical)
