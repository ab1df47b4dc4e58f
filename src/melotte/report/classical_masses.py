"""Masses of a cluster from its velocity dispersion by published relations, to set beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from melotte.baselines.interloper_removal import CleanSettings
from melotte.baselines.m_sigma import PUBLISHED, MSigma

if TYPE_CHECKING:
    from melotte.report.cluster_galaxies import ClusterGalaxies

PUBLISHED_CYLINDER = (1.6, 2500.0)
"""Radius (comoving Mpc/h) and velocity (km/s) in which the contaminated relation holds."""


@dataclass(frozen=True)
class ClassicalMass:
    """A classical estimate.

    Parameters
    ----------
    method : str
    log_mass : float, log10(M200c/(Msun/h))
    error : float, dex
        Scatter of the relation in mass: that of the dispersion over the slope.
    """

    method: str
    log_mass: float
    error: float


def classical_masses(cluster: ClusterGalaxies) -> list[ClassicalMass]:
    """M-sigma with the published relations of Ho et al. 2019.

    The relation of true members with the dispersion after a Clean cut (biweight, gapper); and,
    for a cylinder as theirs, that of all galaxies in it. Estimates that cannot be made are left
    out.

    Parameters
    ----------
    cluster : ClusterGalaxies
    """
    lengths: Literal["comoving", "physical"] = "comoving"
    if cluster.lengths.startswith("physical"):
        lengths = "physical"
    omega_m = float(cluster.conventions.get("omega_m", CleanSettings().omega_m))
    clean = CleanSettings(omega_m=omega_m, lengths=lengths)
    pure, contaminated = PUBLISHED["pure"], PUBLISHED["contaminated"]
    methods = [
        ("M–σ Ho+19, biweight after Clean", MSigma("biweight", "clean", clean, pure)),
        ("M–σ Ho+19, gapper after Clean", MSigma("gapper", "clean", clean, pure)),
    ]
    cylinder = cluster.aperture, cluster.velocity_cut
    if lengths == "comoving" and np.allclose(cylinder, PUBLISHED_CYLINDER, rtol=0.02):
        methods.append(("M–σ Ho+19, all galaxies", MSigma(relation=contaminated)))
    data: Any = cluster.observation.data
    redshift = float(data["redshift"][0])
    found = []
    for name, method in methods:
        offsets = [0, len(cluster.velocity)]
        mass = float(method.predict(cluster.velocity, cluster.radius, offsets, redshift)[0])
        relation: Any = method.relation
        if np.isfinite(mass):
            found.append(ClassicalMass(name, mass, relation.scatter / relation.slope))
    return found
