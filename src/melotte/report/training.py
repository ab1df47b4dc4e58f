"""What the ``train`` command trains on, and what it says of it: of clusters, and of banks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte import api
from melotte.errors import MelotteValueError

if TYPE_CHECKING:
    from melotte.systems.base import Batch


@contextmanager
def notes_shown(echo: Callable[[str], None]) -> Iterator[None]:
    """Show warnings of banks as lines for a person, each once.

    Parameters
    ----------
    echo : callable
        Takes a line.
    """
    from melotte.engine.bank_reading import BankWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", BankWarning)
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, BankWarning):
                echo(f"note: {message}")
            else:
                shown(message, category, *place, **more)

        warnings.showwarning = show
        yield


def training_examples(
    preset: str,
    overrides: Sequence[str],
    bank: Sequence[Path] | None,
    members: Sequence[Path] | None,
    labels: Path | None,
    options: Mapping[str, Any],
    echo: Callable[[str], None],
) -> Batch | Sequence[Path] | None:
    """Join tables of members with catalogued labels and say how many there are, or take a bank.

    Parameters
    ----------
    preset : str
    overrides : sequence of ``section.key=value``
    bank : sequence of Path, optional
        A bank or its shards.
    members : sequence of Path, optional
    labels : Path, optional
    options : mapping
        Of the tables: label_id, group_by, column, release, min_probability; None or empty where
        they are not given.
    echo : callable
        Takes lines for a person.

    Returns
    -------
    Batch of the clusters with labels, the bank's paths, or None to train on mocks

    Raises
    ------
    MelotteValueError
        When a bank and tables are given, one of the two tables is missing, nothing fits together,
        or options of tables are given without tables.
    """
    tables = bool(members) or labels is not None
    if bank and tables:
        raise MelotteValueError("--bank and --members exclude each other")
    if not tables:
        given = [name for name, value in options.items() if value is not None and value != {}]
        if given:
            option = given[0].replace("_", "-")
            raise MelotteValueError(
                f"--{option} goes with --members and --labels; neither is given"
            )
        return bank or None
    if not members or labels is None:
        raise MelotteValueError("--members and --labels go together: the stars, and what is known")
    of_reader = dict(options)
    label_id = of_reader.pop("label_id")
    joined = api.label_clusters(
        preset, list(members), labels, overrides=overrides, id_column=label_id, **of_reader
    )
    for line in joined.lines():
        echo(line)
    return joined.batch
