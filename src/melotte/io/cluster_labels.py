"""Catalogued parameters of star clusters: who says what of which cluster.

A table may be *wide*, a row a cluster with columns of one or several catalogues, or *long*, a row
a cluster and catalogue with a column ``source``. Columns of the catalogues below are recognised
with the short prefix that joined tables give them; those of Cantat-Gaudin et al., Hunt & Reffert
and Cavallo et al. by their names at CDS too. The latter two share names: a table's ``logAge50`` and
``AV50`` are of the catalogue whose distances it lists (``dist50`` or ``dMod50``). Units that a
file states are converted; without one, columns are in the unit that their name says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.table_files import TableFile, listed
from melotte.io.tables import read_table, table_path

if TYPE_CHECKING:
    from astropy.table import Table

TARGETS = ("log_age", "extinction_v", "distance", "metallicity")
"""log10(age/yr); mag; kpc; [Fe/H]."""

CATALOGUES: dict[str, dict[str, tuple[str, ...]]] = {
    "CG20": {
        "log_age": ("AgeNN", "logAgeNN"),
        "extinction_v": ("AVNN",),
        "distance_pc": ("DistPc",),
    },
    "Dias 2021": {
        "log_age": ("D21_logage",),
        "extinction_v": ("D21_AV",),
        "distance_pc": ("D21_dist_pc",),
        "metallicity": ("D21_FeH",),
    },
    "Hunt 2023": {
        "log_age": ("H23_logAge50", "logAge50"),
        "extinction_v": ("H23_AV50", "AV50"),
        "distance_pc": ("H23_dist50", "dist50"),
    },
    "Cavallo 2024": {
        "log_age": ("C24_logAge50", "logAge50"),
        "extinction_v": ("C24_AV50", "AV50"),
        "distance_modulus": ("C24_dMod50", "dMod50"),
        "metallicity": ("C24_[Fe/H]50", "[Fe/H]50"),
    },
    "Almeida 2022": {
        "log_age": ("A22_logage",),
        "extinction_v": ("A22_AV",),
        "distance_pc": ("A22_dist_pc",),
        "metallicity": ("A22_FeH",),
    },
    "Bossini 2019": {
        "log_age": ("B19_logage",),
        "extinction_v": ("B19_AV",),
        "distance_modulus": ("B19_DM",),
    },
}
"""Cantat-Gaudin et al. 2020; Dias et al. 2021; Hunt & Reffert 2023; Cavallo et al. 2024; Almeida
et al. 2022; Bossini et al. 2019. The first column that a table has counts."""

OWN_COLUMNS = {"Hunt 2023": "dist50", "Cavallo 2024": "dMod50"}
"""Without a prefix, columns are of these catalogues only beside the column named here."""
TYPICAL_SCATTER = (0.18, 0.15, 0.055, 0.083)
"""log10(age), mag, relative, dex: medians of :func:`source_scatter` over the catalogues above, on
the 1,058 clusters of a joined table. For catalogues that share too few clusters to be compared."""

_ID_NAMES = ("id", "key", "cluster", "name")
_QUANTITIES = ("log_age", "extinction_v", "distance", "distance_pc", "distance_modulus")
_KNOWN = (*_QUANTITIES, "metallicity")
_TIMES = ("yr", "kyr", "Myr", "Gyr", "a", "Ma", "Ga")
_UNITS = {
    "extinction_v": "mag",
    "distance": "kpc",
    "distance_pc": "pc",
    "distance_modulus": "mag",
}


@dataclass(frozen=True)
class ClusterLabels:
    """What catalogues say of clusters.

    Parameters
    ----------
    ids : tuple of str, length n
        Each once.
    sources : tuple of str, length s
    values : array, shape (n, s, 4), TARGETS
        NaN where a catalogue is silent.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    values: NDArray[np.float64]

    def of(self, sources: Sequence[str]) -> ClusterLabels:
        """The same clusters with these sources, NaN for one that has no label here.

        Names are compared without case and spaces.
        """
        values = np.full((len(self.ids), len(sources), len(TARGETS)), np.nan)
        known = [_plain(name) for name in self.sources]
        for position, name in enumerate(sources):
            if _plain(name) in known:
                values[:, position] = self.values[:, known.index(_plain(name))]
        return ClusterLabels(self.ids, tuple(sources), values)


