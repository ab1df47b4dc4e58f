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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from melotte import __version__
from melotte.engine.network_outputs import device_of, draw_by_object, infer_posterior, run_network
from melotte.engine.prior_files import find_prior, is_file_of_priors
from melotte.engine.progress import Progress
from melotte.engine.result_rows import ResultRow, RowMaker, collected
from melotte.engine.results import InferenceResult
from melotte.engine.reweighting import PriorReweighting
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.ragged import Ragged
from melotte.systems.base import Observation, RowError

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

__all__ = [
    "InferenceResult",
    "chunks",
    "device_of",
    "draw_by_object",
    "infer_batches",
    "infer_posterior",
    "run_network",
]

LARGEST_BATCH_ELEMENTS = 65536
"""Set elements (stars, galaxies) that go through the network together."""
SECONDS_A_LINE = 20.0
SIMULATION = "simulation"
"""Whose values they are that the model's prior belongs to."""
_TRAINED = ("seed", "mocks", "versions")


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
    known: Mapping[str, float] | None = None,
    maps: bool = False,
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
    known : mapping of str to float, optional
        Values of the first parameters where they are known, in their units: the others are then
        the posterior's conditionals (see :mod:`melotte.engine.known_values`).
    maps : bool
        Keep the maps that the model infers.

    Returns
    -------
    InferenceResult

    Raises
    ------
    MelotteValueError
        When a setting is wrong, the prior file does not fit the model, or it is asked for with
        values as a catalogue's; never for a row.
    """
    if n_samples < 0 or batch_size < 1 or seed < 0:
        raise MelotteValueError(
            f"samples {n_samples} and seed {seed} must be >= 0, batch_size {batch_size} >= 1"
        )
    prior = _prior_asked_for(model, prior_file)
    maker = RowMaker(model, n_samples, seed, prior, known, maps)
    shown = sys.stderr.isatty() if progress is None else progress
    bar = Progress(total or 0, "measured", style=shown and total is not None)
    said = time.monotonic()
    rows: list[ResultRow] = []
    header: dict[str, Any] = {}
    try:
        for entry in entries:
            if isinstance(entry, RowError):
                flags, known_of = entry.flags | int(Flag.FAILED), dict(entry.columns)
                rows.append(ResultRow(entry.id, flags, columns=known_of, reason=entry.reason))
                continue
            listed = _listed(entry)
            for name in listed.get("values_as", ()) if prior is not None else ():
                refuse_prior(name)
            _merge_header(header, entry, listed)
            done = 0
            for chunk in chunks(_identified(entry, len(rows)), batch_size):
                for row in maker.rows(chunk):
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
        "known": dict(known) if known else None,
    }
    return collected(rows, maker, header, provenance)


def refuse_prior(values_as: str | None) -> None:
    """Refuse a prior for values as a catalogue would give them.

    Reweighting divides by the prior of the simulations, under which only their posterior stands.

    Parameters
    ----------
    values_as : str or None
        Whose values are asked for; none for the simulation's.

    Raises
    ------
    MelotteValueError
    """
    if values_as is not None and str(values_as).strip().lower() != SIMULATION:
        raise MelotteValueError(
            f"a prior cannot be applied to values as {values_as} (or all): their posterior is not "
            "under the model's prior; leave out --prior, or ask for the simulation's values"
        )


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


def _prior_asked_for(model: Model, source: str | Path | None) -> PriorReweighting | None:
    """Priors of a file or by a name; a system may offer some in ``named_priors()``."""
    if source is None:
        return None
    offer = getattr(model.system, "named_priors", None)
    return find_prior(source, model.prior, {} if offer is None else offer())


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
    """Collect what readers say: tables are joined, of other entries the last is kept."""
    for name, value in entry.header.items():
        if name in listed:
            continue
        if isinstance(value, dict) and isinstance(header.get(name), dict):
            header[name] = _joined(header[name], value)
        else:
            header[name] = value


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables; under one name the second's entry, of lists the first's with what is new."""
    joined = {**first, **second}
    for name in first.keys() & second.keys():
        before, after = first[name], second[name]
        if isinstance(before, list) and isinstance(after, list):
            joined[name] = before + [one for one in after if one not in before]
    return joined
