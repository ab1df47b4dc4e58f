"""Galaxies about clusters of galaxies, read from users' tables and cut to a cylinder.

Two kinds of tables: positions and redshifts on the sky, with or without a table of clusters, and
projected radii and line-of-sight velocities that somebody made of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.io import cluster_centring as centring
from melotte.io.causticmass_files import CausticHeader, read_galaxy_table
from melotte.io.cluster_tables import ClusterPositions, read_cluster_positions
from melotte.io.gaia_columns import matching_name
from melotte.io.gaia_members import group_codes
from melotte.io.galaxy_columns import recognise_galaxies
from melotte.io.galaxy_lists import GalaxyList, GalaxySelection, RejectedGroup
from melotte.io.galaxy_rows import galaxy_faults, galaxy_values, mark_repeats
from melotte.io.projected_distances import (
    SPEED_OF_LIGHT,
    angle_from,
    cluster_frame,
    length_per_radian,
    sky_position,
    unit_vectors,
)
from melotte.io.tables import table_path

if TYPE_CHECKING:
    from astropy.table import Table

Array = NDArray[np.float64]

CROWD = 0.3
"""Mpc/h: size of the crowd of galaxies that marks a cluster's centre on the sky."""

SKY_ROUNDS = 4
COPIED = ("weight", "magnitude", "log_stellar_mass", "membership", "ra", "dec", "name")
"""Quantities of a galaxy that pass from the table to the list as they are."""

OUTSIDE = "outside the aperture"
BEYOND = "beyond the velocity cut"


@dataclass(frozen=True)
class _Rows:
    """Usable rows of one table."""

    values: Mapping[str, NDArray[Any]]
    vectors: Array
    projected: bool


def read_galaxies(
    source: str | Path | Table | Sequence[str | Path | Table],
    clusters: str | Path | Table | None = None,
    column: Mapping[str, str] | None = None,
    group_by: str | None = None,
    selection: GalaxySelection | None = None,
) -> list[GalaxyList | RejectedGroup]:
    """Read galaxies about clusters from one or several tables.

    A column of cluster names (``cluster_id``, ``CID`` ..., or ``group_by``) splits a table into
    clusters. Without one, a table is one cluster; or, with a table of clusters, every cluster of
    that table takes the galaxies in its own cylinder.

    Parameters
    ----------
    source : str, Path, astropy Table, or a sequence of these
        Any table of :func:`melotte.io.tables.read_table`, or text between blanks as RCausticMass
        and CausticSNUpy write it.
    clusters : str, Path or astropy Table, optional
        Clusters' names, positions and redshifts; what it does not give is found from the galaxies.
    column : mapping, optional
        From melotte's names to the file's, such as ``{"redshift": "ZBEST"}``.
    group_by : str, optional
        The column whose values name the clusters.
    selection : GalaxySelection, optional

    Returns
    -------
    list of GalaxyList or RejectedGroup
        In the order in which the clusters first appear.

    Raises
    ------
    MelotteFileError
        When a file cannot be read as a table.
    MelotteValueError
        When a needed column is missing or holds text, a unit does not convert, or an option is
        outside what is allowed.
    """
    chosen = selection or GalaxySelection()
    alone = isinstance(source, str | Path) or hasattr(source, "colnames")
    several: Any = [source] if alone else source
    sources = list(several)
    if not sources:
        raise MelotteValueError("no input file was given; give at least one table of galaxies")
    known = None
    if clusters is not None:
        known = read_cluster_positions(clusters, chosen.redshift_kind)
    groups: list[GalaxyList | RejectedGroup] = []
    for one in sources:
        groups.extend(_groups_of(one, known, column, group_by, chosen))
    return _with_distinct_ids(groups)