def read_labels(
    source: str | Path | Table,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    id_column: str | None = None,
) -> ClusterLabels:
    """Read catalogued parameters.

    Parameters
    ----------
    source : str, Path or astropy Table
    columns : mapping of catalogue to mapping of quantity to column, optional
        Quantities are log_age, extinction_v, distance (kpc), distance_pc, distance_modulus and
        metallicity. Without it the columns of known catalogues are recognised, or the table is a
        long one.
    id_column : str, optional
        Column that names the cluster; by default ``id``, ``key``, ``Cluster`` or ``Name``.

    Returns
    -------
    ClusterLabels
        Of a cluster listed twice, and of a quantity in two columns, the first value that is not
        missing counts. Rows that name no cluster are left out.

    Raises
    ------
    MelotteFileError, MelotteValueError
        When the table cannot be read, names no cluster, no label is recognised, or a column's
        unit does not convert.
    """
    table = read_table(source)
    path = table_path(source)
    names = list(table.columns)
    lower = {name.lower(): name for name in names}
    key = id_column or next((lower[name] for name in _ID_NAMES if name in lower), None)
    if key is None or key not in names:
        raise MelotteValueError(
            f"{path} has no column {id_column or 'id, key, Cluster or Name'!r} that names the "
            f"cluster; found: {listed(names)}"
        )
    ids = np.array([str(name).strip() for name in table.text(key)], dtype=object)
    found = _recognised(names, path) if columns is None else _resolved(columns, names, path)
    if not found and "source" in lower and any(name in lower for name in _KNOWN):
        labels = _long(table, ids, lower)
    elif found:
        labels = _wide(table, ids, found)
    else:
        raise MelotteValueError(
            f"{path} has no column of a known catalogue ({', '.join(CATALOGUES)}), and no column "
            f"'source' beside {', '.join(_KNOWN)}; found: {listed(names)}"
        )
    if not np.isfinite(labels.values).any():
        raise MelotteFileError(f"{path}: every label is missing")
    return labels


def source_scatter(labels: ClusterLabels, least: int = 30) -> NDArray[np.float64]:
    """Scatter of each catalogue, from how much the catalogues disagree.

    The variance of the difference of two catalogues is taken as the sum of their own variances
    (independent errors; what all share stays hidden), which a non-negative least-squares fit over
    all pairs takes apart, each pair weighted by how well its variance is known. Differences are
    measured by half their 16-84 % range, distances relative to their mean. Where pairs do not
    tell catalogues apart (two catalogues, and no third), variances are split as evenly as they
    can be.

    Parameters
    ----------
    labels : ClusterLabels
    least : int
        Clusters that a pair must share to count.

    Returns
    -------
    array, shape (n_sources, 4)
        log10(age), mag, relative, dex; NaN for a catalogue in no pair.
    """
    from scipy.optimize import nnls

    n = len(labels.sources)
    scatter = np.full((n, len(TARGETS)), np.nan)
    for target in range(len(TARGETS)):
        design, variances = [], []
        for one in range(n):
            for other in range(one):
                first, second = labels.values[:, one, target], labels.values[:, other, target]
                both = np.isfinite(first) & np.isfinite(second)
                if both.sum() < least:
                    continue
                difference = (first - second)[both]
                if TARGETS[target] == "distance":
                    difference = difference / ((first + second)[both] / 2)
                low, high = np.quantile(difference, [0.16, 0.84])
                variance = max((high - low) / 2, 1e-6) ** 2
                # A variance from m differences is uncertain by sqrt(2 / m) of itself.
                weight = np.sqrt(both.sum()) / variance
                row = np.zeros(n)
                row[[one, other]] = weight
                design.append(row)
                variances.append(weight * variance)
        if design:
            used = np.any(design, axis=0)
            rows, right = np.array(design)[:, used], np.array(variances)
            if np.linalg.matrix_rank(rows) < used.sum():
                # A faint pull towards zero picks the smallest of all solutions: an even split.
                pull = 1e-4 * np.abs(rows).min(initial=np.inf, where=rows > 0)
                rows = np.vstack([rows, pull * np.eye(rows.shape[1])])
                right = np.concatenate([right, np.zeros(rows.shape[1])])
            solution, _ = nnls(rows, right)
            scatter[used, target] = np.sqrt(solution)
    return scatter


def _plain(name: str) -> str:
    return name.replace(" ", "").lower()


