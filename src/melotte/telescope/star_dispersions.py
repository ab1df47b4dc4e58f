"""Velocity dispersions of single stars' velocities, in bins of a map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.ragged import offsets_of
from melotte.telescope.cluster_maps import MapGrid, star_sums
from melotte.telescope.measured_dispersions import (
    LEAST_DISPERSION,
    MeasuredDispersions,
    bin_side,
    bins_joined,
    of_each,
    told_error,
)
from melotte.telescope.projected_stars import Pointing, ProjectedStars


@dataclass(frozen=True)
class StarSurvey:
    """Velocities of single stars, as a multi-object spectrograph or a crowded field's spectra give.

    Parameters
    ----------
    bin_pixels : int, pixels, >= 1
        Side of the square bins.
    limit : float or Tensor, shape (n,), mag
        Faintest star whose velocity is measured.
    velocity_error : float or Tensor, shape (n,), km/s, > 0
        Standard deviation of each; it is known and taken off in squares.
    observed_share : float or Tensor, shape (n,), above 0 up to 1
        Of the stars that are bright enough.
    least_stars : int, >= 3
        That bins are joined to hold; those that do not have no value.

    Raises
    ------
    MelotteValueError
        When a value is outside its range.
    """

    bin_pixels: int = 16
    limit: Tensor | float = 18.0
    velocity_error: Tensor | float = 1.0
    observed_share: Tensor | float = 1.0
    least_stars: int = 10

    def __post_init__(self) -> None:
        for name in ("bin_pixels", "velocity_error", "observed_share"):
            least = float(torch.as_tensor(getattr(self, name)).min())
            if not least > 0:
                raise MelotteValueError(f"{name} must be above 0, found {least:g}")
        most = float(torch.as_tensor(self.observed_share).max())
        if most > 1 or self.least_stars < 3:
            raise MelotteValueError(
                "observed_share must be 1 or less and least_stars 3 or more, found "
                f"{most:g} and {self.least_stars}"
            )


def star_dispersions(
    stars: ProjectedStars,
    pointing: Pointing,
    survey: StarSurvey,
    generator: torch.Generator,
    grid: MapGrid | None = None,
    band: int = 0,
) -> MeasuredDispersions:
    """Dispersions of single stars' velocities in bins: one draw of what is measured.

    Parameters
    ----------
    stars : ProjectedStars
        Behind the dust, if there is any.
    pointing : Pointing
    survey : StarSurvey
    generator : torch.Generator, on the device of the stars
    grid : MapGrid, optional
        Rows and columns that do not fill a bin are left out, at the end.
    band : int
        Band of the limit.

    Raises
    ------
    MelotteValueError
        When the map is smaller than a bin.

    Notes
    -----
    The dispersion's square is the sample variance of N velocities less the square of their error,
    and its standard deviation (sigma^2 + error^2) sqrt(2 / (N - 1)), of normal velocities and the
    measured sigma. Stars that stand close together are not blended, none belongs to the field, and
    the motion of stars in binaries about one another is not there.
    """
    grid = grid or MapGrid()
    side = bin_side(survey.bin_pixels, grid)
    cluster = stars.cluster

    def of_star(value: Tensor | float) -> Tensor:
        return torch.as_tensor(value, device=cluster.device).expand(stars.n_clusters)[cluster]

    faintness = -2.5 * torch.log10(stars.luminosity[:, band].clamp(min=1e-30))
    modulus = 5 * torch.log10(pointing.distance) + 10
    chance = torch.rand(len(cluster), generator=generator, device=cluster.device)
    seen = faintness + modulus[cluster] <= of_star(survey.limit)
    measured = torch.nonzero(seen & (chance < of_star(survey.observed_share)))[:, 0]
    cluster = cluster[measured]
    some = ProjectedStars(
        stars.position[measured],
        stars.luminosity[measured],
        stars.mass[measured],
        stars.velocity[measured],
        offsets_of(torch.bincount(cluster, minlength=stars.n_clusters)),
    )
    deviate = torch.randn(len(cluster), generator=generator, device=cluster.device)
    velocity = (some.velocity + of_star(survey.velocity_error) * deviate).double()
    columns = torch.stack([torch.ones_like(velocity), velocity, velocity.square()], 1)
    moments = functional.avg_pool2d(star_sums(columns, some, pointing, grid), side) * side**2
    sums, _, _ = bins_joined(
        moments.double(), lambda sums, _: sums[:, 0] >= survey.least_stars, max(moments.shape[2:])
    )
    number, first, second = sums.unbind(1)
    variance = (second - first.square() / number) / (number - 1)
    noise = of_each(survey.velocity_error, variance).double().square()
    found = (variance - noise).clamp(min=LEAST_DISPERSION**2)
    dispersion = found.sqrt()
    error = told_error(dispersion, (found + noise) * (2 / (number - 1)).sqrt())
    return MeasuredDispersions(dispersion.float(), error.float())
