"""What the papers' networks and ours say of images, on one scale, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.model_files import Model
from melotte.engine.network_outputs import device_of, run_network
from melotte.engine.random import keyed_generator
from melotte.networks.autoregressive import AutoregressivePosterior
from melotte.networks.conditioned import ConditionedPosterior
from melotte.parameters import Parameter, Prior, on_scale
from melotte.report.posterior_shapes import sampled_maps
from melotte.systems.base import Batch, Observation
from melotte.systems.bialopetravicius.activation_maps import ActivationMap

Array = NDArray[np.floating[Any]]

SAMPLES, QUANTILE_SAMPLES = 400, 200
SPARE = 3
"""Samples drawn for each that is kept, where ranges are known."""
SAMPLE_STREAM = 110
LIMITED = "-limited"


@dataclass(frozen=True)
class Reading:
    """What a method says of a batch; parameters on the axes' scale (log10 of sizes).

    Parameters
    ----------
    point : array, shape (n, n_parameters)
        The estimate that the method quotes.
    median : array, shape (n, n_parameters)
    samples : array, shape (n, SAMPLES, n_parameters)
    maps : array, shape (n, 20, 10), or (n, 0, 0)
        Posterior mass over age and extinction, where there is an extinction.
    probability, visibility : array, shape (n,); NaN where a method has none
    """

    point: Array
    median: Array
    samples: Array
    maps: Array
    probability: Array
    visibility: Array

    @classmethod
    def joined(cls, parts: Sequence[Reading]) -> Reading:
        """Batches end to end."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


@dataclass(frozen=True)
class Truth:
    """What is known of mocks, parameters on the axes' scale."""

    theta: Array
    is_cluster: NDArray[np.bool_]
    visibility: Array
    magnitude: Array

    @classmethod
    def of(cls, batches: Sequence[Batch], parameters: Sequence[Parameter]) -> Truth:
        """Of all batches."""
        theta = torch.cat([batch.theta for batch in batches]).cpu().numpy()
        values = np.stack([on_scale(p, theta[:, i]) for i, p in enumerate(parameters)], 1)

        def target(name: str) -> Array:
            return torch.cat([batch.targets[name] for batch in batches]).cpu().numpy()

        return cls(values, target("class") > 0.5, target("visibility"), target("magnitude"))


