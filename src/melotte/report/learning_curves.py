"""The learning curve of a training: losses on training and on validation mocks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from melotte.engine.run_folders import LOG
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.report.style import BLUE, GREY, ORANGE, SMALL, label, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "learning.png"
_STRETCH = 20.0
"""A curve above 0 whose largest value is so many times its least is drawn in its logarithm."""


def read_learning_curve(run_folder: str | Path) -> list[dict[str, Any]]:
    """The passes that a run folder's log tells of.

    Parameters
    ----------
    run_folder : path
        What ``melotte train`` keeps beside the model, ``MODEL.run``.

    Returns
    -------
    list of dict
        Of each pass ``step``, ``mocks``, ``training_loss``, ``validation_loss`` and more;
        of a pass that was begun again after a stop, the last time.

    Raises
    ------
    MelotteFileError
        When there is no log, or it is damaged.
    """
    path = Path(run_folder) / LOG
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        passes = {one["step"]: one for one in entries if one.get("event") == "epoch"}
    except OSError as error:
        raise MelotteFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, AttributeError) as error:
        raise MelotteFileError(f"{path}: not a log of a training, or damaged") from error
    return [passes[step] for step in sorted(passes)]


def learning_curve_figure(passes: Sequence[Mapping[str, Any]]) -> Figure:
    """Losses against the number of mocks seen.

    Parameters
    ----------
    passes : sequence of mappings
        Of :func:`read_learning_curve`, or of a model card: ``mocks``, ``training_loss``,
        ``validation_loss``; a loss may be None.

    Returns
    -------
    Figure
        Training losses are means over a pass, with dropout and the like at work; validation losses
        are of its end. The best of these, whose weights are kept, is marked.

    Raises
    ------
    MelotteValueError
        Where there is no pass.
    """
    if not passes:
        raise MelotteValueError("no pass of the training is done: nothing to draw")
    mocks = np.array([one["mocks"] for one in passes], dtype=float)
    training, validation = (
        np.array([_number(one.get(name)) for one in passes])
        for name in ("training_loss", "validation_loss")
    )
    figure, axes = new_figure(5.2, 3.4)
    panel = axes[0, 0]
    panel.plot(mocks, training, color=GREY, marker="o", ms=3.5, lw=1.2, label="training")
    panel.plot(mocks, validation, color=BLUE, marker="o", ms=3.5, lw=1.2, label="validation")
    if np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        panel.plot(
            mocks[best],
            validation[best],
            ls="none",
            marker="o",
            ms=9,
            mfc="none",
            mec=ORANGE,
            mew=1.6,
            label=f"best, {validation[best]:.4g}",
        )
    both = np.concatenate([training, validation])
    if _stretched(both[np.isfinite(both)]):
        panel.set_yscale("log")
    panel.set_xlim(left=0)
    panel.xaxis.set_major_formatter(EngFormatter())
    panel.legend(fontsize=SMALL, frameon=False)
    label(panel, "mocks", "loss")
    return figure


def write_learning_curve(run_folder: str | Path, folder: str | Path) -> Path | None:
    """Draw the curve of a run into a folder as ``learning.png``.

    Parameters
    ----------
    run_folder, folder : path

    Returns
    -------
    Path or None
        None where no pass is done.

    Raises
    ------
    MelotteFileError
        When the log cannot be read or the folder cannot be made.
    """
    passes = read_learning_curve(run_folder)
    if not passes:
        return None
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MelotteFileError(f"{target}: cannot be written: {error.strerror or error}") from error
    return save(learning_curve_figure(passes), target / NAME)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _stretched(losses: NDArray[np.float64]) -> bool:
    return len(losses) > 0 and losses.min() > 0 and losses.max() > _STRETCH * losses.min()
