"""Real open clusters: member lists of two Gaia releases, labels of six catalogues, folds.

The folder given by ``--data`` holds ``members_gaia_edr3.parquet`` (clusters named by ``key``),
``members_gaia_dr2.parquet`` (named by ``id``, which ``clusters_gaia_dr2.csv`` gives a ``key``),
``labels_joint.csv`` and ``labels_cantat_gaudin_2020.csv``. Every method gets the same
:class:`~melotte.systems.base.Observation`: the reader's, all usable stars, no selection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteFileError
from melotte.io.cluster_labels import TARGETS, ClusterLabels, read_labels
from melotte.io.tables import read_table
from melotte.ragged import Ragged, offsets_of
from melotte.systems.base import Observation, RowError
from melotte.systems.open_cluster.settings import DataSettings, ModelSettings
from melotte.systems.open_cluster.system import OpenCluster

MEMBERS = {"EDR3": "members_gaia_edr3.parquet", "DR2": "members_gaia_dr2.parquet"}
GROUP_BY = {"EDR3": "key", "DR2": "id"}
LABELS = ("labels_joint.csv", "labels_cantat_gaudin_2020.csv")
NAMES_DR2 = "clusters_gaia_dr2.csv"


@dataclass(frozen=True)
class Catalogue:
    """The clusters of one Gaia release, each once.

    Parameters
    ----------
    keys : tuple of str, length n
    release : {"EDR3", "DR2"}
    observation : Observation of n clusters
    labels : dict of source to array (n, 4), in the order of TARGETS
        NaN where the source is silent.
    folds : array of int, shape (n,)
        A cluster has the same fold in both releases.
    """

    keys: tuple[str, ...]
    release: str
    observation: Observation
    labels: dict[str, NDArray[np.float64]]
    folds: NDArray[np.int64]


@dataclass(frozen=True)
class LabelledClusters:
    """Lists of both releases with all that catalogues say of them: what a method trains on.

    Parameters
    ----------
    keys : tuple of str, length n
        A cluster that both releases list stands here twice.
    observation : Observation of n lists
    labels : dict of source to array (n, 4), in the order of TARGETS
    dr2 : array of bool, shape (n,)
    """

    keys: tuple[str, ...]
    observation: Observation
    labels: dict[str, NDArray[np.float64]]
    dr2: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, chosen: ArrayLike) -> LabelledClusters:
        """The lists for which ``chosen`` (n,) is true."""
        rows = np.flatnonzero(chosen)
        return LabelledClusters(
            tuple(self.keys[i] for i in rows),
            self.observation.select(torch.as_tensor(rows)),
            {source: values[rows] for source, values in self.labels.items()},
            self.dr2[rows],
        )

    def with_all_labels_of(self, source: str, n_targets: int = 3) -> LabelledClusters:
        """The lists of which a source gives the first ``n_targets`` targets."""
        return self.select(
            np.isfinite(self.labels[source][:, :n_targets]).all(axis=1, keepdims=False)
        )


def read_catalogues(
    folder: Path, n_folds: int = 5, seed: int = 0, releases: Sequence[str] = ("EDR3", "DR2")
) -> dict[str, Catalogue]:
    """Read members and labels, drop clusters listed twice, and deal all into folds.

    Parameters
    ----------
    folder : Path
    n_folds : int, >= 2
    seed : int
        Of the folds.
    releases : sequence of {"EDR3", "DR2"}

    Returns
    -------
    dict of release to Catalogue

    Raises
    ------
    MelotteFileError
        When a file is missing or cannot be read.
    """
    missing = [
        name
        for name in (*LABELS, *(MEMBERS[release] for release in releases))
        if not (folder / name).is_file()
    ]
    if missing:
        raise MelotteFileError(f"{folder} has no {', '.join(missing)}")
    tables = [read_labels(folder / name, id_column="key") for name in LABELS]
    system = OpenCluster(DataSettings(), ModelSettings())
    lists: dict[str, tuple[tuple[str, ...], Observation]] = {}
    for release in releases:
        options = {"group_by": GROUP_BY[release], "release": release}
        observation = joined(system.read(str(folder / MEMBERS[release]), options))
        keys = observation.ids if release == "EDR3" else _keys_of_dr2(folder, observation.ids)
        lists[release] = once_each(keys, observation)
    folds = folds_of([key for keys, _ in lists.values() for key in keys], n_folds, seed)
    return {
        release: Catalogue(
            keys,
            release,
            observation,
            labels_of(keys, tables),
            np.array([folds[key] for key in keys]),
        )
        for release, (keys, observation) in lists.items()
    }


def folds_of(keys: Iterable[str], n_folds: int, seed: int) -> dict[str, int]:
    """Deal clusters into folds of equal size, whatever the order of their rows.

    Parameters
    ----------
    keys : iterable of str
        A key may stand several times.
    n_folds : int
    seed : int

    Returns
    -------
    dict of key to fold, 0 to n_folds - 1
    """
    ordered = sorted(set(keys))
    places = np.random.default_rng(seed).permutation(len(ordered))
    return {key: int(place) % n_folds for key, place in zip(ordered, places, strict=True)}


def once_each(keys: Sequence[str], observation: Observation) -> tuple[tuple[str, ...], Observation]:
    """Keep the first list of every key, under its key."""
    first = list({key: i for i, key in reversed(list(enumerate(keys)))}.values())[::-1]
    chosen = observation.select(torch.tensor(sorted(first)))
    kept = tuple(keys[i] for i in sorted(first))
    return kept, Observation(chosen.data, kept, chosen.flags)


def labels_of(
    keys: Sequence[str], tables: Sequence[ClusterLabels]
) -> dict[str, NDArray[np.float64]]:
    """Labels of each source for these clusters, (n, 4): the first table that has them counts."""
    found: dict[str, NDArray[np.float64]] = {}
    for table in tables:
        row = {name: i for i, name in enumerate(table.ids)}
        rows = np.array([row.get(key, -1) for key in keys])
        for position, source in enumerate(table.sources):
            values = np.where(rows[:, None] >= 0, table.values[rows, position], np.nan)
            kept = found.setdefault(source, np.full((len(keys), len(TARGETS)), np.nan))
            found[source] = np.where(np.isfinite(kept), kept, values)
    return found


def together(catalogues: Iterable[Catalogue]) -> LabelledClusters:
    """The lists of several releases, one release after the other."""
    parts = list(catalogues)
    return LabelledClusters(
        tuple(key for part in parts for key in part.keys),
        joined(part.observation for part in parts),
        {
            source: np.concatenate([part.labels[source] for part in parts])
            for source in parts[0].labels
        },
        np.concatenate([np.full(len(part.keys), part.release == "DR2") for part in parts]),
    )


def joined(entries: Iterable[Observation | RowError]) -> Observation:
    """One observation of many batches; lists that could not be read are left out."""
    parts = [entry for entry in entries if isinstance(entry, Observation)]
    stars = [part.data["stars"] for part in parts]
    lists = [one for one in stars if isinstance(one, Ragged)]
    counts = torch.cat([one.counts for one in lists])
    data = {"stars": Ragged(torch.cat([one.values for one in lists]), offsets_of(counts))}
    numbers = {
        name: torch.cat([torch.as_tensor(part.data[name]) for part in parts])
        for name in ("n_listed", "release")
    }
    return Observation(data | numbers, tuple(name for part in parts for name in part.ids))


def _keys_of_dr2(folder: Path, ids: Sequence[str]) -> tuple[str, ...]:
    """Keys of the DR2 clusters, or ``dr2-`` and the number of one without."""
    if not (folder / NAMES_DR2).is_file():
        raise MelotteFileError(f"{folder} has no {NAMES_DR2}")
    names = read_table(folder / NAMES_DR2)
    known = dict(zip(map(str, names.text("id")), map(str, names.text("key")), strict=True))
    return tuple(known.get(name) or f"dr2-{name}" for name in ids)
