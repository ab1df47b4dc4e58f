"""Words of the form NAME=VALUE, wherever people write them."""

from __future__ import annotations

from collections.abc import Iterable

from melotte.errors import MelotteValueError


def named_word(
    word: str, option: str = "", form: str = "NAME=VALUE", example: str = ""
) -> tuple[str, str]:
    """Name and value of one word, without blanks about them.

    Parameters
    ----------
    word : str
    option : str
        Of the command line that it follows, for the message.
    form, example : str
        How it should look, likewise.

    Raises
    ------
    MelotteValueError
        When there is no ``=``, or nothing on one of its sides.
    """
    name, equals, value = word.partition("=")
    name, value = name.strip(), value.strip()
    if not (name and equals and value):
        such = f", such as {example}" if example else ""
        raise MelotteValueError(f"{_after(option)}{word!r} is not of the form {form}{such}")
    return name, value


def named_words(
    words: Iterable[str], option: str = "", form: str = "NAME=VALUE", example: str = ""
) -> dict[str, str]:
    """Values by name; parameters as of :func:`named_word`.

    Raises
    ------
    MelotteValueError
        When a word is not of the form, or a name comes twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, value = named_word(word, option, form, example)
        if name in found:
            raise MelotteValueError(f"{_after(option)}{name} is given twice")
        found[name] = value
    return found


def _after(option: str) -> str:
    return f"{option} " if option else ""
