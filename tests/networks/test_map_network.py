"""The network of maps: sizes, what reaches what, that it learns maps and their errors."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.networks.heads import build_head
from melotte.networks.map_network import MAPS_AT_ONCE, MapNetwork, interpolated
from melotte.networks.map_posteriors import map_log_likelihood

SMALL = {"widths": (8, 12, 16), "blocks": (1, 1, 1), "n_features": 24}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(n_channels=2, n_conditions=3, **settings):
    torch.manual_seed(0)
    return MapNetwork(n_channels, n_conditions, **{**SMALL, **settings})


def awake(built):
    """With weights that were zero at first drawn at random."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in built.parameters():
            if not bool(weight.any()):
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return built


@pytest.mark.parametrize("size", [(160, 160), (16, 16), (61, 47), (100, 18)])
@pytest.mark.parametrize("likelihood", ["gaussian", "student_t"])
def test_any_size_comes_back_with_a_scale_for_each_pixel(size, likelihood):
    built = network(n_maps=2, likelihood=likelihood).eval()
    with torch.no_grad():
        posterior, features = built(normal(2, 2, *size), normal(2, 3))
    assert posterior.mean.shape == posterior.scale.shape == (2, 2, *size)
    assert features.shape == (2, 24)
    assert float(posterior.scale.min()) > 0
    assert (posterior.degrees is None) == (likelihood == "gaussian")
    if posterior.degrees is not None:
        assert float(posterior.degrees.min()) > 2


def test_the_coarsest_stage_of_the_default_network_has_5_by_5_places():
    torch.manual_seed(0)
    built = MapNetwork(2, 8).eval()
    seen = []
    for stage in [*built.down, *built.up]:
        stage.register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape[1:])))
    with torch.no_grad():
        built(normal(1, 2, 160, 160), normal(1, 8))
    down = [(32, 40, 40), (64, 20, 20), (128, 10, 10), (128, 5, 5)]
    assert seen == [*down, *down[-2::-1]]
    assert sum(weight.numel() for weight in built.parameters()) == 1_881_602


