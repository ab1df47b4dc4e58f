"""Parameters that are known: their values in the unit cube, where the posterior is conditioned.

An autoregressive posterior gives the later parameters of its order at values of the first ones. So
a known distance, or a known extinction, is no prior that reweights samples, but exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from melotte.errors import MelotteValueError, did_you_mean
from melotte.named_words import named_words
from melotte.networks.autoregressive import AutoregressiveHead

if TYPE_CHECKING:
    from melotte.engine.model_files import Model


def leading_values(model: Model, known: Mapping[str, float]) -> Tensor | None:
    """Known values of the first parameters, shape (n_known,), unit cube; None where none are.

    Parameters
    ----------
    model : Model
    known : mapping of str to float
        In the parameters' units.

    Raises
    ------
    MelotteValueError
        When a name is unknown, a value is outside the range, the parameters are not the first of
        the model's order or are all of them, or the posterior is not autoregressive.
    """
    if not known:
        return None
    parameters = {one.name: one for one in model.parameters}
    for name, value in known.items():
        if name not in parameters:
            raise MelotteValueError(
                f"known: {name!r} is no parameter of this model{did_you_mean(name, parameters)}; "
                f"its parameters: {', '.join(parameters)}"
            )
        one = parameters[name]
        if not one.low <= value <= one.high:
            raise MelotteValueError(
                f"known: {name} {value:g} is outside the model's range [{one.low:g}, "
                f"{one.high:g}] {one.unit}".rstrip()
            )
    if not any(isinstance(one, AutoregressiveHead) for one in model.network.modules()):
        raise MelotteValueError(
            f"known: the posterior of {model.name} is not autoregressive, so nothing can be given"
        )
    first = list(parameters)[: len(known)]
    if set(first) != set(known) or len(known) == len(parameters):
        raise MelotteValueError(
            f"known: {', '.join(known)} cannot be given without the parameters before; the order "
            f"is {', '.join(parameters)}, and the last is always inferred"
        )
    values = [parameters[name].to_unit(torch.tensor(float(known[name]))) for name in first]
    return torch.stack([one.float().clamp(0, 1) for one in values])


def parse_known(pairs: list[str]) -> dict[str, float]:
    """Known values from ``NAME=VALUE``.

    Raises
    ------
    MelotteValueError
        When one is not of that form, or a name comes twice.
    """
    form, example = "NAME=NUMBER", "distance=7.1"
    known: dict[str, float] = {}
    for name, text in named_words(pairs, "--known", form, example).items():
        try:
            known[name] = float(text)
        except ValueError:
            raise MelotteValueError(
                f"--known '{name}={text}' is not of the form {form}, such as {example}"
            ) from None
    return known