def _groups_of(
    source: str | Path | Table,
    known: ClusterPositions | None,
    column: Mapping[str, str] | None,
    group_by: str | None,
    selection: GalaxySelection,
) -> list[GalaxyList | RejectedGroup]:
    path = table_path(source)
    recognised: list[Any] = []

    def choose(names: Sequence[str]) -> Sequence[str]:
        columns = recognise_galaxies(names, column, str(path))
        if group_by is not None:
            theirs = matching_name(group_by, names, str(path), "--group-by ")
            columns = replace(columns, found={**columns.found, "cluster": theirs})
        if not {"projected_radius", "line_of_sight_velocity"} <= columns.found.keys():
            columns.require("ra", "dec", "redshift")
        if selection.min_probability is not None:
            columns.require("membership")
        if selection.magnitude_limit is not None:
            columns.require("magnitude")
        recognised.append(columns)
        return list(columns.found.values())

    table, header = read_galaxy_table(source, choose)
    columns = recognised[-1]
    projected = {"projected_radius", "line_of_sight_velocity"} <= columns.found.keys()
    values = galaxy_values(
        table, columns, selection.redshift_kind, selection.radius_unit, selection.h
    )
    reason, texts = galaxy_faults(
        values, projected, selection.min_probability, selection.magnitude_limit
    )
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0] or path.name
    codes, ids = np.zeros(table.n_rows, dtype=np.int64), [stem]
    if "cluster" in columns.found:
        codes, ids = group_codes(table.text(columns.found["cluster"]))
    if not projected:
        mark_repeats(values, codes, reason, texts)
    usable = np.flatnonzero(reason < 0)
    vectors = np.zeros((0, 3))
    if not projected:
        vectors = unit_vectors(values["ra"][usable], values["dec"][usable])
    rows = _Rows({name: array[usable] for name, array in values.items()}, vectors, projected)
    if "cluster" not in columns.found and known is not None and not projected:
        return _around_each(known, rows, selection, str(path))
    dropped = [
        {text: int(n) for number, text in enumerate(texts) if (n := (faults == number).sum())}
        for faults in _split(reason, codes, len(ids))
    ]
    groups: list[GalaxyList | RejectedGroup] = []
    every = _split(np.arange(len(usable)), codes[usable], len(ids))
    for name, members, left_out in zip(ids, every, dropped, strict=True):
        if not name:
            theirs = columns.found["cluster"]
            why = f"these rows have no value in column {theirs}"
            groups.append(RejectedGroup(f"(no {theirs})", why, str(path)))
            continue
        given = _given(name, rows, members, known, header, len(ids))
        groups.append(_cut(name, given, rows, members, selection, left_out, str(path)))
    return groups


def _around_each(
    known: ClusterPositions, rows: _Rows, selection: GalaxySelection, source: str
) -> list[GalaxyList | RejectedGroup]:
    """Every cluster of a table with the galaxies near it, of one survey."""
    from scipy.spatial import KDTree

    tree = KDTree(rows.vectors) if len(rows.vectors) else None
    groups = []
    for name, given in known.positions.items():
        members = _near(tree, rows, given, selection)
        groups.append(_cut(name, given, rows, members, selection, {}, source))
    return groups


def _split(values: NDArray[Any], codes: NDArray[np.int64], n: int) -> list[NDArray[Any]]:
    """Values of each of n groups, in their order."""
    order = np.argsort(codes, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(codes, minlength=n))[:-1])


def _near(
    tree: Any, rows: _Rows, given: tuple[float, float, float], selection: GalaxySelection
) -> NDArray[np.int64]:
    """Rows that can lie in a cluster's cylinder wherever its centre is found."""
    ra, dec, redshift = given
    members = np.arange(len(rows.vectors))
    if tree is not None and math.isfinite(ra) and math.isfinite(dec) and redshift > 0:
        reach = 2 * selection.aperture
        reach /= length_per_radian(redshift, selection.omega_m, selection.lengths)
        chord = 2 * math.sin(min(reach, math.pi) / 2)
        found = tree.query_ball_point(unit_vectors(np.array(ra), np.array(dec)), chord)
        members = np.sort(np.asarray(found, dtype=np.int64))
    if math.isfinite(redshift):
        velocity = cluster_frame(rows.values["redshift"][members], redshift)
        members = members[np.abs(velocity) < 3 * selection.velocity_cut]
    return members


def _given(
    name: str,
    rows: _Rows,
    members: NDArray[np.int64],
    known: ClusterPositions | None,
    header: CausticHeader | None,
    n_groups: int,
) -> tuple[float, float, float]:
    """Right ascension, declination and redshift that the tables say; NaN where they do not."""
    if known is not None and name in known.positions:
        return known.positions[name]
    if known is not None and n_groups == 1 and len(known.ids) == 1:
        return known.positions[known.ids[0]]
    if header is not None and header.centre is not None:
        ra, dec, velocity = header.centre
        return ra, dec, velocity / SPEED_OF_LIGHT
    stated = rows.values["cluster_redshift"][members]
    stated = stated[np.isfinite(stated)]
    return math.nan, math.nan, float(np.median(stated)) if len(stated) else math.nan


