"""Real member lists with catalogued labels: joining, augmentation and loss.

A labelled list has, beside its stars, one row of values per catalogue. What the truth is nobody
knows: ``theta`` stays unknown, and each catalogue's values are learned as that catalogue's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.cluster_labels import TYPICAL_SCATTER, ClusterLabels, source_scatter
from melotte.parameters import Prior
from melotte.ragged import Ragged, offsets_of
from melotte.systems.base import Batch, Field, Observation, RowError
from melotte.systems.open_cluster.label_names import LabelNames
from melotte.systems.open_cluster.settings import AugmentationSettings
from melotte.systems.open_cluster.shifts import FEWEST_STARS, moved

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
    n_unlabelled, n_rejected, n_ambiguous : int
        Lists that no catalogue names, lists that could not be read, and those of the first whose
        name may be that of several clusters.
    counts : mapping of catalogue to mapping of quantity to (int, int)
        Lists with such a label, and those whose label lies outside the prior and is not used.
    """

    batch: Batch
    ids: tuple[str, ...]
    n_unlabelled: int
    n_rejected: int
    n_ambiguous: int = 0
    counts: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What was joined, in lines for a person."""
        found = [
            f"labelled clusters: {len(self.batch)}; without a label: {self.n_unlabelled}"
            + (f" ({self.n_ambiguous} of ambiguous name)" if self.n_ambiguous else "")
            + f"; not readable: {self.n_rejected}"
        ]
        for source, quantities in self.counts.items():
            said = [
                f"{name} {used}" + (f" ({outside} outside the prior)" if outside else "")
                for name, (used, outside) in quantities.items()
                if used or outside
            ]
            found.append(f"labels of {source}: {', '.join(said) or 'none'}")
        return found


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
        Applied to both sides' names before they are compared, where they are not the same as they
        stand; see :class:`.LabelNames`. Of several spellings the first known value counts.

    Returns
    -------
    LabelledLists
        Groups are numbered by name, whatever the order of the labels.

    Raises
    ------
    MelotteValueError
        When no list has a label of any of the sources, or all that a catalogue says of a quantity
        lies outside the prior.
    """
    chosen = labels.of(sources)
    names = LabelNames(chosen.ids, match)
    scatter = torch.tensor(_floored(source_scatter(chosen)), dtype=torch.float32)
    values = torch.tensor(chosen.values, dtype=torch.float32)
    unit = prior.to_unit(values)
    good = torch.isfinite(values) & (unit >= 0) & (unit <= 1)
    outside = torch.isfinite(values) & ~good
    used = torch.where(good, values, torch.nan)
    observations: list[Observation] = []
    merged: list[Tensor] = []
    strays: list[Tensor] = []
    ids: list[str] = []
    n_unlabelled = n_rejected = n_ambiguous = 0
    for entry in entries:
        if isinstance(entry, RowError):
            n_rejected += 1
            continue
        kept = []
        for i, name in enumerate(entry.ids):
            rows = names.rows(name)
            n_ambiguous += rows is None
            if not rows:
                continue
            strays.append(outside[list(rows)].any(0))
            known = _first_known(used[list(rows)])
            if bool(torch.isfinite(known).any()):
                kept.append(i)
                merged.append(known)
        n_unlabelled += len(entry.ids) - len(kept)
        if kept:
            observations.append(entry.select(torch.tensor(kept)))
            ids += [entry.ids[i] for i in kept]
    n = len(ids)
    found = torch.stack(merged) if n else values[:0]
    beyond = torch.stack(strays) if strays else outside[:0]
    counts = _counted(found, beyond, values, outside, sources, prior)
    if not n:
        raise MelotteValueError(
            f"no list has a label of {', '.join(sources)}: {n_unlabelled} lists are not in the "
            f"labels or have none, {n_rejected} could not be read"
        )
    plain = [match(name) for name in ids]
    number = {name: i for i, name in enumerate(sorted(set(plain)))}
    batch = Batch(
        Observation(_joined(observations) | {"labels_known": torch.isfinite(found)}, tuple(ids)),
        torch.full((n, len(prior)), torch.nan),
        torch.zeros(n, len(prior), dtype=torch.bool),
        {"labels": found, "label_scatter": scatter.expand(n, -1, -1).clone()},
        torch.tensor([number[name] for name in plain]),
        torch.ones(n),
    )
    return LabelledLists(batch, tuple(ids), n_unlabelled, n_rejected, n_ambiguous, counts)


