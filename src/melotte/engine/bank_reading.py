"""Reading banks: one file or many shards as one sequence of rows, loaded only where asked for."""

from __future__ import annotations

import bisect
import glob
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from melotte.engine.bank_layout import (
    DAMAGE,
    LABELS,
    BankInfo,
    Hdf5,
    damaged,
    open_bank,
    read_rows,
)
from melotte.engine.mocks import concatenate
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.parameters import Parameter
from melotte.systems.base import Batch, System

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_MOST_OPEN = 32
_NOT_OF_MOCKS = "augmentation"


class BankWarning(UserWarning):
    """A bank was drawn under other settings than those it is used with."""


class BankReader:
    """The rows of a bank, in the order in which one task would have written them.

    Nothing but the attributes is held in memory, so banks larger than memory can be read. An
    instance can be given to worker processes; each opens the files for itself.

    Parameters
    ----------
    paths : path, pattern or sequence of them
        A bank, or its shards in any order. A name that does not exist, such as ``bank.h5``,
        stands for its shards ``bank.0001-of-0016.h5`` and so on.
    whole : bool
        Refuse a bank of which shards are missing.
    system : System, optional
        Refuse a bank of other parameters than this system's.

    Raises
    ------
    MelotteFileError
        When a file is missing, truncated, no bank, of another bank, repeated, or (``whole``) one
        of the shards is not there.
    """

    def __init__(self, paths: Paths, whole: bool = True, system: System | None = None) -> None:
        found = find_shards(paths)
        entries = sorted(
            ((BankInfo.read_path(path), path) for path in found),
            key=lambda entry: (entry[0].first_batch, entry[0].task),
        )
        self.infos = tuple(info for info, _ in entries)
        self.paths = tuple(path for _, path in entries)
        self._files: dict[int, Hdf5] = {}
        self._check_shards(whole)
        if system is not None:
            self._check_parameters(system)
        self._starts = [0, *accumulate(info.n_rows for info in self.infos)]

    @property
    def preset(self) -> dict[str, Any]:
        """The preset that it was drawn with."""
        return self.infos[0].preset

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.infos[0].seed

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters, in the order of the columns of theta."""
        return self.infos[0].parameters

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, start: int, stop: int) -> Batch:
        """Rows ``start`` to ``stop`` (excluded; clipped to the bank) as one batch.

        Raises
        ------
        MelotteValueError
            When no row lies between them.
        MelotteFileError
            When the file is damaged there.
        """
        start, stop = max(start, 0), min(stop, len(self))
        if start >= stop:
            raise MelotteValueError(f"rows {start} to {stop} of a bank of {len(self)}: none there")
        pieces = []
        while start < stop:
            shard = bisect.bisect_right(self._starts, start) - 1
            end = min(stop, self._starts[shard + 1])
            pieces.append(self._read(shard, start, end))
            start = end
        return pieces[0] if len(pieces) == 1 else concatenate(pieces)

    def select(self, chosen: Tensor) -> Batch:
        """Rows by number, in the order of ``chosen`` (int64, shape (n,))."""
        numbers, order = torch.unique(chosen, return_inverse=True)
        if not len(numbers) or int(numbers[0]) < 0 or int(numbers[-1]) >= len(self):
            raise MelotteValueError(f"row numbers must be 0 to {len(self) - 1}, at least one")
        # Neighbouring rows are read at once: a chunk is decompressed whole in any case.
        breaks = torch.nonzero(numbers.diff() > 1).flatten() + 1
        stretches = torch.tensor_split(numbers, breaks.tolist())
        pieces = [self.rows(int(one[0]), int(one[-1]) + 1) for one in stretches]
        return concatenate(pieces).select(order)

    def batches(self, batch_size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """All rows, in order, in batches; the last may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.rows(start, start + batch_size).to(device)

    def close(self) -> None:
        """Close the files; reading opens them again."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    def _read(self, shard: int, start: int, stop: int) -> Batch:
        first = self._starts[shard]
        path = self.paths[shard]
        try:
            file = self._file(shard)
            header = json.loads(str(file.attrs.get("header", "{}")))
            return read_rows(file, start - first, stop - first, header)
        except MelotteFileError:
            raise
        except DAMAGE as error:
            raise damaged(path, error, f"rows {start - first} to {stop - first}") from error

    def _file(self, shard: int) -> Hdf5:
        if shard not in self._files:
            if len(self._files) >= _MOST_OPEN:
                self.close()
            path = self.paths[shard]
            file = self._files[shard] = open_bank(path)
            missing = [name for name in (*LABELS, "data") if name not in file]
            if missing:
                raise MelotteFileError(f"{path}: bank without {', '.join(missing)}")
            if len(file["theta"]) != self.infos[shard].n_rows:
                raise MelotteFileError(
                    f"{path}: {len(file['theta'])} rows, but its attributes give "
                    f"{self.infos[shard].n_rows}"
                )
        return self._files[shard]

    def _check_shards(self, whole: bool) -> None:
        first, path = self.infos[0], self.paths[0]
        following = first.first_batch
        if whole and following != 0:
            raise MelotteFileError(f"{path}: shard {first.task} of {first.of}; shard 1 is missing")
        for info, one in zip(self.infos, self.paths, strict=True):
            if info.bank != first.bank:
                raise MelotteFileError(f"{one}: of another bank than {path}")
            if info.first_batch < following:
                raise MelotteFileError(f"{one}: holds rows that another of the shards holds too")
            if whole and info.first_batch > following:
                raise MelotteFileError(
                    f"{one}: shard {info.task} of {info.of}, but the one before is missing"
                )
            following = info.last_batch
        last = self.infos[-1]
        if whole and following * last.batch_size < last.n_total:
            raise MelotteFileError(
                f"{self.paths[-1]}: shard {last.task} of {last.of}; the next is missing"
            )

    def check_training(
        self, system: System, ours: Mapping[str, Any], theirs: Mapping[str, Any]
    ) -> None:
        """See that a network of a system can be trained on the bank.

        Parameters
        ----------
        system : System
        ours, theirs : mapping
            Settings ``data`` of the system and of the one that drew the bank, defaults filled in.

        Raises
        ------
        MelotteValueError
            When the bank's prior reaches beyond the system's, where no posterior of it does.

        Warns
        -----
        BankWarning
            When the prior is another within the system's, or other settings differ.
        """
        changed = []
        for one, drawn in zip(system.parameters, self.parameters, strict=True):
            now, then = one.as_json(), drawn.as_json()
            differing = [name for name in now if name != "description" and now[name] != then[name]]
            listed = ", ".join(f"{name} {then[name]}, not {now[name]}" for name in differing)
            if drawn.low < one.low or drawn.high > one.high:
                raise MelotteValueError(
                    f"{self.paths[0]}: a bank of a wider prior: {one.name} has {listed}; train "
                    "with the settings data.prior of the bank"
                )
            if differing:
                changed.append(f"the prior of {one.name}: {listed}")
        # Ranges are said above, by parameter.
        said = (_NOT_OF_MOCKS, "prior") if changed else (_NOT_OF_MOCKS,)
        changed += [
            f"data.{name} {theirs[name]}, not {value}"
            for name, value in ours.items()
            if name in theirs and name not in said and theirs[name] != value
        ]
        if changed:
            warnings.warn(
                f"{self.paths[0]} was drawn with {'; '.join(changed)}: the model is trained on "
                "those, and its metrics, domain check and stated prior are of these",
                BankWarning,
                stacklevel=2,
            )

    def _check_parameters(self, system: System) -> None:
        ours = [one.name for one in system.parameters]
        theirs = [one.name for one in self.parameters]
        if ours != theirs:
            raise MelotteFileError(
                f"{self.paths[0]}: a bank of parameters {', '.join(theirs)}, "
                f"but the model's are {', '.join(ours)}"
            )


def find_shards(paths: Paths) -> list[Path]:
    """Files that a name, a pattern or several of them stand for.

    Raises
    ------
    MelotteFileError
        When one stands for no file.
    """
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.exists():
            matches = [path]
        elif glob.has_magic(str(path)):
            matches = [Path(one) for one in glob.glob(str(path))]
        else:
            matches = list(path.parent.glob(f"{glob.escape(path.stem)}.*-of-*{path.suffix}"))
        if not matches:
            raise MelotteFileError(f"{name}: no such bank, and no shards of it")
        found += sorted(matches)
    if not found:
        raise MelotteFileError("no bank was named")
    return found
