"""Devices by name."""

from __future__ import annotations

import torch

from melotte.errors import MelotteValueError


def resolved_device(name: torch.device | str | None) -> torch.device:
    """A device by name; ``auto`` (or None) is a GPU where there is one.

    Raises
    ------
    MelotteValueError
        When the name is unknown or this machine has no such device.
    """
    if name is None or str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MelotteValueError(
            f"device {name!r} is unknown; allowed: auto, cpu, cuda, cuda:N, mps"
        ) from error
    missing_cuda = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    missing_mps = device.type == "mps" and not torch.backends.mps.is_available()
    if missing_cuda or missing_mps:
        raise MelotteValueError(f"device {name!s} is not on this machine; allowed here: auto, cpu")
    return device


def device_name(device: torch.device) -> str:
    """The device's own name, for the provenance."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type
