"""Training on mocks, on a bank or on labelled clusters, and joining clusters with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from melotte.api.models import load, torch_device
from melotte.api.sources import Paths, listed
from melotte.errors import MelotteValueError
from melotte.io.object_names import plain_name

if TYPE_CHECKING:
    from astropy.table import Table

    from melotte.engine.model_files import Model
    from melotte.systems.base import Batch, System
    from melotte.systems.open_cluster.labelled import LabelledLists


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

        with BankReader(listed(examples), system=system) as reader:
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
        finish=partial(finish_model, settings=settings.training),
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
    entries = system.read(listed(members), options)
    return label(entries, read_labels(labels, columns, id_column), plain_name)
