import math

import torch

from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream, keyed_generator
from melotte.systems.cluster_images.observing import (
    GAUSSIAN_FROM,
    photon_noise,
    recorded,
    turned,
    visibility,
)
from melotte.systems.registry import build_system, load_preset


def moments(values):
    mean, spread = values.mean(), values.std()
    return float(mean), float(spread**2), float((((values - mean) / spread) ** 3).mean())


def test_photon_noise_has_poisson_moments_on_both_sides_of_the_change(generator):
    for expected in (0.3, GAUSSIAN_FROM - 1, GAUSSIAN_FROM + 1, 400.0):
        drawn = photon_noise(torch.full((200_000,), expected), generator)
        mean, variance, skewness = moments(drawn)
        error = math.sqrt(expected / len(drawn))
        assert abs(mean - expected) < 5 * error
        assert abs(variance / expected - 1) < 0.05
        assert abs(skewness - 1 / math.sqrt(expected)) < 0.05


def test_noise_is_that_of_the_cluster_over_the_median_background(generator):
    image = torch.full((64, 2, 16, 16), 0.5)
    field = torch.rand(64, 2, 16, 16, generator=generator) + 1.5
    exposure = torch.tensor([[100.0, 400.0]]).expand(64, 2)
    frame = recorded(image, field, exposure, generator)
    noise = frame - field - image
    assert float(noise.mean().abs()) < 0.005
    for band, time in enumerate((100.0, 400.0)):
        assert abs(float(noise[:, band].var()) / (2.5 / time) - 1) < 0.05


def test_a_share_of_the_median_is_drawn_once_more(generator):
    image = torch.full((64, 1, 16, 16), 0.5)
    field = torch.full((64, 1, 16, 16), 2.0)
    time = torch.full((64, 1), 100.0)
    for share in (0.0, 0.5):
        noise = recorded(image, field, time, generator, median_share=share) - field - image
        assert float(noise.mean().abs()) < 0.005
        assert abs(float(noise.var()) / ((0.5 + 2 * share) / 100) - 1) < 0.05


def test_empty_images_are_as_noisy_as_those_with_an_invisible_cluster():
    settings = (
        "data.clusters.age_step=0.5",
        "data.clusters.log_age=[9.5,10.0]",
        "data.clusters.log_mass=[3.0,3.5]",
        "data.clusters.faintest=null",
        "data.size=32",
        "data.background_share=0.5",
        "data.missing_band_share=0.0",
        "data.masked_share=0.0",
        "data.setups=1",
        "data.fields.tiles=1",
        "data.fields.held_out_tiles=1",
        "data.fields.size=96",
        "data.camera.blur=1.0",
        "data.camera.metallicity=0.0",
    )
    papers = ("data.camera.noise_of_median=1.0", "data.camera.noise_of_empty=false")
    ratios = []
    for more in ((), papers):
        system = build_system(load_preset("m83", (*settings, *more)))
        batch = mock_batch(system, 256, 1, Stream.MOCKS, 0, views=4)
        image = batch.observation.data["image"]
        roughness = (image[..., 1:] - image[..., :-1]).abs().flatten(1).median(1).values
        empty = batch.targets["class"] < 0.5
        invisible = ~empty & (batch.targets["visibility"] < 0.3)
        ratios.append(float(roughness[invisible].mean() / roughness[empty].mean()))
    assert abs(ratios[0] - 1) < 0.06
    assert ratios[1] > 1.2


def test_the_scale_of_a_field_is_its_own_in_every_band(generator):
    field = torch.ones(300, 3, 4, 4)
    image = torch.zeros_like(field)
    time = torch.full((300, 3), 1e6)
    frame = recorded(image, field, time, generator, calibration_scatter=0.2)
    scale = frame.mean((2, 3))
    assert abs(float(scale.std()) - 0.2) < 0.02
    assert abs(float(torch.corrcoef(scale.T)[0, 1])) < 0.2