@dataclass(frozen=True)
class Method:
    """A model, asked for the faithful network's parameters.

    Parameters
    ----------
    key, title : str
    model : Model
    parameters : tuple of Parameter
        Of the faithful network, the order of all readings.
    known : dict of str to float
        Parameters whose values are known, first in the model's order.
    ranges : dict of str to (low, high), physical units
        Where given, a second reading under ``KEY-limited`` leaves out samples outside.
    precision : {"fp32", "bf16"}
    """

    key: str
    title: str
    model: Model
    parameters: tuple[Parameter, ...]
    known: Mapping[str, float] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    precision: str = "fp32"

    def outputs(self, observation: Observation) -> dict[str, Any]:
        """Of the network."""
        kind = device_of(self.model).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return run_network(self.model, observation)

    def read(self, observation: Observation, seed: int, number: int) -> dict[str, Reading]:
        """Readings by key."""
        outputs = self.outputs(observation)
        posterior, prior, order = self._posterior(outputs)
        generator = keyed_generator(seed, SAMPLE_STREAM, number, device=posterior.device)
        n_drawn = SAMPLES * (SPARE if self.ranges else 1)
        with torch.no_grad():
            unit = posterior.sample(n_drawn, generator).cpu()
        drawn = prior.from_unit(unit)[..., order].numpy().astype(float)
        described = self._described(observation, outputs)
        samples = self._scaled(drawn[:, :SAMPLES])
        exact = self._exact_maps(outputs)
        readings = {self.key: self._reading(samples, self._point(outputs), exact, described)}
        if self.ranges:
            kept = self._scaled(within(drawn, [self.ranges.get(p.name) for p in self.parameters]))
            readings[self.key + LIMITED] = self._reading(kept, None, None, described)
        return readings

    def _posterior(self, outputs: Mapping[str, Any]) -> tuple[Any, Prior, list[int]]:
        """Posterior of what is not known, its prior, and where the parameters are in it."""
        posterior, given = outputs["posterior"], self.model.parameters
        if self.known:
            n_known = len(self.known)
            leading = [p.name for p in given[:n_known]]
            if set(leading) != set(self.known) or not isinstance(
                posterior, AutoregressivePosterior
            ):
                raise SystemExit(
                    f"{self.model.name}: {', '.join(self.known)} must come first in the order of "
                    "an autoregressive posterior to be known exactly"
                )
            values = torch.tensor([[self.known[name] for name in leading]])
            place = Prior(given[:n_known]).to_unit(values)[0]
            posterior = ConditionedPosterior(posterior, place)
            given = given[n_known:]
        names = [parameter.name for parameter in given]
        return posterior, Prior(given), [names.index(p.name) for p in self.parameters]

    def _scaled(self, values: Array) -> Array:
        columns = [on_scale(p, values[..., i]) for i, p in enumerate(self.parameters)]
        return np.stack(columns, -1)

    def _point(self, outputs: Mapping[str, Any]) -> Array | None:
        """The papers' estimates; None takes the median."""
        if "estimate" in outputs:
            return outputs["estimate"].float().cpu().numpy().astype(float)
        if "visibility_map" in outputs:
            peak = self.model.prior.from_unit(outputs["posterior"].mode().cpu())
            return self._scaled(peak.numpy().astype(float))
        return None

    def _exact_maps(self, outputs: Mapping[str, Any]) -> Array | None:
        if "visibility_map" not in outputs:
            return None
        joint = outputs["posterior"].groups[0]
        assert isinstance(joint, ActivationMap)
        return joint.log_mass.exp().sum(3).cpu().numpy().astype(float)

    def _described(
        self, observation: Observation, outputs: Mapping[str, Any]
    ) -> tuple[Array, Array]:
        """Probability of a cluster and visibility."""
        absent = np.full(len(observation), np.nan)
        describe = getattr(self.model.system, "result_columns", None)
        columns = {} if describe is None else describe(observation, outputs)

        def column(name: str) -> Array:
            return np.asarray(columns[name].values, float) if name in columns else absent

        return column("class_probability"), column("visibility")

    def _reading(
        self,
        samples: Array,
        point: Array | None,
        maps: Array | None,
        described: tuple[Array, Array],
    ) -> Reading:
        median = np.median(samples, 1)
        if maps is None:
            maps = self._sampled_maps(samples)
        return Reading(
            median if point is None else point, median, samples.astype(np.float32), maps, *described
        )

    def _sampled_maps(self, samples: Array) -> Array:
        names = [p.name for p in self.parameters]
        if "extinction_v" not in names:
            return np.zeros((len(samples), 0, 0))
        places = []
        for name in ("log_age", "extinction_v"):
            i = names.index(name)
            parameter = self.parameters[i]
            places.append((samples[..., i] - parameter.low) / (parameter.high - parameter.low))
        return sampled_maps(np.stack(places, -1), (20, 10))


def within(drawn: Array, ranges: Sequence[tuple[float, float] | None]) -> Array:
    """The first ``SAMPLES`` samples of each object inside of ranges.

    Parameters
    ----------
    drawn : array, shape (n, n_drawn, n_parameters)
    ranges : sequence of (low, high) or None

    Returns
    -------
    array, shape (n, SAMPLES, n_parameters)
        Where fewer are inside they repeat; where none is, samples are moved to the ends.
    """
    low = np.array([-np.inf if r is None else r[0] for r in ranges])
    high = np.array([np.inf if r is None else r[1] for r in ranges])
    inside = ((drawn >= low) & (drawn <= high)).all(-1)
    count = inside.sum(1)
    order = np.argsort(~inside, axis=1, kind="stable")
    place = np.arange(SAMPLES) % np.where(count > 0, count, drawn.shape[1])[:, None]
    chosen = np.take_along_axis(order, place, 1)
    return np.clip(np.take_along_axis(drawn, chosen[..., None], 1), low, high)


