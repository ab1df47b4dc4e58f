"""Expansion, densities and distances against astropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.cosmology import FlatLambdaCDM

from melotte.sky.cosmology import Cosmology

REDSHIFT = torch.tensor([0.01, 0.117, 0.35, 0.6], dtype=torch.float64)


@pytest.mark.parametrize(("h", "omega_m"), [(0.6777, 0.307115), (0.7, 0.25)])
def test_distances_and_densities_are_those_of_astropy(h: float, omega_m: float) -> None:
    ours = Cosmology(h=h, omega_m=omega_m)
    theirs = FlatLambdaCDM(H0=100 * h, Om0=omega_m, Tcmb0=0)
    z = REDSHIFT.numpy()
    distance = ours.comoving_distance(REDSHIFT)
    np.testing.assert_allclose(distance, theirs.comoving_distance(z).value * h, rtol=1e-6)
    np.testing.assert_allclose(ours.distance_modulus(REDSHIFT), theirs.distmod(z).value, atol=1e-5)
    physical = theirs.critical_density(z).to("Msun/Mpc3").value
    comoving = physical / h**2 / (1 + z) ** 3
    np.testing.assert_allclose(ours.critical_density(REDSHIFT), comoving, rtol=1e-3)


def test_the_hubble_rate_differentiates_the_distance() -> None:
    cosmology = Cosmology()
    step = 1e-4
    away = cosmology.comoving_distance(REDSHIFT + step) - cosmology.comoving_distance(REDSHIFT)
    velocity = 299_792.458 * step / (1 + REDSHIFT)  # of the far end, in the frame of the near
    rate = cosmology.comoving_hubble_rate(REDSHIFT)
    torch.testing.assert_close(velocity / away, rate, rtol=2e-4, atol=0)


def test_matter_rules_growth_at_early_times() -> None:
    rate = Cosmology().growth_rate(torch.tensor([0.0, 1.0, 30.0]))
    assert (rate.diff() > 0).all()
    assert float(rate[2]) == pytest.approx(1, abs=2e-4)
