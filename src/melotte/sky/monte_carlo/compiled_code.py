"""Compiled code that is older than the sources it came from is thrown away.

Numba keeps what it compiles and compares it with the file of the outermost function alone; a
change in another file that is compiled into it would go unseen.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def drop_stale_code(folder: Path) -> int:
    """Remove the compiled code of a package when any of its sources is newer.

    Parameters
    ----------
    folder : Path
        Of the sources; the compiled code lies in ``__pycache__`` there.

    Returns
    -------
    int
        Files removed.
    """
    compiled = [*(folder / "__pycache__").glob("*.nbi"), *(folder / "__pycache__").glob("*.nbc")]
    removed = 0
    with contextlib.suppress(OSError):
        newest = max((path.stat().st_mtime for path in folder.glob("*.py")), default=0.0)
        if any(path.stat().st_mtime < newest for path in compiled):
            for path in compiled:
                path.unlink(missing_ok=True)
                removed += 1
    return removed
