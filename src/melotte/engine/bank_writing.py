"""Writing banks: in shards, resumable, and merging shards into one file.

While a bank is written, finished stretches of batches lie as small files in a folder
``.<name>.parts`` beside it. An interrupted writing finds them there and goes on; at the end they
are joined under a temporary name, which is then renamed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import h5py
import torch

from melotte.engine.bank_layout import BankInfo, append, plain_header
from melotte.engine.bank_reading import BankReader
from melotte.engine.json_values import plain_json
from melotte.engine.mocks import batch_of_many, check_views
from melotte.engine.model_files import library_versions
from melotte.engine.progress import Progress
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.ragged import Ragged
from melotte.systems.base import Batch, System

Compression = Literal["gzip", "lzf", "none"]
_PART_BYTES = 1 << 28
_READ_ROWS = 1024


def write_bank(
    system: System,
    preset: Mapping[str, Any],
    path: str | os.PathLike[str],
    n: int,
    seed: int,
    task: int = 1,
    of: int = 1,
    batch_size: int = 256,
    views: int = 1,
    device: torch.device | str = "cpu",
    compression: Compression = "gzip",
    progress: bool | None = None,
    part_seconds: float = 60.0,
) -> Path:
    """Write a fixed bank of mocks, or one shard of it.

    The bank holds batches ``0, 1, ...`` of ``batch_size`` rows, each from its own random stream;
    shard ``task`` of ``of`` holds a contiguous stretch of them, so the shards one after another
    are row by row the bank that one task would write. Called again after an interruption, it goes
    on; called again after completion, it returns at once.

    Parameters
    ----------
    system : System
    preset : mapping
        Stored as JSON.
    path : path
        The bank. With ``of`` > 1, shard 2 of 16 of ``bank.h5`` is ``bank.0002-of-0016.h5``.
    n : int, > 0
        Rows of the whole bank, all shards together.
    seed : int, >= 0
        Its mocks are never those of a training, whatever the seeds.
    task, of : int, 1 <= task <= of
    batch_size, views : int, > 0
        Decide the random numbers, as the seed does.
    device : torch.device or str
    compression : {"gzip", "lzf", "none"}
        gzip (level 1) can be read by any HDF5; lzf by h5py alone.
    progress : bool, optional
    part_seconds : float
        Most work that an interruption loses.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    MelotteValueError
        When the counts do not go together, or an unfinished bank of other settings lies there.
    MelotteFileError
        When the file cannot be written.
    """
    info = _planned(system, preset, n, seed, task, of, batch_size, views)
    path = shard_path(path, task, of)
    if not path.parent.is_dir():
        raise MelotteFileError(f"{path}: the folder {path.parent} does not exist")
    if _is_complete(path, info):
        return path
    parts = path.with_name(f".{path.name}.parts")
    written = _resumable_parts(parts, info)
    done = BankInfo.read_path(written[-1]).last_batch if written else info.first_batch
    shown = Progress(info.n_rows, "mocks", (done - info.first_batch) * batch_size, progress)
    pending: list[Batch] = []
    begun = done
    clock = time.monotonic()

    def flush() -> None:
        nonlocal begun, clock
        if pending:
            parts.mkdir(exist_ok=True)
            target = parts / f"{begun:09d}.h5"
            part = replace(info, first_batch=begun, last_batch=begun + len(pending))
            _write_file(target, part, iter(pending), compression)
            written.append(target)
            begun += len(pending)
            pending.clear()
        clock = time.monotonic()

    try:
        for number in range(done, info.last_batch):
            batch = batch_of_many(system, n, number, seed, batch_size, device, views).to("cpu")
            pending.append(batch)
            rows = min((number + 1) * batch_size, n) - info.first_batch * batch_size
            shown.update(rows)
            large = len(pending) * _bytes(batch) >= _PART_BYTES
            if large or time.monotonic() - clock >= part_seconds:
                flush()
    except KeyboardInterrupt as stop:
        flush()
        raise KeyboardInterrupt(f"interrupted; the same command goes on from {parts}") from stop
    finally:
        shown.close()
    earlier = _stored_batches(written)
    _write_file(path, info, chain(earlier, pending), compression)
    shutil.rmtree(parts, ignore_errors=True)
    return path


def merge_banks(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    compression: Compression = "gzip",
) -> Path:
    """Join all shards of a bank into one file; row by row what one task would have written.

    Parameters
    ----------
    paths : path, pattern or sequence of them
    output : path
    compression : {"gzip", "lzf", "none"}

    Returns
    -------
    Path

    Raises
    ------
    MelotteFileError
        When a shard is missing, repeated, damaged or of another bank.
    """
    output = Path(output)
    with BankReader(paths) as reader:
        whole = replace(
            reader.infos[0],
            first_batch=0,
            last_batch=reader.infos[-1].last_batch,
            task=1,
            of=1,
        )
        _write_file(output, whole, reader.batches(_READ_ROWS), compression)
    return output


def shard_path(path: str | os.PathLike[str], task: int, of: int) -> Path:
    """Name of a shard: ``bank.h5`` itself where there is one, else ``bank.0002-of-0016.h5``."""
    path = Path(path)
    return path if of == 1 else path.with_name(f"{path.stem}.{task:04d}-of-{of:04d}{path.suffix}")


def _planned(
    system: System,
    preset: Mapping[str, Any],
    n: int,
    seed: int,
    task: int,
    of: int,
    batch_size: int,
    views: int,
) -> BankInfo:
    check_views(batch_size, views)
    if n < 1:
        raise MelotteValueError(f"n {n}: a bank needs at least 1 row")
    if not 1 <= task <= of:
        raise MelotteValueError(f"task {task} of {of}: task must be 1 to {of}")
    n_batches = -(-n // batch_size)
    if of > n_batches:
        raise MelotteValueError(
            f"{of} shards of {n} rows in batches of {batch_size}: there are {n_batches} batches, "
            f"so at most {n_batches} shards"
        )
    return BankInfo(
        preset=plain_json(preset, "preset"),
        system=system.name,
        parameters=tuple(system.parameters),
        seed=seed,
        n_total=n,
        batch_size=batch_size,
        views=views,
        first_batch=(task - 1) * n_batches // of,
        last_batch=task * n_batches // of,
        task=task,
        of=of,
        versions=library_versions(),
    )


def _is_complete(path: Path, info: BankInfo) -> bool:
    try:
        found = BankInfo.read_path(path)
    except MelotteFileError:
        return False
    return found.bank == info.bank and (found.task, found.of) == (info.task, info.of)


def _resumable_parts(folder: Path, info: BankInfo) -> list[Path]:
    """Parts that follow on from the first batch without a gap."""
    found: list[Path] = []
    following = info.first_batch
    for path in sorted(folder.glob("*.h5")):
        part = BankInfo.read_path(path)
        if part.bank != info.bank or (part.task, part.of) != (info.task, info.of):
            raise MelotteValueError(
                f"{folder} holds an unfinished bank of other settings (seed {part.seed}, "
                f"{part.n_total} rows, task {part.task} of {part.of}); finish it with those, or "
                "delete the folder"
            )
        if part.first_batch == following:
            found.append(path)
            following = part.last_batch
    return found


def _stored_batches(paths: list[Path]) -> Iterator[Batch]:
    for path in paths:
        with BankReader(path, whole=False) as reader:
            yield from reader.batches(_READ_ROWS)


def _write_file(
    path: Path, info: BankInfo, batches: Iterator[Batch], compression: Compression
) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    kind = None if compression == "none" else compression
    try:
        with h5py.File(temporary, "w") as file:
            header: dict[str, Any] | None = None
            rows = 0
            for batch in batches:
                rows += len(batch)
                header = plain_header(batch) if header is None else header
                append(file, batch, kind)
            info.write(file, header or {})
        if rows != info.n_rows:
            raise MelotteValueError(f"the system gave {rows} rows in place of {info.n_rows}")
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, MelotteFileError):
            raise
        raise MelotteFileError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _bytes(batch: Batch) -> int:
    fields = [
        field.values if isinstance(field, Ragged) else field
        for field in batch.observation.data.values()
    ]
    tensors = [*fields, *batch.targets.values(), batch.theta]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
