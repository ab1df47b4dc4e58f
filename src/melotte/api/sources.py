"""What people name to be read: a path or a table, or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

Paths = str | Path | Sequence[str | Path]


def listed(source: Any) -> list[Any]:
    """One path or table, or several, as a list.

    Parameters
    ----------
    source : path, astropy Table, or an iterable of them
    """
    if isinstance(source, str | Path) or hasattr(source, "colnames"):
        return [source]
    return list(cast(Iterable[Any], source))
