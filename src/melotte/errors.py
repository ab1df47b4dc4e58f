"""Errors that melotte raises for a user's mistake: each says what was given and what is allowed.

Every class subclasses the builtin that Python users would catch, and the command line turns any
:class:`MelotteError` into one line and exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class MelotteError(Exception):
    """Base of all errors that a user's input or setting can cause."""


class MelotteValueError(MelotteError, ValueError):
    """A value, key or setting is outside what is allowed."""


class MelotteFileError(MelotteError, OSError):
    """A file is missing, unreadable, truncated, foreign or of the wrong kind."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class MissingExtraError(MelotteError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class WorkFailedError(RuntimeError):
    """The work gave nothing, though no single input or setting is to blame: exit code 1."""


def require(module: str, extra: str) -> object:
    """Import an optional module, or say which extra installs it.

    Parameters
    ----------
    module : str
        Importable name, such as ``"pyarrow.parquet"``.
    extra : str
        The extra of melotte that brings it, such as ``"tables"``.

    Returns
    -------
    module

    Raises
    ------
    MissingExtraError
        When the module cannot be imported.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed; install it with: pip install 'melotte[{extra}]'"
        ) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for near spellings among the known names, or ``""``."""
    by_lower = {str(candidate).lower(): str(candidate) for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    if not near:
        return ""
    return f" (did you mean {' or '.join(repr(by_lower[word]) for word in near)}?)"


def refuse_unused(what: str, given: Mapping[str, Any]) -> None:
    """Refuse options that would do nothing.

    Parameters
    ----------
    what : str
        What they do not apply to.
    given : mapping of str to object
        Value of each option by its name; one that was not given is false.

    Raises
    ------
    MelotteValueError
        Names the first that was given.
    """
    for option, value in given.items():
        if value:
            raise MelotteValueError(f"{option} does not apply to {what}")
