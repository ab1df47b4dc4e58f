"""Devices by name, and how a training is placed on them."""

from __future__ import annotations

from typing import Any

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


def placement(device: torch.device, n_devices: int) -> dict[str, Any]:
    """Arguments that make a Lightning trainer train on a device, or on several of its kind.

    Parameters
    ----------
    device : torch.device
    n_devices : int, > 0
    """
    accelerator = {"cuda": "gpu"}.get(device.type, device.type)
    if n_devices > 1:
        return {"accelerator": accelerator, "devices": n_devices, "strategy": "ddp"}
    from pytorch_lightning.plugins.environments import LightningEnvironment

    return {
        "accelerator": accelerator,
        "devices": [device.index or 0] if device.type == "cuda" else 1,
        # One process is one process, also inside a batch job of several tasks.
        "plugins": [LightningEnvironment()],
    }
