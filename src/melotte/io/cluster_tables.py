"""Tables of clusters of galaxies: where each one is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.io.causticmass_files import read_galaxy_table
from melotte.io.galaxy_columns import CLUSTER_QUANTITIES, recognise_galaxies
from melotte.io.galaxy_rows import RedshiftKind, redshifts
from melotte.io.tables import table_path

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True)
class ClusterPositions:
    """Names, positions and redshifts of clusters.

    Parameters
    ----------
    ids : tuple of str, length n
        Each once.
    values : array, shape (n, 3)
        Right ascension, declination (deg) and redshift; NaN where not given.
    """

    ids: tuple[str, ...]
    values: NDArray[np.float64]

    @cached_property
    def positions(self) -> dict[str, tuple[float, float, float]]:
        """Right ascension, declination (deg) and redshift of each cluster by its name."""
        return {
            name: (ra, dec, redshift)
            for name, (ra, dec, redshift) in zip(self.ids, self.values.tolist(), strict=True)
        }


def read_cluster_positions(
    source: str | Path | Table, kind: RedshiftKind = "auto"
) -> ClusterPositions:
    """Read a table ``cluster_id, ra, dec, z``; position or redshift may be missing.

    Parameters
    ----------
    source : str, Path or astropy Table
    kind : {"auto", "z", "cz"}
        What the redshift column holds.

    Raises
    ------
    MelotteFileError
        When the file cannot be read as a table.
    MelotteValueError
        When no column names the clusters, none gives a position or redshift, or a cluster is
        listed twice.
    """
    path = table_path(source)
    recognised: list[Any] = []

    def choose(names: Sequence[str]) -> Sequence[str]:
        columns = recognise_galaxies(names, None, str(path))
        found = {key: columns.found[key] for key in CLUSTER_QUANTITIES if key in columns.found}
        for instead, quantity in (("name", "cluster"), ("cluster_redshift", "redshift")):
            if quantity not in found and instead in columns.found:
                found[quantity] = columns.found[instead]
        if "cluster" not in found:
            columns.require("cluster")
        if "redshift" not in found and not {"ra", "dec"} <= found.keys():
            columns.require("redshift")
        recognised.append(found)
        return list(found.values())

    table, _ = read_galaxy_table(source, choose)
    found = recognised[-1]
    ids = [str(name) for name in table.text(found["cluster"])]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise MelotteValueError(f"{path}: cluster {twice[0]!r} is listed more than once")
    values = np.full((len(ids), 3), np.nan)
    for position, quantity in enumerate(("ra", "dec")):
        if quantity in found:
            values[:, position] = table.numbers_in(found[quantity], "deg")
    if "redshift" in found:
        values[:, 2] = redshifts(table, found["redshift"], kind)
    return ClusterPositions(tuple(ids), values)
