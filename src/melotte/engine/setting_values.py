"""Kinds of values that settings of several systems have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _as_range(value: Any) -> Any:
    """A single number is the range of that number alone."""
    return (value, value) if isinstance(value, int | float) else value


Range = Annotated[tuple[float, float], BeforeValidator(_as_range)]
