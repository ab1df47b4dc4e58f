"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from melotte.errors import MelotteFileError


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name beside it, then rename.

    Raises
    ------
    MelotteFileError
        When the folder is missing or cannot be written to.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise MelotteFileError(f"{path}: cannot be written: {error.strerror or error}") from error
