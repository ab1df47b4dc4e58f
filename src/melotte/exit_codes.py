"""Errors as people see them: one line, and an exit code.

0 done; 1 the work failed; 2 wrong input or setting; 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


class InterruptedWorkError(Exception):
    """A KeyboardInterrupt with what it says of going on, which click would drop."""


class Commands(TyperGroup):
    """The commands; what interrupts one keeps its message."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the words name."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise InterruptedWorkError(str(stop)) from stop


def exit_with(error: BaseException) -> None:
    """Leave the program, with a line for the error that it met; not for one that is a defect.

    Parameters
    ----------
    error : BaseException
        One that comes back from here is to be raised again.
    """
    from melotte.errors import MelotteError, WorkFailedError

    if isinstance(error, typer.Abort | KeyboardInterrupt | InterruptedWorkError):
        _leave(INTERRUPTED, str(error) or "interrupted")
    if isinstance(error, MelotteError):
        _leave(WRONG_INPUT, str(error))
    if isinstance(error, BrokenPipeError):
        sys.exit(FAILED)
    if isinstance(error, OSError | WorkFailedError):
        _leave(FAILED, str(error))
    # Usage errors of click, which some versions of typer carry inside: known by their method.
    message = getattr(error, "format_message", None)
    if message is not None:
        _leave(WRONG_INPUT, message())


def _leave(code: int, message: str) -> None:
    line = " ".join(message.split())
    typer.echo(f"melotte: error: {line}", err=True)
    sys.exit(code)