def read_all(
    methods: Sequence[Method],
    batches: Iterable[Batch],
    seed: int,
    change: Callable[[Batch], Batch] | None = None,
    keep_samples: bool = True,
) -> tuple[Truth, dict[str, Reading]]:
    """Truths and every method's readings of the same mocks.

    Parameters
    ----------
    methods : sequence of Method
    batches : iterable of Batch
    seed : int
        Of the samples.
    change : callable, optional
        What is done to each batch before it is read.
    keep_samples : bool
        Samples are dropped without.
    """
    kept: list[Batch] = []
    parts: dict[str, list[Reading]] = {}
    for number, batch in enumerate(batches):
        seen = batch if change is None else change(batch)
        for method in methods:
            for key, reading in method.read(seen.observation, seed, number).items():
                if not keep_samples:
                    reading = Reading(**(vars(reading) | {"samples": reading.samples[:, :1]}))
                parts.setdefault(key, []).append(reading)
        # Pictures would fill the memory.
        kept.append(_without_pictures(batch))
    truth = Truth.of(kept, methods[0].parameters)
    return truth, {key: Reading.joined(readings) for key, readings in parts.items()}


def _without_pictures(batch: Batch) -> Batch:
    observation = Observation({"none": torch.zeros(len(batch))})
    return Batch(
        observation, batch.theta, batch.theta_known, batch.targets, batch.group, batch.weight
    )


def seconds_per_image(
    methods: Sequence[Method], observation: Observation, repeats: int = 5
) -> dict[str, dict[str, float]]:
    """Processor time of one core for an image, in batches of that size.

    Parameters
    ----------
    methods : sequence of Method
    observation : Observation
        On the CPU.
    repeats : int
        Methods take turns; the least of the times counts, as disturbances only add to it.

    Returns
    -------
    dict
        By method: ``network_fp32`` and ``network_bf16`` of the forward pass alone, ``prepare``,
        and ``whole_fp32`` with preparation and what is quoted: the papers' point estimates, or
        quantiles of ``QUANTILE_SAMPLES`` samples.
    """
    taken: dict[str, dict[str, list[float]]] = {}
    levels = torch.tensor([0.16, 0.5, 0.84])
    for _ in range(repeats):
        for method in methods:
            network, system = method.model.network.eval(), method.model.system
            inputs = system.prepare(observation, method.model.constants)
            row = taken.setdefault(method.key, {})

            def forward(
                precision: str, network: Any = network, inputs: dict[str, Any] = inputs
            ) -> Any:
                bf16 = precision == "bf16"
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    return network(inputs)

            def whole(method: Method = method) -> None:
                outputs = run_network(method.model, observation)
                if method._point(outputs) is None:
                    with torch.no_grad():
                        unit = method._posterior(outputs)[0].sample(QUANTILE_SAMPLES)
                    torch.quantile(unit, levels, dim=1)

            for name, call in {
                "prepare": lambda s=system, m=method.model: s.prepare(observation, m.constants),
                "network_fp32": lambda f=forward: f("fp32"),
                "network_bf16": lambda f=forward: f("bf16"),
                "whole_fp32": whole,
            }.items():
                row.setdefault(name, []).append(_processor_time(call) / len(observation))
    return {key: {name: min(times) for name, times in row.items()} for key, row in taken.items()}


def _processor_time(call: Callable[[], Any]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def posterior_maps(
    reading: Reading, parameters: Sequence[Parameter], pair: tuple[str, str], bins: tuple[int, int]
) -> Array:
    """Maps (n, *bins) of two parameters over their axes' ranges, from samples."""
    names = [p.name for p in parameters]
    places = []
    for name in pair:
        i = names.index(name)
        low, high = on_scale(parameters[i], [parameters[i].low, parameters[i].high])
        places.append((reading.samples[..., i] - low) / (high - low))
    return sampled_maps(np.stack(places, -1), bins)


def to_tensor(values: Array) -> Tensor:
    """Single precision."""
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
