"""Galaxies in the cylinder about a cluster, and how the cylinder is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.io.cluster_centring import VelocityCentre
from melotte.io.galaxy_rows import RedshiftKind
from melotte.io.projected_distances import Lengths

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GalaxySelection:
    """Which galaxies about a cluster are kept, and in what they are measured.

    Parameters
    ----------
    aperture : float, Mpc/h, > 0
    velocity_cut : float, km/s, > 0
    lengths : {"comoving", "physical"}
        In which the aperture and the projected radii are counted.
    h, omega_m : float
        Hubble constant in 100 km/s/Mpc, and density of matter of a flat universe. h only turns
        radii given in Mpc into Mpc/h.
    velocity_centre : {"median", "biweight", "given"}
        Velocities are counted from that of the galaxies in the cylinder, found in rounds, or from
        the redshift that a table gives for the cluster.
    sky_centre : {"given", "density"}
        Position from a table of clusters, or where galaxies crowd. Without a given position it is
        always found.
    redshift_kind : {"auto", "z", "cz"}
        What the redshift columns hold; told by unit, name and values by default.
    radius_unit : {"Mpc", "Mpc/h", "kpc", "kpc/h"}
        Of projected radii in a table that states none.
    radius_lengths : {"physical", "comoving"}
        In which projected radii of a table are counted.
    min_probability : float, 0 to 1, optional
        Galaxies with a smaller membership probability are dropped.
    magnitude_limit : float, mag, optional
        Fainter galaxies are dropped.

    Raises
    ------
    MelotteValueError
        When a value is outside what is allowed.
    """

    aperture: float = 1.6
    velocity_cut: float = 2500.0
    lengths: Lengths = "comoving"
    h: float = 0.6777
    omega_m: float = 0.307115
    velocity_centre: VelocityCentre = "median"
    sky_centre: Literal["given", "density"] = "given"
    redshift_kind: RedshiftKind = "auto"
    radius_unit: str = "Mpc"
    radius_lengths: Lengths = "physical"
    min_probability: float | None = None
    magnitude_limit: float | None = None

    def __post_init__(self) -> None:
        allowed: dict[str, tuple[str, ...]] = {
            "lengths": ("comoving", "physical"),
            "radius_lengths": ("comoving", "physical"),
            "velocity_centre": ("given", "median", "biweight"),
            "sky_centre": ("given", "density"),
            "redshift_kind": ("auto", "z", "cz"),
            "radius_unit": ("Mpc", "Mpc/h", "kpc", "kpc/h"),
        }
        for name, words in allowed.items():
            if getattr(self, name) not in words:
                raise MelotteValueError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(words)}"
                )
        for name, high in (("aperture", 100), ("velocity_cut", 30_000), ("h", 2), ("omega_m", 1)):
            value = getattr(self, name)
            if not 0 < value <= high:
                raise MelotteValueError(f"{name} {value:g} is outside (0, {high:g}]")
        if self.min_probability is not None and not 0 <= self.min_probability <= 1:
            raise MelotteValueError(f"min_probability {self.min_probability:g} is outside [0, 1]")


@dataclass(frozen=True)
class GalaxyList:
    """The galaxies in the cylinder about one cluster.

    Every array has shape (n_galaxies,). What the table does not give is NaN (weights: 1,
    names: "").

    Parameters
    ----------
    id : str
        The cluster's name in its column or table, or the file's name without suffix.
    velocity : array, km/s
        Line of sight, in the cluster's frame, c (z - z_c)/(1 + z_c).
    radius : array, Mpc/h
        Projected, comoving or physical as ``selection.lengths`` says.
    weight : array, > 0
    magnitude : array, mag
    log_stellar_mass : array, log10(Msun)
        As catalogued.
    membership : array, 0 to 1
    velocity_error : array, km/s, in the cluster's frame
    ra, dec : array, deg
    name : array of str
    redshift : float
        Of the centre; NaN where only velocities are given and no redshift.
    centre : tuple of float, deg
        Right ascension and declination; NaN where only radii are given.
    velocity_shift : float, km/s
        By how much the centre moved from the given redshift (or from the first guess), in the
        frame of that one.
    selection : GalaxySelection
    n_dropped : mapping of str to int
        Rows left out, by reason; each row counts once.
    source : str
        The file.
    """

    id: str
    velocity: Array
    radius: Array
    weight: Array
    magnitude: Array
    log_stellar_mass: Array
    membership: Array
    velocity_error: Array
    ra: Array
    dec: Array
    name: NDArray[np.object_]
    redshift: float
    centre: tuple[float, float]
    velocity_shift: float
    selection: GalaxySelection
    n_dropped: Mapping[str, int] = field(default_factory=dict)
    source: str = ""

    @property
    def n_galaxies(self) -> int:
        """Number of galaxies in the cylinder."""
        return len(self.velocity)

    def without(self, left_out: NDArray[np.bool_], reason: str) -> GalaxyList:
        """The list without some galaxies, which count as dropped for a reason."""
        arrays = {
            one.name: getattr(self, one.name)[~left_out]
            for one in fields(self)
            if isinstance(getattr(self, one.name), np.ndarray)
        }
        dropped = dict(self.n_dropped)
        if left_out.any():
            dropped[reason] = dropped.get(reason, 0) + int(left_out.sum())
        return replace(self, **arrays, n_dropped=dropped)


@dataclass(frozen=True)
class RejectedGroup:
    """A cluster without a usable galaxy: it becomes a flagged row, not an error."""

    id: str
    reason: str
    source: str = ""


def packed(groups: Sequence[GalaxyList]) -> tuple[Array, NDArray[np.int64]]:
    """Velocities and radii of clusters end to end.

    Returns
    -------
    values : array, shape (n_galaxies, 2)
        Velocity (km/s) and radius (Mpc/h).
    offsets : array of int64, shape (n_clusters + 1,)
    """
    counts = [group.n_galaxies for group in groups]
    values = [np.stack([group.velocity, group.radius], axis=1) for group in groups]
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return np.concatenate(values) if values else np.zeros((0, 2)), offsets.astype(np.int64)
