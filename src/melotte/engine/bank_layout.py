"""The HDF5 layout of a bank: attributes, datasets, and batches in and out of them.

The layout is specified in docs/bank-format.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from melotte.engine.json_values import plain_json
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.parameters import Parameter
from melotte.ragged import Ragged
from melotte.systems.base import Batch, Field, Observation

# h5py types every item as any of its kinds; what a bank holds is checked as it is read.
Hdf5 = Any

# What h5py raises where a file's structure is damaged, whatever the HDF5 library stumbled over.
DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError)

FORMAT = "melotte bank"
FORMAT_VERSION = 1
LABELS = ("theta", "theta_known", "group", "weight")
_CHUNK_BYTES = 1 << 19
_DECISIVE = ("system", "data", "catalogue")
"""Entries of a preset that decide the mocks; the last of a bank made of a simulation's haloes."""


@dataclass(frozen=True)
class BankInfo:
    """What a bank's file, or a shard, says of itself.

    Parameters
    ----------
    preset : dict
        As JSON values.
    system : str
    parameters : tuple of Parameter
    seed : int
    n_total : int
        Rows of the whole bank, all shards together.
    batch_size, views : int
        Of the batches that were drawn; they decide the random numbers.
    first_batch, last_batch : int
        The batches in this file, the last one excluded.
    task, of : int
        Shard ``task`` (from 1) of ``of``.
    versions : dict
    """

    preset: dict[str, Any]
    system: str
    parameters: tuple[Parameter, ...]
    seed: int
    n_total: int
    batch_size: int
    views: int
    first_batch: int
    last_batch: int
    task: int
    of: int
    versions: dict[str, str]

    @property
    def n_rows(self) -> int:
        """Rows in this file."""
        return min(self.last_batch * self.batch_size, self.n_total) - (
            self.first_batch * self.batch_size
        )

    @property
    def bank(self) -> tuple[Any, ...]:
        """What all shards of one bank share."""
        parameters = json.dumps([one.as_json() for one in self.parameters])
        decisive = {key: self.preset[key] for key in _DECISIVE if key in self.preset}
        text = json.dumps(decisive, sort_keys=True)
        return (text, parameters, self.seed, self.n_total, self.batch_size, self.views)

    def write(self, file: Hdf5, header: Mapping[str, Any]) -> None:
        """Write the attributes."""
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["preset"] = json.dumps(self.preset)
        file.attrs["system"] = self.system
        file.attrs["parameters"] = json.dumps([one.as_json() for one in self.parameters])
        file.attrs["versions"] = json.dumps(self.versions)
        file.attrs["header"] = json.dumps(header)
        for name in _NUMBERS:
            file.attrs[name] = getattr(self, name)

    @classmethod
    def read(cls, file: Hdf5, path: Path) -> BankInfo:
        """Read the attributes.

        Raises
        ------
        MelotteFileError
            When the file is no bank, of a later format, or an attribute is missing or malformed.
        """
        try:
            attributes = dict(file.attrs)
        except DAMAGE as error:
            raise damaged(path, error, "its attributes") from error
        if attributes.get("format") != FORMAT:
            raise MelotteFileError(f"{path}: an HDF5 file, but not a bank of melotte")
        version = attributes.get("format_version")
        if version != FORMAT_VERSION:
            raise MelotteFileError(
                f"{path}: bank format_version {version}, this melotte reads {FORMAT_VERSION}"
            )
        try:
            numbers = {name: int(attributes[name]) for name in _NUMBERS}
            return cls(
                preset=dict(json.loads(attributes["preset"])),
                system=str(attributes["system"]),
                parameters=tuple(
                    Parameter.from_json(entry) for entry in json.loads(attributes["parameters"])
                ),
                versions=dict(json.loads(attributes["versions"])),
                **numbers,
            )
        except KeyError as error:
            raise MelotteFileError(f"{path}: bank without attribute {error}") from error
        except (ValueError, TypeError) as error:
            raise MelotteFileError(f"{path}: a bank attribute is malformed: {error}") from error

    @classmethod
    def read_path(cls, path: Path) -> BankInfo:
        """Read the attributes of a file by its name."""
        with open_bank(path) as file:
            return cls.read(file, path)


_NUMBERS = (
    "seed",
    "n_total",
    "batch_size",
    "views",
    "first_batch",
    "last_batch",
    "task",
    "of",
)


