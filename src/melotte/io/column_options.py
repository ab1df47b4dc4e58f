"""Which column of a user's table is which: ``--column NAME=theirs``, whatever is observed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from melotte.errors import MelotteValueError
from melotte.named_words import named_word


def parse_column_options(options: Iterable[str]) -> dict[str, str]:
    """The mapping that ``--column NAME=theirs`` options state.

    Which names there are depends on what is observed; the reader of the table checks them
    (:func:`quantities`).

    Parameters
    ----------
    options : iterable of str
        Each ``NAME=theirs``.

    Returns
    -------
    dict of str to str
        From names as they were written to the file's.

    Raises
    ------
    MelotteValueError
        When an option has no ``=`` or an empty side, or a NAME is given twice.
    """
    mapping: dict[str, str] = {}
    for option in options:
        _put(mapping, *named_word(option, "--column", "NAME=theirs", "g=my_gmag"))
    return mapping


def quantities(column: Mapping[str, str] | None, quantity: Callable[[str], str]) -> dict[str, str]:
    """The same mapping by the quantities that its names mean.

    Parameters
    ----------
    column : mapping of str to str, optional
        From melotte's names, or any alias of one, to the file's.
    quantity : callable
        From a name to melotte's own; it refuses unknown names.

    Returns
    -------
    dict of str to str

    Raises
    ------
    MelotteValueError
        When a name is unknown, or two names mean the same quantity.
    """
    mapping: dict[str, str] = {}
    for name, theirs in (column or {}).items():
        _put(mapping, quantity(name), theirs)
    return mapping


def _put(mapping: dict[str, str], name: str, theirs: str) -> None:
    if name in mapping:
        raise MelotteValueError(
            f"--column gives {name} twice: {mapping[name]!r} and {theirs!r}; give it once"
        )
    mapping[name] = theirs
