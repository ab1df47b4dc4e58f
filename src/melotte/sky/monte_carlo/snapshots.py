"""Snapshots and checkpoints of clusters that evolve."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from melotte.errors import MelotteFileError
from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.monte_carlo.equilibria import King, Plummer
from melotte.sky.monte_carlo.tides import CircularOrbit
from melotte.sky.snapshot_photometry import with_photometry

if TYPE_CHECKING:
    from melotte.sky.monte_carlo.evolution import ClusterEvolution, ClusterModel

CHECKPOINT_VERSION = 1

_ARRAYS = ("stars", "companion", "kind", "merged", "ledger", "counters", "energies")
_NUMBERS = ("time", "step", "events", "drift", "initial_energy", "softening")


def snapshot_of(cluster: ClusterEvolution, photometry: bool = True) -> StarSnapshot:
    """The stars that a cluster holds now.

    Parameters
    ----------
    cluster : ClusterEvolution
    photometry : bool
        With luminosities, temperatures and magnitudes.

    Returns
    -------
    StarSnapshot
        Radii and velocities are those of its shells; both stars of a binary stand in one.
    """
    first = cluster.names[: cluster.n]
    second = cluster.companion[first]
    paired = np.nonzero(second >= 0)[0]
    star = np.concatenate([first, second[paired]])
    shell = np.concatenate([np.arange(cluster.n), paired])
    snapshot = StarSnapshot.of(
        cluster.stars[0, star],
        cluster.kind[star],
        time=cluster.time,
        metallicity=cluster.model.metallicity,
        radius=cluster.shells[0, shell],
        radial_velocity=cluster.shells[1, shell],
        tangential_velocity=cluster.shells[2, shell],
        initial_mass=np.where(cluster.merged[star], np.nan, cluster.initial_mass[star]),
        ids=star,
        system=first[shell],
        provenance={"format": "melotte", "model": model_values(cluster.model)},
    )
    return with_photometry(snapshot) if photometry else snapshot


def model_values(model: ClusterModel) -> dict[str, Any]:
    """A model as JSON values."""
    values = asdict(model)
    values["equilibrium"] = {"name": type(model.equilibrium).__name__, **values["equilibrium"]}
    return values


def model_of(values: dict[str, Any]) -> ClusterModel:
    """The inverse of :func:`model_values`."""
    from melotte.sky.monte_carlo.evolution import ClusterModel

    given = dict(values)
    shape = dict(given.pop("equilibrium"))
    kind = {"Plummer": Plummer, "King": King}[shape.pop("name")]
    orbit = given.pop("orbit")
    return ClusterModel(
        equilibrium=kind(**shape),
        orbit=None if orbit is None else CircularOrbit(**orbit),
        **given,
    )


def write_checkpoint(path: str | Path, cluster: ClusterEvolution) -> None:
    """Write all that a run needs to go on, in one HDF5 file.

    Parameters
    ----------
    path : path
        Replaced when it exists.
    cluster : ClusterEvolution
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w") as file:
        file.attrs["version"] = CHECKPOINT_VERSION
        file.attrs["model"] = json.dumps(model_values(cluster.model))
        file.attrs["history"] = json.dumps(asdict(cluster.history))
        for name in _NUMBERS:
            file.attrs[name] = getattr(cluster, name)
        file["initial_mass"] = cluster.initial_mass
        file["shells"] = cluster.shells[:, : cluster.n]
        file["names"] = cluster.names[: cluster.n]
        for name in _ARRAYS:
            file[name] = getattr(cluster, name)
    partial.replace(path)


def read_checkpoint(path: str | Path) -> ClusterEvolution:
    """The cluster of a checkpoint, which goes on exactly as the one that wrote it.

    Raises
    ------
    MelotteFileError
        When the file is none.
    """
    from melotte.sky.monte_carlo.evolution import ClusterEvolution, History

    try:
        with h5py.File(path) as file:
            attributes: Any = file.attrs
            version = int(attributes["version"])
            if version != CHECKPOINT_VERSION:
                raise MelotteFileError(
                    f"{path}: a checkpoint of version {version}; this melotte reads "
                    f"{CHECKPOINT_VERSION}"
                )
            model = model_of(json.loads(str(attributes["model"])))
            initial_mass: Any = file["initial_mass"]
            cluster = ClusterEvolution(model, initial_mass[:])
            cluster.history = History(**json.loads(str(attributes["history"])))
            for name in _NUMBERS:
                value = attributes[name]
                setattr(cluster, name, int(value) if name in ("step", "events") else float(value))
            shells: Any = file["shells"]
            names: Any = file["names"]
            cluster.n = shells.shape[1]
            cluster.shells[:, : cluster.n] = shells[:]
            cluster.names[: cluster.n] = names[:]
            for name in _ARRAYS:
                array: Any = file[name]
                getattr(cluster, name)[...] = array[:]
    except MelotteFileError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise MelotteFileError(f"{path}: not a checkpoint of a cluster ({error})") from error
    return cluster