def open_bank(path: Path) -> Hdf5:
    """Open a bank's file to read.

    Raises
    ------
    MelotteFileError
        When it is missing, truncated or no HDF5 file.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if not path.exists():
            reason = "no such file"
        elif "truncated" in str(error):
            reason = "cut short"
        else:
            reason = "cannot be opened as HDF5; it is damaged or of another kind"
        raise MelotteFileError(f"{path}: {reason}") from error


def is_group(item: Hdf5) -> bool:
    """Whether an item holds others, as ragged fields do."""
    return isinstance(item, h5py.Group)


def damaged(path: Path, error: Exception, where: str) -> MelotteFileError:
    """The error for a file whose structure cannot be read."""
    return MelotteFileError(f"{path}: damaged in {where}: {' '.join(str(error).split())}")


def append(file: Hdf5, batch: Batch, compression: str | None) -> None:
    """Append a batch's rows; the first batch makes the datasets.

    Raises
    ------
    MelotteValueError
        When the batch has other fields than the first.
    """
    names = sorted([*(f"data/{name}" for name in batch.observation.data)]) + sorted(
        f"targets/{name}" for name in batch.targets
    )
    if "theta" not in file:
        file.attrs["fields"] = json.dumps(names)
    elif json.loads(str(file.attrs["fields"])) != names:
        raise MelotteValueError(f"a batch has fields {names}, not {file.attrs['fields']}")
    for name in LABELS:
        _append(file, name, getattr(batch, name), compression)
    for name, field in batch.observation.data.items():
        _append_field(file, f"data/{name}", field, compression)
    for name, target in batch.targets.items():
        _append(file, f"targets/{name}", target, compression)
    if batch.observation.flags is not None:
        _append(file, "flags", batch.observation.flags, compression)


def read_rows(file: Hdf5, start: int, stop: int, header: dict[str, Any]) -> Batch:
    """Rows ``start`` to ``stop`` of an open file as a batch."""
    fields: dict[str, Field] = {}
    for name, item in file["data"].items():
        if is_group(item):
            offsets = np.asarray(item["offsets"][start : stop + 1])
            values = torch.from_numpy(item["values"][offsets[0] : offsets[-1]])
            fields[name] = Ragged(values, torch.from_numpy(offsets - offsets[0]))
        else:
            fields[name] = torch.from_numpy(item[start:stop])
    targets = {
        name: torch.from_numpy(item[start:stop]) for name, item in file.get("targets", {}).items()
    }
    flags = torch.from_numpy(file["flags"][start:stop]) if "flags" in file else None
    theta, known, group, weight = (torch.from_numpy(file[name][start:stop]) for name in LABELS)
    return Batch(Observation(fields, (), flags, header), theta, known, targets, group, weight)


def plain_header(batch: Batch) -> dict[str, Any]:
    """Those entries of a batch's header that are the same for all rows and have a JSON form."""
    header: dict[str, Any] = {}
    for key, value in batch.observation.header.items():
        if isinstance(value, Tensor | np.ndarray | list | tuple) and len(value) == len(batch):
            continue
        try:
            header[key] = plain_json(value, key, nulls=True)
        except MelotteValueError:
            continue
    return header


def _append_field(file: Hdf5, name: str, field: Field, compression: str | None) -> None:
    if isinstance(field, Tensor):
        _append(file, name, field, compression)
        return
    offsets = file.get(f"{name}/offsets")
    before = 0 if offsets is None else int(offsets[-1])
    _append(file, f"{name}/values", field.values, compression)
    new = field.offsets + before
    _append(file, f"{name}/offsets", new if offsets is None else new[1:], compression)


def _append(file: Hdf5, name: str, tensor: Tensor, compression: str | None) -> None:
    array = tensor.detach().cpu().contiguous().numpy()
    if name not in file:
        row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
        rows = max(1, min(_CHUNK_BYTES // row_bytes, 4096))
        file.create_dataset(
            name,
            data=array,
            maxshape=(None, *array.shape[1:]),
            chunks=(rows, *array.shape[1:]),
            compression=compression,
            compression_opts=1 if compression == "gzip" else None,
            shuffle=compression is not None,
        )
        return
    dataset = file[name]
    start = len(dataset)
    dataset.resize(start + len(array), axis=0)
    dataset[start:] = array
