"""Dust before mock clusters, dark mass in them, other galaxies, and who is drawn how often."""

import math

import pytest
import torch
from small_library import SMALL

from melotte.engine.mocks import mock_batch
from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.sky.dark_mass import plummer_share_within
from melotte.sky.extinction import fitzpatrick99
from melotte.systems.globular_clusters.dark_mass import DarkMass
from melotte.systems.globular_clusters.library_stars import draw_chances
from melotte.systems.globular_clusters.mock_settings import DarkMassSettings
from melotte.systems.globular_clusters.scenes import WAVELENGTHS
from melotte.systems.registry import build_system, load_preset

CLEAN = [
    "data.noise=none",
    "data.label_spread=0",
    "data.missing_band_share=0",
    "data.pixel_scale=1.0",
    "data.psf_fwhm=2.0",
    "data.distance=60",
]
NOISELESS = "data.kinematics={star_share: 0, exposure: [1.0e+12, 1.0e+12], least_signal: 0}"
# Half of such a Plummer's sphere lies within the stars' half-mass radius.
DARK = "data.dark_mass={share: 1, central_share: 0.5, diffuse_scale: [0.766, 0.767]}"


def system_of(library, *settings, preset="globular"):
    named = f"data.library={library}"
    return build_system(load_preset(preset, [*SMALL, named, *settings]))


def column(system, theta, name):
    return theta[:, [one.name for one in system.parameters].index(name)]


def test_dust_dims_by_its_law_and_leaves_mass_and_labels(library):
    dusty = "data.extinction={mean: 0.6, most: 2, least_error: 1e-6, relative_error: [1e-6, 1e-6]}"
    bare = "data.extinction={mean: 0}"
    # What is drawn after the dust does not differ if nothing is.
    plain = [*CLEAN, "data.dark_mass={share: 0}", "data.dispersion_share=0"]
    systems = [system_of(library, *plain, one) for one in (bare, dusty)]
    clear, dim = (one.draw(40, keyed_generator(3, 1)) for one in systems)
    assert torch.equal(clear.mass, dim.mass)
    assert torch.equal(clear.theta.nan_to_num(-1), dim.theta.nan_to_num(-1))
    assert torch.equal(clear.log_light_fov, dim.log_light_fov)
    law = fitzpatrick99([WAVELENGTHS["V"], WAVELENGTHS["B"]])
    assert law[0] == pytest.approx(1, abs=0.03)
    # A_V is that of the band V, whatever the law's own zero.
    law = law / law[0]
    assert law[1] - 1 == pytest.approx(1 / 3.1, abs=0.04)
    factor = 10 ** (-0.4 * dim.extinction_v[:, None] * torch.from_numpy(law).float())
    sums = clear.light.sum((2, 3)) * factor
    torch.testing.assert_close(dim.light.sum((2, 3)), sums, rtol=1e-4, atol=0)
    assert 0 <= float(dim.extinction_v.min()) < 0.1
    assert 0.9 < float(dim.extinction_v.max()) <= 2
    batch = systems[1].observe(dim, keyed_generator(3, 2))
    told = batch.observation.data["extinction_v"]
    torch.testing.assert_close(told, dim.extinction_v, atol=1e-4, rtol=1e-4)
    assert "extinction_v" not in mock_batch(systems[0], 2, 1, 0).observation.data


def test_the_mean_of_the_dust_is_that_of_its_density(library):
    system = system_of(library, "data.extinction={mean: 0.5, most: 1.0}")
    found = system.simulator()._extinction(20_000, keyed_generator(1, 1))
    # Of exp(-x / m) cut off at x = 2 m: m (1 - 2 / (e^2 - 1)).
    assert float(found.mean()) == pytest.approx(0.5 * (1 - 2 / math.expm1(2)), rel=0.02)


