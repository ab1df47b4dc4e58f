"""What the ``train`` command says: of the real clusters that are joined, and of banks."""

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


def labelled_examples(
    preset: str,
    overrides: Sequence[str],
    members: Sequence[Path],
    labels: Path | None,
    label_id: str | None,
    options: Mapping[str, Any],
    echo: Callable[[str], None],
) -> Batch:
    """Join tables of members with catalogued labels and say how many there are.

    Parameters
    ----------
    preset : str
    overrides : sequence of ``section.key=value``
    members : sequence of Path
    labels : Path
    label_id : str, optional
    options : mapping
        Of the reader: group_by, column, release, min_probability.
    echo : callable
        Takes lines for a person.

    Returns
    -------
    Batch

    Raises
    ------
    MelotteValueError
        When one of the two is missing, or nothing fits together.
    """
    if not members or labels is None:
        raise MelotteValueError("--members and --labels go together: the stars, and what is known")
    joined = api.label_clusters(
        preset, list(members), labels, overrides=overrides, id_column=label_id, **options
    )
    for line in joined.lines():
        echo(line)
    return joined.batch