def _recognised(names: list[str], path: Path) -> dict[str, dict[str, str]]:
    """Columns of each known catalogue that this table has."""
    bare = [catalogue for catalogue, column in OWN_COLUMNS.items() if column in names]
    shared = [name for name in ("logAge50", "AV50") if name in names]
    if len(bare) > 1 and shared:
        raise MelotteValueError(
            f"{path}: column {shared[0]!r} may be of {' or '.join(bare)}, whose distances are both "
            "there; give it the prefix H23_ or C24_"
        )
    found: dict[str, dict[str, str]] = {}
    for catalogue, known in CATALOGUES.items():
        for quantity, (prefixed, *others) in known.items():
            spellings = [prefixed]
            if catalogue not in OWN_COLUMNS or catalogue in bare:
                spellings += others
            present = [name for name in spellings if name in names]
            if present:
                found.setdefault(catalogue, {})[quantity] = present[0]
    return found


def _resolved(
    columns: Mapping[str, Mapping[str, str]], names: list[str], path: Path
) -> dict[str, dict[str, str]]:
    """The columns that were named, once they are seen to be there."""
    for catalogue, given in columns.items():
        for quantity, name in given.items():
            if quantity not in _KNOWN:
                raise MelotteValueError(
                    f"labels of {catalogue}: {quantity!r} is not a quantity; allowed: "
                    f"{', '.join(_KNOWN)}"
                )
            if name not in names:
                raise MelotteValueError(
                    f"{path} has no column {name!r} for {quantity} of {catalogue}; "
                    f"found: {listed(names)}"
                )
    return {catalogue: dict(given) for catalogue, given in columns.items()}


def _wide(
    table: TableFile, ids: NDArray[np.object_], columns: dict[str, dict[str, str]]
) -> ClusterLabels:
    values = np.full((len(ids), len(columns), len(TARGETS)), np.nan)
    for position, given in enumerate(columns.values()):
        for quantity, name in given.items():
            target, numbers = _as_target(quantity, _in_unit(table, name, quantity))
            kept = values[:, position, target]
            values[:, position, target] = np.where(np.isfinite(kept), kept, numbers)
    return _merged(ids, tuple(columns), values)


def _long(table: TableFile, ids: NDArray[np.object_], lower: Mapping[str, str]) -> ClusterLabels:
    given = np.array([str(name).strip() for name in table.text(lower["source"])], dtype=object)
    spelled: dict[str, str] = {}
    for name in given:
        spelled.setdefault(_plain(name), name)
    numbered = {plain: position for position, plain in enumerate(spelled)}
    position = np.array([numbered[_plain(name)] for name in given], dtype=np.int64)
    rows = np.arange(len(ids))
    values = np.full((len(ids), len(spelled), len(TARGETS)), np.nan)
    for quantity in _KNOWN:
        if quantity in lower:
            target, numbers = _as_target(quantity, _in_unit(table, lower[quantity], quantity))
            kept = values[rows, position, target]
            values[rows, position, target] = np.where(np.isfinite(kept), kept, numbers)
    return _merged(ids, tuple(spelled.values()), values)


def _in_unit(table: TableFile, name: str, quantity: str) -> NDArray[np.float64]:
    """A column in the unit of its quantity; logarithms have none to convert."""
    if quantity in _UNITS:
        return table.numbers_in(name, _UNITS[quantity])
    stated = table.units.get(name, "").strip()
    if quantity == "log_age" and stated in _TIMES:
        raise MelotteValueError(
            f"{table.path}: column {name!r} is in {stated!r}; log_age is log10(age/yr)"
        )
    return table.numbers(name)


def _as_target(quantity: str, values: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """Number of the target, and the values in its unit; what is no number becomes NaN."""
    if quantity == "distance_pc":
        values = values / 1000
    elif quantity == "distance_modulus":
        values = 10 ** (values / 5 - 2)
    name = "distance" if quantity.startswith("distance") else quantity
    good = np.isfinite(values) & ((values > 0) | (name != "distance"))
    return TARGETS.index(name), np.where(good, values, np.nan)


def _merged(
    ids: NDArray[np.object_], sources: tuple[str, ...], values: NDArray[np.float64]
) -> ClusterLabels:
    """One row a cluster: the first value of each entry that is not missing."""
    names = tuple(dict.fromkeys(name for name in ids if name))
    row = {name: number for number, name in enumerate(names)}
    merged = np.full((len(names), *values.shape[1:]), np.nan)
    for name, entry in zip(ids, values, strict=True):
        if name:
            kept = merged[row[name]]
            merged[row[name]] = np.where(np.isfinite(kept), kept, entry)
    return ClusterLabels(names, sources, merged)
