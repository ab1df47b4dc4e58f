"""Units of a CMC run, from its ``*.conv.sh``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from melotte.errors import MelotteFileError, MelotteValueError

_ASSIGNMENT = re.compile(r"^\s*(\w+)=([-+.\deE]+)\s*$", re.MULTILINE)
_NEEDED = ("lengthunitcgs", "lengthunitparsec", "nbtimeunitcgs", "timeunitsmyr")


@dataclass(frozen=True)
class CmcUnits:
    """One code unit of each quantity.

    Parameters
    ----------
    length : float, pc
    speed : float, km/s
        Length over the *N-body* unit of time, which is not the unit that CMC counts time in.
    time : float, Myr
        That CMC counts time in, of the order of the relaxation time.
    """

    length: float
    speed: float
    time: float


def cmc_units(path: Path, conversion: str | Path | None) -> CmcUnits:
    """Units of the run that a snapshot belongs to.

    Parameters
    ----------
    path : Path
        Of the snapshot.
    conversion : path, optional
        The run's ``*.conv.sh``; without, the one beside the snapshot whose name begins alike, or
        the only one there.

    Raises
    ------
    MelotteValueError
        When no file is given and none, or several, are found.
    MelotteFileError
        When the file lacks a unit.
    """
    found = Path(conversion) if conversion is not None else _beside(path)
    try:
        text = found.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MelotteFileError(f"{found} cannot be read: {error.strerror}") from error
    values = {name: float(value) for name, value in _ASSIGNMENT.findall(text)}
    missing = [name for name in _NEEDED if name not in values]
    if missing:
        raise MelotteFileError(f"{found} does not set {', '.join(missing)}, as CMC's conv.sh does")
    return CmcUnits(
        values["lengthunitparsec"],
        1e-5 * values["lengthunitcgs"] / values["nbtimeunitcgs"],
        values["timeunitsmyr"],
    )


def _beside(path: Path) -> Path:
    candidates = sorted(path.parent.glob("*conv.sh"))
    prefix = path.name.partition(".")[0]
    alike = [one for one in candidates if one.name == f"{prefix}.conv.sh"]
    chosen = alike or candidates
    if len(chosen) == 1:
        return chosen[0]
    found = ", ".join(one.name for one in candidates) or "none"
    raise MelotteValueError(
        f"{path}: CMC's code units need the run's conv.sh; found beside it: {found}; "
        "give it as `conversion`"
    )
