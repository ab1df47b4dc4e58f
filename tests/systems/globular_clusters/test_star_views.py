"""Which stars of a cluster are shown: light is kept on average, pairs stay together."""

import h5py
import numpy as np
import pytest
import torch
from small_library import SMALL, snapshot

from melotte.engine.random import keyed_generator
from melotte.sky.cluster_libraries import RunWriter
from melotte.systems.globular_clusters import star_views as views_module
from melotte.systems.globular_clusters.library_stars import FAINT_LIGHT, light_order, load_stars
from melotte.systems.globular_clusters.star_views import star_views
from melotte.systems.registry import build_system, load_preset

STARS = 6000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """One cluster of many stars, one in 25 of which has a companion."""
    path = tmp_path_factory.mktemp("large") / "large.h5"
    with h5py.File(path, "w") as file:
        writer = RunWriter(file, "training-0", "training", {"metallicity": -1.0})
        stars = snapshot(STARS, 9000.0, 1)
        stars.system[1::25] = stars.system[::25]
        for column in (stars.radius, stars.radial_velocity, stars.tangential_velocity):
            column[1::25] = column[::25]
        writer.add(stars)
        writer.close({"time": [9000.0]})
    return path


def settings(path, *changes):
    named = [*SMALL, f"data.library={path}", "data.split=snapshot", *changes]
    return build_system(load_preset("globular", named)).data


def viewed(data, n, seed=1):
    library = load_stars(data, "training")
    chosen = torch.zeros(n, dtype=torch.long)
    return library, star_views(data, library, chosen, None, keyed_generator(seed, 0))


def test_faint_stars_give_the_light_that_they_are_said_to():
    generator = np.random.default_rng(3)
    magnitude = generator.normal(6, 3, 5000)
    magnitude[::7] = np.inf
    second = np.zeros(5000, dtype=bool)
    second[2::5] = True
    order, bright, faint = light_order(magnitude, second)
    assert sorted(order.tolist()) == list(range(5000))
    light = 10 ** (-0.4 * magnitude[order])
    share = light[bright : bright + faint].sum() / light.sum()
    assert 0.5 * FAINT_LIGHT < share <= FAINT_LIGHT
    assert light[bright + faint :].sum() == 0
    assert light[:bright].sum() + light[bright : bright + faint].sum() == pytest.approx(light.sum())
    place = np.argsort(order)
    later = np.flatnonzero(second)
    assert (place[later] == place[later - 1] + 1).all()


def test_no_star_of_a_small_cluster_is_faint():
    order, bright, faint = light_order(np.full(2000, 5.0), np.zeros(2000, dtype=bool))
    assert (bright, faint) == (2000, 0)
    assert order.tolist() == list(range(2000))


def test_thinned_light_is_the_whole_on_average_and_so_is_its_place(large, monkeypatch):
    data = settings(large)
    library, thin = viewed(data, 400)
    monkeypatch.setattr(views_module, "THINNING", 1)
    _, whole = viewed(data, 400)
    counts = whole.shown.offsets.diff(), thin.shown.offsets.diff()
    assert int(counts[1].max()) < 0.75 * int(counts[0].min())
    assert int(counts[0][0]) == int(library.bright[0] + library.faint[0])
    for power in (0, 2):
        sums = []
        for shown in (whole.shown, thin.shown):
            weight = shown.luminosity[:, 0] * shown.position.norm(dim=1) ** power
            sums.append(float(weight.sum()))
        assert sums[1] == pytest.approx(sums[0], rel=0.01)
    assert len(thin.everything.mass) == 400 * STARS


def test_stars_look_alike_from_everywhere(large):
    _, views = viewed(settings(large), 20)
    library = load_stars(settings(large), "training")
    radius = library.columns["radius"].float().repeat(20)
    projected = views.everything.position
    assert bool((projected.norm(dim=1) <= radius * 1.0001).all())
    mean = projected.square().mean(0) / radius.square().mean()
    torch.testing.assert_close(mean, torch.full((2,), 1 / 3), rtol=0.03, atol=0)


def test_companions_share_place_and_velocity(large):
    data = settings(large, "data.orientation=random")
    library, views = viewed(data, 3)
    later = torch.nonzero(library.second.repeat(3))[:, 0]
    assert len(later) == 3 * STARS // 25 + 3
    position = views.everything.position
    torch.testing.assert_close(position[later], position[later - 1], rtol=2e-3, atol=1e-6)
    # Bright stars are shown one by one, pairs of them side by side.
    bright = int(library.bright[0])
    velocity = views.shown.velocity[:bright]
    paired = torch.nonzero(library.second[:bright])[:, 0]
    # The snapshot's last star is bound to its fourth, with a velocity of its own.
    same = (velocity[paired] - velocity[paired - 1]).abs() < 1e-4
    assert len(paired) > 20
    assert int((~same).sum()) <= 1
    assert float(velocity.std()) > 1
