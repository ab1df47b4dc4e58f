"""Stars of several clusters as they stand on the sky, and how each cluster is looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged, offsets_of

ARCSEC_PER_RADIAN = 180 * 3600 / math.pi


@dataclass(frozen=True)
class ProjectedStars:
    """Stars of several clusters as they stand on the sky.

    Parameters
    ----------
    position : Tensor, shape (n_stars, 2), pc
        (x, y) from the cluster's centre; x along columns, y along rows.
    luminosity : Tensor, shape (n_stars, n_bands)
        In units of a star of absolute magnitude 0 in the band: 10^(-0.4 M). Dark stars have 0.
    mass : Tensor, shape (n_stars,), Msun
    velocity : Tensor, shape (n_stars,), km/s
        Along the line of sight, in the frame of the cluster.
    offsets : Tensor of int64, shape (n_clusters + 1,)
        Stars ``offsets[i]`` to ``offsets[i + 1]`` are those of cluster ``i``.

    Raises
    ------
    MelotteValueError
        When lengths differ.
    """

    position: Tensor
    luminosity: Tensor
    mass: Tensor
    velocity: Tensor
    offsets: Tensor

    def __post_init__(self) -> None:
        n = len(self.position)
        if (
            self.position.shape != (n, 2)
            or self.luminosity.ndim != 2
            or {len(self.luminosity), len(self.mass), len(self.velocity)} != {n}
            or int(self.offsets[-1]) != n
        ):
            raise MelotteValueError(
                "stars need positions (n, 2), luminosities (n, n_bands), masses (n,), velocities "
                f"(n,) and offsets that end at n, found {tuple(self.position.shape)}, "
                f"{tuple(self.luminosity.shape)}, {tuple(self.mass.shape)}, "
                f"{tuple(self.velocity.shape)} and {int(self.offsets[-1])}"
            )

    @classmethod
    def of(cls, stars: Ragged) -> ProjectedStars:
        """Stars with the columns x, y (pc), luminosity in each band, mass, velocity."""
        columns = stars.values
        if columns.ndim != 2 or columns.shape[1] < 5:
            raise MelotteValueError(
                "stars need the columns x, y, luminosity of a band or more, mass and velocity, "
                f"found the shape {tuple(columns.shape)}"
            )
        return cls(columns[:, :2], columns[:, 2:-2], columns[:, -2], columns[:, -1], stars.offsets)

    @classmethod
    def join(cls, first: ProjectedStars, second: ProjectedStars) -> ProjectedStars:
        """The stars of both, cluster by cluster.

        Raises
        ------
        MelotteValueError
            When they hold different numbers of clusters or bands.
        """
        if first.n_clusters != second.n_clusters or first.n_bands != second.n_bands:
            raise MelotteValueError(
                f"{first.n_clusters} clusters in {first.n_bands} bands and {second.n_clusters} in "
                f"{second.n_bands} cannot be joined"
            )
        counts = first.offsets.diff(), second.offsets.diff()
        cluster = torch.cat([_cluster_of(first.offsets), _cluster_of(second.offsets)])
        order = torch.argsort(cluster, stable=True)
        pairs = (
            (first.position, second.position),
            (first.luminosity, second.luminosity),
            (first.mass, second.mass),
            (first.velocity, second.velocity),
        )
        columns = [torch.cat(pair)[order] for pair in pairs]
        return cls(
            columns[0], columns[1], columns[2], columns[3], offsets_of(counts[0] + counts[1])
        )

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.offsets) - 1

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return self.luminosity.shape[1]

    @property
    def cluster(self) -> Tensor:
        """The cluster that each star belongs to, int64, shape (n_stars,)."""
        return _cluster_of(self.offsets)

    def select(self, chosen: Tensor) -> ProjectedStars:
        """The stars of some clusters, by their int64 numbers."""
        columns = [self.position, self.luminosity, self.mass[:, None], self.velocity[:, None]]
        return ProjectedStars.of(Ragged(torch.cat(columns, 1), self.offsets).select(chosen))

    def among(self, n_clusters: int, chosen: Tensor) -> ProjectedStars:
        """The same stars as those of some of ``n_clusters`` clusters, of which the rest are empty.

        Parameters
        ----------
        n_clusters : int
        chosen : Tensor of int64, shape (self.n_clusters,)
            Rising numbers.
        """
        counts = self.offsets.new_zeros(n_clusters)
        counts[chosen] = self.offsets.diff()
        return replace(self, offsets=offsets_of(counts))

    def with_luminosity(self, luminosity: Tensor) -> ProjectedStars:
        """The same stars with other luminosities, shape (n_stars, n_bands)."""
        return replace(self, luminosity=luminosity)


@dataclass(frozen=True)
class Pointing:
    """How each of several clusters is looked at.

    Parameters
    ----------
    distance : Tensor, shape (n,), kpc, > 0
    centre : Tensor, shape (n, 2), arcsec
        (x, y) of the cluster's centre from the middle of the map.
    psf_fwhm : Tensor, shape (n,) or (n, n_bands), arcsec, > 0
    pixel_scale : Tensor, shape (n,), arcsec, > 0

    Raises
    ------
    MelotteValueError
        When shapes differ or a value is outside its range.
    """

    distance: Tensor
    centre: Tensor
    psf_fwhm: Tensor
    pixel_scale: Tensor

    def __post_init__(self) -> None:
        n = len(self.distance)
        if self.centre.shape != (n, 2) or {len(self.psf_fwhm), len(self.pixel_scale)} != {n}:
            raise MelotteValueError(
                f"{n} distances need centres ({n}, 2) and as many seeings and pixel scales, found "
                f"{tuple(self.centre.shape)}, {tuple(self.psf_fwhm.shape)} and "
                f"{tuple(self.pixel_scale.shape)}"
            )
        for name in ("distance", "psf_fwhm", "pixel_scale"):
            values = getattr(self, name)
            if not bool((values > 0).all()):
                raise MelotteValueError(f"{name} must be above 0, found {float(values.min()):g}")

    @classmethod
    def of(
        cls,
        n: int,
        distance: Tensor | float,
        centre: Tensor | Sequence[float] = (0.0, 0.0),
        psf_fwhm: Tensor | float = 1.0,
        pixel_scale: Tensor | float = 0.25,
        device: torch.device | str = "cpu",
    ) -> Pointing:
        """Pointings at ``n`` clusters, with numbers where all have the same value."""

        def each(value: Tensor | float) -> Tensor:
            tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
            return tensor.expand(n) if tensor.ndim == 0 else tensor

        middle = torch.as_tensor(centre, dtype=torch.float32, device=device)
        return cls(each(distance), middle.expand(n, 2), each(psf_fwhm), each(pixel_scale))

    def select(self, chosen: Tensor) -> Pointing:
        """The pointings at some clusters, by their int64 numbers."""
        return Pointing(*(getattr(self, one.name)[chosen] for one in fields(self)))

    @property
    def arcsec_per_parsec(self) -> Tensor:
        """Shape (n,)."""
        return ARCSEC_PER_RADIAN / (1000 * self.distance)

    def on_sky(self, stars: ProjectedStars) -> Tensor:
        """Places of stars from the middle of their maps, shape (n_stars, 2), arcsec."""
        cluster = stars.cluster
        return torch.addcmul(
            self.centre[cluster], stars.position, self.arcsec_per_parsec[cluster, None]
        )


def _cluster_of(offsets: Tensor) -> Tensor:
    """The set that each element belongs to."""
    numbers = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(numbers, offsets.diff())
