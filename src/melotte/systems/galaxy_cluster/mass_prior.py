"""The halo mass function as a prior, at the redshift of each cluster.

Networks learn from masses that are flat in their logarithm, so that heavy clusters are as well
known to them as light ones. In nature light clusters are far more common, and more of them scatter
up to an observation than heavy ones scatter down (Eddington 1913, MNRAS 73, 359). The posterior
of a cluster that was found without regard to its mass, other than through what was observed, is
that under the mass function.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from melotte.engine.prior_densities import NamedPriors, TabulatedDensity
from melotte.sky.cosmology import Cosmology
from melotte.sky.halo_statistics import HaloStatistics
from melotte.systems.base import Observation
from melotte.systems.galaxy_cluster.settings import HIGHEST_REDSHIFT, DataSettings

MASS_FUNCTION = "mass-function"


def named_priors(data: DataSettings) -> NamedPriors:
    """Priors that users of the system may ask for by name.

    Parameters
    ----------
    data : DataSettings
        Their cosmology is that of the mass function. An unknown redshift counts as the middle of
        their range.
    """
    cosmology, middle = data.cosmology.cosmology(), sum(data.redshift) / 2

    def of_objects(observation: Observation) -> list[TabulatedDensity]:
        redshift = observation.data["redshift"]
        assert isinstance(redshift, Tensor)
        at = redshift.cpu().double().flatten()
        return mass_function(torch.where(torch.isfinite(at), at, middle), cosmology)

    return {MASS_FUNCTION: {"log_m200c": of_objects}}


def mass_function(redshift: Tensor, cosmology: Cosmology) -> list[TabulatedDensity]:
    """dn/dlog10(M200c/(Msun/h)) at some redshifts, between 10^11 and 10^15.8 Msun/h.

    Parameters
    ----------
    redshift : Tensor, shape (n,), 0 to 0.6
        Beyond, the nearest end's.
    cosmology : Cosmology

    Returns
    -------
    list of TabulatedDensity, length n

    References
    ----------
    Tinker et al. 2008, ApJ 688, 709, for M200c, as computed by colossus.
    """
    log_mass, log_abundance = _statistics(cosmology).log_abundance(redshift.numpy())
    values = tuple(log_mass.tolist())
    return [TabulatedDensity(values, tuple(row)) for row in log_abundance.tolist()]


@lru_cache(maxsize=4)
def _statistics(cosmology: Cosmology) -> HaloStatistics:
    return HaloStatistics(cosmology, (0.0, HIGHEST_REDSHIFT))
