"""The run folder beside a model: checkpoint, log, and what identifies the run.

``<output>.run/`` holds ``last.ckpt`` (tensors and plain values only: it loads with
``weights_only=True``), ``log.jsonl`` (one JSON object a line) and ``run.json`` (the settings that
decide the result). A run is resumed only by the settings it was begun with.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from melotte.engine.atomic_files import write_atomically
from melotte.engine.json_values import plain_json
from melotte.errors import MelotteFileError, MelotteValueError

CHECKPOINT_VERSION = 1
LOG = "log.jsonl"
"""Name of a run's log, one JSON object a line."""
_KEYS = {"version", "identity", "state", "constants", "network", "average", "best", "optimizer"}


@dataclass
class TrainingState:
    """Where a training stands; everything that decides how it goes on, but for the tensors.

    Parameters
    ----------
    step : int
        Optimiser steps done, skipped ones included; also the next batch's number (on one device).
    skipped : int
        Steps skipped for a loss or gradient that was not finite.
    bad_in_a_row : int
    best_loss : float
    best_step : int
    epochs_since_best : int
    epochs_since_drop : int
        Epochs without a better loss since the plateau schedule last lowered the rate.
    plateau_drops : int
    seconds : float
        Wall time, interruptions not counted.
    stopped_early : bool
    """

    step: int = 0
    skipped: int = 0
    bad_in_a_row: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    epochs_since_best: int = 0
    epochs_since_drop: int = 0
    plateau_drops: int = 0
    seconds: float = 0.0
    stopped_early: bool = False

    def copy_from(self, values: Mapping[str, Any]) -> None:
        """Take all fields from a checkpoint's plain values."""
        for one in fields(self):
            setattr(self, one.name, values[one.name])


def folder_of(output: str | os.PathLike[str]) -> Path:
    """Where the run of a model lies: beside it."""
    path = Path(output)
    return path.with_name(path.name + ".run")


class RunFolder:
    """The folder of one training run.

    Parameters
    ----------
    path : path
    identity : mapping
        The settings that decide the result, as JSON values.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.identity = plain_json(identity, "settings")

    @property
    def checkpoint_path(self) -> Path:
        """The last checkpoint."""
        return self.path / "last.ckpt"

    @property
    def log_path(self) -> Path:
        """One JSON object a line."""
        return self.path / LOG

    def create(self, afresh: bool) -> None:
        """Make the folder; ``afresh`` removes the checkpoint and log of an earlier run.

        Raises
        ------
        MelotteFileError
            When it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if afresh:
                self.checkpoint_path.unlink(missing_ok=True)
                self.log_path.unlink(missing_ok=True)
        except OSError as error:
            raise MelotteFileError(
                f"{self.path}: the run folder cannot be made: {error.strerror or error}"
            ) from error
        text = json.dumps(self.identity, indent=2, sort_keys=True) + "\n"
        write_atomically(self.path / "run.json", text.encode())

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        line = json.dumps(plain_json(entry, "log", nulls=True))
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def save(
        self,
        state: TrainingState,
        constants: Mapping[str, Any],
        network: Mapping[str, Any],
        average: Mapping[str, Any] | None,
        best: Mapping[str, Any] | None,
        optimizer: Mapping[str, Any],
    ) -> None:
        """Write the checkpoint; it replaces the last one whole or not at all."""
        content = {
            "version": CHECKPOINT_VERSION,
            "identity": json.dumps(self.identity),
            "state": asdict(state),
            "constants": json.dumps(constants),
            "network": dict(network),
            "average": None if average is None else dict(average),
            "best": None if best is None else dict(best),
            "optimizer": dict(optimizer),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(self.checkpoint_path, buffer.getvalue())

    def load(self, path: Path | None = None) -> dict[str, Any]:
        """Read a checkpoint of the same run.

        Parameters
        ----------
        path : Path, optional
            Another checkpoint than this folder's own.

        Returns
        -------
        dict
            ``state``, ``constants``, ``network``, ``average``, ``best``, ``optimizer``.

        Raises
        ------
        MelotteFileError
            When it is missing, damaged or no checkpoint of melotte.
        MelotteValueError
            When it was written under other settings; names them.
        """
        path = path or self.checkpoint_path
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise MelotteFileError(
                f"{path}: checkpoint cannot be read: {error.strerror or error}"
            ) from error
        except Exception as error:
            # torch.load raises whatever its zip reader and unpickler meet: all mean this.
            raise MelotteFileError(
                f"{path}: not a checkpoint of melotte, or cut short; start anew with resume=never"
            ) from error
        if not isinstance(content, dict) or not content.keys() >= _KEYS:
            raise MelotteFileError(f"{path}: not a checkpoint of melotte")
        if content["version"] != CHECKPOINT_VERSION:
            raise MelotteFileError(
                f"{path}: checkpoint version {content['version']}, this melotte reads "
                f"{CHECKPOINT_VERSION}; start anew with resume=never"
            )
        self._check_identity(path, json.loads(content["identity"]))
        return content | {"constants": json.loads(content["constants"])}

    def _check_identity(self, path: Path, stored: dict[str, Any]) -> None:
        then, now = _flat(stored), _flat(self.identity)
        changed = [key for key in sorted(then | now) if then.get(key) != now.get(key)]
        if changed:
            listed = ", ".join(f"{k} was {then.get(k)!r}, is {now.get(k)!r}" for k in changed[:3])
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise MelotteValueError(
                f"{path} was begun with other settings: {listed}{more}; give the same settings, "
                "another output, or resume=never to start anew"
            )


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{key}.{name}" if key else str(name))
    return flat
