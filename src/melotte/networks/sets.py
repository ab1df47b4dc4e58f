"""Permutation-invariant encoder of sets of any size (deep sets with context and attention).

Elements of all sets of a batch lie end to end (:class:`~melotte.ragged.Ragged`), so that nothing
is padded. Every block lets each element see a summary of its own set (feature-wise modulation),
then pools the elements into that summary: by their mean and by several attention seeds whose
weights add to one within a set.

References
----------
Zaheer et al. 2017 (deep sets); Lee et al. 2019 (pooling by multi-head attention);
Perez et al. 2018 (feature-wise linear modulation).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melotte.ragged import Ragged

LARGEST_LOGIT = 8.0
"""Attention logits are bounded smoothly, so that weights need no pass for their maximum; by this
much unless a network asks for less."""


class SetEncoder(nn.Module):
    """Encode sets with per-set context into feature vectors.

    Parameters
    ----------
    n_element : int
        Features of an element.
    n_context : int
        Features of a set as a whole.
    width : int
        Width of the hidden layers; a multiple of ``attention_seeds``.
    blocks : int
        Rounds of seeing the set and pooling it again.
    attention_seeds : int
        Attention weights an element has in each pooling; 0 pools by the mean alone.
    features : int
        Features that come out.
    sharpness : float, > 0
        Largest attention logit. Sharp attention finds the extremes of a set, and through them how
        many elements it has; with a small bound, pooling stays an average of many.
    """

    def __init__(
        self,
        n_element: int,
        n_context: int,
        width: int = 128,
        blocks: int = 3,
        attention_seeds: int = 8,
        features: int = 128,
        sharpness: float = LARGEST_LOGIT,
    ) -> None:
        super().__init__()
        self.element = nn.Sequential(
            nn.Linear(n_element, width), nn.GELU(), nn.Linear(width, width)
        )
        self.context = nn.Sequential(
            nn.Linear(n_context, width), nn.GELU(), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(
            SetBlock(width, attention_seeds, sharpness) for _ in range(blocks)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, features), nn.GELU())

    def forward(self, elements: Ragged, context: Tensor) -> Tensor:
        """Features of sets.

        Parameters
        ----------
        elements : Ragged, values of shape (n_elements, n_element)
            A set may be empty: it is described by its context alone.
        context : Tensor, shape (n_sets, n_context)

        Returns
        -------
        Tensor, shape (n_sets, features)
        """
        return self.encode(elements, context)[0]

    def encode(self, elements: Ragged, context: Tensor) -> tuple[Tensor, Tensor]:
        """Features of sets (n_sets, features), and of their elements (n_elements, width).

        Those of an element are from the last block: it has seen its set.
        """
        index, counts = elements.index, elements.counts
        hidden = self.element(elements.values)
        summary = self.context(context)
        for block in self.blocks:
            hidden, summary = block(hidden, summary, index, counts)
        return self.out(summary), hidden


class SetBlock(nn.Module):
    """One round: elements are updated in the light of their set, then pooled into its summary."""

    def __init__(self, width: int, attention_seeds: int, sharpness: float = LARGEST_LOGIT) -> None:
        super().__init__()
        self.seeds = attention_seeds
        self.sharpness = sharpness
        self.norm = nn.LayerNorm(width)
        self.modulate = nn.Linear(width, 2 * width)
        self.update = _two_layers(width, width, width)
        pooled = width * (2 if attention_seeds else 1)
        self.logits = nn.Linear(width, attention_seeds) if attention_seeds else None
        self.value = nn.Linear(width, width) if attention_seeds else None
        self.summary_norm = nn.LayerNorm(width + pooled)
        self.summarise = _two_layers(width + pooled, 2 * width, width)

    def forward(
        self, hidden: Tensor, summary: Tensor, index: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Updated elements (n_elements, width) and summaries (n_sets, width)."""
        scale, shift = self.modulate(summary).index_select(0, index).chunk(2, -1)
        hidden = hidden + self.update(self.norm(hidden) * (1 + scale) + shift)
        pooled = [segment_mean(hidden, index, counts)]
        if self.logits is not None and self.value is not None:
            pooled.append(self._attend(hidden, index, len(summary)))
        joined = torch.cat([summary, *pooled], -1)
        return hidden, summary + self.summarise(self.summary_norm(joined))

    def _attend(self, hidden: Tensor, index: Tensor, n_sets: int) -> Tensor:
        assert self.logits is not None
        assert self.value is not None
        logits = self.sharpness * torch.tanh(self.logits(hidden).float() / self.sharpness)
        weight = logits.exp()
        total = weight.new_zeros(n_sets, self.seeds).index_add(0, index, weight)
        weight = weight / total.index_select(0, index)
        value = self.value(hidden).unflatten(-1, (self.seeds, -1))
        weighted = (weight[..., None] * value).flatten(1)
        return weighted.new_zeros(n_sets, weighted.shape[1]).index_add(0, index, weighted)


def segment_mean(values: Tensor, index: Tensor, counts: Tensor) -> Tensor:
    """Mean of the elements of each set; 0 for an empty set.

    Parameters
    ----------
    values : Tensor, shape (n_elements, n_features)
    index : Tensor of int64, shape (n_elements,), the set of each element
    counts : Tensor of int64, shape (n_sets,)

    Returns
    -------
    Tensor, shape (n_sets, n_features)
    """
    total = values.new_zeros(len(counts), values.shape[1]).index_add(0, index, values)
    return total / counts.clamp(min=1)[:, None]


def segment_quantiles(values: Tensor, offsets: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Quantiles of each set, the nearest rank; NaN for an empty set.

    Parameters
    ----------
    values : Tensor, shape (n_elements,)
    offsets : Tensor of int64, shape (n_sets + 1,)
    levels : tuple of float in [0, 1]

    Returns
    -------
    Tensor, shape (n_sets, n_levels)
    """
    counts = offsets.diff()
    if not len(values):
        return values.new_full((len(counts), len(levels)), torch.nan)
    sets = torch.arange(len(counts), device=values.device)
    index = torch.repeat_interleave(sets, counts, output_size=len(values))
    order = torch.argsort(values)
    order = order[torch.argsort(index[order], stable=True)]
    ordered = values[order]
    level = values.new_tensor(levels)
    rank = (level * (counts[:, None] - 1).clamp(min=0)).round().long()
    position = (offsets[:-1, None] + rank).clamp(max=len(values) - 1)
    return torch.where(counts[:, None] > 0, ordered[position], torch.nan)


def _two_layers(n_in: int, width: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, width), nn.GELU(), nn.Linear(width, n_out))
