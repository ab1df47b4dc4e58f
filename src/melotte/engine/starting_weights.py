"""Where a training's weights come from: those of another model, and parts that keep them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from melotte.engine.model_files import Model
from melotte.engine.settings import TrainingSettings
from melotte.errors import MelotteValueError
from melotte.parameters import Parameter
from melotte.systems.base import System


def check_start(system: System, start: Model, parts: Sequence[str] = ()) -> None:
    """Refuse to start from a model of another system or other parameters.

    Weights stand for a posterior in the unit cube of the prior: under another prior the same
    weights would say something else.

    Parameters
    ----------
    system : System
    start : Model
    parts : sequence of str
        Parts of the network whose weights are taken, where it is not all of them. What reads the
        observation says nothing of the prior, so parameters may then differ.

    Raises
    ------
    MelotteValueError
        Naming the first parameter that differs, and how.
    """
    if start.system.name != system.name:
        raise MelotteValueError(
            f"{start.name} is a model of {start.system.name}, this preset is of {system.name}: "
            "start from a model of the same system"
        )
    if parts:
        return
    ours, theirs = (list(map(_described, one.parameters)) for one in (system, start))
    if ours != theirs:
        differing = [pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1]]
        then, now = differing[0] if differing else (", ".join(theirs), ", ".join(ours))
        raise MelotteValueError(
            f"{start.name} was trained under another prior: {then}, here {now}; give the same "
            "ranges, take some parts only (training.start_parts) or train without a start"
        )


def starting_constants(
    system: System,
    start: Model | None,
    parts: Sequence[str],
    measure: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Preparation constants of a training: those that the weights taken were trained with.

    Where the whole network goes on with other inputs, the system says which of them are the
    model's, by its method ``carried_constants``.

    Parameters
    ----------
    system : System
    start : Model, optional
    parts : sequence of str
        Parts that are taken, where it is not all of them. A network with other inputs, such as
        more bands, can then share the parts behind these; its constants are its own.
    measure : callable
        Gives constants of this training's own observations.
    """
    if start is None:
        return measure()
    if not parts:
        carried = getattr(system, "carried_constants", None)
        if carried is None:
            return start.constants
        return carried(start.system, start.constants, measure)
    own = measure()
    return start.constants if _outline(own) == _outline(start.constants) else own


def take_weights(network: nn.Module, start: Model, parts: Sequence[str] = ()) -> None:
    """Start from a model's weights; its network must be of the same shape.

    A network with parts that the model's lacks, or with other inputs, fills them by its method
    ``adopt``.

    Parameters
    ----------
    network : nn.Module
        Is overwritten.
    start : Model
    parts : sequence of str
        Parts that are overwritten; the whole network without.

    Raises
    ------
    MelotteValueError
        When the weights are of another shape, or a network has no such part.
    """
    adopt = getattr(network, "adopt", None)
    try:
        if parts:
            for name in parts:
                theirs = _part(start.network, name, "start_parts")
                _part(network, name, "start_parts").load_state_dict(theirs.state_dict())
        elif adopt is None:
            network.load_state_dict(start.network.state_dict())
        else:
            adopt(start.network)
    except RuntimeError as error:
        raise MelotteValueError(
            f"the weights of {start.name} do not fit this preset's network: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error


def set_rates(network: nn.Module, settings: TrainingSettings, begun: bool) -> None:
    """Freeze the parts that keep their weights, and see that every named part is there.

    Parameters
    ----------
    network : nn.Module
    settings : TrainingSettings
        ``start_parts``, ``frozen`` and ``rate_factors`` name the parts.
    begun : bool
        Whether the weights come from a model or a checkpoint; random ones are not frozen.

    Raises
    ------
    MelotteValueError
        When the network has no such part, nothing is left to train, or random weights would be
        kept.
    """
    for name in settings.rate_factors:
        _part(network, name, "rate_factors")
    for name in settings.frozen:
        _part(network, name, "frozen").requires_grad_(False)
    if settings.start_parts and not begun:
        raise MelotteValueError(
            f"training.start_parts takes {', '.join(settings.start_parts)} from a model: name it "
            "(--from MODEL)"
        )
    taken = settings.start_parts or settings.frozen if begun else ()
    if random := [name for name in settings.frozen if not _within(name, taken)]:
        raise MelotteValueError(
            f"training.frozen keeps the weights of {', '.join(random)}, and these would "
            "be random: "
            + (
                "name them in training.start_parts"
                if begun
                else "start from a model (--from MODEL)"
            )
        )
    if not any(weight.requires_grad for weight in network.parameters()):
        raise MelotteValueError(
            f"training.frozen {', '.join(settings.frozen)} leaves no part of the network to train"
        )


def _outline(constants: Any) -> Any:
    """Names and lengths, without the numbers."""
    if isinstance(constants, Mapping):
        return {name: _outline(value) for name, value in constants.items()}
    return len(constants) if isinstance(constants, list | tuple) else None


def _within(name: str, parts: Sequence[str]) -> bool:
    """Whether a part, or one that it belongs to, is among some."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _described(parameter: Parameter) -> str:
    """Name and prior in one line; descriptions may change."""
    unit = f" {parameter.unit}" if parameter.unit else ""
    normal = (
        f" of mean {parameter.centre:g} and deviation {parameter.width:g}"
        if parameter.centre is not None and parameter.width is not None
        else ""
    )
    interval = f"{parameter.low!r} to {parameter.high!r}{unit}"
    return f"{parameter.name} {interval} ({parameter.scale}{normal})"


def _part(network: nn.Module, name: str, setting: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        known = ", ".join(part for part, _ in network.named_children())
        raise MelotteValueError(
            f"training.{setting}: the network has no part {name!r}; its parts: {known}"
        ) from error
