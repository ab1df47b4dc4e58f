"""Stars of the Galactic disc along a line of sight, as bright as they appear.

Beside :class:`melotte.sky.field_stars.FieldStars`, which asks what is seen at one distance, this
puts disc stars at all distances: what stands in front of and behind a distant cluster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged, offsets_of
from melotte.sky.field_stars import FieldStars
from melotte.sky.isochrones import StellarGrid

SCALE_HEIGHT = 300.0
"""Of the thin disc, pc (Juric et al. 2008, ApJ 673, 864, Table 10)."""

_FARTHEST = 20.0
"""Distances end here, in scale lengths of the line of sight: next to nothing is beyond."""


@dataclass(frozen=True)
class ApparentFieldStars:
    """A library of field stars' apparent magnitudes, brightest first.

    Parameters
    ----------
    magnitude : Tensor, shape (n_stars, n_bands), mag, Vega
        Sorted by the first band.
    """

    magnitude: Tensor

    @classmethod
    def of_the_disc(
        cls,
        grid: StellarGrid,
        bands: Sequence[str],
        n: int,
        generator: torch.Generator,
        latitude: float = 40.0,
        faintest: float = 24.0,
        scale_height: float = SCALE_HEIGHT,
    ) -> ApparentFieldStars:
        """Disc stars at distances d with the density d^2 exp(-d sin|b| / h), without dust.

        Parameters
        ----------
        grid : StellarGrid
        bands : sequence of str
            The first is the one that magnitude limits are in.
        n : int
            Stars to draw; those fainter than the limit are left out.
        generator : torch.Generator, on the device of ``grid``
        latitude : float, deg, not 0
            Galactic latitude b.
        faintest : float, mag
        scale_height : float, pc, > 0
            The height h.

        Raises
        ------
        MelotteValueError
            When the line of sight lies in the plane, or no star is bright enough.

        Notes
        -----
        Stars of the halo and the thick disc are left out, so blue faint stars are too few; their
        number is set by :meth:`draw`, not here.
        """
        if not (0 < abs(latitude) <= 90 and scale_height > 0):
            raise MelotteValueError(
                f"latitude must be above 0 and at most 90 deg and the scale height above 0 pc, "
                f"found {latitude:g} and {scale_height:g}"
            )
        library = FieldStars.of_the_disc(grid, bands[0], n, generator)
        count, device = len(library.absolute_magnitude), generator.device
        chosen = torch.arange(count, device=device)
        absolute = library.magnitudes(chosen, torch.zeros(count, device=device), bands)
        # A sum of three exponential numbers has the density x^2 exp(-x) / 2.
        uniform = torch.rand(3, count, generator=generator, device=device)
        depth = -torch.log1p(-uniform).sum(0).clamp(max=_FARTHEST)
        length = scale_height / math.sin(math.radians(abs(latitude)))
        distance = (depth * length).clamp(min=1e-3)
        apparent = absolute + (5 * torch.log10(distance) - 5)[:, None]
        apparent = apparent[apparent[:, 0] < faintest]
        if not len(apparent):
            raise MelotteValueError(f"none of {n} field stars is brighter than {faintest:g} mag")
        return cls(apparent[torch.argsort(apparent[:, 0])].contiguous())

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return self.magnitude.shape[1]

    def count_brighter(self, limit: float) -> int:
        """Stars of the library brighter than a magnitude of the first band."""
        return int(torch.searchsorted(self.magnitude[:, 0].contiguous(), limit))

    def draw(self, expected: Tensor, limit: float, generator: torch.Generator) -> Ragged:
        """Draw the field stars of several fields.

        Parameters
        ----------
        expected : Tensor, shape (n,), >= 0
            Mean number of stars brighter than ``limit`` in each; fainter ones come in proportion.
        limit : float, mag, in the first band
        generator : torch.Generator, on the device of the library

        Returns
        -------
        Ragged
            Apparent magnitudes, values of shape (n_stars, n_bands).

        Raises
        ------
        MelotteValueError
            When no star of the library is brighter than the limit.
        """
        bright = self.count_brighter(limit)
        if not bright:
            raise MelotteValueError(f"no field star of the library is brighter than {limit:g} mag")
        mean = expected.to(self.magnitude.device) * (len(self.magnitude) / bright)
        counts = torch.poisson(mean, generator=generator).long()
        chosen = torch.randint(
            len(self.magnitude),
            (int(counts.sum()),),
            generator=generator,
            device=self.magnitude.device,
        )
        return Ragged(self.magnitude[chosen], offsets_of(counts))
