"""Which rows of a table of labels are those of a list, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


class LabelNames:
    """Names of labelled clusters, to be found under other spellings.

    Parameters
    ----------
    ids : sequence of str
        Each once.
    match : callable
        Gives the plain name, under which spellings of one cluster agree.
    """

    def __init__(self, ids: Sequence[str], match: Callable[[str], str]) -> None:
        self.ids = ids
        self.match = match
        self._exact = {name: row for row, name in enumerate(ids)}
        self._plain: dict[str, list[int]] = {}
        for row, name in enumerate(ids):
            self._plain.setdefault(match(name), []).append(row)

    def rows(self, name: str) -> tuple[int, ...] | None:
        """Rows of a cluster's labels, the most trusted first.

        The exact name counts alone. Otherwise all spellings count whose plain name agrees, but for
        those of other numbers: plain names of ESO 92-05 and ESO 9-205 agree, the clusters do not.

        Parameters
        ----------
        name : str

        Returns
        -------
        tuple of int, or None
            Empty for an empty name; None where spellings of different clusters agree with the
            name equally well.
        """
        if not name:
            return ()
        if name in self._exact:
            return (self._exact[name],)
        ours = _numbers(name)
        found = [
            row
            for row in self._plain.get(self.match(name), [])
            if _may_agree(ours, _numbers(self.ids[row]))
        ]
        same = [row for row in found if _numbers(self.ids[row]) == ours]
        if same:
            return tuple(same)
        return tuple(found) if len({_numbers(self.ids[row]) for row in found}) < 2 else None


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", name))


def _may_agree(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """Whether the numbers are the same, or run together in one of the names."""
    return ours == theirs or min(len(ours), len(theirs)) < 2
