"""Real member lists moved farther away and behind more dust, star by star.

Dust dims and reddens a star by an amount that depends on its temperature and on the dust already
there. Both are read from the stellar table along a young main sequence: the observed colour and
the catalogued A_V give the intrinsic colour, and with it what more dust would do.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from melotte.ragged import Ragged
from melotte.sky.isochrones import StellarGrid
from melotte.telescope.gaia import RELEASES, gaia_release

LARGEST_A_V = 9.0
STEP_A_V = 0.25
N_COLOURS = 48
LOG_AGE = 7.8
"""Age of the main sequence that stands for all stars: hot stars, and no old turn-off."""
FEWEST_STARS = 10
"""A list that would keep fewer stars is not moved."""


class StarReddening:
    """What more dust does to a star in G and BP-RP.

    Parameters
    ----------
    release : str
    """

    def __init__(self, release: str) -> None:
        bands = list(gaia_release(release).bands)
        isochrone = StellarGrid.shipped(bands).isochrone(LOG_AGE, 0.0)
        levels = torch.arange(0, LARGEST_A_V + STEP_A_V / 2, STEP_A_V)
        magnitudes = torch.stack(
            [torch.tensor(isochrone.magnitudes(bands, extinction_v=float(a))) for a in levels]
        )
        g, bp, rp = magnitudes.unbind(-1)
        intrinsic = (bp - rp)[0].numpy()
        order = np.argsort(intrinsic)
        order = order[np.isfinite(intrinsic[order])]
        bluest, reddest = np.quantile(intrinsic[order], [0.01, 0.99])
        nodes = np.linspace(float(bluest), float(reddest), N_COLOURS)

        def sampled(table: Tensor) -> Tensor:
            rows = [np.interp(nodes, intrinsic[order], row[order]) for row in table.numpy()]
            return torch.tensor(np.array(rows), dtype=torch.float32)

        # Giants and dwarfs share colours: the running maximum keeps the relation monotonic.
        self.colour = torch.cummax(sampled(bp - rp), dim=1).values.contiguous()
        self.extinction = sampled(g - g[0])

    def added(self, bp_rp: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Change in G and in BP-RP of stars seen behind ``before`` mag of A_V.

        Parameters
        ----------
        bp_rp : Tensor, shape (n_stars,), mag
        before, after : Tensor, shape (n_stars,), mag
            A_V, clamped to 0 to 9.

        Returns
        -------
        delta_g, delta_bp_rp : Tensor, shape (n_stars,), mag
        """
        low, part = self._level(before)
        colour = self._between(self.colour, low, part)
        right = torch.searchsorted(colour, bp_rp[:, None].contiguous())
        right = right.clamp(1, colour.shape[1] - 1)
        left_colour = colour.gather(1, right - 1)[:, 0]
        right_colour = colour.gather(1, right)[:, 0]
        share = (bp_rp - left_colour) / (right_colour - left_colour).clamp(min=1e-6)
        share = share.clamp(0, 1)

        def at(table: Tensor, level: Tensor, part: Tensor) -> Tensor:
            rows = self._between(table, level, part)
            left = rows.gather(1, right - 1)[:, 0]
            return left + share * (rows.gather(1, right)[:, 0] - left)

        high, high_part = self._level(after)
        delta_g = at(self.extinction, high, high_part) - at(self.extinction, low, part)
        delta_colour = at(self.colour, high, high_part) - at(self.colour, low, part)
        return delta_g, delta_colour

    def to(self, device: torch.device) -> StarReddening:
        """The same tables on another device."""
        self.colour, self.extinction = self.colour.to(device), self.extinction.to(device)
        return self

    @staticmethod
    def _level(a_v: Tensor) -> tuple[Tensor, Tensor]:
        place = a_v.clamp(0, LARGEST_A_V) / STEP_A_V
        low = place.floor().long().clamp(max=round(LARGEST_A_V / STEP_A_V) - 1)
        return low, place - low

    @staticmethod
    def _between(table: Tensor, low: Tensor, part: Tensor) -> Tensor:
        return table[low] + part[:, None] * (table[low + 1] - table[low])


@cache
def star_reddening(release: str) -> StarReddening:
    """The tables of a release, made once."""
    return StarReddening(release)


def moved(
    stars: Ragged,
    release: Tensor,
    extinction_v: Tensor,
    distance: Tensor,
    added_extinction: Tensor,
    added_modulus: Tensor,
    generator: torch.Generator,
) -> tuple[Ragged, Tensor]:
    """Member lists farther away and behind more dust; errors grow as Gaia's do.

    Stars that would pass the faintest star of their list leave it. A list that would keep fewer
    than :data:`FEWEST_STARS` stays as it is.

    Parameters
    ----------
    stars : Ragged, values of shape (n_stars, 7)
        Columns of the simulator.
    release : Tensor, shape (batch,), 1 for DR2
    extinction_v : Tensor, shape (batch,), mag
        A_V that the list has; used for its stars' intrinsic colours.
    distance : Tensor, shape (batch,), kpc
    added_extinction, added_modulus : Tensor, shape (batch,), mag, >= 0
    generator : torch.Generator

    Returns
    -------
    stars : Ragged
    done : BoolTensor, shape (batch,)
        Which lists were moved.
    """
    index, values = stars.index, stars.values
    g, colour, parallax, parallax_error, g_error, colour_error, membership = values.unbind(-1)
    far = 10 ** (added_modulus / 5)
    new_g = g + added_modulus[index]
    new_colour = colour.clone()
    growth = torch.ones_like(g)
    for name, of_release in (("DR2", release > 0.5), ("EDR3", release <= 0.5)):
        chosen = of_release[index]
        if not bool(chosen.any()):
            continue
        sets = index[chosen]
        before = extinction_v[sets]
        tables = star_reddening(name).to(g.device)
        delta_g, delta_colour = tables.added(
            colour[chosen], before, before + added_extinction[sets]
        )
        new_g[chosen] += delta_g
        new_colour[chosen] += delta_colour
        curve = RELEASES[name]
        growth[chosen] = curve.parallax_error(new_g[chosen]) / curve.parallax_error(g[chosen])
    growth = growth.clamp(min=1.0)
    # Photometric errors grow with the loss of photons; those of parallaxes by Gaia's own curve.
    dimming = 10 ** (0.2 * (new_g - g).clamp(min=0))
    noise = torch.randn((2, len(g)), generator=generator, device=g.device)
    extra = torch.sqrt((growth**2 - 1).clamp(min=0))
    shift = (1 / far - 1)[index] / distance[index]
    new_parallax = parallax + shift + extra * parallax_error.nan_to_num(0.0) * noise[0]
    extra = torch.sqrt((dimming**2 - 1).clamp(min=0))
    new_colour = new_colour + extra * colour_error.nan_to_num(0.0) * noise[1]
    changed = torch.stack(
        [
            new_g,
            new_colour,
            new_parallax,
            parallax_error * growth,
            g_error * dimming,
            colour_error * dimming,
            membership,
        ],
        -1,
    )
    limit = torch.full_like(far, -torch.inf).scatter_reduce(0, index, g, "amax")
    inside = new_g <= limit[index]
    left = torch.zeros_like(far).index_add(0, index, inside.to(far.dtype))
    done = left >= FEWEST_STARS
    keep = inside | ~done[index]
    return Ragged(torch.where(done[index][:, None], changed, values), stars.offsets).where(
        keep
    ), done
