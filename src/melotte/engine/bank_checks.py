"""What is wrong with a bank's file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from melotte.engine.bank_layout import DAMAGE, LABELS, BankInfo, Hdf5, is_group, open_bank
from melotte.errors import MelotteFileError
from melotte.parameters import Prior

_BLOCK = 4096
_KINDS = {"theta": "f", "theta_known": "b", "group": "i", "weight": "f"}


def check_bank(path: str | os.PathLike[str]) -> list[str]:
    """Read a bank's file, or a shard, whole, and list what is wrong with it.

    Parameters
    ----------
    path : path

    Returns
    -------
    list of str
        One line a problem; empty for a sound bank.

    Raises
    ------
    MelotteFileError
        When it cannot be opened, is no bank, or lacks attributes.
    """
    path = Path(path)
    with open_bank(path) as file:
        info = BankInfo.read(file, path)
        try:
            return list(_problems(file, info))
        except MelotteFileError:
            raise
        except DAMAGE as error:
            return [f"cannot be read to its end: {' '.join(str(error).split())}"]


def _problems(file: Hdf5, info: BankInfo) -> Iterator[str]:
    if info.n_rows < 1 or not 1 <= info.task <= info.of:
        yield (
            f"attributes give {info.n_rows} rows and task {info.task} of {info.of}; "
            "there must be at least one row, and 1 <= task <= of"
        )
    missing = [name for name in LABELS if not isinstance(file.get(name), h5py.Dataset)]
    missing += [] if isinstance(file.get("data"), h5py.Group) else ["data"]
    if missing:
        yield f"lacks {', '.join(missing)}"
        return
    if not len(file["data"]):
        yield "data is empty"
    sound = True
    for name, dataset in _rows(file):
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim < 1:
            yield f"{name} is not a dataset of rows"
            sound = False
        elif len(dataset) != info.n_rows:
            yield f"{name} has {len(dataset)} rows, but the attributes give {info.n_rows}"
            sound = False
    for name, kind in _KINDS.items():
        if file[name].dtype.kind != kind:
            yield f"{name} has dtype {file[name].dtype}, not of kind {kind!r}"
            sound = False
    shape = (len(info.parameters),)
    for name in ("theta", "theta_known"):
        if file[name].shape[1:] != shape:
            yield f"{name} has {file[name].shape[1:]} columns, but there are {shape[0]} parameters"
            sound = False
    if not sound:
        return
    yield from _label_problems(file, info)
    for name, item in file["data"].items():
        if is_group(item):
            yield from _ragged_problems(name, item, info)
        elif item.dtype.kind == "f":
            yield from _infinite(f"data/{name}", item)


def _rows(file: Hdf5) -> Iterator[tuple[str, Any]]:
    """Datasets whose first axis is the bank's rows."""
    for name in (*LABELS, *(["flags"] if "flags" in file else [])):
        yield name, file[name]
    for group in ("data", "targets"):
        for name, item in file.get(group, {}).items():
            if isinstance(item, h5py.Dataset):
                yield f"{group}/{name}", item


def _label_problems(file: Hdf5, info: BankInfo) -> Iterator[str]:
    prior = Prior(info.parameters)
    span = torch.tensor([[one.low, one.high] for one in info.parameters], dtype=torch.float64)
    slack = 1e-5 * (span[:, 1] - span[:, 0])
    unmarked = stray = weights = 0
    outside = torch.zeros(len(prior), dtype=torch.int64)
    for start in range(0, info.n_rows, _BLOCK):
        rows = slice(start, start + _BLOCK)
        theta = torch.from_numpy(file["theta"][rows]).double()
        known = torch.from_numpy(file["theta_known"][rows])
        weight = file["weight"][rows]
        finite = torch.isfinite(theta)
        unmarked += int((known & ~finite).sum())
        stray += int((~known & finite).sum())
        beyond = (theta < span[:, 0] - slack) | (theta > span[:, 1] + slack)
        outside += (beyond & known).sum(0)
        weights += int((~np.isfinite(weight) | (weight < 0)).sum())
    if unmarked:
        yield f"theta: {unmarked} values are marked as known but not finite"
    if stray:
        yield f"theta: {stray} values are marked as unknown but not NaN"
    for one, count in zip(info.parameters, outside.tolist(), strict=True):
        if count:
            yield f"theta: {count} values of {one.name} lie outside [{one.low}, {one.high}]"
    if weights:
        yield f"weight: {weights} values are negative or not finite"


def _ragged_problems(name: str, item: Hdf5, info: BankInfo) -> Iterator[str]:
    if "values" not in item or "offsets" not in item:
        yield f"data/{name} lacks values or offsets"
        return
    values, offsets = item["values"], item["offsets"]
    if offsets.dtype != np.int64 or offsets.shape != (info.n_rows + 1,):
        yield (
            f"data/{name}/offsets is {offsets.dtype} of shape {offsets.shape}, "
            f"not int64 of shape ({info.n_rows + 1},)"
        )
        return
    ends = offsets[:]
    if ends[0] != 0 or ends[-1] != len(values) or (np.diff(ends) < 0).any():
        yield f"data/{name}/offsets do not rise from 0 to {len(values)}"
    elif values.dtype.kind == "f":
        yield from _infinite(f"data/{name}/values", values)


def _infinite(name: str, dataset: Hdf5) -> Iterator[str]:
    rows = max(1, min(_BLOCK, (1 << 24) // max(1, int(np.prod(dataset.shape[1:])))))
    count = sum(
        int(np.isinf(dataset[start : start + rows]).sum()) for start in range(0, len(dataset), rows)
    )
    if count:
        yield f"{name}: {count} values are infinite (NaN marks missing data)"
