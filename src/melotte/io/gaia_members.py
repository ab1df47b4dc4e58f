"""Members of star clusters as Gaia records them, read from users' tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.io.gaia_columns import matching_name, recognise, require_photometry
from melotte.io.gaia_releases import detected_release, release_name
from melotte.io.gaia_stars import star_faults, star_quantities
from melotte.io.table_files import TableFile
from melotte.io.tables import read_table, table_path

if TYPE_CHECKING:
    from astropy.table import Table

_SMALLEST_GROUP = 3.0


@dataclass(frozen=True)
class ClusterMembers:
    """The usable members of one cluster; the parallax zero point is not applied.

    Every array has shape (n_stars,). Optional quantities that the file does not give are NaN
    (``source_id``: -1).

    Parameters
    ----------
    id : str
        The cluster's name in its column, or the file's name without suffix.
    g, bp_rp : array, mag
        Within :data:`~melotte.io.gaia_stars.G_RANGE` and ``COLOUR_RANGE``.
    parallax : array, mas
        Within :data:`~melotte.io.gaia_stars.PARALLAX_RANGE`.
    parallax_error : array, mas, > 0 or NaN
    g_error, bp_rp_error : array, mag, > 0 or NaN
        As VizieR defines them: the zero point's uncertainty is included.
    membership : array, 0 to 1 or NaN
    source_id : array of int64
    ra, dec : array, deg
    pmra, pmdec, pmra_error, pmdec_error : array, mas/yr
        ``pmra`` includes the cosine of the declination.
    ruwe : array
    n_dropped : mapping of str to int
        Rows left out, by reason; each row counts once.
    release : str or None
        One of ``"DR2"``, ``"EDR3"``, ``"DR3"``; None when nothing tells.
    source : str
        The file.
    """

    id: str
    g: NDArray[np.float64]
    bp_rp: NDArray[np.float64]
    parallax: NDArray[np.float64]
    parallax_error: NDArray[np.float64]
    g_error: NDArray[np.float64]
    bp_rp_error: NDArray[np.float64]
    membership: NDArray[np.float64]
    source_id: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    pmra: NDArray[np.float64]
    pmdec: NDArray[np.float64]
    pmra_error: NDArray[np.float64]
    pmdec_error: NDArray[np.float64]
    ruwe: NDArray[np.float64]
    n_dropped: Mapping[str, int] = field(default_factory=dict)
    release: str | None = None
    source: str = ""

    @property
    def n_stars(self) -> int:
        """Number of usable members."""
        return len(self.g)


@dataclass(frozen=True)
class RejectedCluster:
    """A cluster without a usable member: it becomes a flagged row, not an error."""

    id: str
    reason: str
    source: str = ""


def read_members(
    source: str | Path | Table | Sequence[str | Path | Table],
    column: Mapping[str, str] | None = None,
    group_by: str | None = None,
    release: str | None = None,
    min_probability: float | None = None,
) -> list[ClusterMembers | RejectedCluster]:
    """Read the members of clusters from one or several tables.

    Without ``group_by``, a recognised column of cluster names (``Cluster``, ``cluster_name``,
    ``Name`` where its values repeat) splits a file into clusters; a file without one is one
    cluster, named after the file.

    Parameters
    ----------
    source : str, Path, astropy Table, or a sequence of these
    column : mapping, optional
        From melotte's names to the file's, such as ``{"g": "my_gmag"}``.
    group_by : str, optional
        The column whose values name the clusters.
    release : str, optional
        ``"DR2"``, ``"EDR3"`` or ``"DR3"``; read from the file where it can be by default.
    min_probability : float, 0 to 1, optional
        Members below it are dropped; needs a column of membership probabilities.

    Returns
    -------
    list of ClusterMembers or RejectedCluster
        In the order in which the clusters first appear.

    Raises
    ------
    MelotteFileError
        When a file cannot be read as a table.
    MelotteValueError
        When a needed column is missing or holds text, a unit does not convert, or an option is
        outside what is allowed.
    """
    if release is not None:
        release = release_name(release)
    if min_probability is not None and not 0.0 <= min_probability <= 1.0:
        raise MelotteValueError(
            f"the smallest membership probability {min_probability} is outside [0, 1]"
        )
    several: Any = source
    alone = isinstance(source, str | Path) or hasattr(source, "colnames")
    sources: list[Any] = [source] if alone else list(several)
    if not sources:
        raise MelotteValueError("no input file was given; give at least one table of members")
    clusters: list[ClusterMembers | RejectedCluster] = []
    for one in sources:
        clusters.extend(_clusters_of(one, column, group_by, release, min_probability))
    return _with_distinct_ids(clusters)


def _clusters_of(
    source: str | Path | Table,
    column: Mapping[str, str] | None,
    group_by: str | None,
    release: str | None,
    min_probability: float | None,
) -> list[ClusterMembers | RejectedCluster]:
    path = table_path(source)
    found: dict[str, str] = {}
    all_names: list[str] = []

    def choose(names: Sequence[str]) -> Sequence[str]:
        all_names.extend(names)
        found.update(recognise(names, column, str(path)))
        if group_by is not None:
            found["cluster"] = matching_name(group_by, names, str(path), "--group-by ")
        require_photometry(found, names, str(path))
        if min_probability is not None and "membership" not in found:
            raise MelotteValueError(
                f"{path} has no column of membership probabilities to compare with "
                f"{min_probability}; name it with --column membership=THEIRS"
            )
        return list(found.values())

    table = read_table(source, choose)
    if release is None:
        release = detected_release(table, all_names, found)
    values = star_quantities(table, found, release)
    reason, reasons = star_faults(values, min_probability)
    asked = group_by is not None or "cluster" in {name.lower() for name in column or {}}
    codes, ids = _groups(table, found.get("cluster"), asked)
    _mark_repeats(values["source_id"], codes, reason, reasons)
    clusters = _split(values, codes, ids, reason, reasons, release, table)
    return [_named(cluster, found.get("cluster", "")) for cluster in clusters]


def _groups(table: TableFile, name: str | None, asked: bool) -> tuple[NDArray[np.int64], list[str]]:
    """The cluster that each row belongs to, numbered by first appearance, and their names."""
    stem = table.path.name.removesuffix(".gz").rsplit(".", 1)[0] or table.path.name
    whole = np.zeros(table.n_rows, dtype=np.int64), [stem]
    if name is None:
        return whole
    codes, ids = group_codes(table.text(name))
    stars_named = not asked and name.lower() == "name"
    if stars_named and table.n_rows < _SMALLEST_GROUP * len(ids):
        return whole
    return codes, ids


def group_codes(names: NDArray[np.object_]) -> tuple[NDArray[np.int64], list[str]]:
    """Number texts by first appearance.

    Parameters
    ----------
    names : array of str, shape (n_rows,)

    Returns
    -------
    codes : array of int64, shape (n_rows,)
    labels : list of str
        ``labels[codes[i]] == names[i]``.
    """
    import pyarrow as pa

    encoded = pa.array(names, type=pa.string()).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [str(label) for label in encoded.dictionary.to_pylist()]


def _mark_repeats(
    source_id: NDArray[np.int64],
    codes: NDArray[np.int64],
    reason: NDArray[np.int64],
    reasons: list[str],
) -> None:
    """Mark the second and later rows of one source in one cluster as unusable, in place."""
    reasons.append("listed twice")
    usable = np.flatnonzero((reason < 0) & (source_id > 0))
    order = usable[np.lexsort((source_id[usable], codes[usable]))]
    again = (np.diff(source_id[order]) == 0) & (np.diff(codes[order]) == 0)
    reason[order[1:][again]] = len(reasons) - 1


def _split(
    values: Mapping[str, NDArray[Any]],
    codes: NDArray[np.int64],
    ids: Sequence[str],
    reason: NDArray[np.int64],
    reasons: Sequence[str],
    release: str | None,
    table: TableFile,
) -> list[ClusterMembers | RejectedCluster]:
    faulty = reason >= 0
    n_faulty = np.bincount(
        codes[faulty] * len(reasons) + reason[faulty], minlength=len(ids) * len(reasons)
    ).reshape(len(ids), len(reasons))
    usable = np.flatnonzero(~faulty)
    order = usable[np.argsort(codes[usable], kind="stable")]
    ends = np.cumsum(np.bincount(codes[usable], minlength=len(ids)))
    ordered = {name: column[order] for name, column in values.items()}
    clusters: list[ClusterMembers | RejectedCluster] = []
    start = 0
    for i, (cluster_id, end) in enumerate(zip(ids, ends.tolist(), strict=True)):
        dropped = {r: int(n) for r, n in zip(reasons, n_faulty[i], strict=True) if n}
        source = str(table.path)
        if end == start:
            why = ", ".join(f"{n} with {text}" for text, n in dropped.items())
            clusters.append(RejectedCluster(cluster_id, f"no usable star ({why})", source))
        else:
            stars = {name: column[start:end] for name, column in ordered.items()}
            given = {"n_dropped": dropped, "release": release, "source": source}
            clusters.append(ClusterMembers(cluster_id, **stars, **given))
        start = end
    return clusters


def _named(
    cluster: ClusterMembers | RejectedCluster, column: str
) -> ClusterMembers | RejectedCluster:
    """The cluster itself, or a rejection of the rows that no cluster claims."""
    if cluster.id:
        return cluster
    why = f"these rows have no value in column {column}"
    return RejectedCluster(f"(no {column})", why, cluster.source)


def _with_distinct_ids(
    clusters: list[ClusterMembers | RejectedCluster],
) -> list[ClusterMembers | RejectedCluster]:
    """Put the file's (or its folder's) name before an id of several files: result rows differ."""
    count = Counter(cluster.id for cluster in clusters)
    seen: Counter[str] = Counter()
    distinct: list[ClusterMembers | RejectedCluster] = []
    for cluster in clusters:
        name = cluster.id
        if count[name] > 1:
            path = Path(cluster.source)
            place = path.parent.name if path.stem == name else path.stem
            name = f"{place}/{name}" if place else name
        seen[name] += 1
        distinct.append(replace(cluster, id=name if seen[name] == 1 else f"{name} #{seen[name]}"))
    return distinct
