"""The public functions: load, simulate, train, infer, evaluate.

They join presets, systems and the engine; the command line calls them and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from melotte.errors import MelotteFileError, MelotteValueError

if TYPE_CHECKING:
    from astropy.table import Table

    from melotte.engine.evaluation import Evaluation
    from melotte.engine.inference import InferenceResult
    from melotte.engine.model_files import Model
    from melotte.systems.base import Batch, Observation, RowError, System
    from melotte.systems.galaxy_cluster.simulated_clusters import SimulatedClusters
    from melotte.systems.open_cluster.labelled import LabelledLists

Paths = str | Path | Sequence[str | Path]


def shipped_models() -> dict[str, Path]:
    """Names and files of the models that come with the package."""
    folder = Path(str(files("melotte") / "weights"))
    found = {path.stem: path for path in folder.glob("*.safetensors")}
    return dict(sorted(found.items()))


def model_path(name_or_path: str | Path) -> Path:
    """File of a shipped model's name, or the path itself.

    Raises
    ------
    MelotteValueError
        When it is neither a shipped name nor a path ending in .safetensors.
    """
    shipped = shipped_models()
    name = str(name_or_path)
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix != ".safetensors" and not path.is_file():
        raise MelotteValueError(
            f"model {name!r} is unknown; shipped: {', '.join(shipped) or 'none'}, "
            "or give a path that ends in .safetensors"
        )
    return path


def load(name_or_path: str | Path, device: str = "auto") -> Model:
    """Load a model by its shipped name or from its file.

    Parameters
    ----------
    name_or_path : str or Path
    device : str
        ``"auto"`` takes a GPU when there is one; else a torch device.

    Returns
    -------
    Model

    Raises
    ------
    MelotteFileError
        When the file is missing, truncated, or no melotte model.
    """
    from melotte.engine.model_files import load_model
    from melotte.systems.registry import build_system

    return load_model(model_path(name_or_path), build_system, device=torch_device(device))


def torch_device(name: str) -> str:
    """Resolve ``"auto"``, and refuse a device that torch does not have.

    Raises
    ------
    MelotteValueError
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise MelotteValueError(
            f"device {name!r} is not available here; allowed: auto, cpu, cuda, cuda:N"
        ) from error
    return name


