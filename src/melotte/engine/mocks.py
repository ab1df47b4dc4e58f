"""Mock batches made on the fly, each from its own random stream.

Batch ``k`` depends on the system, the seed and ``k`` alone: not on how many worker processes or
devices share the work, nor on where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from melotte.engine.random import Stream, keyed_generator
from melotte.errors import MelotteValueError
from melotte.ragged import Ragged, offsets_of
from melotte.systems.base import Batch, Field, Observation, System

GROUPS_PER_BATCH = 1 << 32
_AREAS: dict[int, str] = {
    Stream.MOCKS: "test",
    Stream.VALIDATION: "validation",
    Stream.REFERENCE: "validation",
}


def mock_batch(
    system: System,
    batch_size: int,
    seed: int,
    *keys: int,
    views: int = 1,
    device: torch.device | str = "cpu",
) -> Batch:
    """One batch of mocks.

    Parameters
    ----------
    system : System
    batch_size : int, > 0
        Observations in the batch, all views counted; a multiple of ``views``.
    seed : int, >= 0
    keys : int, >= 0
        The stream; the last key is the batch number.
    views : int, > 0
        Observations of each object (one rendering, several draws of noise).
    device : torch.device or str

    Returns
    -------
    Batch
        Its groups are unique over batch numbers: ``batch number * 2**32 + group``, unless the
        system has a true attribute ``shared_groups``, which says that its group numbers already
        mean the same in every batch (a library of rendered objects).
    """
    check_views(batch_size, views)
    system = placed(system, keys)
    generator = keyed_generator(seed, *keys, device=device)
    batch = system.observe(system.draw(batch_size // views, generator), generator, views)
    if getattr(system, "shared_groups", False):
        return batch
    return replace(batch, group=batch.group + keys[-1] * GROUPS_PER_BATCH)


def placed(system: System, keys: Sequence[int]) -> System:
    """The system as it makes the mocks of a stream.

    A system that keeps areas of the sky apart has ``in_area(area)``, which gives the system that
    draws from ``"training"``, ``"validation"`` or ``"test"``: mocks to train on and their
    constants come from the first, those to validate and to set thresholds from the second, banks
    and evaluations from the third.

    Parameters
    ----------
    system : System
    keys : sequence of int
        Of the stream; training batches have one key, all others begin with a :class:`Stream`.
    """
    move = getattr(system, "in_area", None)
    if move is None:
        return system
    return move(_AREAS.get(keys[0], "training") if len(keys) > 1 else "training")


class MockStream(IterableDataset[Batch]):
    """Batches ``start, start + 1, ...`` of a keyed stream.

    In a ``DataLoader(stream, batch_size=None, num_workers=w)`` the workers take turns, so the
    batches arrive in the same order for any ``w``. With several ranks, rank ``r`` of ``R`` gets
    batches ``start + r, start + r + R, ...``.

    Parameters
    ----------
    system : System
    batch_size : int, > 0
    seed : int, >= 0
    start : int, >= 0
        First batch number, counted over all ranks.
    n_batches : int, optional
        How many batches over all ranks; endless without.
    views : int, > 0
    device : torch.device or str
        Where mocks are made; worker processes always make them on the CPU.
    rank, world_size : int, optional
        Taken from ``torch.distributed`` where that runs, else 0 of 1.
    """

    def __init__(
        self,
        system: System,
        batch_size: int,
        seed: int,
        start: int = 0,
        n_batches: int | None = None,
        views: int = 1,
        device: torch.device | str = "cpu",
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__()
        check_views(batch_size, views)
        # Worker processes do not inherit the process group, so the rank is settled here.
        running = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = rank if rank is not None else torch.distributed.get_rank() if running else 0
        self.world_size = (
            world_size
            if world_size is not None
            else torch.distributed.get_world_size()
            if running
            else 1
        )
        self.system = system
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.n_batches = n_batches
        self.views = views
        self.device = torch.device(device)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        turn, turns = (0, 1) if worker is None else (worker.id, worker.num_workers)
        device = self.device if worker is None else torch.device("cpu")
        number = self.start + self.rank + turn * self.world_size
        while self.n_batches is None or number < self.start + self.n_batches:
            yield mock_batch(
                self.system, self.batch_size, self.seed, number, views=self.views, device=device
            )
            number += self.world_size * turns


def draw_mocks(
    system: System,
    n: int,
    seed: int,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    views: int = 1,
    stream: Stream = Stream.MOCKS,
) -> list[Batch]:
    """A fixed number of mocks, in batches, from a stream that training never touches.

    The first rows do not depend on ``n``, only on the seed and the batch size.

    Parameters
    ----------
    system : System
    n : int, > 0
    seed : int, >= 0
    batch_size : int, > 0
    device : torch.device or str
    views : int, > 0
    stream : Stream

    Returns
    -------
    list of Batch
        All of ``batch_size`` but the last, which holds what remains.
    """
    return [
        batch_of_many(system, n, number, seed, batch_size, device, views, stream)
        for number in range(-(-n // batch_size))
    ]


def batch_of_many(
    system: System,
    n: int,
    number: int,
    seed: int,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    views: int = 1,
    stream: Stream = Stream.MOCKS,
) -> Batch:
    """Batch ``number`` of the ``n`` mocks that :func:`draw_mocks` makes, alone."""
    batch = mock_batch(system, batch_size, seed, stream, number, views=views, device=device)
    remaining = n - number * batch_size
    if remaining >= batch_size:
        return batch
    return batch.select(torch.arange(remaining, device=batch.theta.device))


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Join batches of the same system end to end.

    Parameters
    ----------
    batches : sequence of Batch
        At least one; the header of the first is kept.

    Returns
    -------
    Batch
    """
    if not batches:
        raise MelotteValueError("no batches to join")
    first = batches[0]
    observations = [batch.observation for batch in batches]
    flags = [one.flags for one in observations if one.flags is not None]
    observation = Observation(
        {name: _joined([one.data[name] for one in observations]) for name in observations[0].data},
        tuple(name for one in observations for name in one.ids),
        torch.cat(flags) if len(flags) == len(batches) else None,
        observations[0].header,
    )
    return Batch(
        observation,
        torch.cat([batch.theta for batch in batches]),
        torch.cat([batch.theta_known for batch in batches]),
        {name: torch.cat([batch.targets[name] for batch in batches]) for name in first.targets},
        torch.cat([batch.group for batch in batches]),
        torch.cat([batch.weight for batch in batches]),
    )


def check_views(batch_size: int, views: int) -> None:
    """Raise MelotteValueError unless the batch holds a whole number of objects."""
    if batch_size < 1 or views < 1 or batch_size % views:
        raise MelotteValueError(
            f"batch_size {batch_size} with views {views}: both must be at least 1, and "
            "batch_size a multiple of views"
        )


def _joined(fields: Sequence[Field]) -> Field:
    ragged = [field for field in fields if isinstance(field, Ragged)]
    if not ragged:
        return torch.cat([field for field in fields if isinstance(field, Tensor)])
    counts = torch.cat([field.counts for field in ragged])
    return Ragged(torch.cat([field.values for field in ragged]), offsets_of(counts))
