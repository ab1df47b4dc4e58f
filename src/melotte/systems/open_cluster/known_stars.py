"""Member lists of which every star is known: what the classification of stars is measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.populations import combine_magnitudes
from melotte.systems.open_cluster.settings import DataSettings
from melotte.telescope.gaia import GaiaRelease, gaia_release

Array = NDArray[np.float64]

CROWDING = 0.008
"""Colour scatter of a mock list beyond its photometric errors, mag: the middle of the mocks'."""


@dataclass(frozen=True)
class KnownList:
    """A list and the truth of it; arrays of shape (n_stars,).

    Parameters
    ----------
    stars : array, shape (n_stars, 7), columns of the simulator
    mass : Msun, initial, of the primary
    ratio : mass ratio; 0 for single stars
    straggler, field : bool
    """

    stars: Array
    mass: Array
    ratio: Array
    straggler: NDArray[np.bool_]
    field: NDArray[np.bool_]


def known_list(
    grid: StellarGrid,
    theta: Array,
    n: int,
    generator: torch.Generator,
    *,
    settings: DataSettings,
    release: str = "EDR3",
    limit: float = 18.0,
    binary_fraction: float = 0.35,
    stragglers: int = 0,
    field_fraction: float = 0.03,
    reddening_scatter: float = 0.03,
) -> KnownList:
    """Draw a list.

    Parameters
    ----------
    grid : StellarGrid, on the CPU
    theta : array, shape (4,)
        (log_age, extinction_v / mag, distance / kpc, metallicity).
    n : int
        Stars, stragglers and field stars besides.
    generator : torch.Generator
    settings : DataSettings
        Gives the offsets of whole clusters.
    release : str
    limit : float, mag
    binary_fraction : float
        Mass ratios are flat from 0.1 to 1.
    stragglers : int
        Main-sequence stars of 1.15 to 1.8 times the heaviest mass, younger than the cluster.
    field_fraction : float
        Stars anywhere in the diagram, as a share of ``n``.
    reddening_scatter : float, mag
        Of A_V from star to star.

    Returns
    -------
    KnownList
    """

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    known = gaia_release(release)
    log_age, dust, distance, metallicity = (torch.tensor([float(value)]) for value in theta)
    tip = float(grid.maximum_mass(log_age.double(), metallicity.double()))
    low = torch.full((60 * n,), 0.1, dtype=torch.float64)
    mass = Kroupa2001(0.1, 150.0).sample_between(low, torch.full_like(low, tip), generator).double()
    ratio = torch.where(uniform(len(mass)) < binary_fraction, 0.1 + 0.9 * uniform(len(mass)), 0.0)
    ages = torch.full_like(mass, float(log_age))
    gain = 1.15 + 0.65 * uniform(stragglers)
    mass = torch.cat([gain * tip, mass])
    ratio = torch.cat([torch.zeros(stragglers, dtype=torch.float64), ratio])
    younger = float(log_age) - 2.5 * torch.log10(gain) - 0.3 - 0.5 * uniform(stragglers)
    ages = torch.cat([younger, ages])
    reddened = (float(dust) + reddening_scatter * normal(len(mass))).clamp(min=0)
    light = _light(grid, mass, ages, metallicity, reddened, known)
    other = _light(grid, (ratio * mass).clamp(min=0.05), ages, metallicity, reddened, known)
    light = torch.where(ratio[:, None] > 0, combine_magnitudes(light, other), light)
    light = light + 5 * torch.log10(distance.double()) + 10
    light[:, 0] += settings.magnitude_zero_point * normal(1)
    colour_offset = settings.colour_zero_point * normal(1)
    seen = torch.isfinite(light).all(1) & (light[:, 0] < limit)
    kept = torch.nonzero(seen)[: n + stragglers, 0]
    g, bp, rp = light[kept].unbind(-1)
    errors = torch.stack(known.photometric_errors(g.float(), bp.float(), rp.float()), -1).double()
    colour_error = torch.hypot(errors[:, 1], errors[:, 2])
    noise = torch.hypot(colour_error, torch.tensor(CROWDING)) * normal(len(kept))
    parallax_error = known.parallax_error(g.float()).double()
    table = torch.stack(
        [
            g + errors[:, 0] * normal(len(kept)),
            bp - rp + colour_offset + noise,
            1 / distance + known.zero_point + parallax_error * normal(len(kept)),
            parallax_error,
            errors[:, 0],
            colour_error,
            0.7 + 0.3 * uniform(len(kept)),
        ],
        -1,
    )
    n_field = round(field_fraction * n)
    strays = table[torch.randint(len(table), (n_field,), generator=generator)].clone()
    low_colour, high_colour = table[:, 1].min(), table[:, 1].max()
    strays[:, 1] = low_colour + (high_colour - low_colour) * uniform(n_field)
    stars = torch.cat([table, strays]).numpy()
    nothing = np.zeros(n_field)
    return KnownList(
        stars,
        np.concatenate([mass[kept].numpy(), nothing]),
        np.concatenate([ratio[kept].numpy(), nothing]),
        np.concatenate([(kept < stragglers).numpy(), nothing > 0]),
        np.arange(len(stars)) >= len(table),
    )


def _light(
    grid: StellarGrid,
    mass: torch.Tensor,
    log_age: torch.Tensor,
    metallicity: torch.Tensor,
    dust: torch.Tensor,
    release: GaiaRelease,
) -> torch.Tensor:
    """Absolute G, BP, RP (n_stars, 3) of stars of their own age behind their own dust."""
    state = grid.evolve(mass[:, None], log_age[:, None], metallicity.double().expand(len(mass), 1))
    light = grid.magnitudes(state, dust[:, None], list(release.bands), metallicity)
    return light[:, 0].double()
