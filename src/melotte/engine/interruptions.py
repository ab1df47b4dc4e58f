"""Requests to stop (SIGINT, SIGTERM), noted for the end of the current step."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interruptions:
    """Notes the first SIGINT or SIGTERM; a second one acts as it did before.

    Signals belong to the main thread: anywhere else nothing is installed.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def name(self) -> str:
        """Name of the noted signal, such as ``SIGINT``; empty without one."""
        return signal.Signals(self.number).name if self.number else ""

    def remember(self) -> None:
        """Keep the present handlers, to be put back by :meth:`restore`."""
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

    def install(self) -> None:
        """Note signals from now on."""
        for one in self._before:
            signal.signal(one, self._note)

    def restore(self) -> None:
        """Put back the handlers that were there."""
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _note(self, number: int, frame: Any) -> None:
        self.number = number
        self.restore()