def _cut(
    name: str,
    given: tuple[float, float, float],
    rows: _Rows,
    members: NDArray[np.int64],
    selection: GalaxySelection,
    left_out: Mapping[str, int],
    source: str,
) -> GalaxyList | RejectedGroup:
    """One cluster's galaxies, centred and cut to the cylinder."""
    dropped = dict(left_out)
    if not len(members):
        why = ", ".join(f"{n} with {text}" for text, n in dropped.items()) or "none near it"
        return RejectedGroup(name, f"no usable galaxy ({why})", source)
    values = {key: array[members] for key, array in rows.values.items()}
    if rows.projected:
        radius, velocity, redshift, shift = _projected(values, given[2], selection)
        centre = (math.nan, math.nan)
    else:
        found = _on_the_sky(values, rows.vectors[members], given, selection)
        if found is None:
            return RejectedGroup(name, "its redshift is not above 0: no distance", source)
        radius, velocity, redshift, shift, centre = found
    inside = radius < selection.aperture
    kept = inside & (np.abs(velocity) < selection.velocity_cut)
    for text, n in ((OUTSIDE, (~inside).sum()), (BEYOND, (inside & ~kept).sum())):
        if n:
            dropped[text] = int(n)
    if not kept.any():
        why = ", ".join(f"{n} {text}" for text, n in dropped.items())
        return RejectedGroup(name, f"no galaxy in the cylinder ({why})", source)
    frame = SPEED_OF_LIGHT / (1 + (redshift if math.isfinite(redshift) else 0.0))
    return GalaxyList(
        id=name,
        velocity=velocity[kept],
        radius=radius[kept],
        velocity_error=frame * values["redshift_error"][kept],
        redshift=redshift,
        centre=centre,
        velocity_shift=shift,
        selection=selection,
        n_dropped=dropped,
        source=source,
        **{key: values[key][kept] for key in COPIED},
    )


def _projected(
    values: Mapping[str, NDArray[Any]], given: float, selection: GalaxySelection
) -> tuple[Array, Array, float, float]:
    """Radius (Mpc/h), velocity (km/s), redshift of the centre and its shift (km/s)."""
    radius, velocity = values["radius"], values["velocity"]
    if selection.radius_lengths != selection.lengths:
        if not math.isfinite(given):
            raise MelotteValueError(
                f"projected radii are {selection.radius_lengths} and {selection.lengths} ones are "
                "asked for, which needs the cluster's redshift; give a column cluster_redshift "
                "or a table of clusters"
            )
        radius = radius * (1 + given) ** (1 if selection.lengths == "comoving" else -1)
    if selection.velocity_centre == "given":
        return radius, velocity, given, 0.0
    start = given if math.isfinite(given) else 0.0
    redshift = start + (1 + start) * velocity / SPEED_OF_LIGHT
    inside = radius < selection.aperture
    centre = centring.central_redshift(
        redshift, start, inside, selection.velocity_cut, selection.velocity_centre
    )
    shift = float(cluster_frame(np.array(centre), start))
    return radius, cluster_frame(redshift, centre), centre if math.isfinite(given) else given, shift


def _on_the_sky(
    values: Mapping[str, NDArray[Any]],
    vectors: Array,
    given: tuple[float, float, float],
    selection: GalaxySelection,
) -> tuple[Array, Array, float, float, tuple[float, float]] | None:
    """Radius, velocity, redshift of the centre, its shift (km/s) and position (deg)."""
    redshift, cut = values["redshift"], selection.velocity_cut
    ra, dec, start = given
    positioned = math.isfinite(ra) and math.isfinite(dec) and selection.sky_centre == "given"
    direction = unit_vectors(np.array(ra), np.array(dec)) if math.isfinite(ra) else vectors.mean(0)
    if not math.isfinite(start):
        start = centring.densest_redshift(redshift, cut)
    centre = start
    radius = np.zeros(len(redshift))
    for _ in range(1 if positioned else SKY_ROUNDS):
        if centre <= 0:
            return None
        scale = length_per_radian(centre, selection.omega_m, selection.lengths)
        if not positioned:
            slab = np.abs(cluster_frame(redshift, centre)) < cut
            if slab.any():
                direction = centring.densest_direction(
                    vectors[slab], values["weight"][slab], CROWD / scale
                )
        radius = scale * angle_from(vectors, direction)
        if selection.velocity_centre != "given" or not math.isfinite(given[2]):
            how = "median" if selection.velocity_centre == "given" else selection.velocity_centre
            inside = radius < selection.aperture
            centre = centring.central_redshift(redshift, centre, inside, cut, how)
    if centre <= 0:
        return None
    scale = length_per_radian(centre, selection.omega_m, selection.lengths)
    radius = scale * angle_from(vectors, direction)
    shift = float(cluster_frame(np.array(centre), start))
    return radius, cluster_frame(redshift, centre), centre, shift, sky_position(direction)


def _with_distinct_ids(
    groups: list[GalaxyList | RejectedGroup],
) -> list[GalaxyList | RejectedGroup]:
    """Put the file's name before a cluster's that occurs in several files."""
    count = Counter(group.id for group in groups)
    seen: Counter[str] = Counter()
    distinct: list[GalaxyList | RejectedGroup] = []
    for group in groups:
        name = group.id if count[group.id] == 1 else f"{Path(group.source).stem}/{group.id}"
        seen[name] += 1
        distinct.append(replace(group, id=name if seen[name] == 1 else f"{name} #{seen[name]}"))
    return distinct
