"""Priors of the user's own: files of them, and names that a system offers.

The file is YAML. A parameter's entry replaces the prior it was trained under, for all objects, or
for one under ``objects``::

    metallicity: {low: -0.2, high: 0.2}        # uniform
    log_age: {table: [[8.0, 0.0], [9.0, 1.2], [9.5, 0.4]]}   # ln density, linear in between
    log_m200c: mass-function                   # a prior that the system offers by name
    objects:
      NGC 188:
        distance: {mean: 1.85, sd: 0.05}       # normal, in the parameter's unit

In place of a file, a name alone stands for the system's prior of that name on all parameters that
it covers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from melotte.engine.prior_densities import (
    Density,
    LogDensity,
    NamedDensity,
    NamedPriors,
    TabulatedDensity,
)
from melotte.engine.reweighting import PriorReweighting
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.parameters import Parameter, Prior

SUFFIXES = (".yaml", ".yml")


def find_prior(
    source: str | Path, prior: Prior, named: NamedPriors | None = None
) -> PriorReweighting:
    """Priors of a file, or those that a system offers by a name.

    Parameters
    ----------
    source : str or path
        A YAML file, whose name ends in ``.yaml`` or ``.yml``; or a name.
    prior : Prior
        Of the model.
    named : mapping, optional
        Priors that the model's system offers, by name, then by parameter.

    Returns
    -------
    PriorReweighting

    Raises
    ------
    MelotteFileError
        When there is no such file and no such name, or the file cannot be read.
    MelotteValueError
        When what the file says does not fit the model.
    """
    named = named or {}
    if is_file_of_priors(source):
        return read_prior_file(source, prior, named)
    offered = named.get(str(source))
    if offered is None:
        raise MelotteFileError(
            f"prior {source}: is neither a file that exists and ends in {' or '.join(SUFFIXES)} "
            f"nor a name that this model's system offers ({_names(named)})"
        )
    return PriorReweighting(
        prior,
        {parameter: NamedDensity(str(source), give) for parameter, give in offered.items()},
    )


def is_file_of_priors(source: str | Path) -> bool:
    """Whether this is a file rather than a name: it exists, and its name ends like YAML."""
    path = Path(source)
    return path.suffix.lower() in SUFFIXES and path.exists()


def read_prior_file(
    path: str | Path, prior: Prior, named: NamedPriors | None = None
) -> PriorReweighting:
    """Read a file of priors.

    Parameters
    ----------
    path : path
        YAML; see the module's description.
    prior : Prior
        Of the model.
    named : mapping, optional
        Priors that the model's system offers, by name, then by parameter.

    Returns
    -------
    PriorReweighting

    Raises
    ------
    MelotteFileError
        When the file cannot be read or is not YAML.
    MelotteValueError
        When a parameter or a name is unknown, or a density is malformed or outside the model's
        range.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MelotteFileError(f"prior file {path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise MelotteFileError(f"prior file {path}: not valid YAML ({line})") from error
    if not isinstance(content, dict) or not content:
        raise MelotteValueError(
            f"prior file {path}: must map parameters ({', '.join(prior.names)}) to densities"
        )
    objects = content.pop("objects", {})
    if not isinstance(objects, dict):
        raise MelotteValueError(f"prior file {path}: objects must map ids to parameters")
    named = named or {}
    return PriorReweighting(
        prior,
        _densities(content, prior, named, f"prior file {path}"),
        {
            str(name): _densities(entry, prior, named, f"prior file {path}: objects.{name}")
            for name, entry in objects.items()
        },
    )


def _densities(
    content: Any, prior: Prior, named: NamedPriors, where: str
) -> dict[str, LogDensity | NamedDensity]:
    if not isinstance(content, dict):
        raise MelotteValueError(f"{where}: found {content!r}, not a mapping of parameters")
    known = dict(zip(prior.names, prior.parameters, strict=True))
    unknown = [str(name) for name in content if name not in known]
    if unknown:
        raise MelotteValueError(
            f"{where}: {', '.join(unknown)} is no parameter of this model; "
            f"allowed: {', '.join(prior.names)}"
        )
    return {
        name: _density(entry, known[name], named, f"{where}: {name}")
        for name, entry in content.items()
    }


def _density(
    entry: Any, parameter: Parameter, named: NamedPriors, where: str
) -> LogDensity | NamedDensity:
    if isinstance(entry, str):
        offered = {name: given for name, given in named.items() if parameter.name in given}
        if entry not in offered:
            raise MelotteValueError(
                f"{where}: {entry!r} is no prior on it that this model's system offers "
                f"({_names(offered)})"
            )
        return NamedDensity(entry, offered[entry][parameter.name])
    if isinstance(entry, dict) and set(entry) == {"table"}:
        return _table(entry["table"], parameter, where)
    numbers = isinstance(entry, dict) and all(_is_number(value) for value in entry.values())
    if not numbers or set(entry) not in ({"mean", "sd"}, {"low", "high"}):
        raise MelotteValueError(
            f"{where}: found {entry!r}; allowed: {{mean: m, sd: s}}, {{low: a, high: b}}, "
            "{table: [[value, log density], ...]} or the name of a prior"
        )
    if "sd" in entry:
        if entry["sd"] <= 0:
            raise MelotteValueError(f"{where}: sd {entry['sd']} must be above 0")
        return Density(mean=float(entry["mean"]), sd=float(entry["sd"]))
    low, high = float(entry["low"]), float(entry["high"])
    if not low < high:
        raise MelotteValueError(f"{where}: [{low}, {high}] is empty; low must be below high")
    return _within_range(Density(low=low, high=high), parameter, where)


def _table(rows: Any, parameter: Parameter, where: str) -> LogDensity:
    pairs = isinstance(rows, list) and all(
        isinstance(row, list) and len(row) == 2 and all(_is_number(value) for value in row)
        for row in rows
    )
    if not pairs:
        raise MelotteValueError(
            f"{where}: table must list pairs of numbers, [[value, log density], ...]"
        )
    try:
        density = TabulatedDensity(
            tuple(float(value) for value, _ in rows), tuple(float(height) for _, height in rows)
        )
    except MelotteValueError as error:
        raise MelotteValueError(f"{where}: {error}") from error
    return _within_range(density, parameter, where)


def _within_range(density: LogDensity, parameter: Parameter, where: str) -> LogDensity:
    low, high = density.support
    if high <= parameter.low or low >= parameter.high:
        raise MelotteValueError(
            f"{where}: [{low}, {high}] does not meet the model's range "
            f"[{parameter.low}, {parameter.high}]"
        )
    return density


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names(named: Mapping[str, Any]) -> str:
    return ", ".join(named) if named else "it offers none"
