"""What stars leave behind: masses of white dwarfs, neutron stars and black holes."""

from __future__ import annotations

import torch
from torch import Tensor

NEUTRON_STAR_MASS = 1.4
NEUTRON_STARS_FROM = 8.5
BLACK_HOLES_FROM = 40.0


def remnant_mass(initial_mass: Tensor) -> Tensor:
    """Mass of the remnant of a star.

    White dwarfs follow the semi-empirical relation for MIST cooling ages and progenitors, whose
    highest segment is extended from 7.2 to 8.5 Msun; then neutron stars of 1.4 Msun; from
    40 Msun on black holes of half the initial mass.

    Parameters
    ----------
    initial_mass : Tensor, any shape, Msun, > 0

    Returns
    -------
    Tensor, same shape, Msun; never more than the initial mass

    References
    ----------
    Cummings et al. 2018, ApJ 866, 21, Eqs. 4-6 (white dwarfs); Renzini & Ciotti 1993,
    ApJ 416, L49 (neutron stars and black holes).
    """
    white_dwarf = torch.where(
        initial_mass < 2.85,
        0.080 * initial_mass + 0.489,
        torch.where(
            initial_mass < 3.60, 0.187 * initial_mass + 0.184, 0.107 * initial_mass + 0.471
        ),
    )
    neutron_star = torch.full_like(initial_mass, NEUTRON_STAR_MASS)
    heavy = torch.where(initial_mass < BLACK_HOLES_FROM, neutron_star, 0.5 * initial_mass)
    remnant = torch.where(initial_mass < NEUTRON_STARS_FROM, white_dwarf, heavy)
    return torch.minimum(remnant, initial_mass)
