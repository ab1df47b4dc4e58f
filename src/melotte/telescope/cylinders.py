"""Simulated clusters as a redshift survey sees them: cylinders through a periodic box.

Each cluster is looked at along directions of one's choice; the box is never turned, the cylinder
is, and it goes on through the faces of the box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged, offsets_of
from melotte.sky.cosmology import Cosmology
from melotte.telescope.redshifts import relativistic_sum

Array = NDArray[np.float64]

COLUMNS = ("velocity", "radius", "log_stellar_mass", "is_member")
"""Columns of a galaxy: km/s in the cluster's frame, comoving Mpc/h, log10(Msun), 1 or 0 (truth)."""

FASTEST = 3500.0
"""km/s: peculiar velocities along the line of sight that are looked for beyond the velocity cut."""


class Simulated(Protocol):
    """What a catalogue of simulated galaxies holds; units as in :class:`Box`."""

    @property
    def box_size(self) -> float:
        """Side of the periodic box."""
        ...

    @property
    def position(self) -> Array:
        """Shape (n_galaxies, 3)."""
        ...

    @property
    def velocity(self) -> Array:
        """Shape (n_galaxies, 3)."""
        ...

    @property
    def host_id(self) -> NDArray[np.int64]:
        """Shape (n_galaxies,)."""
        ...

    @property
    def log_stellar_mass(self) -> Array:
        """Shape (n_galaxies,)."""
        ...


@dataclass(frozen=True)
class Box:
    """Galaxies in a periodic box.

    Parameters
    ----------
    size : float, comoving Mpc/h
    position : array, shape (n_galaxies, 3), comoving Mpc/h, in [0, size)
    velocity : array, shape (n_galaxies, 3), km/s, peculiar
    host_id : array of int64, shape (n_galaxies,)
        The halo that a galaxy belongs to.
    log_stellar_mass : array, shape (n_galaxies,), log10(Msun)
    """

    size: float
    position: Array
    velocity: Array
    host_id: NDArray[np.int64]
    log_stellar_mass: Array

    @cached_property
    def tree(self) -> Any:
        """The positions as a periodic tree (scipy)."""
        from scipy.spatial import KDTree

        # A tree of a periodic box takes no point on its upper faces, where rounding may put one.
        inside = np.mod(self.position, self.size)
        return KDTree(np.where(inside >= self.size, 0.0, inside), boxsize=self.size)

    @cached_property
    def by_halo(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Galaxies in the order of their haloes, and the haloes in that order."""
        order = np.argsort(self.host_id, kind="stable")
        return order, self.host_id[order]

    def of_halo(self, halo: int) -> NDArray[np.int64]:
        """Numbers of the galaxies of a halo."""
        order, ordered = self.by_halo
        first, last = np.searchsorted(ordered, [halo, halo + 1])
        return order[first:last]

    @classmethod
    def of(cls, galaxies: Simulated) -> Box:
        """The galaxies of a simulation's catalogue."""
        return cls(
            galaxies.box_size,
            galaxies.position,
            galaxies.velocity,
            galaxies.host_id,
            galaxies.log_stellar_mass,
        )


@dataclass(frozen=True)
class Cylinder:
    """How clusters are looked at.

    Parameters
    ----------
    aperture : float, comoving Mpc/h
    velocity_cut : float, km/s
    redshift : float
        Of the snapshot.
    members_only : bool
        The pure catalogue: all galaxies of the halo itself and no other, without a cylinder.
    least_galaxies : int
        Lines of sight with fewer are left out.
    cosmology : Cosmology
    """

    aperture: float = 1.6
    velocity_cut: float = 2500.0
    redshift: float = 0.117
    members_only: bool = False
    least_galaxies: int = 11
    cosmology: Cosmology = field(default_factory=Cosmology)


@dataclass(frozen=True)
class Sightlines:
    """Clusters as they were seen.

    Parameters
    ----------
    galaxies : Ragged, values of shape (n_galaxies, 4)
        Columns as in ``COLUMNS``.
    host : Tensor of int64, shape (n_seen,)
        Number of the cluster in the list that was given: all lines of sight of one belong on one
        side of a split.
    direction : Tensor, shape (n_seen, 3)
        Unit vectors from the observer.
    """

    galaxies: Ragged
    host: Tensor
    direction: Tensor


def random_directions(n: int, generator: np.random.Generator) -> Array:
    """Unit vectors all over the sphere, shape (n, 3)."""
    along = generator.uniform(-1, 1, n)
    angle = generator.uniform(0, 2 * np.pi, n)
    across = np.sqrt(1 - along**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), along], axis=1)


@dataclass(frozen=True)
class Targets:
    """Haloes that are looked at; units as in :class:`Box`.

    Parameters
    ----------
    host_id : array of int64, shape (n,)
    position, velocity : array, shape (n, 3)
    """

    host_id: NDArray[np.int64]
    position: Array
    velocity: Array

    def select(self, chosen: NDArray[np.int64]) -> Targets:
        """Some of them, by their numbers."""
        return Targets(self.host_id[chosen], self.position[chosen], self.velocity[chosen])


