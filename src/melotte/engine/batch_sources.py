"""Where training batches come from: mocks made on the fly, or a fixed set of examples.

Examples are observations whose labels somebody gave: real objects with catalogued parameters, or
the rows of a bank. An epoch is then one shuffled pass over them; every example may be changed
anew each time it is seen (:meth:`augment` of the system), and mocks may be mixed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from melotte.engine.example_checks import (
    check_inputs,
    check_labels,
    check_mixture,
    check_unvalidated,
    measured_constants,
)
from melotte.engine.mocks import MockStream, concatenate, draw_mocks, mock_batch
from melotte.engine.random import Stream, keyed_generator
from melotte.engine.settings import TrainingSettings
from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.systems.base import Batch, System


class BatchSource(Protocol):
    """What a training run draws from."""

    @property
    def settings(self) -> TrainingSettings:
        """How to train, with the true number of batches in an epoch."""
        ...

    @property
    def mock_share(self) -> float:
        """Share of mocks in a batch."""
        ...

    def stream(
        self, start: int, device: torch.device, rank: int, world_size: int
    ) -> IterableDataset[Batch]:
        """Batches from number ``start`` on, counted over all ranks."""
        ...

    def validation(self, device: torch.device) -> list[Batch]:
        """Fixed batches that training never sees; may be none."""
        ...

    @property
    def validates(self) -> bool:
        """Whether there are such."""
        ...

    def constants(self) -> dict[str, Any]:
        """Preparation constants, as the system measures them."""
        ...

    def check(self, constants: Mapping[str, Any]) -> None:
        """Refuse what cannot be trained on, once it is prepared."""
        ...

    def identity(self) -> dict[str, Any]:
        """What a resumed run must agree on, beside the settings; JSON values."""
        ...


@dataclass(frozen=True)
class MockSource:
    """Mocks made on the fly.

    Parameters
    ----------
    system : System
    settings : TrainingSettings
    """

    system: System
    settings: TrainingSettings
    mock_share: float = 1.0
    validates: bool = True

    def stream(
        self, start: int, device: torch.device, rank: int, world_size: int
    ) -> IterableDataset[Batch]:
        """Mock batches from number ``start`` on."""
        return MockStream(
            self.system,
            self.settings.batch_size // world_size,
            self.settings.seed,
            start=start,
            views=self.settings.views,
            device=device,
            rank=rank,
            world_size=world_size,
        )

    def validation(self, device: torch.device) -> list[Batch]:
        """Mocks of their own stream."""
        settings = self.settings
        return draw_mocks(
            self.system,
            settings.validation_size,
            settings.validation_seed,
            min(settings.batch_size, settings.validation_size),
            device,
            stream=Stream.VALIDATION,
        )

    def constants(self) -> dict[str, Any]:
        """Measured on mocks of their own stream, on the CPU."""
        settings = self.settings
        batches = draw_mocks(
            self.system,
            settings.constants_size,
            settings.seed,
            min(settings.batch_size, settings.constants_size),
            stream=Stream.CONSTANTS,
        )
        return self.system.constants(concatenate(batches))

    def check(self, constants: Mapping[str, Any]) -> None:
        """Nothing: a mock that cannot be trained on costs a step."""

    def identity(self) -> dict[str, Any]:
        """Nothing: the settings say it all."""
        return {}


class ExampleSource:
    """A fixed set of examples, shuffled anew each pass; mocks mixed in where asked for.

    Parameters
    ----------
    system : System
    settings : TrainingSettings
        ``batch_size`` examples and mocks together, of which ``mock_share`` are mocks;
        ``validation_fraction`` of the groups is kept from training.
    examples : Batch
        At least two groups where some are to validate.

    Raises
    ------
    MelotteValueError
        When no example is left to train on or none has a label, mocks that are to be mixed in
        carry other fields, or settings go by a validation that there is none of.
    """

    def __init__(self, system: System, settings: TrainingSettings, examples: Batch) -> None:
        self.system = system
        self.examples = examples
        check_labels(examples)
        check_unvalidated(settings)
        training, held_out = split_groups(
            examples.group, settings.validation_fraction, settings.validation_seed
        )
        if not len(training):
            raise MelotteValueError(
                f"no example is left to train on: {len(examples)} examples, "
                f"training.validation_fraction {settings.validation_fraction}"
            )
        self.training = examples.select(training)
        self.held_out = examples.select(held_out)
        per_batch = settings.batch_size - round(settings.batch_size * settings.mock_share)
        if per_batch < 1:
            raise MelotteValueError(
                f"training.mock_share {settings.mock_share} leaves no example in a batch of "
                f"{settings.batch_size}"
            )
        self.n_mocks = settings.batch_size - per_batch
        self.mock_share = self.n_mocks / settings.batch_size
        if self.n_mocks:
            check_mixture(examples, mock_batch(system, 1, settings.seed, 0))
        n_batches = -(-len(training) // per_batch)
        self.settings = settings.model_copy(update={"n_batches": n_batches, "total_mocks": None})

    def stream(
        self, start: int, device: torch.device, rank: int, world_size: int
    ) -> IterableDataset[Batch]:
        """Batches of shuffled passes from number ``start`` on."""
        return _ExampleStream(self, start, device, rank, world_size)

    def batch(
        self, number: int, n_examples: int, n_mocks: int, device: torch.device | str = "cpu"
    ) -> Batch:
        """Batch ``number``: examples of its pass, augmented, then mocks.

        The last batch of a pass holds what remains; so many fewer mocks are mixed in.
        """
        seed, n = self.settings.seed, len(self.training)
        each_pass, position = divmod(number, -(-n // n_examples))
        shuffle = keyed_generator(seed, Stream.EXAMPLES, Stream.MOCKS, each_pass)
        order = torch.randperm(n, generator=shuffle)
        chosen = self.training.select(order[position * n_examples : (position + 1) * n_examples])
        chosen = chosen.to(device)
        augment = getattr(self.system, "augment", None)
        if augment is not None:
            noise = keyed_generator(seed, Stream.EXAMPLES, number, device=device)
            chosen = augment(chosen, noise)
        n_mocks = n_mocks * len(chosen) // n_examples
        if not n_mocks:
            return chosen
        mocks = mock_batch(self.system, n_mocks, seed, number, device=device)
        return concatenate([chosen, replace(mocks, group=-1 - mocks.group)])

    def validation(self, device: torch.device) -> list[Batch]:
        """The examples held out, as they are."""
        rows = torch.arange(len(self.held_out))
        return [
            self.held_out.select(part).to(device)
            for part in rows.split(self.settings.batch_size)
            if len(part)
        ]

    @property
    def validates(self) -> bool:
        """Whether examples are held out."""
        return len(self.held_out) > 0

    def constants(self) -> dict[str, Any]:
        """Measured on all training examples, augmented once: on what training sees."""
        seen, augment = self.training, getattr(self.system, "augment", None)
        if augment is not None:
            seen = augment(seen, keyed_generator(self.settings.seed, Stream.CONSTANTS))
        return measured_constants(self.system, seen)

    def check(self, constants: Mapping[str, Any]) -> None:
        """Refuse examples that are not finite."""
        check_inputs(self.system, constants, self.examples, self.settings.batch_size)

    def identity(self) -> dict[str, Any]:
        """A digest of the examples."""
        return {"examples": {"n": len(self.examples), "sha256": digest(self.examples)}}


class _ExampleStream(IterableDataset[Batch]):
    """Batches ``start + rank``, ``start + rank + world_size``, ... of an ExampleSource."""

    def __init__(
        self, source: ExampleSource, start: int, device: torch.device, rank: int, world_size: int
    ) -> None:
        super().__init__()
        self.source, self.start, self.device = source, start, device
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        turn, turns = (0, 1) if worker is None else (worker.id, worker.num_workers)
        device = self.device if worker is None else torch.device("cpu")
        size = self.source.settings.batch_size
        n_mocks = self.source.n_mocks // self.world_size
        n_examples = (size - self.source.n_mocks) // self.world_size
        number = self.start + self.rank + turn * self.world_size
        while True:
            yield self.source.batch(number, max(1, n_examples), n_mocks, device)
            number += self.world_size * turns


def split_groups(group: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows held out; a group is never on both sides.

    Parameters
    ----------
    group : Tensor of int64, shape (n,)
    fraction : float, 0 to 1
        Share of the groups to hold out, rounded; at least one where it is above 0.
    seed : int

    Returns
    -------
    training, held_out : Tensor of int64
        Row numbers, ascending.
    """
    names = torch.unique(group)
    n_held = 0 if fraction == 0 else max(1, round(fraction * len(names)))
    generator = keyed_generator(seed, Stream.EXAMPLES, Stream.VALIDATION)
    held = names[torch.randperm(len(names), generator=generator)[:n_held]]
    outside = torch.isin(group, held)
    return torch.nonzero(~outside)[:, 0], torch.nonzero(outside)[:, 0]


def digest(batch: Batch) -> str:
    """SHA-256 of the observations, labels and groups of a batch."""
    state = hashlib.sha256()
    fields = dict(batch.observation.data) | {"theta": batch.theta, "weight": batch.weight}
    fields |= {"theta_known": batch.theta_known, "group": batch.group}
    fields |= {f"targets.{name}": value for name, value in batch.targets.items()}
    for name, value in sorted(fields.items()):
        state.update(name.encode())
        parts = [value.values, value.offsets] if isinstance(value, Ragged) else [value]
        for part in parts:
            state.update(part.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
