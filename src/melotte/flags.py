"""Bit flags that a result row carries, and their decoder.

Flags are bits of one integer column, as in photutils and SDSS catalogues: a row with flags 0 has
nothing against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag

from melotte.errors import MelotteValueError


class Flag(IntFlag):
    """One bit a warning; the member's value is the bit's weight in the ``flags`` column."""

    OUT_OF_DOMAIN = 1
    OUT_OF_RANGE = 2
    PRIOR_EDGE = 4
    MULTIMODAL = 8
    LOW_VISIBILITY = 16
    BAD_PIXELS = 32
    FEW_MEMBERS = 64
    MERGER = 128
    FAILED = 256


MEANING: dict[Flag, str] = {
    Flag.OUT_OF_DOMAIN: "physical summaries or network embedding unlike the training mocks "
    "(threshold: 1 % false alarms on mocks)",
    Flag.OUT_OF_RANGE: "a known context value lies outside the range the model was trained on, or "
    "90 % of the posterior lies beyond what the model serves",
    Flag.PRIOR_EDGE: "more than 10 % of the posterior lies within 2 % of an end of the prior range",
    Flag.MULTIMODAL: "the posterior of a parameter has more than one separate peak",
    Flag.LOW_VISIBILITY: "the object hardly stands out from its background",
    Flag.BAD_PIXELS: "masked or NaN data inside the object were filled",
    Flag.FEW_MEMBERS: "fewer members than the model was trained on",
    Flag.MERGER: "the galaxy cluster looks disturbed",
    Flag.FAILED: "the row could not be measured; its values are NaN",
}


def decode_flags(value: int) -> tuple[str, ...]:
    """Names of the bits set in a ``flags`` value.

    Parameters
    ----------
    value : int, >= 0

    Returns
    -------
    tuple of str, lowest bit first

    Raises
    ------
    MelotteValueError
        When a bit is set that no flag owns.
    """
    known = sum(Flag)
    if value < 0 or value & ~known:
        raise MelotteValueError(f"flags value {value} has bits outside the known {known}")
    return tuple(flag.name or "" for flag in Flag if value & flag)


def encode_flags(names: Iterable[str]) -> int:
    """The ``flags`` value of some flag names (inverse of :func:`decode_flags`)."""
    value = 0
    for name in names:
        if name not in Flag.__members__:
            raise MelotteValueError(f"unknown flag {name!r}; known: {', '.join(Flag.__members__)}")
        value |= Flag[name]
    return int(value)
