"""The scaling of velocity dispersion with mass: what the mock is held to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.ragged import Ragged

PIVOT = 15.0
"""log10(M200c/(Msun/h)) at which the relation's normalisation is quoted."""


@dataclass(frozen=True)
class DispersionRelation:
    """log10(sigma) = log_sigma15 + slope (log M200c - 15), with sigma in km/s.

    Parameters
    ----------
    slope : float
    log_sigma15 : float
        log10 of the dispersion of a cluster of 10^15 Msun/h, km/s.
    scatter : float
        Standard deviation of log10(sigma) about the relation.

    References
    ----------
    Ho et al. 2019, ApJ 887, 25, section 3.1 (after Evrard et al. 2008, ApJ 672, 122).
    """

    slope: float
    log_sigma15: float
    scatter: float

    @classmethod
    def fit(cls, log_mass: Tensor, log_sigma: Tensor) -> DispersionRelation:
        """Least squares of the log dispersion on the log mass, tensors (n_clusters,)."""
        mass = log_mass.double() - PIVOT
        sigma = log_sigma.double()
        offset = mass - mass.mean()
        slope = (offset * sigma).sum() / (offset**2).sum()
        level = sigma.mean() - slope * mass.mean()
        scatter = (sigma - level - slope * mass).std(correction=0)
        return cls(float(slope), float(level), float(scatter))

    def log_mass(self, log_sigma: Tensor) -> Tensor:
        """Invert the relation: log10(M200c/(Msun/h)), shape of ``log_sigma``."""
        return (log_sigma - self.log_sigma15) / self.slope + PIVOT


def log_velocity_dispersion(galaxies: Ragged) -> Tensor:
    """log10 of the standard deviation of velocities about their mean, km/s, shape (n_sets,).

    Parameters
    ----------
    galaxies : Ragged, values (n_galaxies, n_columns)
        Velocities in the first column, km/s. A set without galaxies gives NaN, of one -inf.
    """
    velocity, index = galaxies.values[:, 0].double(), galaxies.index
    empty = torch.zeros(galaxies.n_sets, dtype=torch.float64, device=velocity.device)
    mean = empty.index_add(0, index, velocity) / galaxies.counts
    variance = empty.index_add(0, index, (velocity - mean[index]) ** 2) / galaxies.counts
    return 0.5 * torch.log10(variance)
