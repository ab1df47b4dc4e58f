"""What a fixed set of examples must be like to be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from melotte.engine.settings import TrainingSettings
from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.systems.base import Batch, Field, System

_MOST_NAMED = 3


def check_labels(examples: Batch) -> None:
    """Refuse examples that teach nothing, or whose known parameters are no numbers.

    Parameters
    ----------
    examples : Batch

    Raises
    ------
    MelotteValueError
    """
    broken = (examples.theta_known & ~torch.isfinite(examples.theta)).any(1)
    if broken.any():
        raise MelotteValueError(
            f"{_named(examples, broken)}: a parameter is marked as known but is no finite number"
        )
    given = bool(examples.theta_known.any()) or any(
        bool(torch.isfinite(value.float()).any()) for value in examples.targets.values()
    )
    if not given:
        raise MelotteValueError(
            f"none of the {len(examples)} examples has a known label: there is nothing to learn"
        )


def check_unvalidated(settings: TrainingSettings) -> None:
    """Refuse to stop early, or to lower the rate, by a loss that is never measured.

    Parameters
    ----------
    settings : TrainingSettings

    Raises
    ------
    MelotteValueError
    """
    asks = (
        f"training.patience {settings.patience}"
        if settings.patience is not None
        else "training.schedule plateau"
        if settings.schedule == "plateau"
        else None
    )
    if asks is not None and settings.validation_fraction == 0:
        raise MelotteValueError(
            f"{asks} goes by the loss on held-out examples, but training.validation_fraction is 0: "
            "hold some out, or leave it away"
        )


def check_mixture(examples: Batch, mocks: Batch) -> None:
    """Refuse to mix mocks into examples that carry other fields.

    Parameters
    ----------
    examples, mocks : Batch

    Raises
    ------
    MelotteValueError
    """
    ours = {*examples.observation.data, *examples.targets}
    theirs = {*mocks.observation.data, *mocks.targets}
    if ours != theirs:
        raise MelotteValueError(
            f"training.mock_share: mocks cannot be mixed into these examples, only one of the two "
            f"has {', '.join(sorted(ours ^ theirs))}; set it to 0"
        )


def check_inputs(
    system: System, constants: Mapping[str, Any], examples: Batch, batch_size: int
) -> None:
    """Refuse examples whose network input is not finite.

    Parameters
    ----------
    system : System
    constants : mapping
        Preparation constants.
    examples : Batch
    batch_size : int
        Examples that are prepared together.

    Raises
    ------
    MelotteValueError
        Names some of them.
    """
    broken = torch.zeros(len(examples), dtype=torch.bool)
    for rows in torch.arange(len(examples)).split(batch_size):
        inputs = system.prepare(examples.select(rows).observation, constants)
        for value in inputs.values():
            broken[rows] |= _not_finite(value, len(rows))
    if broken.any():
        raise MelotteValueError(
            f"{_named(examples, broken)}: an observation is not finite once it is prepared; leave "
            "such examples out"
        )


def measured_constants(system: System, examples: Batch) -> dict[str, Any]:
    """Preparation constants of examples.

    Parameters
    ----------
    system : System
    examples : Batch

    Returns
    -------
    dict

    Raises
    ------
    MelotteValueError
        When they are not finite; names the examples that are to blame.
    """
    constants = system.constants(examples)
    if _finite(constants):
        return constants
    # Each alone, twice: a spread needs two.
    broken = torch.tensor(
        [
            not _finite(system.constants(examples.select(torch.tensor([row, row]))))
            for row in range(len(examples))
        ]
    )
    raise MelotteValueError(
        f"{_named(examples, broken)}: an observation is not finite; leave such examples out"
    )


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_finite(one) for one in value.values())
    if isinstance(value, list | tuple):
        return all(_finite(one) for one in value)
    return not isinstance(value, float) or (value == value and abs(value) != float("inf"))


def _not_finite(value: Field, n: int) -> Tensor:
    """Which of ``n`` examples have an entry that is not finite, on the CPU."""
    values = (value.values if isinstance(value, Ragged) else value).cpu()
    bad = ~torch.isfinite(values)
    bad = bad.flatten(1).any(1) if bad.ndim > 1 else bad
    if not isinstance(value, Ragged):
        return bad
    found = torch.zeros(n, dtype=torch.bool)
    found[value.index.cpu()[bad]] = True
    return found


def _named(examples: Batch, chosen: Tensor) -> str:
    """Some of the chosen examples: names, or numbers from 0."""
    rows, ids = torch.nonzero(chosen)[:, 0].tolist(), examples.observation.ids
    if not rows:
        return "the examples"
    names = [ids[row] if ids else str(row) for row in rows[:_MOST_NAMED]]
    more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    return f"example{'s' if len(rows) > 1 else ''} {', '.join(names)}{more}"
