"""What commands have in common: options that several take, and the words that these are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Preset = Annotated[str, typer.Argument(help="A shipped preset's name, or a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings to change: section.key=value.")
]
Model = Annotated[str, typer.Argument(help="A shipped model's name, or a .safetensors file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="NAME=theirs, as often as needed.")
]
GroupBy = Annotated[str | None, typer.Option(help="Column that names the object of each row.")]
Release = Annotated[str | None, typer.Option(help="DR2, EDR3 or DR3, where the table is silent.")]
MinProbability = Annotated[
    float | None, typer.Option(min=0, max=1, help="Drop stars of lower membership probability.")
]
Clusters = Annotated[Path | None, typer.Option(help="Galaxy clusters: table of their positions.")]
ReaderOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="NAME=VALUE of the reader, such as aperture=1.6."),
]


def columns_of(pairs: Sequence[str] | None) -> dict[str, str]:
    """Columns of ``--column NAME=theirs``."""
    from melotte.io.column_options import parse_column_options

    return parse_column_options(pairs or ())


def options_of(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Values of ``--option NAME=VALUE``; numbers and truth values are read as such.

    Raises
    ------
    MelotteValueError
        When one is not of that form, a name comes twice, or a value is no YAML.
    """
    import yaml

    from melotte.errors import MelotteValueError
    from melotte.named_words import named_words

    options: dict[str, Any] = {}
    for name, text in named_words(pairs or (), "--option").items():
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise MelotteValueError(
                f"--option '{name}={text}': the value is not valid YAML"
            ) from error
        # Words such as yes and off are what they say, as in YAML 1.2.
        word = isinstance(value, bool) and text.lower() not in ("true", "false")
        options[name] = text if word else value
    return options


def known_of(pairs: Sequence[str] | None) -> dict[str, float]:
    """Values of ``--known NAME=NUMBER``."""
    if not pairs:
        return {}
    from melotte.engine.known_values import parse_known

    return parse_known(list(pairs))
