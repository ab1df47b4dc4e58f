"""Names of objects, as catalogues spell them differently."""

from __future__ import annotations

import re


def plain_name(name: str) -> str:
    """A cluster's name without case, spaces, underscores, hyphens and leading zeros."""
    bare = re.sub(r"[\s_\-]+", "", name.lower())
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", bare)
