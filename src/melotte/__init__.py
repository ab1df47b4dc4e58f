"""melotte weighs, dates and measures star clusters and galaxy clusters.

It forward-models mock observations, trains neural posterior estimators on them and applies them
to real data. Names below load on first use, so that ``import melotte`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from melotte.api import evaluate, infer, load, simulate, train
    from melotte.flags import Flag, decode_flags
    from melotte.networks.posteriors import Posterior
    from melotte.parameters import Parameter, Prior
    from melotte.systems.base import System

_HOME = {
    "evaluate": "melotte.api",
    "infer": "melotte.api",
    "load": "melotte.api",
    "simulate": "melotte.api",
    "train": "melotte.api",
    "Flag": "melotte.flags",
    "decode_flags": "melotte.flags",
    "Posterior": "melotte.networks.posteriors",
    "Parameter": "melotte.parameters",
    "Prior": "melotte.parameters",
    "System": "melotte.systems.base",
}

__all__ = [
    "Flag",
    "Parameter",
    "Posterior",
    "Prior",
    "System",
    "__version__",
    "decode_flags",
    "evaluate",
    "infer",
    "load",
    "simulate",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'melotte' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
