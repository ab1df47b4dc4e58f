"""The protocol: all that the engine knows of a system.

A system turns parameters into mock observations (:meth:`System.draw`, :meth:`System.observe`),
observations into network input (:meth:`System.prepare`, the same code for mocks and real data),
and builds its network. The engine trains, stores, applies and judges it without knowing what is
observed.

Conventions
-----------
* ``theta`` holds physical values; unknown labels are NaN with ``theta_known`` False.
* ``Observation.data`` maps a name to a tensor with the batch as first axis, or to a
  :class:`~melotte.ragged.Ragged` for sets.
* A random draw takes a ``torch.Generator``; the engine keys it by (seed, batch number), so any
  batch can be made again, alone, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from melotte.parameters import Parameter
from melotte.ragged import Ragged

Field = Tensor | Ragged


@dataclass(frozen=True)
class Output:
    """What a network gives: a posterior over parameters, a class, or a map."""

    name: str
    kind: Literal["vector", "class", "map"]
    description: str = ""


@dataclass(frozen=True)
class Observation:
    """A batch of observations, mock or real, in physical units.

    Parameters
    ----------
    data : mapping of str to Tensor (batch, ...) or Ragged
        What was recorded.
    ids : tuple of str, length batch
        Names for the result table; empty for mocks.
    flags : Tensor of int64, shape (batch,), or None
        Flag bits that reading already set (see :mod:`melotte.engine.flags`).
    header : dict
        Units, world coordinates, counts of dropped rows: anything that is the same for the batch
        or is listed by object.
    """

    data: Mapping[str, Field]
    ids: tuple[str, ...] = ()
    flags: Tensor | None = None
    header: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        first = next(iter(self.data.values()))
        return first.n_sets if isinstance(first, Ragged) else len(first)

    def to(self, device: torch.device | str) -> Observation:
        """The same observations on another device."""
        flags = None if self.flags is None else self.flags.to(device)
        data = {name: value.to(device) for name, value in self.data.items()}
        return replace(self, data=data, flags=flags)

    def select(self, chosen: Tensor) -> Observation:
        """Some of the observations, in the order of ``chosen`` (int64 numbers)."""
        data = {
            name: value.select(chosen) if isinstance(value, Ragged) else value[chosen]
            for name, value in self.data.items()
        }
        ids = tuple(self.ids[i] for i in chosen.tolist()) if self.ids else ()
        flags = None if self.flags is None else self.flags[chosen]
        return Observation(data, ids, flags, self.header)


@dataclass(frozen=True)
class Batch:
    """Observations with what is known of them.

    Parameters
    ----------
    observation : Observation
    theta : Tensor, shape (batch, n_parameters), physical units
        NaN where unknown.
    theta_known : BoolTensor, shape (batch, n_parameters)
    targets : dict of str to Tensor (batch, ...)
        Targets that are no parameters: maps, classes, visibility.
    group : Tensor of int64, shape (batch,)
        Examples of one group never fall on both sides of a split; coverage counts by group.
    weight : Tensor, shape (batch,)
        Weight in the loss.
    """

    observation: Observation
    theta: Tensor
    theta_known: Tensor
    targets: dict[str, Tensor]
    group: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.theta)

    @classmethod
    def labelled(
        cls,
        observation: Observation,
        theta: Tensor,
        targets: dict[str, Tensor] | None = None,
        group: Tensor | None = None,
    ) -> Batch:
        """A batch whose labels are known wherever they are finite, of equal weight."""
        n = len(theta)
        return cls(
            observation,
            theta,
            torch.isfinite(theta),
            targets or {},
            torch.arange(n, device=theta.device) if group is None else group,
            torch.ones(n, device=theta.device),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.observation.to(device),
            self.theta.to(device),
            self.theta_known.to(device),
            {name: value.to(device) for name, value in self.targets.items()},
            self.group.to(device),
            self.weight.to(device),
        )

    def select(self, chosen: Tensor) -> Batch:
        """Some of the examples, in the order of ``chosen`` (int64 numbers)."""
        return Batch(
            self.observation.select(chosen),
            self.theta[chosen],
            self.theta_known[chosen],
            {name: value[chosen] for name, value in self.targets.items()},
            self.group[chosen],
            self.weight[chosen],
        )


@dataclass(frozen=True)
class RowError:
    """An object that could not be read: it becomes a flagged row, not an error.

    Parameters
    ----------
    id : str
    reason : str
    flags : int
    columns : mapping of str to number or str
        What is known of it, for columns of the result.
    """

    id: str
    reason: str
    flags: int
    columns: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class System(Protocol):
    """A kind of object, how it is observed, and the network that reads it.

    Built from a validated preset; holds no trained weights.
    """

    name: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[Output, ...]

    def draw(self, n: int, generator: torch.Generator) -> Any:
        """Latent state of ``n`` objects: parameters from the prior and everything hidden.

        Costly, noiseless rendering belongs here; one latent state may serve several views.
        """
        ...

    def observe(self, latent: Any, generator: torch.Generator, views: int = 1) -> Batch:
        """Record ``views`` observations of each object: noise, selection, contamination."""
        ...

    def constants(self, batch: Batch) -> dict[str, Any]:
        """Preparation constants measured on a training batch; JSON values only."""
        ...

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """Network input from observations, mock or real."""
        ...

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """An untrained network: ``network(inputs) -> dict[str, UnitPosterior | Tensor]``.

        The key ``"posterior"`` holds the posterior over ``parameters`` in the unit cube, the key
        ``"embedding"`` the features that the domain check watches, shape (batch, n_features).
        """
        ...

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Loss terms, each of shape (batch,); unknown labels contribute nothing."""
        ...

    def read(self, source: Any, options: Mapping[str, Any]) -> Iterator[Observation | RowError]:
        """Observations in a user's file, in batches."""
        ...

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        """Physical summaries, shape (batch, n_summaries), and their names, for the domain check."""
        ...
