"""The classical mass estimate: a power law between velocity dispersion and mass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.baselines.interloper_removal import CleanSettings, Removal, members_after
from melotte.baselines.velocity_dispersion import Scale, velocity_dispersions
from melotte.errors import MelotteValueError

Array = NDArray[np.float64]

PIVOT = 15.0
"""log10(M200c/(Msun/h)) at which the relation's normalisation is quoted."""


@dataclass(frozen=True)
class Relation:
    """log10(sigma) = log_sigma15 + slope (log M200c - 15), with sigma in km/s.

    Parameters
    ----------
    slope : float
    log_sigma15 : float
    scatter : float
        Standard deviation of log10(sigma) about the relation.
    """

    slope: float
    log_sigma15: float
    scatter: float


PUBLISHED = {
    "pure": Relation(0.36581767, 3.0362322, 0.06891802),
    "contaminated": Relation(0.24116582, 3.0010664, 0.10379335),
}
"""Ho et al. 2019 (ApJ 887, 25) on MultiDark, medium cylinder, from their public notebook."""


class MSigma:
    """Mass from the velocity dispersion.

    Parameters
    ----------
    scale : {"standard", "biweight", "gapper"}
        How the dispersion is measured.
    removal : {"none", "three_sigma", "shifting_gapper", "clean"}
        Interlopers are cut first. For true members only, leave the others out of the arrays.
    clean : CleanSettings, optional
    relation : Relation, optional
        A known one, so that nothing need be fitted.

    References
    ----------
    Evrard et al. 2008, ApJ 672, 122; Ho et al. 2019, ApJ 887, 25, Sect. 3.1: the log dispersion is
    regressed on the log mass over a sample flat in log mass, and the relation inverted.
    """

    def __init__(
        self,
        scale: Scale = "standard",
        removal: Removal = "none",
        clean: CleanSettings | None = None,
        relation: Relation | None = None,
    ) -> None:
        self.scale: Scale = scale
        self.removal: Removal = removal
        self.clean = clean
        self.relation = relation

    def log_dispersion(
        self,
        velocity: ArrayLike,
        radius: ArrayLike,
        offsets: ArrayLike,
        redshift: ArrayLike = 0.117,
        velocity_error: ArrayLike | None = None,
    ) -> Array:
        """log10 of the dispersion (km/s) after the removal, (n_clusters,); NaN without one."""
        kept = members_after(self.removal, velocity, radius, offsets, redshift, self.clean)
        sigma = velocity_dispersions(velocity, offsets, self.scale, velocity_error, kept)
        return np.log10(np.where(sigma > 0, sigma, np.nan))

    def fit(
        self,
        velocity: ArrayLike,
        radius: ArrayLike,
        offsets: ArrayLike,
        log_mass: ArrayLike,
        redshift: ArrayLike = 0.117,
        velocity_error: ArrayLike | None = None,
    ) -> Self:
        """Regress the log dispersion on the log mass.

        Parameters
        ----------
        velocity, radius : array, shape (n_galaxies,), km/s and Mpc/h
        offsets : array of int, shape (n_clusters + 1,)
        log_mass : array, shape (n_clusters,)
            log10(M200c/(Msun/h)), best flat: the slope of a steep mass function is biased.
        redshift : array, shape (n_clusters,), or one number
            Used by the Clean cut alone.
        velocity_error : array, shape (n_galaxies,), km/s, optional

        Raises
        ------
        MelotteValueError
            When shapes do not fit, or fewer than three clusters have a dispersion.
        """
        mass = np.asarray(log_mass, dtype=float)
        log_sigma = self.log_dispersion(velocity, radius, offsets, redshift, velocity_error)
        if mass.shape != log_sigma.shape:
            raise MelotteValueError(f"log_mass has shape {mass.shape}, clusters {log_sigma.shape}")
        usable = np.isfinite(log_sigma) & np.isfinite(mass)
        if usable.sum() < 3:
            raise MelotteValueError(f"{usable.sum()} clusters with a dispersion; 3 are needed")
        slope, level = np.polyfit(mass[usable] - PIVOT, log_sigma[usable], 1)
        residual = log_sigma[usable] - level - slope * (mass[usable] - PIVOT)
        self.relation = Relation(float(slope), float(level), float(residual.std()))
        return self

    def predict(
        self,
        velocity: ArrayLike,
        radius: ArrayLike,
        offsets: ArrayLike,
        redshift: ArrayLike = 0.117,
        velocity_error: ArrayLike | None = None,
    ) -> Array:
        """log10(M200c/(Msun/h)), shape (n_clusters,); NaN where no dispersion can be measured."""
        if self.relation is None:
            raise MelotteValueError("fit the relation, or give one, before it predicts")
        log_sigma = self.log_dispersion(velocity, radius, offsets, redshift, velocity_error)
        return (log_sigma - self.relation.log_sigma15) / self.relation.slope + PIVOT
