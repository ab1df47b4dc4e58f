import math

import pytest
import torch

from melotte.engine.random import keyed_generator
from melotte.sky.profiles import half_number_radius
from melotte.systems.cluster_images.scenes import SceneSimulator, draw_parameters
from melotte.systems.cluster_images.settings import ClusterSettings
from melotte.systems.registry import build_system, load_preset

NAMES = ("log_age", "extinction_v", "log_mass", "half_number_radius")


def papers(**changes):
    settings = {
        "log_age": (6.6, 10.1),
        "extinction_v": (0.0, 3.0),
        "extinction_step": 0.1,
        "log_mass": (3.5, 5.5),
        "half_number_radius": (0.04, 0.4),
        "scale_radius": (0.04, 1.2),
    }
    return ClusterSettings(**(settings | changes))


def test_parameters_lie_on_the_papers_grids(generator):
    theta, shape = draw_parameters(papers(), NAMES, 4000, generator)
    age, dust, mass, radius = theta.unbind(1)
    assert torch.unique(((age - 6.6) / 0.05).round()).tolist() == list(range(71))
    assert torch.allclose((age - 6.6) / 0.05, ((age - 6.6) / 0.05).round(), atol=1e-3)
    assert torch.unique((dust / 0.1).round()).tolist() == list(range(31))
    assert float(mass.min()) >= 3.5
    assert float(mass.max()) <= 5.5
    assert abs(float(mass.mean()) - 4.5) < 4 * 2 / math.sqrt(12 * 4000)
    assert torch.allclose(half_number_radius(*shape.unbind(1)), radius)
    assert float(radius.min()) >= 0.04
    assert float(radius.max()) <= 0.4


def test_the_radius_itself_can_be_uniform_in_the_logarithm(generator):
    uneven, _ = draw_parameters(papers(), NAMES, 4000, generator)
    even, _ = draw_parameters(papers(shapes="half_number_radius"), NAMES, 4000, generator)
    place = (even[:, 3] / 0.04).log10()
    assert abs(float(place.mean()) - 0.5) < 0.02
    assert abs(float((uneven[:, 3] / 0.04).log10().mean()) - 0.5) > 0.02


def test_a_cluster_is_left_out_only_when_it_is_faint_in_every_band(small_m83):
    scenes = small_m83.simulator().scenes
    limit = torch.tensor(small_m83.data.clusters.faintest)
    shift = torch.tensor([[1.0, 1, 1], [1, 1, -1], [-1, 1, 1], [-1, -1, -1]])
    assert scenes.bright_enough(limit + shift).tolist() == [False, True, True, True]


def test_every_drawn_cluster_is_bright_enough_and_has_its_own_set_up(small_m83, generator):
    scenes = small_m83.simulator().scenes
    set_up = torch.arange(40) % 2
    drawn = scenes.draw_stars(set_up, generator)
    assert len(drawn.theta) == 40
    assert bool(scenes.bright_enough(drawn.magnitude).all())
    total = torch.zeros_like(drawn.magnitude)
    total.index_add_(0, drawn.luminosity.index, drawn.luminosity.values)
    modulus = scenes.set_ups.tensor("distance_modulus", torch.device("cpu"))[set_up]
    assert torch.allclose(-2.5 * torch.log10(total) + modulus[:, None], drawn.magnitude, atol=1e-4)


def test_images_hold_the_light_of_the_stars(small_m83, generator):
    scenes = small_m83.simulator().scenes
    drawn = scenes.draw(24, generator)
    there = drawn.is_cluster & (drawn.theta[:, 3] < 0.1)
    rate = scenes.set_ups.counts_of_magnitude_zero(torch.device("cpu"))[drawn.set_up]
    modulus = scenes.set_ups.tensor("distance_modulus", torch.device("cpu"))[drawn.set_up]
    expected = 10 ** (-0.4 * (drawn.magnitude - modulus[:, None])) * rate
    found = drawn.image.sum((2, 3))
    share = (found / expected)[there]
    # Wings of stars and of the profile lie outside the stamp.
    assert float(share.max()) < 1.001
    assert float(share.min()) > 0.75
    assert float(drawn.image[~drawn.is_cluster].abs().sum()) == 0
    assert bool(torch.isnan(drawn.theta[~drawn.is_cluster]).all())


def test_centres_scatter_as_they_are_said_to(small_m83, generator):
    scenes = small_m83.simulator().scenes
    n = 60
    theta = torch.tensor([[0.0, 8.6, 5.2, 0.06]]).repeat(n, 1)
    shape = torch.tensor([[0.06, 3.5]]).repeat(n, 1)
    set_up = torch.zeros(n, dtype=torch.int64)
    image = scenes.render(scenes.of_parameters(theta, shape, set_up, generator), set_up, generator)[
        :, 1, 14:34, 14:34
    ]
    place = torch.arange(20) - 9.5
    total = image.sum((1, 2))
    x = (image.sum(1) @ place) / total
    y = (image.sum(2) @ place) / total
    expected = small_m83.data.centring_error
    assert expected == 0.7
    for scatter in (float(x.std()), float(y.std())):
        assert abs(scatter - expected) < 4 * expected / (2 * n) ** 0.5


def test_dust_dims_the_blue_most(small_m83, generator):
    scenes = small_m83.simulator().scenes
    theta = torch.tensor([[0.0, 8.6, 4.8, 0.1], [1.0, 8.6, 4.8, 0.1]])
    shape = torch.tensor([[0.1, 3.0]] * 2)
    seeds = [keyed_generator(3, 1), keyed_generator(3, 1)]
    bright, dim = (
        scenes.of_parameters(theta[i : i + 1], shape[:1], torch.zeros(1, dtype=torch.int64), seed)
        for i, seed in enumerate(seeds)
    )
    loss = (dim.magnitude - bright.magnitude)[0].tolist()
    assert loss[0] > loss[1] > loss[2] > 0.3
    assert loss[0] == pytest.approx(1.6, abs=0.15)


def test_limits_that_exclude_everything_are_reported():
    system = build_system(
        load_preset(
            "m83",
            [
                "data.clusters.age_step=3.7",
                "data.clusters.faintest=[1.0,1.0,1.0]",
                "data.fields.tiles=1",
                "data.fields.held_out_tiles=1",
                "data.setups=1",
                "data.camera.blur=1.0",
                "data.camera.metallicity=0.0",
            ],
        )
    )
    scenes: SceneSimulator = system.simulator().scenes
    with pytest.raises(RuntimeError, match="faintest excludes"):
        scenes.draw_stars(torch.zeros(2, dtype=torch.int64), keyed_generator(1, 1))
