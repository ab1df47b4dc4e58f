"""Noiseless scenes: stars of a library at a place, a distance and an orientation, on maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.engine.setting_values import Range
from melotte.io.star_snapshots import SOLAR_MAGNITUDE_V
from melotte.sky.apparent_field_stars import ApparentFieldStars
from melotte.sky.extinction import LAWS
from melotte.sky.isochrones import StellarGrid
from melotte.systems.areas import Area
from melotte.systems.globular_clusters.dark_mass import DarkMass
from melotte.systems.globular_clusters.library_stars import LibraryStars
from melotte.systems.globular_clusters.lookalikes import Lookalikes
from melotte.systems.globular_clusters.mock_kinematics import log_uniform, mock_dispersions
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.systems.globular_clusters.star_views import PASSBANDS, star_views
from melotte.telescope.cluster_maps import MapGrid, mass_map, render_light, star_sums
from melotte.telescope.foreground import field_stars
from melotte.telescope.plummer_maps import plummer_map
from melotte.telescope.projected_stars import Pointing, ProjectedStars

WAVELENGTHS = {"V": 5450.0, "B": 4380.0}
"""Effective wavelengths, angstrom: Bessell, Castelli & Plez 1998, A&A 333, 231, Table A2."""
FIELD_STAR_LIMIT = 20.0
"""Magnitude in V that densities of field stars count down to."""
AT_ONCE = 64
"""Scenes whose stars, of which there may be millions, are in memory together."""
LABEL_SPREAD = {
    "log_age": 0.01,
    "metallicity": 0.03,
    "log_total_mass": 0.01,
    "log_mass_fov": 0.01,
    "mass_to_light_v": 0.02,
    "half_mass_radius": 0.02,
    "remnant_fraction": 0.003,
}
"""Standard deviation of training labels about the truth; of a relative error where the parameter's
scale is logarithmic.

