"""What ``infer`` says of the galaxies of clusters: their table, and how many are members."""

from __future__ import annotations

import inspect
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
from melotte.io.galaxy_lists import GalaxyList, GalaxySelection
from melotte.io.galaxy_members import read_galaxies
from melotte.report.membership_boundary import MembershipBoundary, membership_boundary
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


def read_lists(source: Any, options: Mapping[str, Any], data: Any) -> list[GalaxyList]:
    """The galaxies' names and positions, which networks do not read, as the files give them.

    Parameters
    ----------
    source, options
        As for :meth:`melotte.systems.base.System.read` of galaxy clusters.
    data : DataSettings
        Of the model.
    """
    given = {name: value for name, value in options.items() if value is not None}
    chosen = {"lengths": data.lengths, "h": data.cosmology.h, "omega_m": data.cosmology.omega_m}
    names = inspect.signature(GalaxySelection).parameters
    selection = GalaxySelection(**(chosen | {k: v for k, v in given.items() if k in names}))
    asked = {name: given[name] for name in ("clusters", "column", "group_by") if name in given}
    groups = read_galaxies(source, selection=selection, **asked)
    return [one for one in groups if isinstance(one, GalaxyList)]


def galaxy_table(
    result: InferenceResult, clusters: Sequence[ClusterGalaxies], lists: Sequence[GalaxyList] = ()
) -> Table:
    """One row a galaxy, clusters in the order of the result and galaxies in that of the file.

    Parameters
    ----------
    result : InferenceResult
        Gives the provenance.
    clusters : sequence of ClusterGalaxies, with memberships
    lists : sequence of GalaxyList
        Give names and positions, where the files have any.

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
    by_name = {one.id: one for one in lists}
    found = [_identity(c, by_name.get(c.name)) for c in clusters]
    names = joined([one[0] for one in found], "U1").astype(str)
    if (names != "").any():
        add("galaxy", names, "", "name in the input; empty where it has none")
    for k, (name, text) in enumerate((("ra", "right ascension"), ("dec", "declination")), 1):
        degrees = joined([one[k] for one in found])
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


def _identity(cluster: ClusterGalaxies, known: GalaxyList | None) -> tuple[Any, Array, Array]:
    """Names and positions (deg) of the galaxies that were read; empty and NaN where unknown.

    The file's list holds the same galaxies in the same order, and perhaps some more, which were
    left out after the cylinder was cut.
    """
    n = len(cluster.velocity)
    names, ra, dec = np.full(n, "", dtype=object), np.full(n, np.nan), np.full(n, np.nan)
    if known is None:
        return names, ra, dec
    listed = np.stack([known.velocity, known.radius], -1).astype(np.float32)
    ours = np.stack([cluster.velocity, cluster.radius], -1).astype(np.float32)
    place = 0
    for i in range(n):
        while place < len(listed) and not (listed[place] == ours[i]).all():
            place += 1
        if place == len(listed):
            break
        names[i], ra[i], dec[i] = known.name[place], known.ra[place], known.dec[place]
        place += 1
    return names, ra, dec
