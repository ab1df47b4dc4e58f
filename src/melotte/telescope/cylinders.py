"""Simulated clusters as a redshift survey sees them: cylinders through a periodic box.

Each cluster is looked at along directions of one's choice; the box is never turned, the cylinder
is, and it goes on through the faces of the box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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

FLAT_DENSITY = 10**-5.2
"""Clusters per dex of mass and (Mpc/h)^3 in the flat training sample of Ho et al. 2019."""


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
    if box.size < 4 * cylinder.aperture:
        raise MelotteValueError(
            f"a box of {box.size:g} Mpc/h is too narrow for an aperture of "
            f"{cylinder.aperture:g} Mpc/h; 4 apertures are needed"
        )
    rate = float(cylinder.cosmology.comoving_hubble_rate(torch.tensor(cylinder.redshift)))
    reach = (cylinder.velocity_cut + FASTEST) / rate
    owned = _Owned(box.host_id) if cylinder.members_only else None
    tree = None if cylinder.members_only else _tree(box)
    sets: list[Array] = []
    seen: list[int] = []
    for number, (i, direction) in enumerate(zip(host.tolist(), directions, strict=True)):
        if owned is not None:
            rows = owned.of(int(host_id[i]))
            offset = _nearest_image(box.position[rows] - position[i], box.size)
        else:
            rows, offset = _along(tree, box, position[i], direction, cylinder.aperture, reach)
        along = offset @ direction
        radius = np.sqrt(np.maximum((offset**2).sum(1) - along**2, 0.0))
        peculiar = (box.velocity[rows] - velocity[i]) @ direction
        total = relativistic_sum(torch.from_numpy(rate * along), torch.from_numpy(peculiar)).numpy()
        member = box.host_id[rows] == host_id[i]
        kept = np.ones(len(rows), dtype=bool)
        if not cylinder.members_only:
            kept = (radius < cylinder.aperture) & (np.abs(total) < cylinder.velocity_cut)
        if kept.sum() >= cylinder.least_galaxies:
            table = np.stack([total, radius, box.log_stellar_mass[rows], member], axis=1)
            sets.append(table[kept])
            seen.append(number)
    counts = torch.tensor([len(one) for one in sets], dtype=torch.int64)
    values = np.concatenate(sets) if sets else np.zeros((0, len(COLUMNS)))
    return Sightlines(
        Ragged(torch.from_numpy(values).float(), offsets_of(counts)),
        torch.from_numpy(np.asarray(host, dtype=np.int64)[seen]),
        torch.from_numpy(np.asarray(directions, dtype=float)[seen]).float(),
    )


def views_for_flat_masses(
    log_mass: Array,
    volume: float,
    generator: np.random.Generator,
    density: float = FLAT_DENSITY,
    most: int = 100,
    width: float = 0.1,
) -> NDArray[np.int64]:
    """Lines of sight of each cluster that make their numbers flat in log mass.

    Rare clusters are seen along several, common ones are drawn from.

    Parameters
    ----------
    log_mass : array, shape (n_clusters,)
    volume : float, (Mpc/h)^3
        Of the box.
    generator : numpy Generator
    density : float, 1/(Mpc/h)^3/dex
        Wanted; 10^-5.2 in Ho et al. 2019.
    most : int
        Largest number of views of one cluster.
    width : float, dex
        Bins in which clusters are counted.

    Returns
    -------
    array of int64, shape (n_clusters,)
        Whose mean in a bin is the wanted number over the clusters in it.
    """
    if not len(log_mass):
        return np.zeros(0, dtype=np.int64)
    number = np.floor((log_mass - log_mass.min()) / width).astype(np.int64)
    natural = np.bincount(number)[number]
    wanted = np.minimum(density * volume * width / natural, most)
    whole = np.floor(wanted)
    return (whole + (generator.random(len(log_mass)) < wanted - whole)).astype(np.int64)


def sightlines(views: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the cluster of each line of sight, from the views of each cluster."""
    return np.repeat(np.arange(len(views)), views).astype(np.int64)


class _Owned:
    """Galaxies of each halo."""

    def __init__(self, host_id: NDArray[np.int64]) -> None:
        self.order = np.argsort(host_id, kind="stable")
        self.ordered = host_id[self.order]

    def of(self, halo: int) -> NDArray[np.int64]:
        first, last = np.searchsorted(self.ordered, [halo, halo + 1])
        return self.order[first:last]


def _tree(box: Box) -> Any:
    from scipy.spatial import KDTree

    # A tree of a periodic box takes no point on its upper faces, where rounding may put one.
    inside = np.mod(box.position, box.size)
    return KDTree(np.where(inside >= box.size, 0.0, inside), boxsize=box.size)


def _nearest_image(offset: Array, size: float) -> Array:
    """Offsets to the nearest periodic image, each component within half a box."""
    return offset - size * np.round(offset / size)


def _along(
    tree: Any, box: Box, centre: Array, direction: Array, aperture: float, reach: float
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
    found = tree.query_ball_point(np.mod(middles, box.size), ball)
    rows = np.concatenate([np.asarray(one, dtype=np.int64) for one in found])
    slice_ = np.repeat(np.arange(n), [len(one) for one in found])
    offset = _nearest_image(box.position[rows] - middles[slice_], box.size)
    along = offset @ direction
    mine = (along >= -step / 2) & (along < step / 2)
    return rows[mine], offset[mine] + places[slice_[mine], None] * direction
