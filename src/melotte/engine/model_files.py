"""A trained model and the one file that holds it.

The file is safetensors: tensors ``network.*`` (weights) and ``reference.*`` (statistics of the
domain check), and under the metadata key ``melotte`` a JSON object with ``format_version``,
``preset``, ``parameters``, ``constants``, ``provenance``, ``metrics``, ``calibration``,
``versions`` and ``dtypes`` (of tensors stored as float16). Nothing in it is ever unpickled.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte import __version__
from melotte.engine.atomic_files import write_atomically
from melotte.engine.json_values import plain_json
from melotte.errors import MelotteFileError, MelotteValueError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from melotte.parameters import Parameter, Prior
    from melotte.systems.base import System

FORMAT_VERSION = 1
_KEYS = (
    "preset",
    "parameters",
    "constants",
    "provenance",
    "metrics",
    "calibration",
    "versions",
    "dtypes",
)
_LARGEST_HEADER = 100_000_000
_LARGEST_HALF = 65504.0


@dataclass
class Model:
    """A trained network with all that is needed to apply and to judge it.

    Parameters
    ----------
    system : System
    preset : dict
        The validated preset as JSON values: name, system, data, model, training, local.
    constants : dict
        Preparation constants, JSON values.
    network : nn.Module
    provenance : dict
        Seed, mocks seen, wall time, device, versions.
    metrics : dict
        On held-out mocks; numbers that are not finite are stored as null.
    calibration : dict
    reference : dict of str to Tensor
        Statistics of the domain check.
    """

    system: System
    preset: dict[str, Any]
    constants: dict[str, Any]
    network: nn.Module
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the preset it was trained from."""
        return str(self.preset.get("name", self.system.name))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters that it infers."""
        return self.system.parameters

    @property
    def prior(self) -> Prior:
        """The prior it was trained under."""
        from melotte.parameters import Prior

        return Prior(self.system.parameters)


def save_model(path: str | os.PathLike[str], model: Model, half: bool = False) -> None:
    """Write a model file; it appears whole or not at all.

    Parameters
    ----------
    path : path
        An existing file is replaced.
    model : Model
    half : bool
        Store matrices and kernels as float16 (half the size, 3 significant digits); vectors, and
        tensors with values beyond 65504, keep float32. Loading restores float32.

    Raises
    ------
    MelotteValueError
        When a weight, or a number in preset or constants, is not finite.
    MelotteFileError
        When the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {f"network.{name}": value for name, value in model.network.state_dict().items()}
    tensors |= {f"reference.{name}": value for name, value in model.reference.items()}
    stored, dtypes = {}, {}
    for name, tensor in tensors.items():
        stored[name], dtype = _stored(name, tensor, half)
        if dtype:
            dtypes[name] = dtype
    metadata = {
        "format_version": FORMAT_VERSION,
        "preset": plain_json(model.preset, "preset"),
        "parameters": [parameter.as_json() for parameter in model.parameters],
        "constants": plain_json(model.constants, "constants"),
        "provenance": plain_json(model.provenance, "provenance", nulls=True),
        "metrics": plain_json(model.metrics, "metrics", nulls=True),
        "calibration": plain_json(model.calibration, "calibration", nulls=True),
        "versions": library_versions(),
        "dtypes": dtypes,
    }
    content = save(stored, {"melotte": json.dumps(metadata, allow_nan=False)})
    write_atomically(path, content)


