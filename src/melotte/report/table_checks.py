"""What a table of members holds: stars or galaxies, which columns are read, what is dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte.errors import MelotteValueError
from melotte.io.causticmass_files import read_galaxy_table
from melotte.io.gaia_columns import matching_name, recognise
from melotte.io.galaxy_columns import recognise_galaxies
from melotte.io.table_files import listed

if TYPE_CHECKING:
    from melotte.io.galaxy_lists import GalaxyList

STARS, GALAXIES = "open-cluster", "galaxy-cluster"
SYSTEMS = (STARS, GALAXIES)
NEEDED = {
    STARS: "stars of open clusters need G, BP-RP (or BP and RP) and the parallax",
    GALAXIES: "galaxies need ra, dec and redshift, or projected_radius and line_of_sight_velocity",
}
_TELLING = {
    STARS: ("g", "bp_rp", "bp", "rp", "parallax"),
    GALAXIES: ("redshift", "projected_radius", "line_of_sight_velocity"),
}
"""Quantities that tables of one kind have and those of the other lack."""


def check_table(
    path: Path,
    *,
    system: str | None = None,
    column: Mapping[str, str] | None = None,
    group_by: str | None = None,
    clusters: Path | None = None,
) -> str:
    """Read a table of stars or of galaxies as ``infer`` does, and say what was found.

    Parameters
    ----------
    path : Path
    system : {"open-cluster", "galaxy-cluster"}, optional
        What the table is for; told by its columns by default.
    column, group_by
        As in ``infer``.
    clusters : Path, optional
        Table of the positions of galaxy clusters.

    Returns
    -------
    str
        A line on the table, and one for every cluster without a usable row.

    Raises
    ------
    MelotteFileError, MelotteValueError
        What is wrong, in one line.
    """
    if system is not None and system not in SYSTEMS:
        raise MelotteValueError(f"--system {system!r} is not one of {', '.join(SYSTEMS)}")
    names = _column_names(path)
    told = system or (GALAXIES if clusters is not None else None)
    told = told or table_system(names, column, str(path))
    if told == GALAXIES:
        return _check_galaxies(path, names, column, group_by, clusters)
    if clusters is not None:
        raise MelotteValueError("--clusters is for galaxy clusters, not for open clusters")
    return _check_stars(path, names, column, group_by)


def table_system(
    names: Sequence[str], column: Mapping[str, str] | None = None, where: str = "the table"
) -> str:
    """Which system a table's columns are for.

    Parameters
    ----------
    names : sequence of str
        Of the table's columns.
    column : mapping, optional
        From melotte's names to the table's.
    where : str
        The file, for messages.

    Returns
    -------
    str
        ``"open-cluster"`` or ``"galaxy-cluster"``: that of which more quantities are there which
        the other does not have.

    Raises
    ------
    MelotteValueError
        When there are none, or as many of both.
    """
    stars = _recognised(STARS, names, column, where)
    galaxies = _recognised(GALAXIES, names, column, where)
    counts = {
        system: sum(name in found for name in _TELLING[system])
        for system, found in ((STARS, stars), (GALAXIES, galaxies))
    }
    if counts[STARS] == counts[GALAXIES]:
        raise MelotteValueError(
            f"{where}: its columns do not tell what the table holds: {NEEDED[STARS]}; "
            f"{NEEDED[GALAXIES]}; found: {listed(names)}; say --system {STARS} or {GALAXIES}, and "
            "map your columns with --column NAME=THEIRS"
        )
    return max(counts, key=lambda system: counts[system])


def _recognised(
    system: str, names: Sequence[str], column: Mapping[str, str] | None, where: str
) -> Mapping[str, str]:
    """Columns known to one kind of tables; none where the mapped names are not of that kind."""
    try:
        if system == STARS:
            return recognise(names, column, where)
        return recognise_galaxies(names, column, where).found
    except MelotteValueError:
        return {}


def _column_names(path: Path) -> tuple[str, ...]:
    """Names of a table's columns, without reading more of it than one."""
    seen: list[str] = []

    def first(names: Sequence[str]) -> Sequence[str]:
        seen.extend(names)
        return names[:1]

    read_galaxy_table(path, first)
    return tuple(seen)


def _check_stars(
    path: Path,
    names: Sequence[str],
    column: Mapping[str, str] | None,
    group_by: str | None,
) -> str:
    from melotte.io.gaia_members import ClusterMembers, read_members

    lists = read_members(path, column=column, group_by=group_by)
    good = [one for one in lists if isinstance(one, ClusterMembers)]
    found = dict(recognise(names, column, str(path)))
    n = _number(sum(one.n_stars for one in good), "usable star")
    return _described(
        f"{path}: {_number(len(good), 'object')}, {n} of open clusters",
        _with_group(found, group_by, names, path),
        (one.n_dropped for one in good),
        ((one.id, one.reason) for one in lists if not isinstance(one, ClusterMembers)),
    )


def _check_galaxies(
    path: Path,
    names: Sequence[str],
    column: Mapping[str, str] | None,
    group_by: str | None,
    clusters: Path | None,
) -> str:
    from melotte.io.galaxy_lists import GalaxyList
    from melotte.io.galaxy_members import read_galaxies

    lists = read_galaxies(path, clusters=clusters, column=column, group_by=group_by)
    good: list[GalaxyList] = [one for one in lists if isinstance(one, GalaxyList)]
    found = dict(recognise_galaxies(names, column, str(path)).found)
    n = sum(one.n_galaxies for one in good)
    return _described(
        f"{path}: {_number(len(good), 'galaxy cluster')}, {n} usable galaxies{_cylinder(good)}",
        _with_group(found, group_by, names, path),
        (one.n_dropped for one in good),
        ((one.id, one.reason) for one in lists if not isinstance(one, GalaxyList)),
    )


def _cylinder(lists: Sequence[GalaxyList]) -> str:
    """Where the galaxies are, and the redshifts of the clusters."""
    if not lists:
        return ""
    chosen = lists[0].selection
    text = (
        f" within {chosen.aperture:g} {chosen.lengths} Mpc/h and {chosen.velocity_cut:g} km/s of "
        "the centre"
    )
    redshifts = [one.redshift for one in lists if one.redshift == one.redshift]
    if not redshifts:
        return f"{text}, no redshift"
    low, high = f"{min(redshifts):.4f}", f"{max(redshifts):.4f}"
    return f"{text}, z {low}" if low == high else f"{text}, z {low} to {high}"


def _number(n: int, of: str) -> str:
    return f"{n} {of}{'' if n == 1 else 's'}"


def _with_group(
    found: dict[str, str], group_by: str | None, names: Sequence[str], path: Path
) -> dict[str, str]:
    if group_by is not None:
        found["cluster"] = matching_name(group_by, names, str(path), "--group-by ")
    return found


def _described(
    start: str,
    found: Mapping[str, str],
    dropped: Iterable[Mapping[str, int]],
    rejected: Iterable[tuple[str, str]],
) -> str:
    """The lines: what was found, columns, rows dropped and why; then clusters without any."""
    columns = ", ".join(
        theirs if theirs == ours else f"{theirs} as {ours}" for ours, theirs in found.items()
    )
    reasons: Counter[Any] = Counter()
    for one in dropped:
        reasons.update(one)
    why = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
    lost = f"{_number(reasons.total(), 'row')} dropped" + (f" ({why})" if why else "")
    lines = [f"{start}; columns read: {columns}; {lost}"]
    lines += [f"  {name}: {reason}" for name, reason in rejected]
    return "\n".join(lines)