A library holds few ages and metallicities, and either with the other tells the run: a density of
peaks at its clusters would fit it best. So each stands for its neighbours too."""
_FIELD_STARS = 50_000
_FIELD_STREAM = 1


@dataclass(frozen=True)
class GlobularScenes:
    """Clusters without noise but that of their kinematics.

    Parameters
    ----------
    light : Tensor, shape (n, n_bands, size, size)
        Behind dust and seeing, field stars included, in units of a star of absolute magnitude 0 at
        the cluster's distance.
    mass : Tensor, shape (n, size, size), Msun
        Of the stars that stand in each pixel, and of dark mass.
    pointing : Pointing
    theta : Tensor, shape (n, n_parameters)
        NaN outside the range of a parameter.
    log_light_fov : Tensor, shape (n,)
        log10 of the cluster's light in V on the map, Lsun_V, without dust, seeing and field stars.
    dispersion, dispersion_error : Tensor, shape (n, n_bins, n_bins), km/s
        As they were measured, with their noise; NaN where not observed.
    run : Tensor of int64, shape (n,)
    extinction_v : Tensor, shape (n,), mag
    """

    light: Tensor
    mass: Tensor
    pointing: Pointing
    theta: Tensor
    log_light_fov: Tensor
    dispersion: Tensor
    dispersion_error: Tensor
    run: Tensor
    extinction_v: Tensor

    def __len__(self) -> int:
        return len(self.theta)


Richer = Callable[[Pointing, Tensor], Tensor]


class SceneSimulator:
    """Draws scenes of one area on one device.

    Parameters
    ----------
    data : DataSettings
    stars : LibraryStars
        Of the area, on the device.
    area : {"training", "validation", "test"}
    """

    def __init__(self, data: DataSettings, stars: LibraryStars, area: Area) -> None:
        self.data, self.stars = data, stars
        self.area: Area = area
        self.grid = MapGrid(data.size, data.size)

    @cached_property
    def field(self) -> ApparentFieldStars:
        """Magnitudes of field stars, the same whatever is drawn of them."""
        bands = [PASSBANDS[band] for band in self.data.bands]
        grid = StellarGrid.shipped(bands)
        generator = keyed_generator(0, _FIELD_STREAM, 0)
        drawn = ApparentFieldStars.of_the_disc(grid, bands, _FIELD_STARS, generator)
        return ApparentFieldStars(drawn.magnitude.to(self.stars.first.device))

    def draw(
        self, n: int, generator: torch.Generator, richer: Richer | None = None
    ) -> GlobularScenes:
        """Draw and render ``n`` scenes.

        Parameters
        ----------
        n : int
        generator : torch.Generator, on the device of the stars
        richer : callable, optional
            From the pointing of some scenes and log10 of their light on the map (Lsun_V) to the
            factors (n,), by which the stars of each cluster are to be more.
        """
        sizes = [min(AT_ONCE, n - first) for first in range(0, n, AT_ONCE)]
        return _joined([self._draw(size, generator, richer) for size in sizes])

    def _draw(self, n: int, generator: torch.Generator, richer: Richer | None) -> GlobularScenes:
        snapshot = self.stars.choose(n, generator)
        truth = {name: one[snapshot] for name, one in self.stars.truth.items()}
        dark = self._dark_mass(truth, generator)
        alike = Lookalikes.draw(self.data, self.area, truth["metallicity"], generator)
        views = star_views(self.data, self.stars, snapshot, dark, generator, alike)
        pointing = self._pointing(n, generator)
        light_fov = self._light_fov(views.shown, pointing)
        if richer is not None:
            number = richer(pointing, torch.log10(light_fov).float())
            alike = (Lookalikes.same(n, generator.device) if alike is None else alike).times(number)
            views = star_views(self.data, self.stars, snapshot, dark, generator, alike)
            light_fov = self._light_fov(views.shown, pointing)
        if alike is not None:
            truth = _truth_of(truth, alike, views.everything)
            dark = None if dark is None else alike.of_dark_mass(dark)
        mass = mass_map(views.everything, pointing, self.grid)
        stars = views.shown
        extinction_v = self._extinction(n, generator)
        stars = self._dimmed(stars, extinction_v)
        kinematics = mock_dispersions(stars, pointing, self.data, self.grid, generator)
        shown = stars
        if self.data.noise == "survey" and self.data.sky.field_star_share > 0:
            shown = ProjectedStars.join(stars, self._field_stars(pointing, generator))
        return GlobularScenes(
            render_light(shown, pointing, self.grid),
            self._with_dark_mass(mass, dark, pointing),
            pointing,
            self._theta(truth, pointing.distance, mass, light_fov, dark, generator),
            torch.log10(light_fov).float(),
            kinematics.dispersion,
            kinematics.error,
            self.stars.run[snapshot],
            extinction_v,
        )

    def _light_fov(self, stars: ProjectedStars, pointing: Pointing) -> Tensor:
        """Light in V on the map, Lsun_V, float64 (n,)."""
        solar = 10 ** (0.4 * SOLAR_MAGNITUDE_V)
        maps = star_sums(stars.luminosity[:, :1] * solar, stars, pointing, self.grid)
        return maps.double().sum((1, 2, 3))

    def _dark_mass(
        self, truth: Mapping[str, Tensor], generator: torch.Generator
    ) -> DarkMass | None:
        """Dark mass of each cluster, where the settings ask for any."""
        if self.data.dark_mass.share == 0:
            return None
        masses = 10 ** truth["log_total_mass"]
        return DarkMass.draw(self.data.dark_mass, masses, truth["half_mass_radius"], generator)

    def _with_dark_mass(self, mass: Tensor, dark: DarkMass | None, pointing: Pointing) -> Tensor:
        """Maps of mass with that of the dark mass."""
        if dark is None:
            return mass
        chosen = torch.nonzero(dark.mass > 0)[:, 0]
        if len(chosen):
            some = plummer_map(
                dark.mass[chosen], dark.scale[chosen], pointing.select(chosen), self.grid
            )
            mass = mass.index_add(0, chosen, some)
        return mass

    def _extinction(self, n: int, generator: torch.Generator) -> Tensor:
        """A_V, mag."""
        dust, device = self.data.extinction, generator.device
        if dust.mean == 0:
            return torch.zeros(n, device=device)
        uniform = torch.rand(n, generator=generator, device=device)
        return -dust.mean * torch.log1p(uniform * math.expm1(-dust.most / dust.mean))

    def _dimmed(self, stars: ProjectedStars, extinction_v: Tensor) -> ProjectedStars:
        """The stars behind the dust."""
        if self.data.extinction.mean == 0:
            return stars
        law = extinction_v.new_tensor(extinction_law(self.data))
        factor = 10 ** (-0.4 * extinction_v[:, None] * law)
        return stars.with_luminosity(stars.luminosity * factor[stars.cluster])

    def _pointing(self, n: int, generator: torch.Generator) -> Pointing:
        data, device = self.data, generator.device
        distances, widths = data.distances, data.psf_fwhms
        nearest, farthest = data.distance
        if self.area == "training":
            nearest /= data.nearer_factor
        if self.area == "test":
            distances = data.test_distances or distances
            widths = data.test_psf_fwhms or widths
        uniform = torch.rand(n, 2, generator=generator, device=device)
        return Pointing(
            _drawn(n, (nearest, farthest), distances, generator),
            (2 * uniform - 1) * data.offset,
            _drawn(n, data.psf_fwhm, widths, generator),
            _drawn(n, data.pixel_scale, None, generator),
        )

    def _field_stars(self, pointing: Pointing, generator: torch.Generator) -> ProjectedStars:
        sky, n = self.data.sky, len(pointing.distance)
        density = _drawn(n, sky.field_stars, None, generator)
        chance = torch.rand(n, generator=generator, device=density.device)
        density = density * (chance < sky.field_star_share)
        return field_stars(self.field, density, FIELD_STAR_LIMIT, pointing, self.grid, generator)

    def _theta(
        self,
        truth: Mapping[str, Tensor],
        distance: Tensor,
        mass: Tensor,
        light_fov: Tensor,
        dark: DarkMass | None,
        generator: torch.Generator,
    ) -> Tensor:
        mass_fov = mass.double().sum((1, 2))
        known = {
            **truth,
            "distance": distance.clamp(*self.data.distance_range),
            "log_mass_fov": torch.log10(mass_fov),
            "mass_to_light_v": mass_fov / light_fov,
        }
        if dark is not None:
            known["dark_fraction"] = dark.fraction
        spread = self.data.label_spread if self.area == "training" else 0.0
        columns = []
        for one in self.data.cluster_parameters():
            value = known[one.name].float()
            if spread > 0 and one.name in LABEL_SPREAD:
                deviate = torch.randn(value.shape, generator=generator, device=value.device)
                step = spread * LABEL_SPREAD[one.name] * deviate
                value = value * torch.exp(step) if one.scale == "log" else value + step
            inside = (value >= one.low) & (value <= one.high)
            columns.append(torch.where(inside, value, torch.nan))
        return torch.stack(columns, 1)


def extinction_law(data: DataSettings) -> list[float]:
    """A / A_V in each band, at its effective wavelength; 1 in V."""
    waves = [WAVELENGTHS[band] for band in (*data.bands, "V")]
    *law, in_v = LAWS[data.extinction.law](waves).tolist()
    return [one / in_v for one in law]


def _truth_of(
    truth: Mapping[str, Tensor], alike: Lookalikes, stars: ProjectedStars
) -> dict[str, Tensor]:
    """What is true of lookalikes; ``stars`` are all of theirs."""
    mass = torch.zeros(stars.n_clusters, dtype=torch.float64, device=stars.mass.device)
    mass.index_add_(0, stars.cluster, stars.mass.double())
    return {
        **truth,
        "log_total_mass": torch.log10(mass).float(),
        "half_mass_radius": truth["half_mass_radius"] * alike.size,
        "metallicity": truth["metallicity"] + alike.metallicity,
    }


def _joined(parts: Sequence[GlobularScenes]) -> GlobularScenes:
    """Scenes of all parts, end to end."""
    if len(parts) == 1:
        return parts[0]

    def together(name: str) -> Tensor:
        return torch.cat([getattr(one, name) for one in parts])

    looked = [one.pointing for one in parts]
    pointing = Pointing(
        *(
            torch.cat([getattr(one, name) for one in looked])
            for name in ("distance", "centre", "psf_fwhm", "pixel_scale")
        )
    )
    names = ("light", "mass", "theta", "log_light_fov", "dispersion", "dispersion_error", "run")
    names += ("extinction_v",)
    return GlobularScenes(pointing=pointing, **{name: together(name) for name in names})


def _drawn(
    n: int, limits: Range, listed: tuple[float, ...] | None, generator: torch.Generator
) -> Tensor:
    """Numbers (n,) of a list, each as often, or uniform in the logarithm."""
    if not listed:
        return log_uniform(n, limits, generator)
    uniform = torch.rand(n, generator=generator, device=generator.device)
    place = (uniform * len(listed)).long().clamp(max=len(listed) - 1)
    return uniform.new_tensor(listed)[place]