def project(
    box: Box,
    targets: Targets,
    directions: Array,
    aperture: Array,
    reach: Array,
    members_only: bool = False,
) -> tuple[NDArray[np.int64], Array]:
    """Galaxies in long cylinders, relative to the halo in the middle of each.

    Parameters
    ----------
    box : Box
    targets : Targets, one a line of sight
    directions : array, shape (n_sightlines, 3)
        Unit vectors from the observer.
    aperture, reach : array, shape (n_sightlines,), comoving Mpc/h
        The cylinder's radius, and its length either way; it may hold galaxies a little beyond.
        A cylinder longer than the box passes through it again.
    members_only : bool
        All galaxies of the halo itself and no other, without a cylinder.

    Returns
    -------
    sightline : array of int64, shape (n_galaxies,)
        Ascending.
    galaxies : array, shape (n_galaxies, 6)
        Two axes on the sky and distance along the line of sight, comoving Mpc/h; peculiar
        velocity along it in the halo's frame, km/s; log10(stellar mass/Msun); 1 for the halo's
        own, else 0.

    Raises
    ------
    MelotteValueError
        When the box is narrower than four apertures.
    """
    widest = float(aperture.max(initial=0.0))
    if box.size < 4 * widest:
        raise MelotteValueError(
            f"a box of {box.size:g} Mpc/h is too narrow for an aperture of {widest:g} Mpc/h; "
            "4 apertures are needed"
        )
    owners: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    tables: list[Array] = [np.zeros((0, 6))]
    for number, direction in enumerate(directions):
        centre, halo = targets.position[number], int(targets.host_id[number])
        if members_only:
            rows = box.of_halo(halo)
            offset = _nearest_image(box.position[rows] - centre, box.size)
        else:
            rows, offset = _along(box, centre, direction, aperture[number], reach[number])
        axes = _axes(direction)
        moving = (box.velocity[rows] - targets.velocity[number]) @ direction
        member = box.host_id[rows] == halo
        columns = [*(offset @ axes.T).T, moving, box.log_stellar_mass[rows], member]
        tables.append(np.stack(columns, axis=1))
        owners.append(np.full(len(rows), number, dtype=np.int64))
    return np.concatenate(owners), np.concatenate(tables)


def look(
    box: Box,
    host_id: NDArray[np.int64],
    position: Array,
    velocity: Array,
    directions: Array,
    host: NDArray[np.int64],
    cylinder: Cylinder,
) -> Sightlines:
    """See clusters along lines of sight.

    Parameters
    ----------
    box : Box
    host_id : array of int64, shape (n_clusters,)
    position, velocity : array, shape (n_clusters, 3), comoving Mpc/h and km/s
    directions : array, shape (n_sightlines, 3)
        Unit vectors.
    host : array of int64, shape (n_sightlines,)
        Number of the cluster that each looks at.
    cylinder : Cylinder

    Returns
    -------
    Sightlines
        Those with at least ``least_galaxies``, in order.

    Raises
    ------
    MelotteValueError
        When the box is narrower than the cylinder.

    References
    ----------
    Ho et al. 2019, ApJ 887, 25, Sect. 2: Hubble flow and peculiar velocity add relativistically.
    """
    rate = float(cylinder.cosmology.comoving_hubble_rate(torch.tensor(cylinder.redshift)))
    n = len(host)
    seen, projected = project(
        box,
        Targets(host_id, position, velocity).select(host),
        directions,
        np.full(n, cylinder.aperture),
        np.full(n, (cylinder.velocity_cut + FASTEST) / rate),
        cylinder.members_only,
    )
    flow, peculiar = rate * projected[:, 2], projected[:, 3]
    total = relativistic_sum(torch.from_numpy(flow), torch.from_numpy(peculiar)).numpy()
    radius = np.hypot(projected[:, 0], projected[:, 1])
    if not cylinder.members_only:
        kept = (radius < cylinder.aperture) & (np.abs(total) < cylinder.velocity_cut)
    else:
        kept = np.ones(len(seen), dtype=bool)
    counts = np.bincount(seen[kept], minlength=n)
    rich = counts >= cylinder.least_galaxies
    kept &= rich[seen]
    table = np.stack([total, radius, projected[:, 4], projected[:, 5]], axis=1)[kept]
    return Sightlines(
        Ragged(torch.from_numpy(table).float(), offsets_of(torch.from_numpy(counts[rich]))),
        torch.from_numpy(host[rich].astype(np.int64)),
        torch.from_numpy(directions[rich]).float(),
    )


def _axes(direction: Array) -> Array:
    """Two axes on the sky and the direction itself, shape (3, 3)."""
    far = np.eye(3)[np.argmin(np.abs(direction))]
    across = np.cross(far, direction)
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(direction, across), direction])


def _nearest_image(offset: Array, size: float) -> Array:
    """Offsets to the nearest periodic image, each component within half a box."""
    return offset - size * np.round(offset / size)


def _along(
    box: Box, centre: Array, direction: Array, aperture: float, reach: float
) -> tuple[NDArray[np.int64], Array]:
    """Galaxies in a long cylinder, and their offsets from its centre.

    Balls along the axis find them, so that the cylinder may point anywhere and leave the box; each
    galaxy is taken from the ball in whose slice it lies, once for every passage of the cylinder.
    """
    step = 1.5 * aperture
    n = max(1, math.ceil(2 * reach / step))
    places = (np.arange(n) + 0.5) * step - n * step / 2
    ball = math.hypot(aperture, step / 2)
    middles = centre + places[:, None] * direction
    found = box.tree.query_ball_point(np.mod(middles, box.size), ball)
    rows = np.concatenate([np.asarray(one, dtype=np.int64) for one in found])
    slice_ = np.repeat(np.arange(n), [len(one) for one in found])
    offset = _nearest_image(box.position[rows] - middles[slice_], box.size)
    along = offset @ direction
    mine = (along >= -step / 2) & (along < step / 2)
    return rows[mine], offset[mine] + places[slice_[mine], None] * direction
