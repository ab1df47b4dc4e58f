"""Which Gaia data release a table is from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from melotte.errors import MelotteValueError
from melotte.io.table_files import TableFile

RELEASES = ("DR2", "EDR3", "DR3")
"""Gaia data releases by the names that ``--release`` takes."""


def release_name(text: str) -> str:
    """A Gaia data release by its short name, from spellings such as ``gaiadr3`` or ``Gaia EDR3``.

    Raises
    ------
    MelotteValueError
        When it is none of :data:`RELEASES`.
    """
    match = re.fullmatch(r"(?:gaia|g)?[ _-]*(e?dr[ _-]?[23])", text.strip().lower())
    if not match:
        raise MelotteValueError(f"Gaia release {text!r} is unknown; allowed: {', '.join(RELEASES)}")
    return re.sub(r"[ _-]", "", match[1]).upper()


def detected_release(
    table: TableFile, names: Sequence[str], found: Mapping[str, str]
) -> str | None:
    """The Gaia data release that a table is from, or None when nothing in it tells.

    Looked for, in this order: designations (``Gaia DR3 1234``), the file's metadata, columns that
    only one release has, the file's name.
    """
    if "designation" in found:
        first = next(iter(table.text(found["designation"])), "")
        told = _release_in(str(first))
        if told:
            return told
    said = " ".join(f"{key} {value}" for key, value in table.metadata.items())
    told = _release_in(said) or _vizier_release(said)
    if told:
        return told
    lower = {name.lower() for name in names}
    for clue, told in (
        ({"gaiadr3", "dr3name", "teff_gspphot", "ag_gspphot", "non_single_star"}, "DR3"),
        ({"gaiaedr3", "edr3name", "dr2_radial_velocity"}, "EDR3"),
        ({"gaiadr2", "dr2name", "a_g_val", "teff_val", "astrometric_pseudo_colour"}, "DR2"),
        ({"nu_eff_used_in_astrometry", "pseudocolour", "phot_bp_n_blended_transits"}, "EDR3"),
    ):
        if clue & lower:
            return told
    return _release_in(table.path.name)


def _release_in(text: str) -> str | None:
    """The one release that a text names; None when it names none or several."""
    told = {m.upper() for m in re.findall(r"(?<![a-z])(?:gaia)?[ _-]?(e?dr[23])(?!\d)", text, re.I)}
    return told.pop() if len(told) == 1 else None


def _vizier_release(text: str) -> str | None:
    for catalogue, told in (("I/345", "DR2"), ("I/350", "EDR3"), ("I/355", "DR3")):
        if catalogue in text:
            return told
    return None
