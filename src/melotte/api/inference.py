"""Measuring objects with a model, from files or from observations that are already read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte.api.models import load
from melotte.api.sources import Paths, listed

if TYPE_CHECKING:
    from astropy.table import Table

    from melotte.engine.inference import InferenceResult
    from melotte.engine.model_files import Model
    from melotte.systems.base import Observation, RowError


def infer(
    model: Model | str | Path,
    source: Paths | Table,
    *,
    column: Mapping[str, str] | None = None,
    group_by: str | None = None,
    release: str | None = None,
    min_probability: float | None = None,
    values_as: str | None = None,
    options: Mapping[str, Any] | None = None,
    samples: int = 0,
    seed: int = 0,
    prior: str | Path | None = None,
    progress: bool | None = None,
    known: Mapping[str, float] | None = None,
    maps: bool = False,
) -> InferenceResult:
    """Measure every object in some files.

    Parameters
    ----------
    model : Model, shipped name or path
    source : path, astropy Table, or a sequence of them
        Tables of members; one object a file, or many with ``group_by``.
    column : mapping, optional
        Our column names to the table's.
    group_by : str, optional
        Column that names the object of each row.
    release : str, optional
        Gaia release of the tables, where their names do not tell.
    min_probability : float, optional
        Drop stars of lower membership probability.
    values_as : str, optional
        Give the values that this catalogue would, where the model has learned it; ``"all"`` for
        one row a cluster and catalogue.
    options : mapping, optional
        More options of the system's reader, such as ``{"aperture": 1.6}`` for galaxy clusters.
    samples : int
        Posterior samples to keep of every object; 0 keeps none.
    seed : int
    prior : path, optional
        YAML file of per-parameter priors to reweight by; not with values as a catalogue's.
    progress : bool, optional
    known : mapping of str to float, optional
        Values of the model's first parameters where they are known, such as ``{"distance": 7.1}``
        for globular clusters.
    maps : bool
        Keep the maps that the model infers, for ``.write_maps(path)``.

    Returns
    -------
    InferenceResult
        ``.table()`` is an astropy table, ``.write(path)`` writes it.
    """
    if isinstance(model, str | Path):
        model = load(model)
    sources = listed(source)
    asked: dict[str, Any] = {
        "column": dict(column or {}),
        "group_by": group_by,
        "release": release,
        "min_probability": min_probability,
    }
    if values_as is not None:
        asked["values_as"] = values_as
    asked |= options or {}
    if prior is not None:
        from melotte.engine.inference import refuse_prior

        refuse_prior(asked.get("values_as"))
    return infer_observations(
        model,
        model.system.read(sources, asked),
        samples=samples,
        seed=seed,
        prior=prior,
        inputs=[str(one) for one in sources if not hasattr(one, "colnames")],
        progress=progress,
        known=known,
        maps=maps,
    )


def infer_observations(
    model: Model,
    observations: Iterable[Observation | RowError],
    *,
    samples: int = 0,
    seed: int = 0,
    prior: str | Path | None = None,
    inputs: Sequence[str | Path] = (),
    progress: bool | None = None,
    known: Mapping[str, float] | None = None,
    maps: bool = False,
) -> InferenceResult:
    """Measure observations that are already read, or made.

    Parameters
    ----------
    model : Model
    observations : iterable of Observation or RowError
    samples, seed, prior, progress, known, maps
        As in :func:`infer`.
    inputs : sequence of path
        Names for the provenance.

    Returns
    -------
    InferenceResult
    """
    from melotte.engine.inference import infer_batches

    return infer_batches(
        model,
        observations,
        n_samples=samples,
        seed=seed,
        progress=progress,
        prior_file=prior,
        inputs=inputs,
        known=known,
        maps=maps,
    )
