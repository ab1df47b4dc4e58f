"""Plain JSON values from whatever numbers a system or a library gives."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from melotte.errors import MelotteValueError


def plain_json(value: Any, where: str, nulls: bool = False) -> Any:
    """JSON values of nested dictionaries, sequences, NumPy and torch numbers.

    Parameters
    ----------
    value : object
    where : str
        Named in errors.
    nulls : bool
        Turn numbers that are not finite into None, in place of refusing them.

    Raises
    ------
    MelotteValueError
        When something has no JSON form.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item, f"{where}.{key}", nulls) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, f"{where}[{i}]", nulls) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain_json(value.tolist(), where, nulls)
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        if nulls:
            return None
        raise MelotteValueError(f"{where} is {value}; it must be finite")
    raise MelotteValueError(f"{where} is a {type(value).__name__}, which has no JSON form")