def simulate(
    preset: str | Path,
    output: str | Path,
    n: int,
    *,
    seed: int = 0,
    task: int = 1,
    of: int = 1,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    catalogues: Paths | None = None,
    column: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bank of mocks, or of the clusters of a simulation.

    Parameters
    ----------
    preset : str or Path
    output : str or Path
        The bank, ``.h5``; with ``of`` > 1, the shard.
    n : int
        Mocks in the whole bank, all shards together.
    seed : int
    task, of : int
        This is shard ``task`` (1-based) of ``of``.
    overrides : sequence of ``section.key=value``
    progress : bool, optional
        Show progress; by default when attached to a terminal.
    catalogues : path or paths, optional
        Galaxies and haloes of one snapshot of a simulation, in place of mocks (galaxy clusters);
        see :func:`melotte.systems.galaxy_cluster.simulation_catalogues.read_catalogue`.
    column : mapping, optional
        Our names of the catalogues' columns to theirs.
    options : mapping, optional
        With catalogues: ``box_size`` (comoving Mpc/h) and the other fields of
        :class:`~melotte.systems.galaxy_cluster.simulation_catalogues.CatalogueSettings`.

    Returns
    -------
    Path
        The bank that was written.

    Raises
    ------
    MelotteValueError, MelotteFileError
        When a setting is not allowed, or a catalogue cannot be read or does not hold what the
        preset asks for.
    """
    from melotte.engine.banks import write_bank
    from melotte.systems.registry import build_system, load_preset

    settings = load_preset(preset, overrides)
    system = build_system(settings)
    content = settings.model_dump(mode="json")
    if catalogues is not None:
        system = _simulated(system, _listed(catalogues), n, column, options or {})
        content["catalogue"] = system.catalogue.provenance
    elif column or options:
        raise MelotteValueError("columns and options are those of catalogues; none is given")
    return write_bank(
        system,
        content,
        Path(output),
        n=n,
        seed=seed,
        task=task,
        of=of,
        progress=progress,
    )


def _simulated(
    system: System,
    catalogues: Sequence[str | Path],
    n: int,
    column: Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> SimulatedClusters:
    """The clusters of a simulation as a system like this one observes them."""
    from melotte.systems.galaxy_cluster.simulated_clusters import SimulatedClusters
    from melotte.systems.galaxy_cluster.simulation_catalogues import (
        CatalogueSettings,
        read_catalogue,
    )
    from melotte.systems.galaxy_cluster.system import GalaxyCluster

    clusters = getattr(system, "clusters", system)
    if not isinstance(clusters, GalaxyCluster):
        raise MelotteValueError(
            f"catalogues of simulations are for galaxy clusters, not for {system.name}"
        )
    settings = CatalogueSettings.parse(options, "catalogue")
    catalogue = read_catalogue(catalogues, settings, clusters.data, column)
    return SimulatedClusters(clusters, catalogue, settings, n, system)


def train(
    preset: str | Path,
    output: str | Path,
    *,
    overrides: Sequence[str] = (),
    resume: str = "auto",
    max_time: str | None = None,
    device: str = "auto",
    progress: bool | None = None,
    start: str | Path | None = None,
    examples: Batch | LabelledLists | Paths | None = None,
) -> Model:
    """Train a preset's network and write the model.

    Batches are mocks made on the fly, or a fixed set of examples.

    Parameters
    ----------
    preset : str or Path
    output : str or Path
        The model, ``.safetensors``; the run folder lies beside it.
    overrides : sequence of ``section.key=value``
    resume : {"auto", "never"} or a run folder
    max_time : str, optional
        Such as ``"90s"``, ``"30m"`` or ``"2h"``.
    device : str
    progress : bool, optional
    start : path or shipped name, optional
        Begin from the weights of this model, of the same system and prior.
    examples : LabelledLists or Batch, or path or paths of a bank, optional
        Train on these; :func:`label_clusters` makes the first of real clusters.

    Returns
    -------
    Model

    Raises
    ------
    MelotteValueError, MelotteFileError
        When settings, start, examples and checkpoint do not go together, or cannot be read.

    Warns
    -----
    BankWarning
        When the bank was drawn with other settings ``data`` than the preset's.
    """
    from melotte.engine.finishing import finish_model
    from melotte.engine.training import train as run_training
    from melotte.systems.registry import build_system, load_preset

    settings = load_preset(preset, overrides)
    system = build_system(settings)
    if Path(output).suffix != ".safetensors":
        raise MelotteValueError(f"output {str(output)!r}: a model file ends in .safetensors")
    content = settings.model_dump(mode="json")
    known = cast("Batch | None", getattr(examples, "batch", examples))
    if isinstance(examples, str | Path | Sequence):
        from melotte.engine.banks import BankReader

        with BankReader(_listed(examples), system=system) as reader:
            sections = ("name", "system", "data", "model")
            drawn = build_system({key: reader.preset[key] for key in sections})
            reader.check_training(system, _data_settings(system), _data_settings(drawn))
            known = reader.rows(0, len(reader))
    return run_training(
        system,
        content,
        settings.training,
        settings.local,
        Path(output),
        resume=resume,
        max_time=max_time,
        device=torch_device(device),
        progress=progress,
        finish=finish_model,
        start=None if start is None else load(start, "cpu"),
        examples=known,
    )


def _data_settings(system: System) -> dict[str, Any]:
    """Settings of what a system simulates, defaults filled in; none where it keeps none."""
    settings = getattr(system, "data", None)
    return {} if settings is None else settings.model_dump(mode="json")


def label_clusters(
    preset: str | Path,
    members: Paths | Table,
    labels: str | Path | Table,
    *,
    overrides: Sequence[str] = (),
    columns: Mapping[str, Mapping[str, str]] | None = None,
    id_column: str | None = None,
    column: Mapping[str, str] | None = None,
    group_by: str | None = None,
    release: str | None = None,
    min_probability: float | None = None,
) -> LabelledLists:
    """Join real clusters with what catalogues say of them, to train on.

    Parameters
    ----------
    preset : str or Path
        Says which catalogues (``model.label_sources``).
    members : path, astropy Table, or a sequence of them
        As :func:`infer` reads them.
    labels : path or astropy Table
        See :func:`melotte.io.cluster_labels.read_labels`; names are compared without case,
        spaces, underscores, hyphens and leading zeros.
    overrides : sequence of ``section.key=value``
    columns, id_column
        Columns of the labels, where they are not recognised.
    column, group_by, release, min_probability
        As in :func:`infer`.

    Returns
    -------
    LabelledLists
        What :func:`train` takes as ``examples``; ``lines()`` says what was joined.

    Raises
    ------
    MelotteValueError, MelotteFileError
        When the preset knows no labels, a file cannot be read, or no cluster has a label.
    """
    from melotte.io.cluster_labels import read_labels
    from melotte.systems.registry import build_system, load_preset

    system = build_system(load_preset(preset, overrides))
    label = getattr(system, "label", None)
    if label is None:
        raise MelotteValueError(f"preset {preset}: its system cannot be trained on labels")
    options = {
        "column": dict(column or {}),
        "group_by": group_by,
        "release": release,
        "min_probability": min_probability,
    }
    entries = system.read(_listed(members), options)
    return label(entries, read_labels(labels, columns, id_column), plain_name)


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

    Returns
    -------
    InferenceResult
        ``.table()`` is an astropy table, ``.write(path)`` writes it.
    """
    if isinstance(model, str | Path):
        model = load(model)
    sources = _listed(source)
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
    )


