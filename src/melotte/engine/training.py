"""Training: from a system and settings to a model file, resumable at any step.

Lightning is imported only when a training starts.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from melotte.engine.mocks import check_views
from melotte.engine.model_files import Model
from melotte.engine.settings import LocalSettings, TrainingSettings
from melotte.engine.training_run import TrainingFailedError, TrainingInterrupted, TrainingRun
from melotte.errors import MelotteFileError, MelotteValueError, require
from melotte.systems.base import Batch, System

__all__ = ["TrainingFailedError", "TrainingInterrupted", "train"]


def train(
    system: System,
    preset: Mapping[str, Any],
    settings: TrainingSettings,
    local: LocalSettings,
    output: str | os.PathLike[str],
    resume: str | os.PathLike[str] = "auto",
    max_time: float | str | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
    finish: Callable[[Model], Model] | None = None,
    start: Model | None = None,
    examples: Batch | None = None,
) -> Model:
    """Train the network of a system and write the model.

    Batches are mocks made on the fly or, where ``examples`` are given, those (see
    :mod:`melotte.engine.batch_sources`).

    Parameters
    ----------
    system : System
    preset : mapping
        Stored in the model, with ``settings`` and ``local`` in it.
    settings : TrainingSettings
    local : LocalSettings
    output : path
        The model, ``.safetensors``. The run folder ``<output>.run/`` lies beside it.
    resume : {"auto", "never"} or path
        ``auto`` continues the run folder's checkpoint where there is one; ``never`` starts anew;
        a run folder or a checkpoint is continued. A run continues only under the settings that it
        was begun with, and then exactly: same mocks, same weights.
    max_time : float (seconds) or str such as ``"90s"``, ``"30m"``, ``"1h30m"``, optional
        Stops after this long; the model is written from what was reached, and the same command
        without ``max_time`` goes on from there.
    device : torch.device or str, optional
        In place of ``local.device``.
    progress : bool, optional
        In place of ``local.progress``.
    finish : callable, optional
        Takes the trained model and gives the one to write, with metrics and domain check added.
    start : Model, optional
        Begin from its weights and preparation constants, in place of random ones.
    examples : Batch, optional
        Labelled observations to train on: real objects, or the rows of a bank.

    Returns
    -------
    Model

    Raises
    ------
    MelotteValueError
        When settings do not go together, or not with the checkpoint.
    MelotteFileError
        When the checkpoint cannot be read or the folder not be written.
    MissingExtraError
        Without pytorch-lightning, or without TensorBoard where it is asked for.
    TrainingInterrupted
        On SIGINT or SIGTERM, once the checkpoint is written.
    TrainingFailedError
        After ``settings.max_bad_steps`` steps in a row without a finite gradient.
    """
    require("pytorch_lightning", "train")
    limit = None if max_time is None else _seconds(max_time)
    output = Path(output)
    if not output.parent.is_dir():
        raise MelotteFileError(f"{output}: the folder {output.parent} does not exist")
    if settings.batch_size % local.devices:
        raise MelotteValueError(
            f"batch_size {settings.batch_size} is not a multiple of devices {local.devices}"
        )
    check_views(settings.batch_size // local.devices, settings.views)
    if local.threads is not None:
        torch.set_num_threads(local.threads)
    with torch.random.fork_rng(devices=[]), _quiet_lightning():
        run = TrainingRun(
            system,
            preset,
            settings,
            local,
            output,
            resume,
            limit,
            device,
            progress,
            start,
            examples,
        )
        return run.carry_out(finish)


def _seconds(value: float | str) -> float:
    if isinstance(value, str):
        match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value)
        if not value or match is None:
            raise MelotteValueError(f"max_time {value!r} is not like 90s, 30m, 2h or 1h30m")
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        value = float(3600 * hours + 60 * minutes + seconds)
    if not value > 0:
        raise MelotteValueError(f"max_time {value} must be above 0 seconds")
    return value


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's advice on data loaders and its lists of devices are no news to the user."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        for one in loggers:
            one.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
