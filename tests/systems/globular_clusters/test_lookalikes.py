"""Lookalikes: the same cluster larger, of fewer stars, in equilibrium as before."""

from dataclasses import replace

import pytest
import torch
from small_library import SMALL

from melotte.engine.random import keyed_generator
from melotte.systems.globular_clusters.dark_mass import DarkMass
from melotte.systems.globular_clusters.library_stars import load_stars
from melotte.systems.globular_clusters.lookalikes import Lookalikes
from melotte.systems.globular_clusters.star_views import star_views
from melotte.systems.registry import build_system, load_preset

WIDE = ["data.log_total_mass=[1.0, 6.5]", "data.log_mass_fov=[0.5, 6.5]"]


def system_of(library, *changes):
    return build_system(
        load_preset("globular", [*SMALL, *WIDE, f"data.library={library}", *changes])
    )


def views_of(library, alike, n=6):
    data = system_of(library).data
    stars = load_stars(data, "training")
    snapshot = torch.arange(n) % len(stars.first)
    return star_views(data, stars, snapshot, None, keyed_generator(4, 0), alike)


def test_larger_clusters_of_fewer_stars_keep_their_balance(library):
    alike = Lookalikes(torch.full((6,), 2.0), torch.full((6,), 0.5), torch.zeros(6))
    plain, other = views_of(library, None), views_of(library, alike)
    torch.testing.assert_close(other.everything.position, 2 * plain.everything.position)
    gone = other.everything.mass == 0
    assert float(gone.float().mean()) == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close(other.everything.mass[~gone], plain.everything.mass[~gone])
    # Kinetic over potential energy, m v^2 against m^2 / r: 1/2 2^-2 against 2^-2 / 2.
    torch.testing.assert_close(other.shown.velocity, plain.shown.velocity * 0.5)
    dark = other.shown.luminosity[:, 0] == 0
    assert float(dark.float().mean()) == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close(other.shown.luminosity[~dark], plain.shown.luminosity[~dark])


def test_companions_stay_together(library):
    data = system_of(library).data
    stars = load_stars(data, "training")
    views = views_of(library, Lookalikes(torch.ones(3), torch.full((3,), 0.5), torch.zeros(3)), 3)
    later = torch.nonzero(stars.gathered("second", torch.arange(3) % len(stars.first)))[:, 0]
    assert len(later)
    mass = views.everything.mass
    assert bool(((mass[later] > 0) == (mass[later - 1] > 0)).all())


def test_clusters_of_more_stars_have_some_again_elsewhere(library):
    plain = views_of(library, None)
    number = torch.tensor([1.0, 1.5, 2.0, 0.5, 3.5, 5.0])
    other = views_of(library, Lookalikes(torch.ones(6), number, torch.zeros(6)))

    def of_each(stars, values):
        return torch.zeros(6).index_add(0, stars.cluster, values)

    ratio = of_each(other.everything, other.everything.mass)
    ratio = ratio / of_each(plain.everything, plain.everything.mass)
    torch.testing.assert_close(ratio, number, rtol=0.1, atol=0)
    assert ratio[[0, 2, 5]].tolist() == pytest.approx([1, 2, 5], rel=1e-5)
    light = of_each(other.shown, other.shown.luminosity[:, 0])
    light = light / of_each(plain.shown, plain.shown.luminosity[:, 0])
    assert light[[0, 2, 5]].tolist() == pytest.approx([1, 2, 5], rel=1e-5)
    low, high = other.everything.offsets[2:4].tolist()
    middle = (low + high) // 2
    first, again = (slice(low, middle), slice(middle, high))
    mass, position = other.everything.mass, other.everything.position
    torch.testing.assert_close(mass[first], mass[again])
    assert float((position[first] - position[again]).norm(dim=1).median()) > 0.5


def test_dark_mass_keeps_its_part():
    dark = DarkMass(*(torch.tensor([one]) for one in (0.2, 100.0, 0.25, 3.0)))
    other = Lookalikes(torch.tensor([2.0]), torch.tensor([0.5]), torch.zeros(1)).of_dark_mass(dark)
    assert (float(other.mass), float(other.scale)) == (50.0, 6.0)
    assert (float(other.ratio), float(other.fraction)) == pytest.approx((0.25, 0.2))


def test_truths_are_those_of_the_lookalikes(library):
    changes = ["data.label_spread=0", "data.dark_mass.share=0", "data.extinction.mean=0"]
    changes += ["data.distance=[2000, 2001]", "data.missing_band_share=0", "data.offset=0"]
    names = [one.name for one in system_of(library, *changes).parameters]

    def drawn(*more):
        scenes = system_of(library, *changes, *more).draw(40, keyed_generator(2, 0))
        return {name: scenes.theta[:, i] for i, name in enumerate(names)}, scenes

    plain, _ = drawn()
    other, scenes = drawn("data.size_spread=0.1", "data.number_factor=2")
    dex = (other["half_mass_radius"] / plain["half_mass_radius"]).log10()
    assert float(dex.std()) == pytest.approx(0.1, rel=0.4)
    change = other["log_total_mass"] - plain["log_total_mass"]
    assert -0.35 < float(change.min()) < -0.15
    assert 0.15 < float(change.max()) < 0.35
    assert abs(float(change.mean())) < 0.08
    # Nearly all of a cluster that far is on the map.
    on_map = scenes.mass.sum((1, 2)).log10()
    torch.testing.assert_close(on_map, other["log_total_mass"], rtol=0, atol=0.05)


def test_clusters_that_judge_are_the_librarys_own(library):
    data = system_of(library, "data.size_spread=0.1", "data.number_factor=1.6").data
    generator = keyed_generator(1, 0)
    iron = torch.full((4,), -1.0)
    assert Lookalikes.draw(data, "training", iron, generator) is not None
    assert Lookalikes.draw(data, "validation", iron, generator) is None
    assert Lookalikes.draw(data, "test", iron, generator) is None
    assert Lookalikes.draw(system_of(library).data, "training", iron, generator) is None


def test_relit_clusters_have_other_metals_and_the_light_of_them(library):
    data = system_of(library, "data.metallicity_spread=0.5").data
    stars = load_stars(data, "training")
    snapshot = torch.arange(40) % len(stars.first)
    iron = stars.truth["metallicity"][snapshot]
    alike = Lookalikes.draw(data, "training", iron, keyed_generator(1, 0))
    assert alike is not None
    low, high = data.metallicity
    wanted = iron + alike.metallicity
    assert bool(((wanted >= low) & (wanted <= high)).all())
    assert 0.3 < float(alike.metallicity.std()) < 0.7
    plain = star_views(data, stars, snapshot, None, keyed_generator(4, 0))
    same = replace(alike, size=torch.ones(40), number=torch.ones(40))
    relit = star_views(data, stars, snapshot, None, keyed_generator(4, 0), same)
    torch.testing.assert_close(relit.everything.mass, plain.everything.mass)

    def colours(views):
        light = torch.zeros(40, 2).index_add(0, views.shown.cluster, views.shown.luminosity)
        return -2.5 * (light[:, 1] / light[:, 0]).log10()

    redder = colours(relit) - colours(plain)
    # B - V of old clusters reddens with [Fe/H], by some 0.2 mag a dex.
    slope = (redder * alike.metallicity).sum() / alike.metallicity.square().sum()
    assert 0.08 < float(slope) < 0.4
