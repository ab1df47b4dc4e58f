"""Apply a model to observations: batches in, one row an object out, whatever the rows are like.

A row that cannot be read or measured becomes NaN with the flag FAILED; it never stops the others.
The random numbers of a row are keyed by the seed and its id, and the network sees rows of a batch
independently, so a row's result is the same alone, in another order or among other rows, to the
rounding of batched matrix products.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte import __version__
from melotte.engine.domain import DomainReference
from melotte.engine.object_streams import INFERENCE_STREAM, object_generator
from melotte.engine.posterior_flags import flag_posteriors
from melotte.engine.prior_files import find_prior, is_file_of_priors
from melotte.engine.progress import Progress
from melotte.engine.results import LEVELS, InferenceResult, ResultColumn
from melotte.engine.reweighting import FEW_SAMPLES, PriorReweighting, Reweighted
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.networks.posteriors import Posterior, UnitPosterior
from melotte.parameters import Parameter
from melotte.ragged import Ragged
from melotte.systems.base import Observation, RowError

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

LEAST_SAMPLES = 500
"""Samples drawn of every posterior, for quantiles and flags, when fewer are asked for."""
REWEIGHTED_SAMPLES = 4000
LARGEST_BATCH_ELEMENTS = 65536
"""Set elements (stars, galaxies) that go through the network together."""
SECONDS_A_LINE = 20.0
_ROW_FAULTS = (ValueError, RuntimeError, IndexError, ArithmeticError)
_TRAINED = ("seed", "mocks", "versions")
_COLUMNS = {
    "domain_score": ("", "distance from the training mocks; OUT_OF_DOMAIN above 1"),
    "values_as": ("", "whose values these are: the simulation's, or a catalogue's"),
    "prior_sample_size": ("", "effective samples after reweighting; not reliable below 100"),
}


def infer_posterior(model: Model, observation: Observation) -> tuple[Posterior, Tensor]:
    """Posteriors of a batch of observations, in physical units.

    Parameters
    ----------
    model : Model
    observation : Observation

    Returns
    -------
    posterior : Posterior
    embedding : Tensor, shape (batch, n_features)
    """
    outputs = run_network(model, observation)
    return Posterior(outputs["posterior"], model.prior), outputs["embedding"]


def run_network(model: Model, observation: Observation) -> dict[str, Any]:
    """Outputs of the network for a batch of observations, without gradients."""
    device = device_of(model)
    inputs = model.system.prepare(observation.to(device), model.constants)
    model.network.eval()
    with torch.no_grad():
        return model.network(inputs)


def device_of(model: Model) -> torch.device:
    """Where the weights of a model are."""
    parameter = next(model.network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def infer_batches(
    model: Model,
    entries: Iterable[Observation | RowError],
    n_samples: int = 0,
    seed: int = 0,
    batch_size: int = 256,
    progress: bool | None = None,
    prior_file: str | Path | None = None,
    inputs: Sequence[str | Path] = (),
    total: int | None = None,
) -> InferenceResult:
    """Measure every object.

    Parameters
    ----------
    model : Model
    entries : iterable of Observation or RowError
        Batches of any size, in the order of the rows; read as they come.
    n_samples : int, >= 0
        Posterior samples to keep of every object.
    seed : int, >= 0
    batch_size : int, > 0
        Most objects that go through the network together; fewer where sets are large.
    progress : bool, optional
        Show progress on standard error; by default where that is a terminal.
    prior_file : path or str, optional
        Priors to reweight by: a YAML file, or a name that the system offers (see
        :mod:`melotte.engine.prior_files`).
    inputs : sequence of path, optional
        Names of the files that were read, for the provenance.
    total : int, optional
        Number of objects, where known: progress is shown against it.

    Returns
    -------
    InferenceResult

    Raises
    ------
    MelotteValueError
        When a setting is wrong or the prior file does not fit the model; never for a row.
    """
    if n_samples < 0 or batch_size < 1 or seed < 0:
        raise MelotteValueError(
            f"samples {n_samples} and seed {seed} must be >= 0, batch_size {batch_size} >= 1"
        )
    prior = _prior_asked_for(model, prior_file)
    work = _Work(model, n_samples, seed, prior)
    shown = sys.stderr.isatty() if progress is None else progress
    bar = Progress(total or 0, "measured", style=shown and total is not None)
    said = time.monotonic()
    rows: list[_Row] = []
    header: dict[str, Any] = {}
    try:
        for entry in entries:
            if isinstance(entry, RowError):
                rows.append(_Row(entry.id, entry.flags | int(Flag.FAILED), reason=entry.reason))
                continue
            listed = _listed(entry)
            _merge_header(header, entry, listed)
            done = 0
            for chunk in chunks(_identified(entry, len(rows)), batch_size):
                for row in work.rows(chunk):
                    row.columns |= {name: values[done] for name, values in listed.items()}
                    rows.append(row)
                    done += 1
                bar.update(len(rows))
                if shown and total is None and time.monotonic() - said > SECONDS_A_LINE:
                    said = time.monotonic()
                    sys.stderr.write(f"measured {len(rows)} objects\n")
    finally:
        bar.close()
    provenance = {
        "model": model.name,
        "system": model.system.name,
        "version": __version__,
        "training": {key: model.provenance[key] for key in _TRAINED if key in model.provenance},
        "preset": {key: model.preset.get(key, {}) for key in ("name", "data", "model")},
        "seed": seed,
        "inputs": [Path(name).name for name in inputs],
        "prior_file": Path(prior_file).name
        if prior_file and is_file_of_priors(prior_file)
        else None,
        "prior": None if prior is None else prior.described(),
    }
    return _result(rows, work, n_samples, header, provenance)


def chunks(observation: Observation, batch_size: int) -> Iterator[Observation]:
    """Split a batch so that no part has too many objects or set elements.

    Parameters
    ----------
    observation : Observation
    batch_size : int, > 0
    """
    n = len(observation)
    counts = torch.ones(n, dtype=torch.int64)
    for value in observation.data.values():
        if isinstance(value, Ragged):
            counts = torch.maximum(counts, value.counts.cpu())
    start, elements = 0, 0
    for i, count in enumerate(counts.tolist()):
        full = i - start >= batch_size or elements + count > LARGEST_BATCH_ELEMENTS
        if i > start and full:
            yield observation.select(torch.arange(start, i))
            start, elements = i, 0
        elements += count
    if n:
        yield observation if start == 0 else observation.select(torch.arange(start, n))


@dataclass
class _Row:
    """One object's result; arrays are None where it failed."""

    id: str
    flags: int
    quantiles: NDArray[np.float64] | None = None
    samples: NDArray[np.float32] | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class _Work:
    """Turns chunks of observations into rows."""

    def __init__(
        self, model: Model, n_samples: int, seed: int, prior: PriorReweighting | None
    ) -> None:
        self.model = model
        self.n_samples = n_samples
        self.seed = seed
        self.prior = prior
        self.domain = DomainReference.from_tensors(model.reference) if model.reference else None
        self.described: dict[str, tuple[str, str]] = {}

    def rows(self, observation: Observation) -> list[_Row]:
        """Rows of a chunk; where the chunk fails as a whole, of each object alone."""
        try:
            return self._measured(observation)
        except _ROW_FAULTS as error:
            if len(observation) == 1:
                flags = int(Flag.FAILED)
                if observation.flags is not None:
                    flags |= int(observation.flags[0])
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                return [_Row(observation.ids[0], flags, reason=reason)]
        half = len(observation) // 2
        parts = torch.arange(len(observation)).split([half, len(observation) - half])
        return [row for part in parts for row in self.rows(observation.select(part))]

    def _measured(self, observation: Observation) -> list[_Row]:
        model, ids = self.model, observation.ids
        outputs = run_network(model, observation)
        reweighted = self._reweighted(observation, outputs)
        if reweighted is None:
            n_drawn = max(self.n_samples, LEAST_SAMPLES)
            unit = draw_by_object(outputs, n_drawn, self.seed, ids).cpu().double()
        else:
            unit = reweighted.unit
        given = self._given(observation)
        flags = np.zeros(len(ids), dtype=np.int64)
        if observation.flags is not None:
            flags |= observation.flags.cpu().numpy()
        columns = self._columns(observation, outputs)
        reasons = [""] * len(ids)
        if self.domain is not None:
            summaries, names = model.system.summaries(observation)
            judged = self.domain.judge(summaries, outputs["embedding"], names)
            flags |= judged.flags
            reasons = list(judged.reasons)
            columns["domain_score"] = judged.score
        # Heads with a closed form override the quantiles that the interface takes from samples.
        closed_form = type(outputs["posterior"]).quantile is not UnitPosterior.quantile
        if reweighted is not None:
            columns["prior_sample_size"] = reweighted.effective
            flags |= _flags_of_reweighted(reweighted, model.parameters)
        else:
            parameters = [one for one, kept in zip(model.parameters, given, strict=True) if kept]
            flags |= flag_posteriors(unit.numpy()[..., given], parameters)
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        if reweighted is not None:
            quantiles = reweighted.quantiles
        elif closed_form:
            quantiles = outputs["posterior"].quantile(levels.float()).cpu().double()
        else:
            quantiles = torch.quantile(unit, levels, dim=1).movedim(0, 1)
        physical = model.prior.from_unit(quantiles).numpy()
        kept = model.prior.from_unit(unit[:, : self.n_samples]).float().numpy()
        physical[..., ~given] = np.nan
        kept[..., ~given] = np.nan
        rows = []
        for i, name in enumerate(ids):
            own = {key: values[i] for key, values in columns.items()}
            if np.isfinite(physical[i][:, given]).all():
                samples = kept[i] if self.n_samples else None
                rows.append(_Row(name, int(flags[i]), physical[i], samples, own, reasons[i]))
            else:
                failed = int(flags[i]) | int(Flag.FAILED)
                excluded = reweighted is not None and not reweighted.effective[i]
                reason = (
                    "the prior asked for excludes it" if excluded else "posterior is not finite"
                )
                rows.append(_Row(name, failed, columns=own, reason=reason))
        return rows

    def _reweighted(
        self, observation: Observation, outputs: Mapping[str, Any]
    ) -> Reweighted | None:
        """Posteriors under the priors asked for, if any."""
        if self.prior is None:
            return None
        ids, posterior = observation.ids, outputs["posterior"]
        densities = self.prior.of_objects(observation)
        n = max(self.n_samples, REWEIGHTED_SAMPLES)
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        if posterior.n_parameters == 1:
            return self.prior.on_grid(posterior, densities, ids, n, self.seed, levels)
        unit = draw_by_object(outputs, n, self.seed, ids).cpu().double()
        return self.prior.resample(unit, densities, ids, self.seed, levels)

    def _given(self, observation: Observation) -> NDArray[np.bool_]:
        """Which parameters the model gives for these objects; a system may withhold some."""
        withhold = getattr(self.model.system, "withheld", None)
        mask = None if withhold is None else withhold(observation, self.model.network)
        if mask is None:
            return np.ones(len(self.model.parameters), dtype=bool)
        return ~mask.cpu().numpy()

    def _columns(self, observation: Observation, outputs: Mapping[str, Any]) -> dict[str, Any]:
        describe = getattr(self.model.system, "result_columns", None)
        if describe is None:
            return {}
        own: Mapping[str, ResultColumn] = describe(observation, outputs)
        for name, column in own.items():
            self.described[name] = (column.unit, column.description)
        return {name: column.values for name, column in own.items()}


