"""What ``infer`` says of the galaxies of clusters: their table, and how many are members."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.engine.json_values import plain_json
from melotte.engine.progress import Progress
from melotte.engine.results import InferenceResult, ResultColumn
from melotte.errors import MelotteValueError
from melotte.report.membership_boundary import MembershipBoundary, membership_boundary
from melotte.systems.galaxy_cluster.galaxy_identity import GalaxyIdentity, galaxy_identity
from melotte.systems.galaxy_cluster.membership import member_probabilities

if TYPE_CHECKING:
    from astropy.table import Table

    from melotte.engine.model_files import Model
    from melotte.systems.base import Observation

Array = NDArray[np.float64]

SYSTEMS = ("galaxy-cluster", "ho2019")
"""Systems whose observations hold galaxies."""
N_MEMBERS = "n_members"
COUNTED = "sum of the galaxies' member probabilities; a member is bound within 1.3 R200c"


@dataclass(frozen=True)
class ClusterGalaxies:
    """One cluster's galaxies as the network read them.

    Parameters
    ----------
    name : str
    row : int
        In the result.
    observation : Observation
        Of this cluster alone.
    conventions : mapping
        What the reader says of lengths, h and velocities; empty for mocks.
    velocity : array, shape (n_galaxies,), km/s, in the cluster's frame
    radius : array, shape (n_galaxies,), Mpc/h
    aperture : float, Mpc/h
    velocity_cut : float, km/s
    redshift : float
        NaN where the table gives none.
    identity : GalaxyIdentity, optional
        Names and positions, where they were read.
    membership : array, shape (n_galaxies,), 0 to 1, or None
        None for a model that does not give it.
    boundary : MembershipBoundary, optional
    """

    name: str
    row: int
    observation: Observation
    conventions: Mapping[str, Any]
    velocity: Array
    radius: Array
    aperture: float
    velocity_cut: float
    redshift: float
    identity: GalaxyIdentity | None = None
    membership: Array | None = None
    boundary: MembershipBoundary | None = None

    @property
    def lengths(self) -> str:
        """How radii are counted: ``"comoving Mpc/h"``, ``"physical Mpc/h"`` or ``"Mpc/h"``."""
        return str(self.conventions.get("lengths", "Mpc/h"))


def gives_memberships(model: Model) -> bool:
    """Whether the model tells members from interlopers."""
    settings: Any = getattr(model.system, "model", None)
    return getattr(settings, "membership_weight", 0) > 0


def require_memberships(model: Model, option: str) -> None:
    """Refuse what only a galaxy-cluster model with memberships gives.

    Raises
    ------
    MelotteValueError
    """
    if model.system.name not in SYSTEMS:
        raise MelotteValueError(
            f"{option} is for galaxy clusters; this model measures {model.system.name}"
        )
    if not gives_memberships(model):
        raise MelotteValueError(
            f"{option} needs memberships of galaxies, which model {model.name} does not give"
        )


def galaxy_lists(
    result: InferenceResult, observations: Sequence[Observation]
) -> Iterator[ClusterGalaxies]:
    """The clusters that were measured, in the order of their reading, memberships not yet known."""
    rows: dict[str, deque[int]] = {}
    for row, name in enumerate(result.ids):
        rows.setdefault(name, deque()).append(row)
    for observation in observations:
        data: Any = observation.data
        redshifts = observation.header.get("redshift", data["redshift"].tolist())
        for i, name in enumerate(observation.ids):
            row = rows[name].popleft()
            if not np.isfinite(result.quantiles[row]).all():
                continue
            table = data["galaxies"][i].cpu().numpy().astype(float)
            yield ClusterGalaxies(
                name=name,
                row=row,
                observation=_alone(observation, i),
                conventions=observation.header.get("conventions", {}),
                velocity=table[:, 0],
                radius=table[:, 1],
                aperture=float(data["aperture"][i]),
                velocity_cut=float(data["velocity_cut"][i]),
                redshift=float(redshifts[i]),
                identity=galaxy_identity(observation, i),
            )


def with_memberships(model: Model, clusters: Sequence[ClusterGalaxies]) -> list[ClusterGalaxies]:
    """Clusters with their galaxies' member probabilities and the boundary in phase space.

    Unchanged where the model gives none. Shows progress on a terminal.
    """
    if not gives_memberships(model):
        return list(clusters)
    bar = Progress(len(clusters), "clusters' galaxies judged")
    found = []
    try:
        for one in clusters:
            membership = member_probabilities(model, one.observation).double().numpy()
            boundary = membership_boundary(model, one.observation)
            found.append(replace(one, membership=membership, boundary=boundary))
            bar.update(len(found))
    finally:
        bar.close()
    return found


def with_n_members(result: InferenceResult, clusters: Sequence[ClusterGalaxies]) -> InferenceResult:
    """The result with the column ``n_members``; NaN where a row failed."""
    n = np.full(len(result), np.nan)
    for one in clusters:
        if one.membership is not None:
            n[one.row] = one.membership.sum()
    column = ResultColumn(n, "", COUNTED)
    return replace(result, columns={**result.columns, N_MEMBERS: column})


def galaxy_table(result: InferenceResult, clusters: Sequence[ClusterGalaxies]) -> Table:
    """One row a galaxy, clusters in the order of the result and galaxies in that of the file.

    Parameters
    ----------
    result : InferenceResult
        Gives the provenance.
    clusters : sequence of ClusterGalaxies, with memberships

    Returns
    -------
    astropy Table
        ``id``; ``galaxy``, ``ra`` and ``dec`` where any file gives them; ``radius`` (Mpc,
        physical), ``radius_mpc_h`` (as the network reads it), ``velocity`` (km/s),
        ``member_probability`` and ``velocity_boundary`` (km/s).
    """
    from astropy.table import Column, Table

    table: Any = Table()

    def joined(parts: list[Any], kind: Any = float) -> NDArray[Any]:
        return np.concatenate(parts) if parts else np.array([], dtype=kind)

    def add(name: str, values: NDArray[Any], unit: str, description: str) -> None:
        table[name] = Column(values, unit=unit or None, description=description)

    add("id", joined([np.full(len(c.velocity), c.name) for c in clusters], "U1"), "", "cluster")
    found = [c.identity or GalaxyIdentity.unknown(len(c.velocity)) for c in clusters]
    names = joined([one.name for one in found], "U1")
    if (names != "").any():
        add("galaxy", names, "", "name in the input; empty where it has none")
    for name, text in (("ra", "right ascension"), ("dec", "declination")):
        degrees = joined([getattr(one, name) for one in found])
        if np.isfinite(degrees).any():
            add(name, degrees, "deg", text)
    lengths = clusters[0].lengths if clusters else "Mpc/h"
    add(
        "radius",
        joined([_physical_radius(c) for c in clusters]),
        "Mpc",
        "projected distance from the centre, physical, for the h of the header",
    )
    add("radius_mpc_h", joined([c.radius for c in clusters]), "", f"the same in {lengths}")
    add(
        "velocity",
        joined([c.velocity for c in clusters]),
        "km/s",
        "line of sight, from the centre, in the cluster's frame",
    )
    add(
        "member_probability",
        joined([np.full(len(c.radius), np.nan) if c.membership is None else c.membership
                for c in clusters]),
        "",
        "chance that the galaxy is bound to the cluster within 1.3 R200c, not an interloper",
    )  # fmt: skip
    add(
        "velocity_boundary",
        joined([np.full(len(c.radius), np.nan) if c.boundary is None else c.boundary.at(c.radius)
                for c in clusters]),
        "km/s",
        "speed at this radius at which a further galaxy would be a member with probability "
        "0.5; the velocity cut where all are members, 0 where none is",
    )  # fmt: skip
    about = {"provenance": dict(result.provenance), "header": _conventions(clusters)}
    table.meta["melotte"] = plain_json(about, "provenance", nulls=True)
    return table


def summary_lines(clusters: Sequence[ClusterGalaxies]) -> Iterator[str]:
    """How many galaxies are members, for a person."""
    n = sum(len(one.velocity) for one in clusters)
    members = sum(float(one.membership.sum()) for one in clusters if one.membership is not None)
    yield f"galaxies of {len(clusters)} clusters: {n}, members among them: {members:.0f}"


def _alone(observation: Observation, i: int) -> Observation:
    import torch

    return observation.select(torch.tensor([i]))


def _conventions(clusters: Sequence[ClusterGalaxies]) -> dict[str, Any]:
    return {"conventions": dict(clusters[0].conventions)} if clusters else {}


def _physical_radius(cluster: ClusterGalaxies) -> Array:
    """Projected radii in physical Mpc; NaN where lengths, h or redshift are not known."""
    h = float(cluster.conventions.get("h", np.nan))
    comoving = cluster.lengths.startswith("comoving")
    return cluster.radius / h / (1 + (cluster.redshift if comoving else 0.0))
