"""Files that appear whole or not at all, and in no other's place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from melotte.errors import MelotteFileError, MelotteValueError


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


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Refuse outputs that would overwrite an input or one another.

    Parameters
    ----------
    outputs : mapping of str to Path
        By the option that names each; None where it was not given.
    inputs : iterable of str or Path
        Files that are read; None and names that are no files do no harm.

    Raises
    ------
    MelotteValueError
        Names the option and the file.
    """
    read = {Path(one).resolve() for one in inputs if one is not None}
    written: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        place = path.resolve()
        if place in read:
            raise MelotteValueError(f"{option} {path} is an input, which would be lost")
        if place in written:
            raise MelotteValueError(
                f"{option} {path} is what {written[place]} writes; each needs a file of its own"
            )
        written[place] = option