def draw_by_object(outputs: Mapping[str, Any], n: int, seed: int, ids: Sequence[str]) -> Tensor:
    """Samples of a batch of posteriors, each object's from its own random stream.

    Parameters
    ----------
    outputs : mapping
        Of the network: ``posterior`` over the batch, and ``embedding``, whose device decides
        where the draws are made (a GPU draws other numbers than a CPU).
    n : int
        Samples of each.
    seed : int
    ids : sequence of str, length batch

    Returns
    -------
    Tensor, shape (batch, n, n_parameters), unit cube
    """
    posterior, device = outputs["posterior"], outputs["embedding"].device
    drawn = []
    with torch.no_grad():
        for i, name in enumerate(ids):
            one = posterior.select(torch.tensor([i], device=device))
            drawn.append(one.sample(n, object_generator(seed, INFERENCE_STREAM, name, device)))
    return torch.cat(drawn)


def _prior_asked_for(model: Model, source: str | Path | None) -> PriorReweighting | None:
    """Priors of a file or by a name; a system may offer some in ``named_priors()``."""
    if source is None:
        return None
    offer = getattr(model.system, "named_priors", None)
    return find_prior(source, model.prior, {} if offer is None else offer())


def _flags_of_reweighted(
    reweighted: Reweighted, parameters: Sequence[Parameter]
) -> NDArray[np.int64]:
    """Posterior flags from as many samples as are independent; none from too few."""
    flags = np.zeros(len(reweighted.unit), dtype=np.int64)
    for i, size in enumerate(reweighted.independent):
        if size >= FEW_SAMPLES:
            unit = reweighted.unit[i : i + 1, :size].numpy()
            flags[i] = flag_posteriors(unit, parameters)[0]
    return flags


