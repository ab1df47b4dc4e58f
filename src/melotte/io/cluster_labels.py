"""Catalogued parameters of star clusters: who says what of which cluster.

A table may be *wide*, a row a cluster with columns of one or several catalogues, or *long*, a row
a cluster and catalogue with a column ``source``. Columns of the catalogues below are recognised
by their names at CDS or with the short prefix that joined tables give them.
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
        "log_age": ("C24_logAge50",),
        "extinction_v": ("C24_AV50",),
        "distance_modulus": ("C24_dMod50",),
        "metallicity": ("C24_[Fe/H]50",),
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

_ID_NAMES = ("id", "key", "cluster", "name")
_QUANTITIES = ("log_age", "extinction_v", "distance", "distance_pc", "distance_modulus")
_KNOWN = (*_QUANTITIES, "metallicity")


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
        """The same clusters with these sources, NaN for one that has no label here."""
        values = np.full((len(self.ids), len(sources), len(TARGETS)), np.nan)
        for position, name in enumerate(sources):
            if name in self.sources:
                values[:, position] = self.values[:, self.sources.index(name)]
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
        Of a cluster listed twice, the first value that is not missing counts.

    Raises
    ------
    MelotteFileError, MelotteValueError
        When the table cannot be read, names no cluster, or no label is recognised.
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
    if columns is None and "source" in lower:
        labels = _long(table, ids, lower)
    else:
        labels = _wide(table, path, ids, _resolved(columns, names, path))
    if not np.isfinite(labels.values).any():
        raise MelotteFileError(f"{path}: every label is missing")
    return labels


def source_scatter(labels: ClusterLabels, least: int = 30) -> NDArray[np.float64]:
    """Scatter of each catalogue, from how much the catalogues disagree.

    The variance of the difference of two catalogues is taken as the sum of their own variances
    (independent errors; what all share stays hidden), which a non-negative least-squares fit over
    all pairs takes apart, each pair weighted by how well its variance is known. Differences are
    measured by half their 16-84 % range, distances relative to their mean.

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
            solution, _ = nnls(np.array(design)[:, used], np.array(variances))
            scatter[used, target] = np.sqrt(solution)
    return scatter


def _resolved(
    columns: Mapping[str, Mapping[str, str]] | None, names: list[str], path: Path
) -> dict[str, dict[str, str]]:
    """Columns of each catalogue that this table has."""
    if columns is None:
        found = {
            catalogue: {
                quantity: next(name for name in spellings if name in names)
                for quantity, spellings in known.items()
                if any(name in names for name in spellings)
            }
            for catalogue, known in CATALOGUES.items()
        }
        found = {catalogue: known for catalogue, known in found.items() if known}
        if not found:
            raise MelotteValueError(
                f"{path} has no column of a known catalogue ({', '.join(CATALOGUES)}) and no "
                f"column 'source'; found: {listed(names)}"
            )
        return found
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
    table: TableFile, path: Path, ids: NDArray[np.object_], columns: dict[str, dict[str, str]]
) -> ClusterLabels:
    values = np.full((len(ids), len(columns), len(TARGETS)), np.nan)
    for position, given in enumerate(columns.values()):
        for quantity, name in given.items():
            target, numbers = _as_target(quantity, table.numbers(name))
            values[:, position, target] = numbers
    return _merged(ids, tuple(columns), values)


def _long(table: TableFile, ids: NDArray[np.object_], lower: Mapping[str, str]) -> ClusterLabels:
    given = np.array([str(name).strip() for name in table.text(lower["source"])], dtype=object)
    sources = tuple(dict.fromkeys(given))
    position = np.array([sources.index(name) for name in given])
    values = np.full((len(ids), len(sources), len(TARGETS)), np.nan)
    for quantity in _KNOWN:
        if quantity in lower:
            target, numbers = _as_target(quantity, table.numbers(lower[quantity]))
            values[np.arange(len(ids)), position, target] = numbers
    return _merged(ids, sources, values)


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
    names = tuple(dict.fromkeys(ids))
    row = {name: number for number, name in enumerate(names)}
    merged = np.full((len(names), *values.shape[1:]), np.nan)
    for name, entry in zip(ids, values, strict=True):
        kept = merged[row[name]]
        merged[row[name]] = np.where(np.isfinite(kept), kept, entry)
    return ClusterLabels(names, sources, merged)
