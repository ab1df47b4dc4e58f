"""Names of objects, as catalogues spell them differently."""

from __future__ import annotations

import re
from collections.abc import Sequence

from melotte.errors import MelotteValueError


def plain_name(name: str) -> str:
    """A cluster's name without case, spaces, underscores, hyphens and leading zeros."""
    bare = re.sub(r"[\s_\-]+", "", name.lower())
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", bare)


def told_apart(names: Sequence[str], instead: Sequence[str], where: str) -> tuple[str, ...]:
    """Names of objects, of which results and figures are kept by name.

    Parameters
    ----------
    names : sequence of str, length n
        Of each object; ``""`` where it has none.
    instead : sequence of str, length n
        What objects without a name are called.
    where : str
        File, for messages.

    Raises
    ------
    MelotteValueError
        When two objects have one name.
    """
    seen: dict[str, int] = {}
    for row, name in enumerate(name or other for name, other in zip(names, instead, strict=True)):
        if name in seen:
            raise MelotteValueError(
                f"{where}: rows {seen[name] + 1} and {row + 1} have one id, {name!r}; every object "
                "needs its own"
            )
        seen[name] = row
    return tuple(seen)