def test_maps_of_a_batch_do_not_know_of_each_other_however_they_are_split():
    built = awake(network()).eval()
    n = 2 * MAPS_AT_ONCE + 3
    maps, conditions = normal(n, 2, 20, 24), normal(n, 3)
    with torch.no_grad():
        together, features = built(maps, conditions)
        alone = [built(maps[i : i + 1], conditions[i : i + 1]) for i in range(n)]
    torch.testing.assert_close(
        together.mean, torch.cat([one.mean for one, _ in alone]), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(features, torch.cat([one for _, one in alone]), rtol=1e-4, atol=1e-4)


def test_no_maps_have_no_posterior():
    with torch.no_grad():
        posterior, features = network().eval()(torch.zeros(0, 2, 32, 32), torch.zeros(0, 3))
    assert len(posterior) == 0
    assert features.shape == (0, 24)


def test_every_weight_gets_a_gradient():
    built = awake(network(likelihood="student_t", n_maps=2))
    posterior, features = built(normal(8, 2, 32, 32), normal(8, 3))
    target = normal(8, 2, 32, 32, seed=1)
    loss = -map_log_likelihood(posterior, target).mean() + (features * normal(8, 24)).sum()
    loss.backward()
    for name, weight in built.named_parameters():
        assert weight.grad is not None, name
        assert float(weight.grad.abs().max()) > 0, name


def test_conditions_and_the_far_side_of_the_map_reach_every_pixel():
    built = awake(network()).eval()
    maps = normal(1, 2, 160, 160).requires_grad_()
    conditions = normal(1, 3).requires_grad_()
    posterior, _ = built(maps, conditions)
    posterior.mean[0, 0, 0, 0].backward()
    assert float(conditions.grad.abs().min()) > 0
    assert float(maps.grad[0, :, 120:, 120:].abs().sum()) > 0


def test_predictions_follow_the_input_and_are_smooth_over_pixels():
    built = network().eval()
    maps = normal(1, 2, 64, 64).requires_grad_()
    posterior, _ = built(maps, normal(1, 3))
    posterior.mean[0, 0, 33, 21].backward()
    near = maps.grad.abs().sum((0, 1))[33 - 12 : 33 + 13, 21 - 12 : 21 + 13]
    assert float(near.sum()) > 0.8 * float(maps.grad.abs().sum())
    # The input is white noise: the finest waves of the output have next to nothing of its power.
    power = torch.fft.fft2(posterior.mean[0, 0].detach()).abs().square()
    assert float(power[24:41, 24:41].sum()) < 1e-3 * float(power[:, :].sum() - power[0, 0])


@pytest.mark.parametrize("factor", [2, 4])
def test_interpolation_is_that_of_torch(factor):
    maps = normal(2, 3, 10, 7)
    expected = torch.nn.functional.interpolate(maps, scale_factor=factor, mode="bicubic")
    torch.testing.assert_close(interpolated(maps, factor), expected, rtol=1e-4, atol=1e-5)


def test_training_after_an_inference_of_the_same_size() -> None:
    # Of a size that no other test has: its matrix is made by the inference.
    side = 37
    with torch.inference_mode():
        interpolated(torch.zeros(1, 1, side, side), 2)
    maps = torch.zeros(1, 1, side, side, requires_grad=True)
    interpolated(maps, 2).sum().backward()
    assert maps.grad is not None
    # Every pixel is shared out among four finer ones.
    assert float(maps.grad.mean()) == pytest.approx(4)


def test_detail_is_how_fine_predictions_are():
    shares = []
    for detail in (1, 2, 4):
        built = network(detail=detail).eval()
        with torch.no_grad():
            mean = built(normal(1, 2, 64, 64), normal(1, 3))[0].mean[0, 0]
        assert mean.shape == (64, 64)
        power = torch.fft.fft2(mean).abs().square()
        # Waves shorter than 3 pixels.
        shares.append(float(power[22:43, 22:43].sum() / (power.sum() - power[0, 0])))
    assert shares[0] < 1e-3
    assert shares[0] < shares[1] < 0.02 < shares[2]
    with pytest.raises(MelotteValueError, match="detail 3: 1, 2 or 4"):
        network(detail=3)


def test_padding_repeats_the_edge():
    built = awake(network()).eval()
    maps, conditions = normal(1, 2, 30, 32), normal(1, 3)
    by_hand = torch.cat([maps, maps[..., -1:, :], maps[..., -1:, :]], -2)
    with torch.no_grad():
        ours, larger = built(maps, conditions)[0], built(by_hand, conditions)[0]
    torch.testing.assert_close(ours.mean, larger.mean[..., :30, :], rtol=1e-4, atol=1e-5)


def test_it_learns_a_map_and_how_wrong_it_is():
    """Of noise whose size a condition tells the network can know the scale alone."""
    built = network(n_channels=1, n_conditions=1)
    generator = torch.Generator().manual_seed(1)
    steps = 150
    optimiser = torch.optim.Adam(built.parameters(), lr=3e-3)
    # The rate falls to nothing: what is tested must not hang on the last batch.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")

    def batch(n):
        width = 1 + 3 * torch.rand(n, 1, 1, 1, generator=generator)
        maps = torch.exp(-width * (x**2 + y**2))
        size = 0.05 + 0.25 * torch.rand(n, 1, generator=generator)
        noise = size[..., None, None] * torch.randn(maps.shape, generator=generator)
        return maps, size, 1 - maps + noise

    for _ in range(steps):
        maps, size, target = batch(16)
        optimiser.zero_grad()
        loss = -map_log_likelihood(built(maps, size)[0], target).mean()
        loss.backward()
        optimiser.step()
        schedule.step()
    built.eval()
    maps, size, target = batch(64)
    with torch.no_grad():
        posterior, _ = built(maps, size)
    blind = float((target - target.mean()).std())
    error = float((posterior.mean - (1 - maps)).square().mean().sqrt())
    assert error < 0.3 * blind
    score = ((target - posterior.mean) / posterior.scale).square().mean((1, 2, 3)).sqrt()
    assert 0.8 < float(score.mean()) < 1.2
    scale = posterior.scale.mean((1, 2, 3))
    correlation = torch.corrcoef(torch.stack([scale, size[:, 0]]))[0, 1]
    assert float(correlation) > 0.9


def test_features_feed_a_head():
    built = network()
    head = build_head("autoregressive", 24, 3)
    _, features = built(normal(4, 2, 32, 32), normal(4, 3))
    density = head(features).log_prob_known(torch.rand(4, 3), torch.ones(4, 3, dtype=torch.bool))
    density.mean().backward()
    assert float(built.stem.weight.grad.abs().max()) > 0


def test_half_precision_gives_single_precision_maps():
    built = network().eval()
    maps, conditions = normal(2, 2, 32, 32), normal(2, 3)
    with torch.no_grad():
        exact, _ = built(maps, conditions)
        with torch.autocast("cpu", torch.bfloat16):
            rounded, _ = built(maps, conditions)
    assert rounded.mean.dtype == rounded.scale.dtype == torch.float32
    torch.testing.assert_close(rounded.mean, exact.mean, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 3, 32, 32), r"\(batch, 2, rows, columns\)"), ((1, 2, 32, 15), "32 x 15 pixels are too")],
)
def test_maps_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(MelotteValueError, match=message):
        network()(torch.zeros(shape), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (8, 8), "blocks": (1,)}, "one of each a stage"),
        ({"n_maps": 0}, "above 0"),
        ({"likelihood": "laplace"}, "known: gaussian, student_t"),
    ],
)
def test_impossible_networks_are_refused(settings, message):
    with pytest.raises(MelotteValueError, match=message):
        network(**settings)
