"""Noiseless images of clusters, and what a camera makes of them in front of a galaxy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.ragged import Ragged, offsets_of
from melotte.sky.cluster_light import ClusterLight, integrated_magnitudes
from melotte.sky.isochrones import StellarGrid
from melotte.sky.profiles import (
    draw_eff_shapes,
    draw_eff_shapes_of_size,
    eff_positions,
    half_number_radius,
)
from melotte.systems.cluster_images.set_ups import SetUps
from melotte.systems.cluster_images.settings import ClusterSettings, DataSettings
from melotte.telescope.psf import PSF
from melotte.telescope.rendering import ImageRenderer

SPARE = 1.25
"""Candidates drawn for each cluster that is still wanted, where some are too faint."""
MOST_TRIES = 200


@dataclass(frozen=True)
class ClusterScenes:
    """Clusters without noise or field, and empty places.

    Parameters
    ----------
    theta : Tensor, shape (n, n_parameters), physical units; NaN without a cluster
    image : Tensor, shape (n, n_bands, size, size), counts/s; zero without a cluster
    set_up : Tensor of int64, shape (n,)
        Number of the camera's set-up.
    is_cluster : BoolTensor, shape (n,)
    magnitude : Tensor, shape (n, n_bands), Vega mag
        Apparent, integrated over the stars; +inf without a cluster.
    shape : Tensor, shape (n, 2)
        EFF's a, arcsec, and gamma; NaN without a cluster.
    """

    theta: Tensor
    image: Tensor
    set_up: Tensor
    is_cluster: Tensor
    magnitude: Tensor
    shape: Tensor

    def __len__(self) -> int:
        return len(self.theta)


@dataclass(frozen=True)
class ClusterStars:
    """The stars of clusters that are drawn one by one.

    Parameters
    ----------
    theta : Tensor, shape (n, n_parameters)
    shape : Tensor, shape (n, 2): EFF's a, arcsec, and gamma
    luminosity : Ragged, values (n_stars, n_bands)
        In units of a star of absolute magnitude 0, behind the dust.
    magnitude : Tensor, shape (n, n_bands), Vega mag: apparent, integrated
    """

    theta: Tensor
    shape: Tensor
    luminosity: Ragged
    magnitude: Tensor


class SceneSimulator:
    """Draws clusters and renders them through the set-ups of a camera.

    Parameters
    ----------
    data : DataSettings
    set_ups : SetUps
    names : sequence of str
        Parameters, in the order of ``theta``.
    device : torch.device
    grid : StellarGrid, optional
        Stellar models in place of the shipped ones.
    psfs : sequence of sequences of PSF, optional
        Of each set-up and band, in place of the set-ups' own.
    """

    def __init__(
        self,
        data: DataSettings,
        set_ups: SetUps,
        names: Sequence[str],
        device: torch.device,
        grid: StellarGrid | None = None,
        psfs: Sequence[Sequence[PSF]] | None = None,
    ) -> None:
        self.data = data
        self.set_ups = set_ups
        self.names = tuple(names)
        self.device = device
        clusters = data.clusters
        ages = clusters.log_age[0] + clusters.age_step * torch.arange(clusters.n_ages)
        self.log_ages = ages.to(device)
        self.light = ClusterLight(
            (grid or StellarGrid.shipped(data.bands)).to(device),
            data.bands,
            self.log_ages,
            set_ups.metallicities.to(device),
            faint_share=data.faint_share,
        )
        self.renderer = ImageRenderer(
            psfs or [one.psfs() for one in set_ups.cameras],
            [one.pixel_scale for one in set_ups.cameras],
            data.size,
            oversampling=data.oversampling,
            device=device,
        )

    def draw(self, n: int, generator: torch.Generator) -> ClusterScenes:
        """Draw clusters, and the share of empty places, and render them.

        Parameters
        ----------
        n : int
        generator : torch.Generator, on this simulator's device
        """
        device, bands = self.device, len(self.data.bands)
        set_up = torch.randint(len(self.set_ups), (n,), generator=generator, device=device)
        lonely = torch.rand(n, generator=generator, device=device) < self.data.background_share
        where = torch.nonzero(~lonely)[:, 0]
        drawn = self.draw_stars(set_up[where], generator)
        size = self.data.size
        image = torch.zeros(n, bands, size, size, device=device)
        theta = torch.full((n, len(self.names)), math.nan, device=device)
        shape = torch.full((n, 2), math.nan, device=device)
        magnitude = torch.full((n, bands), math.inf, device=device)
        image[where] = self.render(drawn, set_up[where], generator)
        theta[where], shape[where] = drawn.theta, drawn.shape
        magnitude[where] = drawn.magnitude
        return ClusterScenes(theta, image, set_up, ~lonely, magnitude, shape)

    def draw_stars(self, set_up: Tensor, generator: torch.Generator) -> ClusterStars:
        """One cluster bright enough for each set-up, in their order."""
        n = len(set_up)
        done: list[ClusterStars] = []
        rows: list[Tensor] = []
        open_rows = torch.arange(n, device=self.device)
        for _ in range(MOST_TRIES):
            if not len(open_rows):
                break
            asked = open_rows
            if self.data.clusters.faintest is not None:
                spare = math.ceil(len(open_rows) * SPARE) - len(open_rows)
                asked = torch.cat([open_rows, open_rows[:spare]])
            found = self._candidates(set_up[asked], generator)
            kept = torch.nonzero(self.bright_enough(found.magnitude))[:, 0]
            # The first candidate that is bright enough takes the place.
            order = torch.argsort(asked[kept], stable=True)
            place = asked[kept][order]
            first = torch.ones_like(place, dtype=torch.bool)
            first[1:] = place[1:] != place[:-1]
            chosen = kept[order][first]
            rows.append(asked[chosen])
            done.append(_selected(found, chosen))
            open_rows = open_rows[~torch.isin(open_rows, asked[chosen])]
        else:
            raise RuntimeError(
                f"{len(open_rows)} of {n} clusters are still too faint after {MOST_TRIES} draws: "
                "data.clusters.faintest excludes almost all of the ranges"
            )
        if not done:
            return self._candidates(set_up, generator)
        joined = _joined(done)
        return _selected(joined, torch.argsort(torch.cat(rows)))

    def bright_enough(self, magnitude: Tensor) -> Tensor:
        """Whether clusters of these apparent magnitudes (n, n_bands) are kept, (n,)."""
        limit = self.data.clusters.faintest
        if limit is None:
            return torch.ones(len(magnitude), dtype=torch.bool, device=magnitude.device)
        return (magnitude <= magnitude.new_tensor(limit)).any(1)

    def of_parameters(
        self, theta: Tensor, shape: Tensor, set_up: Tensor, generator: torch.Generator
    ) -> ClusterStars:
        """Stars of clusters of given parameters.

        Parameters
        ----------
        theta : Tensor, shape (n, n_parameters)
            Ages are taken at the nearest of the grid.
        shape : Tensor, shape (n, 2): EFF's a, arcsec, and gamma
        set_up : Tensor of int64, shape (n,)
        generator : torch.Generator
        """
        values = dict(zip(self.names, theta.unbind(1), strict=True))
        step = self.data.clusters.age_step
        node = ((values["log_age"] - self.log_ages[0]) / step).round().long()
        dust = values.get("extinction_v", torch.full_like(values["log_age"], self._fixed_dust))
        luminosity = self.light.draw(
            10 ** values["log_mass"].double(),
            node.clamp(0, len(self.log_ages) - 1),
            self.set_ups.metallicity_node.to(self.device)[set_up],
            dust,
            generator,
        )
        modulus = self.set_ups.tensor("distance_modulus", self.device)[set_up]
        magnitude = integrated_magnitudes(luminosity).float() + modulus[:, None]
        return ClusterStars(theta, shape, luminosity, magnitude)

    def render(self, stars: ClusterStars, set_up: Tensor, generator: torch.Generator) -> Tensor:
        """Images (n, n_bands, size, size), counts/s, of stars put at random places."""
        offsets = stars.luminosity.offsets
        positions = eff_positions(stars.shape[:, 0], stars.shape[:, 1], offsets, generator)
        if self.data.centring_error > 0:
            scale = self.set_ups.tensor("pixel_scale", self.device)[set_up]
            off = torch.randn(len(set_up), 2, generator=generator, device=self.device)
            off = off * (self.data.centring_error * scale)[:, None]
            positions = positions + off[stars.luminosity.index]
        rate = self.set_ups.counts_of_magnitude_zero(self.device)[set_up]
        flux = stars.luminosity.values * rate[stars.luminosity.index]
        return self.renderer.render(positions, flux, offsets, set_up)

    @property
    def _fixed_dust(self) -> float:
        return self.data.clusters.extinction_v[0]

    def _candidates(self, set_up: Tensor, generator: torch.Generator) -> ClusterStars:
        theta, shape = draw_parameters(self.data.clusters, self.names, len(set_up), generator)
        return self.of_parameters(theta, shape, set_up, generator)


def draw_parameters(
    clusters: ClusterSettings, names: Sequence[str], n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Parameters and profiles of clusters, before any selection.

    Returns
    -------
    theta : Tensor, shape (n, n_parameters)
        In the order of ``names``.
    shape : Tensor, shape (n, 2): EFF's a, arcsec, and gamma
    """
    device = generator.device

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator, device=device)

    node = (uniform() * clusters.n_ages).long().clamp(max=clusters.n_ages - 1)
    values = {"log_age": clusters.log_age[0] + clusters.age_step * node}
    low, high = clusters.log_mass
    values["log_mass"] = low + (high - low) * uniform()
    low, high = clusters.extinction_v
    step = clusters.extinction_step
    if step is None:
        values["extinction_v"] = low + (high - low) * uniform()
    else:
        number = round((high - low) / step) + 1
        values["extinction_v"] = low + step * (uniform() * number).long().clamp(max=number - 1)
    if clusters.shapes == "scale_radius":
        a, gamma = draw_eff_shapes(
            n, clusters.scale_radius, clusters.gamma, clusters.half_number_radius, generator
        )
    else:
        low, high = (math.log(end) for end in clusters.half_number_radius)
        radius = torch.exp(low + (high - low) * uniform())
        a, gamma = draw_eff_shapes_of_size(radius, clusters.scale_radius, clusters.gamma, generator)
    values["half_number_radius"] = half_number_radius(a, gamma)
    return torch.stack([values[name] for name in names], 1), torch.stack([a, gamma], 1)


def _selected(stars: ClusterStars, chosen: Tensor) -> ClusterStars:
    return ClusterStars(
        stars.theta[chosen],
        stars.shape[chosen],
        stars.luminosity.select(chosen),
        stars.magnitude[chosen],
    )


def _joined(parts: list[ClusterStars]) -> ClusterStars:
    offsets = offsets_of(torch.cat([part.luminosity.counts for part in parts]))
    luminosity = Ragged(torch.cat([part.luminosity.values for part in parts]), offsets)
    return ClusterStars(
        torch.cat([part.theta for part in parts]),
        torch.cat([part.shape for part in parts]),
        luminosity,
        torch.cat([part.magnitude for part in parts]),
    )