def test_visibility_is_flux_a_pixel_in_scatters_of_the_background(generator):
    image = torch.full((1, 2, 61, 61), 3.0)
    field = torch.randn(1, 2, 61, 61, generator=generator) * 1.5
    found = visibility(
        image, field, torch.tensor([0.2]), torch.tensor([[0.08, 0.08]]), torch.tensor([0.04])
    )
    y, x = torch.meshgrid(torch.arange(61) - 30, torch.arange(61) - 30, indexing="ij")
    near = torch.hypot(y.float(), x.float()) <= 25
    scatter = torch.stack([field[0, band][near].std() for band in range(2)])
    assert torch.allclose(found, (3.0 / scatter).mean(), rtol=1e-4)


def test_turning_keeps_the_light_and_the_distance_from_the_centre(generator):
    image = torch.zeros(200, 1, 9, 9)
    image[:, 0, 2, 3] = 1.0
    moved = turned(image, generator)
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(200))
    places = {tuple(torch.nonzero(one[0])[0].tolist()) for one in moved}
    assert places == {(2, 3), (2, 5), (6, 3), (6, 5), (3, 2), (5, 2), (3, 6), (5, 6)}


def test_views_of_a_cluster_share_it_and_nothing_else(m83_mocks):
    assert torch.equal(m83_mocks.group.view(-1, 2)[:, 0], m83_mocks.group.view(-1, 2)[:, 1])
    pairs = m83_mocks.theta.view(48, 2, 4)
    assert torch.equal(pairs[:, 0].nan_to_num(), pairs[:, 1].nan_to_num())
    frames = m83_mocks.observation.data["image"].view(48, 2, 3, 48, 48)
    same = (frames[:, 0] == frames[:, 1]).float().mean()
    assert float(same) < 0.01


def test_backgrounds_carry_no_labels(m83_mocks):
    empty = m83_mocks.targets["class"] == 0
    assert 0.1 < float(empty.float().mean()) < 0.4
    assert bool(torch.isnan(m83_mocks.theta[empty]).all())
    assert not bool(m83_mocks.theta_known[empty].any())
    assert float(m83_mocks.targets["visibility"][empty].abs().sum()) == 0
    assert bool((m83_mocks.targets["visibility"][~empty] > 0).all())


def test_some_pixels_and_bands_are_unknown(small_m83):
    batch = mock_batch(small_m83, 256, 9, Stream.MOCKS, 0, views=8)
    unknown = torch.isnan(batch.observation.data["image"])
    lacks_band = unknown.all((2, 3)).any(1).float().mean()
    partly = (unknown.any((1, 2, 3)) & ~unknown.all((2, 3)).any(1)).float().mean()
    assert 0 < float(lacks_band) < 0.1
    assert 0 < float(partly) < 0.15


def test_areas_never_share_a_field(small_m83):
    pools = [
        small_m83.in_area(area).simulator().fields.pool
        for area in ("training", "validation", "test")
    ]
    g = keyed_generator(1, 1)
    means = [pool.cut(4, 100, g).mean() for pool in pools]
    assert len({round(float(mean), 6) for mean in means}) == 3


def test_streams_choose_their_area(small_m83):
    from melotte.engine.mocks import placed

    assert placed(small_m83, (7,)).area == "training"
    assert placed(small_m83, (Stream.CONSTANTS, 7)).area == "training"
    assert placed(small_m83, (Stream.VALIDATION, 7)).area == "validation"
    assert placed(small_m83, (Stream.REFERENCE, 7)).area == "validation"
    assert placed(small_m83, (Stream.MOCKS, 7)).area == "test"


def test_the_same_stream_gives_the_same_images(small_m83, m83_mocks):
    again = mock_batch(small_m83, 96, 3, Stream.MOCKS, 0, views=2)
    for name, values in m83_mocks.observation.data.items():
        assert torch.equal(again.observation.data[name].nan_to_num(-1), values.nan_to_num(-1)), name