def augmented(
    batch: Batch,
    settings: AugmentationSettings,
    generator: torch.Generator,
    prior: Prior | None = None,
) -> Batch:
    """Labelled lists as they might have been recorded: fewer stars, other errors, more dust.

    Parameters
    ----------
    batch : Batch
        As :func:`label_lists` makes it; a batch without labels is returned as it is.
    settings : AugmentationSettings
        A list keeps at least 10 of its stars, or all that it has.
    generator : torch.Generator
    prior : Prior, optional
        A list whose labels would leave it is not moved.

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
        stars, labels = _moved(stars, data, labels, settings, generator, prior)
    counts, index = stars.counts, stars.index
    low, high = settings.kept_stars
    share = low + (high - low) * torch.rand(len(counts), generator=generator, device=device)
    share = torch.minimum(share, settings.most_stars / counts.clamp(min=1))
    chance = torch.rand(len(index), generator=generator, device=device)
    keep = (chance < share[index]) | (_rank(chance, stars) < FEWEST_STARS)
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
    prior: Prior | None,
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
    shifted = _shifted(labels, dust, modulus)
    if prior is not None:
        unit = prior.to_unit(shifted)
        inside = (((unit >= 0) & (unit <= 1)) | torch.isnan(unit)).flatten(1).all(1)
        dust, modulus = dust * inside, modulus * inside
    stars, done = moved(
        stars,
        release,
        middle[:, 1].nan_to_num(0.0).clamp(min=0),
        middle[:, 2].nan_to_num(1.0),
        dust,
        modulus,
        generator,
    )
    return stars, _shifted(labels, dust * done, modulus * done)


def _shifted(labels: Tensor, dust: Tensor, modulus: Tensor) -> Tensor:
    """Labels (batch, s, 4) with ``dust`` mag more of A_V and ``modulus`` mag farther (batch,)."""
    shifted = labels.clone()
    shifted[..., 1] += dust[:, None]
    shifted[..., 2] *= 10 ** (modulus / 5)[:, None]
    return shifted


def _rank(values: Tensor, lists: Ragged) -> Tensor:
    """Place of each star in its list by ascending value, from 0, (n_stars,)."""
    order = torch.argsort(values)
    order = order[torch.argsort(lists.index[order], stable=True)]
    places = torch.arange(len(values), device=values.device) - lists.offsets[lists.index]
    return torch.empty_like(order).scatter(0, order, places)


def _first_known(rows: Tensor) -> Tensor:
    """Of several rows of values (n, s, 4) the first that is known, entry by entry."""
    first = rows[0]
    for row in rows[1:]:
        first = torch.where(torch.isfinite(first), first, row)
    return first


def _counted(
    found: Tensor,
    beyond: Tensor,
    values: Tensor,
    outside: Tensor,
    sources: tuple[str, ...],
    prior: Prior,
) -> dict[str, dict[str, tuple[int, int]]]:
    """Labels used and not used, by catalogue and quantity; refuse where none can be."""
    n_used, n_beyond = torch.isfinite(found).sum(0), beyond.sum(0)
    for s, t in torch.nonzero((n_used == 0) & (n_beyond > 0)).tolist():
        one = prior.parameters[t]
        given = values[:, s, t][outside[:, s, t]]
        raise MelotteValueError(
            f"labels of {sources[s]}: no {one.name} lies within the prior, {one.low:g} to "
            f"{one.high:g} {one.unit}".rstrip()
            + f"; they are {float(given.min()):g} to {float(given.max()):g}: state the column's "
            "unit, or widen data.prior"
        )
    return {
        source: {
            one.name: (int(n_used[s, t]), int(n_beyond[s, t]))
            for t, one in enumerate(prior.parameters)
        }
        for s, source in enumerate(sources)
    }


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
    """Scatter with a floor a target, in place of what the fit could not tell.

    Where it could tell nothing (one catalogue, or too few clusters in common), the typical one.
    """
    found = [column[np.isfinite(column)] for column in scatter.T]
    typical = np.array(
        [
            np.median(column) if len(column) else usual
            for column, usual in zip(found, TYPICAL_SCATTER, strict=True)
        ]
    )
    floored = np.maximum(np.nan_to_num(scatter, nan=0.0), SMALLEST_SCATTER * typical)
    return np.where(np.isnan(scatter).all(0), typical, floored)