def _listed(source: Any) -> list[Any]:
    """One path or table, or several, as a list."""
    if isinstance(source, str | Path) or hasattr(source, "colnames"):
        return [source]
    return list(cast(Iterable[Any], source))


def infer_observations(
    model: Model,
    observations: Iterable[Observation | RowError],
    *,
    samples: int = 0,
    seed: int = 0,
    prior: str | Path | None = None,
    inputs: Sequence[str | Path] = (),
    progress: bool | None = None,
) -> InferenceResult:
    """Measure observations that are already read, or made.

    Parameters
    ----------
    model : Model
    observations : iterable of Observation or RowError
    samples, seed, prior, progress
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
    )


def evaluate(
    model: Model | str | Path,
    *,
    bank: Paths | None = None,
    n: int = 5000,
    seed: int = 1,
    progress: bool | None = None,
) -> Evaluation:
    """Judge a model on mocks it has not seen.

    Parameters
    ----------
    model : Model, shipped name or path
    bank : path or paths, optional
        A fixed bank; otherwise ``n`` mocks are drawn with ``seed``.
    n, seed : int
    progress : bool, optional

    Returns
    -------
    Evaluation
    """
    from melotte.engine.evaluation import evaluate as run_evaluation

    if isinstance(model, str | Path):
        model = load(model)
    return run_evaluation(model, bank=bank, n=n, seed=seed, progress=progress)


def compare(result: Any, literature: str | Path) -> Table:
    """Join a result table with a table of literature values.

    Parameters
    ----------
    result : astropy Table, one row an object, with ``id``
    literature : path
        A table with an ``id`` column (or ``Cluster``, ``Name``, ``key``) and columns named like
        the parameters, such as ``log_age``.

    Returns
    -------
    astropy Table
        ``id``, ``values_as`` where the result has it and, for each parameter in both: ``NAME_50``,
        ``NAME_literature`` and ``NAME_difference`` (ours minus theirs).

    Raises
    ------
    MelotteFileError
        When the literature table has no such columns or no object in common.
    """
    import numpy as np
    from astropy.table import Table

    from melotte.io.tables import read_table

    table = read_table(literature)
    columns = table.columns
    lower = {name.lower(): name for name in columns}
    key = next((lower[name] for name in ("id", "cluster", "name", "key") if name in lower), None)
    names = [name[:-3] for name in result.colnames if name.endswith("_50")]
    shared = [name for name in names if name in columns]
    if key is None or not shared:
        raise MelotteFileError(
            f"{literature}: needs a column id (or Cluster, Name, key) and one of "
            f"{', '.join(names)}; found {', '.join(map(str, columns))}"
        )
    theirs = {plain_name(str(name)): row for row, name in enumerate(table.text(key))}
    rows = [(row, theirs.get(plain_name(str(name)))) for row, name in enumerate(result["id"])]
    matched = [(ours, other) for ours, other in rows if other is not None]
    if not matched:
        raise MelotteFileError(f"{literature}: no object in common with the results (column {key})")
    ours, other = (list(part) for part in zip(*matched, strict=True))
    kept = [name for name in ("id", "values_as") if name in result.colnames]
    joined = Table({name: result[name][ours] for name in kept})
    for name in shared:
        values = table.numbers(name)[other]
        joined[f"{name}_50"] = result[f"{name}_50"][ours]
        joined[f"{name}_literature"] = values
        joined[f"{name}_difference"] = np.asarray(result[f"{name}_50"][ours]) - values
    return joined


def plain_name(name: str) -> str:
    """A cluster's name without case, spaces, underscores, hyphens and leading zeros."""
    import re

    bare = re.sub(r"[\s_\-]+", "", name.lower())
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", bare)