def load_model(
    path: str | os.PathLike[str],
    build_system: Callable[[Mapping[str, Any]], System],
    device: torch.device | str = "cpu",
) -> Model:
    """Read a model file written by :func:`save_model`, on any device.

    Parameters
    ----------
    path : path
    build_system : callable
        From a preset to its system; its MelotteValueError becomes a MelotteFileError that names
        the file.
    device : torch.device or str
        Where the weights go, wherever they were trained.

    Returns
    -------
    Model
        Its network is in evaluation mode; weights are float32 (or what they were trained in).

    Raises
    ------
    MelotteFileError
        When the file is missing, truncated, not a model of melotte, of a later format, or does
        not fit the system that its preset names: tensors missing, left over or misshapen.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    metadata = read_metadata(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise MelotteFileError(f"{path}: damaged model file: {_line(error)}") from error
    for name, dtype in metadata["dtypes"].items():
        wanted = getattr(torch, str(dtype), None)
        if name not in tensors or not isinstance(wanted, torch.dtype):
            raise MelotteFileError(f"{path}: dtype {dtype!r} of tensor {name!r} cannot be restored")
        tensors[name] = tensors[name].to(wanted)
    try:
        system = build_system(metadata["preset"])
        # Its first weights are overwritten: the caller's random numbers are left alone.
        with torch.random.fork_rng(devices=[]):
            network = system.network(metadata["constants"])
    except (ValueError, TypeError, KeyError) as error:
        raise MelotteFileError(
            f"{path}: its preset or constants are not ones this melotte {__version__} "
            f"understands: {_line(error)}"
        ) from error
    stored = [entry.get("name") for entry in metadata["parameters"]]
    names = [parameter.name for parameter in system.parameters]
    if stored != names:
        raise MelotteFileError(f"{path}: parameters {stored}, but its preset gives {names}")
    _load_strictly(path, network, _under("network.", tensors))
    known = ("network.", "reference.")
    foreign = sorted(name for name in tensors if not name.startswith(known))
    if foreign:
        raise MelotteFileError(f"{path}: {_some(foreign)}: tensors that no model of melotte has")
    reference = {k: v.to(device) for k, v in _under("reference.", tensors).items()}
    return Model(
        system,
        metadata["preset"],
        metadata["constants"],
        network.to(device).eval(),
        metadata["provenance"],
        metadata["metrics"],
        metadata["calibration"],
        reference,
    )


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model file says of itself, without loading its tensors or torch.

    Returns
    -------
    dict
        ``format_version``, ``preset``, ``parameters``, ``constants``, ``provenance``,
        ``metrics``, ``calibration``, ``versions``, ``dtypes``, and ``file_bytes``.

    Raises
    ------
    MelotteFileError
        When the file is missing, truncated, not a model of melotte or of a later format.
    """
    header, size = _read_header(Path(path))
    metadata = header.get("__metadata__")
    text = metadata.get("melotte") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise MelotteFileError(
            f"{path}: a safetensors file, but not a model of melotte (no 'melotte' metadata)"
        )
    try:
        content = json.loads(text)
    except ValueError as error:
        raise MelotteFileError(f"{path}: its metadata is not JSON: {error}") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version < 1:
        raise MelotteFileError(f"{path}: format_version {version!r} is not a whole number >= 1")
    if version > FORMAT_VERSION:
        raise MelotteFileError(
            f"{path}: format_version {version} is later than {FORMAT_VERSION}, the last that "
            f"melotte {__version__} reads; upgrade melotte"
        )
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise MelotteFileError(f"{path}: metadata lacks {', '.join(missing)}")
    for key in _KEYS:
        kind, called = (list, "a list") if key == "parameters" else (dict, "an object")
        if not isinstance(content[key], kind):
            raise MelotteFileError(f"{path}: metadata key {key} is not {called}")
    if not all(isinstance(entry, dict) for entry in content["parameters"]):
        raise MelotteFileError(f"{path}: metadata key parameters is not a list of objects")
    return content | {"file_bytes": size}


def library_versions() -> dict[str, str]:
    """Versions of melotte and of the libraries that decide its numbers."""
    import platform

    import numpy as np
    import torch

    return {
        "melotte": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise MelotteFileError(
                    f"{path}: not a model file (safetensors), or cut short: {size} bytes"
                )
            text = file.read(length)
    except MelotteFileError:
        raise
    except OSError as error:
        raise MelotteFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        header = json.loads(text)
        entries = [value for key, value in header.items() if key != "__metadata__"]
        end = max((int(entry["data_offsets"][1]) for entry in entries), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise MelotteFileError(f"{path}: not a model file (no safetensors header)") from error
    if size != 8 + length + end:
        raise MelotteFileError(
            f"{path}: cut short or damaged: {size} bytes, but its header needs {8 + length + end}"
        )
    return header, size


def _stored(name: str, tensor: Tensor, half: bool) -> tuple[Tensor, str | None]:
    import torch

    tensor = tensor.detach().to("cpu", copy=True).contiguous()
    if not tensor.is_floating_point():
        return tensor, None
    if not name.startswith("network."):
        return tensor, None
    if not torch.isfinite(tensor).all():
        raise MelotteValueError(f"tensor {name} holds values that are not finite; not written")
    # Vectors are small, and some (running variances) span many decades, which float16 does not.
    fits = tensor.ndim >= 2 and tensor.numel() > 0 and float(tensor.abs().max()) <= _LARGEST_HALF
    if half and fits and tensor.dtype == torch.float32:
        return tensor.half(), "float32"
    return tensor, None


def _load_strictly(
    path: str | os.PathLike[str], network: nn.Module, weights: dict[str, Tensor]
) -> None:
    expected = network.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    extra = sorted(weights.keys() - expected.keys())
    if missing or extra:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has also {_some(extra)}"] * bool(
            extra
        )
        raise MelotteFileError(
            f"{path}: weights do not fit the network of its preset: {', '.join(parts)}"
        )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise MelotteFileError(
                f"{path}: weight {name} has shape {tuple(weights[name].shape)}, but the network "
                f"of its preset needs {tuple(tensor.shape)}"
            )
    network.load_state_dict(weights, strict=True)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
