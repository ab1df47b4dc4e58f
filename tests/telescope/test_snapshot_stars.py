"""Simulated clusters on maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.io.star_snapshots import StarSnapshot
from melotte.telescope.cluster_maps import MapGrid, mass_map, render_light
from melotte.telescope.panstarrs import KOSTOV_BONEV_2018
from melotte.telescope.projected_stars import Pointing
from melotte.telescope.snapshot_stars import panstarrs_luminosities, projected_stars


def snapshot(n: int = 500, **known: object) -> StarSnapshot:
    """A small cluster of stars with magnitudes, the first of them dark."""
    random = np.random.default_rng(3)
    magnitude = random.normal(6, 2, n)
    magnitude[0] = np.inf
    settings = {
        "radius": 0.3 * random.random(n),
        "radial_velocity": random.normal(0, 5, n),
        "tangential_velocity": np.abs(random.normal(0, 5, n)),
        "magnitude_v": magnitude,
        "magnitude_b": magnitude + 0.7,
    }
    return StarSnapshot.of(random.random(n) + 0.1, np.ones(n), **{**settings, **known})


def test_light_and_mass_of_a_simulation_are_on_its_maps() -> None:
    simulated = snapshot()
    views = [simulated.projected(np.random.default_rng(i)) for i in range(2)]
    stars = projected_stars(views)
    pointing = Pointing.of(2, 30.0, psf_fwhm=0.4)
    light = render_light(stars, pointing, MapGrid(120, 120)).sum((2, 3))
    expected = (10 ** (-0.4 * simulated.magnitude_v)).sum()
    assert light[:, 0].tolist() == pytest.approx([expected] * 2, rel=3e-3)
    assert (light[:, 1] / light[:, 0]).tolist() == pytest.approx([10**-0.28] * 2, rel=1e-4)
    mass = mass_map(stars, pointing, MapGrid(120, 120)).sum((1, 2))
    assert mass.tolist() == pytest.approx([simulated.total_mass] * 2, rel=1e-5)
    view = views[0]
    assert view.velocity is not None
    assert np.allclose(stars.velocity[:500], view.velocity[:, 2], atol=1e-4)


def test_panstarrs_luminosities_are_those_of_the_relation() -> None:
    stars = projected_stars([snapshot().projected(np.random.default_rng(1))])
    found = panstarrs_luminosities(stars.luminosity, KOSTOV_BONEV_2018)
    assert found[0].tolist() == [0, 0]
    g, r = (-2.5 * torch.log10(found[1:])).unbind(1)
    b, v = KOSTOV_BONEV_2018.johnson(g, r)
    assert torch.allclose(10 ** (-0.4 * v), stars.luminosity[1:, 0], rtol=1e-4)
    assert torch.allclose(10 ** (-0.4 * b), stars.luminosity[1:, 1], rtol=1e-4)


def test_what_a_map_needs_must_be_known() -> None:
    random = np.random.default_rng(1)
    with pytest.raises(MelotteValueError, match=r"call projected\(\)"):
        projected_stars([snapshot()])
    unknown = snapshot(magnitude_b=np.full(500, np.nan)).projected(random)
    with pytest.raises(MelotteValueError, match="500 of 500 stars have no magnitude in B"):
        projected_stars([unknown])
    assert projected_stars([unknown], ("V",)).n_bands == 1
    with pytest.raises(MelotteValueError, match="bands of snapshots are V and B"):
        projected_stars([unknown], ("R",))  # pyright: ignore[reportArgumentType]
    still = snapshot()
    still = StarSnapshot.of(
        still.mass, still.kind, radius=still.radius, magnitude_v=still.magnitude_v
    ).projected(random)
    assert not projected_stars([still], ("V",)).velocity.any()