def _identified(observation: Observation, start: int) -> Observation:
    """The same with ids: row numbers from 1 where it has none."""
    if observation.ids:
        return observation
    names = tuple(str(start + i + 1) for i in range(len(observation)))
    return replace(observation, ids=names)


def _listed(observation: Observation) -> dict[str, list[Any]]:
    """Entries of the header that list one number or word an object: columns of the result."""
    listed = {}
    for name, value in observation.header.items():
        numbers = value.tolist() if isinstance(value, Tensor | np.ndarray) else value
        if (
            isinstance(numbers, list)
            and len(numbers) == len(observation)
            and all(isinstance(one, int | float | str) for one in numbers)
        ):
            listed[name] = numbers
    return listed


def _merge_header(header: dict[str, Any], entry: Observation, listed: Collection[str]) -> None:
    """Collect what readers say: tables by id are joined, of other entries the last is kept."""
    for name, value in entry.header.items():
        if name in listed:
            continue
        if isinstance(value, dict) and isinstance(header.get(name), dict):
            header[name] = header[name] | value
        else:
            header[name] = value


def _result(
    rows: list[_Row],
    work: _Work,
    n_samples: int,
    header: dict[str, Any],
    provenance: dict[str, Any],
) -> InferenceResult:
    parameters = work.model.parameters
    quantiles = np.full((len(rows), len(LEVELS), len(parameters)), np.nan)
    samples = np.full((len(rows), n_samples, len(parameters)), np.nan, dtype=np.float32)
    for i, row in enumerate(rows):
        if row.quantiles is not None:
            quantiles[i] = row.quantiles
        if row.samples is not None:
            samples[i] = row.samples
    names = dict.fromkeys(name for row in rows for name in row.columns)
    columns = {}
    for name in names:
        unit, description = work.described.get(name, _COLUMNS.get(name, ("", "")))
        given = [row.columns.get(name) for row in rows]
        missing = "" if any(isinstance(one, str) for one in given) else np.nan
        values = np.array([missing if one is None else one for one in given])
        columns[name] = ResultColumn(values, unit, description)
    return InferenceResult(
        ids=tuple(row.id for row in rows),
        parameters=parameters,
        quantiles=quantiles,
        flags=np.array([row.flags for row in rows], dtype=np.int64),
        samples=samples if n_samples else None,
        columns=columns,
        reasons={row.id: row.reason for row in rows if row.reason},
        header=header,
        provenance=provenance,
    )
