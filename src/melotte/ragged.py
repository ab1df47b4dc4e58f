"""Sets of different sizes, packed end to end without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.errors import MelotteValueError


@dataclass(frozen=True)
class Ragged:
    """A batch of sets: ``values[offsets[i]:offsets[i + 1]]`` is set ``i``.

    Parameters
    ----------
    values : Tensor, shape (n_elements, ...)
        The elements of all sets, one set after another.
    offsets : Tensor of int64, shape (n_sets + 1,)
        Starts at 0, never decreases, ends at ``n_elements``.

    Raises
    ------
    MelotteValueError
        When the offsets do not fit the values.
    """

    values: Tensor
    offsets: Tensor

    def __post_init__(self) -> None:
        offsets = self.offsets
        if offsets.ndim != 1 or offsets.dtype != torch.int64 or len(offsets) < 1:
            raise MelotteValueError("offsets must be a one-dimensional int64 tensor, starting at 0")

    @property
    def n_sets(self) -> int:
        """Number of sets, empty ones included."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> Tensor:
        """Elements of each set, int64, shape (n_sets,)."""
        return self.offsets.diff()

    @property
    def index(self) -> Tensor:
        """The set each element belongs to, int64, shape (n_elements,)."""
        sets = torch.arange(self.n_sets, device=self.values.device)
        return torch.repeat_interleave(sets, self.counts, output_size=len(self.values))

    def __getitem__(self, i: int) -> Tensor:
        return self.values[int(self.offsets[i]) : int(self.offsets[i + 1])]

    def to(self, device: torch.device | str) -> Ragged:
        """The same sets on another device."""
        return Ragged(self.values.to(device), self.offsets.to(device))

    def check(self) -> None:
        """Raise MelotteValueError when the offsets do not partition the values."""
        offsets = self.offsets
        if (
            int(offsets[0]) != 0
            or int(offsets[-1]) != len(self.values)
            or (offsets.diff() < 0).any()
        ):
            raise MelotteValueError(
                f"offsets must rise from 0 to {len(self.values)}, "
                f"found {int(offsets[0])} to {int(offsets[-1])}"
            )

    def select(self, chosen: Tensor) -> Ragged:
        """Keep some sets, in the given order.

        Parameters
        ----------
        chosen : Tensor of int64, shape (n_chosen,), set numbers
        """
        counts = self.counts[chosen]
        offsets = offsets_of(counts)
        starts = torch.repeat_interleave(self.offsets[:-1][chosen] - offsets[:-1], counts)
        rows = torch.arange(int(offsets[-1]), device=self.values.device) + starts
        return Ragged(self.values[rows], offsets)

    def where(self, keep: Tensor) -> Ragged:
        """Keep some elements of every set.

        Parameters
        ----------
        keep : BoolTensor, shape (n_elements,)
        """
        counts = torch.zeros(self.n_sets, dtype=torch.int64, device=self.values.device)
        counts.index_add_(0, self.index, keep.to(torch.int64))
        return Ragged(self.values[keep], offsets_of(counts))

    @classmethod
    def pack(cls, sets: Sequence[Tensor]) -> Ragged:
        """Pack a list of tensors (n_i, ...) that agree in all but their first axis."""
        if not sets:
            raise MelotteValueError("no sets to pack")
        counts = torch.tensor([len(one) for one in sets], dtype=torch.int64, device=sets[0].device)
        return cls(torch.cat(list(sets)), offsets_of(counts))


def offsets_of(counts: Tensor) -> Tensor:
    """Offsets of packed sets.

    Parameters
    ----------
    counts : Tensor of int64, shape (n_sets,), >= 0

    Returns
    -------
    Tensor of int64, shape (n_sets + 1,)
    """
    zero = torch.zeros(1, dtype=torch.int64, device=counts.device)
    return torch.cat([zero, counts.cumsum(0)])