def test_dust_is_told_with_an_error_that_is_its_error(library):
    dust = "data.extinction={mean: 1, most: 3, least_error: 0.02, relative_error: [0.1, 0.1]}"
    system = system_of(library, dust)
    scenes = system.draw(60, keyed_generator(3, 1))
    data = system.observe(scenes, keyed_generator(3, 2), 8).observation.data
    truth = scenes.extinction_v.repeat_interleave(8)
    torch.testing.assert_close(data["extinction_error"], torch.hypot(0.1 * truth, 0 * truth + 0.02))
    pull = (data["extinction_v"] - truth) / data["extinction_error"]
    assert float(pull.std()) == pytest.approx(1, abs=0.1)
    assert float(pull.mean()) == pytest.approx(0, abs=0.15)
    constants = system.constants(system.observe(scenes, keyed_generator(3, 3)))
    one = system.prepare(system.observe(scenes, keyed_generator(3, 2), 8).observation, constants)
    network = system.network(constants)
    assert network(one)["posterior"] is not None


def test_dark_mass_is_drawn_as_the_settings_say():
    settings = DarkMassSettings(
        share=0.4,
        central_share=0.25,
        central_fraction=(0.01, 0.1),
        diffuse_fraction=(0.2, 0.4),
        diffuse_scale=(1.0, 2.0),
    )
    n = 20_000
    radius = torch.full((n,), 3.0)
    dark = DarkMass.draw(settings, torch.full((n,), 1e5), radius, keyed_generator(1, 0))
    exists = dark.mass > 0
    central = exists & (dark.scale == 0)
    assert float(exists.float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float(central.sum() / exists.sum()) == pytest.approx(0.25, abs=0.02)
    # Within the half-mass radius, where half of the stars' mass is.
    inner = dark.mass * plummer_share_within(radius, dark.scale)
    fraction = inner / (inner + 5e4)
    torch.testing.assert_close(fraction[exists], dark.fraction[exists], rtol=1e-4, atol=0)
    torch.testing.assert_close(dark.ratio * 1e5, dark.mass)
    assert float(dark.fraction[central].log10().mean()) == pytest.approx(-1.5, abs=0.03)
    diffuse = exists & ~central
    assert float(dark.fraction[diffuse].mean()) == pytest.approx(0.3, abs=0.01)
    assert 3 <= float(dark.scale[diffuse].min()) < float(dark.scale[diffuse].max()) <= 6
    assert float(dark.fraction[~exists].max()) <= settings.none


def test_dark_mass_is_on_the_map_and_in_its_fraction_alone(library):
    wide = ["data.pixel_scale=8.0", "data.psf_fwhm=16.0", "data.distance=160", "data.offset=0"]
    system = system_of(
        library, *CLEAN[:3], *wide, "data.log_age=[9.9, 10.15]", DARK, "data.dispersion_share=1"
    )
    scenes = system.draw(40, keyed_generator(5, 1))
    fraction = column(system, scenes.theta, "dark_fraction")
    of_stars = 10 ** column(system, scenes.theta, "log_total_mass")
    # All stars and nearly all dark mass stand on so wide a map, half of either within the stars'
    # half-mass radius; but for a black hole's, which is all there.
    dark = scenes.mass.sum((1, 2)) / of_stars - 1
    inner = fraction / (1 - fraction)
    as_wide = (dark - inner).abs() < (dark - inner / 2).abs()
    assert 0.2 < float(as_wide.float().mean()) < 0.8
    torch.testing.assert_close(dark, torch.where(as_wide, inner, inner / 2), rtol=0.04, atol=2e-3)
    fov = 10 ** column(system, scenes.theta, "log_mass_fov")
    torch.testing.assert_close(fov, of_stars, rtol=1e-3, atol=0)


def test_dark_mass_raises_dispersions(library):
    wide = ["data.pixel_scale=8.0", "data.psf_fwhm=16.0", "data.distance=160", "data.offset=0"]
    seen = []
    for fraction in ("0.000001", "0.5"):
        dark = (
            f"data.dark_mass={{share: 1, central_share: 0, diffuse_scale: [0.766, 0.767], "
            f"diffuse_fraction: [{fraction}, {fraction}], central_fraction: 0.01}}"
        )
        system = system_of(library, *CLEAN, *wide, "data.dispersion_share=1", dark, NOISELESS)
        scenes = system.draw(60, keyed_generator(6, 1))
        seen.append(scenes.dispersion[:, 1, 1])
    # As much dark mass as there are stars, and where they are: twice the square.
    ratio = (seen[1] / seen[0]).square()
    assert float(ratio.median()) == pytest.approx(2, rel=0.1)


def test_settings_of_dark_mass_that_are_refused(library):
    with pytest.raises(MelotteValueError, match=r"below 0\.95"):
        system_of(library, "data.dark_mass={share: 1, diffuse_fraction: [0.5, 1.0]}")
    names = [one.name for one in system_of(library, "data.dark_mass={share: 0}").parameters]
    assert "dark_fraction" not in names
    assert [one.name for one in system_of(library, DARK).parameters][-1] == "dark_fraction"


def test_runs_are_drawn_by_a_power_of_their_snapshots():
    run = torch.tensor([3] * 16 + [5] * 4 + [9])
    ages = torch.zeros(21)
    for power in (0.0, 0.5, 1.0):
        chance = draw_chances(run, ages, power)
        assert float(chance.sum()) == pytest.approx(1)
        found = [float(chance[run == number].sum()) for number in (3, 5, 9)]
        weights = [16**power, 4**power, 1]
        assert found == pytest.approx([one / sum(weights) for one in weights])


def test_ages_are_drawn_evenly_where_the_settings_say_so():
    ages = torch.tensor([8.55] * 2 + [9.55] * 6 + [10.05] * 12)
    run = torch.arange(20) % 2
    chance = draw_chances(run, ages, 0.5, 1.0)
    for age in (8.55, 9.55, 10.05):
        assert float(chance[ages == ages.new_tensor(age)].sum()) == pytest.approx(1 / 3)
    half = draw_chances(run, ages, 0.5, 0.5)
    sums = [float(half[ages == ages.new_tensor(one)].sum()) for one in (8.55, 10.05)]
    assert sums[1] / sums[0] == pytest.approx(math.sqrt(6))


def test_snapshots_come_as_often_as_their_chances(library):
    stars = system_of(library).simulator().stars
    few = type(stars)(**(vars(stars) | {"chance": torch.tensor([0.7, 0.0, 0.3]).double()}))
    counts = torch.bincount(few.choose(10_000, keyed_generator(1, 2)), minlength=3)
    assert counts[1] == 0
    assert abs(int(counts[0]) - 7000) < 200


def test_clusters_of_other_galaxies(library):
    wide = ["data.families.training=[training, pidoc-training]", "data.noise=none"]
    wide.append("data.missing_band_share=0")
    flux = []
    for distance in (5000, 10_000):
        preset = "globular-extragalactic"
        system = system_of(library, *wide, f"data.distance={distance}", preset=preset)
        batch = mock_batch(system, 12, 7, 1)
        flux.append(batch.observation.data["flux"].sum((2, 3)))
    torch.testing.assert_close(flux[0] / flux[1], torch.full((12, 2), 4.0), rtol=0.05, atol=0)
    shipped = load_preset("globular-extragalactic").data
    ends = f"data.distance={shipped['distance']}"
    system = system_of(library, *wide[:1], ends, preset="globular-extragalactic")
    batch = mock_batch(system, 24, 7, 1)
    found = system.prepare(batch.observation, system.constants(batch))
    assert all(bool(one.isfinite().all()) for one in found.values())
    low, high = system.data.distance
    assert (low, high) == (500, 20_000)
    assert bool(batch.theta_known[:, 0].all())
