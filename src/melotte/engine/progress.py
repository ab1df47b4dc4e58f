"""Progress of long work: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Any, Literal

Style = Literal["auto", "bar", "lines", "none"]


class Progress:
    """Shows how far some work is, on standard error.

    Parameters
    ----------
    total : int
        Steps of the whole work.
    what : str
        Named before the counts, such as ``"training"``.
    start : int
        Steps that an earlier run has done.
    style : {"auto", "bar", "lines", "none"} or bool or None
        ``auto`` (or None, or True) draws a bar on a terminal and writes lines elsewhere.
    line_seconds : float
        Least time between two lines.
    """

    def __init__(
        self,
        total: int,
        what: str,
        start: int = 0,
        style: Style | bool | None = "auto",
        line_seconds: float = 20.0,
    ) -> None:
        if style is None or style is True or style == "auto":
            style = "bar" if sys.stderr.isatty() else "lines"
        self.style: str = "none" if style is False else style
        self.total = total
        self.what = what
        self.start = start
        self.line_seconds = line_seconds
        self._begun = self._last_line = time.monotonic()
        self._bar: Any = None
        if self.style == "bar":
            self._open_bar()

    def update(self, done: int, details: str = "") -> None:
        """Show that ``done`` steps of the total are done.

        Parameters
        ----------
        done : int
        details : str
            Shown after the counts, such as the loss.
        """
        if self._bar is not None:
            self._bar.update(self._task, completed=done, details=details)
        elif self.style == "lines":
            now = time.monotonic()
            if now - self._last_line >= self.line_seconds:
                self._last_line = now
                self._write(self._line(done, details, now))

    @property
    def wants_details(self) -> bool:
        """Whether the next update will be shown; details may be costly to get."""
        if self._bar is not None:
            return time.monotonic() - self._last_line >= 1.0
        return self.style == "lines" and time.monotonic() - self._last_line >= self.line_seconds

    def shown(self) -> None:
        """Restart the clock of :attr:`wants_details` after the details were got for a bar."""
        if self._bar is not None:
            self._last_line = time.monotonic()

    def say(self, text: str) -> None:
        """Write a line of its own."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self.style == "lines":
            self._write(text)

    def close(self) -> None:
        """Take the bar away; may be called more than once."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[details]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(
            self.what, total=self.total, completed=self.start, details=""
        )
        self._bar.start()

    def _line(self, done: int, details: str, now: float) -> str:
        seconds = max(now - self._begun, 1e-9)
        rate = (done - self.start) / seconds
        left = (self.total - done) / rate if rate > 0 else float("inf")
        counts = f"{self.what} {done}/{self.total} ({rate:.3g}/s, {duration(left)} left)"
        return f"{counts} {details}".rstrip()

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """Seconds as ``2h05m``, ``3m20s`` or ``12s``."""
    if not seconds < 1e7:
        return "?"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"
