"""Both papers' networks: published sizes, losses and masks, rotations, and that they learn."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.networks.point import PointPosterior
from melotte.networks.residual import Stage
from melotte.parameters import Parameter, Prior
from melotte.systems.base import Batch, Observation
from melotte.systems.bialopetravicius.activation_maps import ActivationMap
from melotte.systems.bialopetravicius.losses import paper_one_loss, paper_two_loss
from melotte.systems.bialopetravicius.networks import (
    PaperOneNetwork,
    PaperTwoNetwork,
    published_ends,
)
from melotte.systems.bialopetravicius.settings import PaperOneSettings, PaperTwoSettings

SMALL = {"stem": 8, "stages": (Stage(4, 16, 1, 1), Stage(8, 32, 1, 2))}
ONE, TWO = PaperOneSettings(), PaperTwoSettings()
CASES = ((PaperOneNetwork, 80), (PaperTwoNetwork, 64))


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def images(n, size=16, seed=0):
    return torch.randn(n, 3, size, size, generator=keyed(seed))


def built(network, **settings):
    torch.manual_seed(0)
    return network(**settings)


def labelled(theta, **targets):
    return Batch.labelled(Observation({"image": torch.zeros(len(theta), 1)}), theta, targets)


def clusters(n, settings, seed=0):
    return Prior(settings.parameters()).sample(n, keyed(seed))


@pytest.mark.parametrize(
    ("network", "behind_encoder", "published"),
    [
        # fc1024, three neurons and their residual scales; "~7 million parameters".
        (PaperOneNetwork, 1024 * 1025 + 3 * 1025 + 3, 7.0e6),
        # fc1024 and four softmax groups.
        (PaperTwoNetwork, 1024 * 1025 + (20 * 10 * 14 + 14 + 2 + 20) * 1025, None),
    ],
)
def test_networks_have_the_published_number_of_weights(network, behind_encoder, published):
    count = sum(one.numel() for one in built(network).parameters())
    assert count == 6_008_384 + behind_encoder
    if published is not None:
        assert count == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(("network", "size"), CASES)
@pytest.mark.parametrize("reduced", [False, True])
def test_outputs_are_single_precision_and_finite(network, size, reduced):
    one = built(network).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        outputs = one({"image": images(2, size)})
    posterior = outputs["posterior"]
    assert len(posterior) == 2
    assert outputs["embedding"].shape == (2, 1024)
    q = torch.tensor([0.16, 0.5, 0.84])
    found = [outputs["embedding"], posterior.mode(), posterior.mean(), posterior.quantile(q)]
    found += [outputs[name] for name in ("estimate", "class", "visibility") if name in outputs]
    assert all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in found)
    assert posterior.quantile(q).shape == (2, 3, 3 if network is PaperOneNetwork else 4)


def test_paper_one_does_not_see_rotations_but_sees_mirror_images():
    network = built(PaperOneNetwork, **SMALL).eval()
    one = images(3)
    with torch.no_grad():
        estimate = network({"image": one})["estimate"]
        for turn in (1, 2, 3):
            turned = network({"image": torch.rot90(one, turn, (-2, -1))})["estimate"]
            torch.testing.assert_close(turned, estimate, rtol=1e-4, atol=1e-4)
        mirrored = network({"image": one.flip(-1)})["estimate"]
        encoded = [network.encoder(one), network.encoder(torch.rot90(one, 1, (-2, -1)))]
    assert float((mirrored - estimate).abs().max()) > 1e-2
    assert float((encoded[1] - encoded[0]).abs().max()) > 1e-2


def test_paper_one_averages_the_dense_layer_over_rotations():
    network = built(PaperOneNetwork, **SMALL).eval()
    one = images(2)
    with torch.no_grad():
        dense = [
            torch.relu(network.hidden(network.encoder(torch.rot90(one, turn, (-2, -1)))))
            for turn in range(4)
        ]
        outputs = network({"image": one})
        expected = torch.stack(dense).mean(0)
        torch.testing.assert_close(outputs["embedding"], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            outputs["estimate"], network.output(outputs["embedding"]), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("rotations", [1, 3])
def test_paper_one_may_train_on_fewer_rotations_which_images_take_in_turns(rotations):
    network = built(PaperOneNetwork, **SMALL, settings=PaperOneSettings(rotations=rotations))
    seen = []
    network.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    one = images(6)
    network({"image": one})
    assert len(seen[0]) == 6 * rotations
    for number, image in enumerate(seen[0]):
        turn = number // 6 + number % 6
        torch.testing.assert_close(image, torch.rot90(one[number % 6], turn, (-2, -1)))
    network.eval()({"image": one})
    assert len(seen[1]) == 6 * 4


def test_paper_one_drops_half_of_the_dense_layer_in_training_alone():
    network = built(PaperOneNetwork, **SMALL)
    passed = []
    network.output.register_forward_pre_hook(lambda module, given: passed.append(given[0]))
    network({"image": images(32)})
    dropped, settled = passed
    alive = settled > 0
    share = float((dropped[alive] == 0).float().mean())
    assert share == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(dropped[alive & (dropped > 0)], 2 * settled[alive & (dropped > 0)])
    network.eval()
    passed.clear()
    network({"image": images(32)})
    assert len(passed) == 1


def test_paper_one_loss_is_that_of_its_equations():
    theta = torch.tensor([[8.0, 3.0, 0.4], [9.0, 2.5, 1.0]])
    errors = torch.tensor([[0.3, -0.5, 0.1], [-2.0, 1.5, 0.9]])
    estimate = theta.clone()
    estimate[:, 2] = torch.log10(theta[:, 2])
    estimate = (estimate + errors).requires_grad_()
    posterior = PointPosterior(torch.full((2, 3), 0.5), torch.full((2, 3), 0.1), "smooth_l1")
    outputs = {"estimate": estimate, "residual_posterior": posterior}
    terms = paper_one_loss(outputs, labelled(theta), ONE)
    by_hand = [
        0.5 * (0.3**2 + 0.5**2 + 0.1**2),
        (2.0 - 0.5) + (1.5 - 0.5) + 0.5 * 0.9**2,
    ]
    assert terms["smooth_l1"].tolist() == pytest.approx(by_hand, rel=1e-5)
    assert terms["residual_scale"].tolist() == [0, 0]


def test_paper_one_s_scales_learn_from_residuals_and_nothing_else_does():
    network = built(PaperOneNetwork, **SMALL)
    batch = labelled(clusters(8, ONE))
    terms = paper_one_loss(network({"image": images(8)}), batch, ONE)
    terms["residual_scale"].sum().backward(retain_graph=True)
    with_gradient = [n for n, one in network.named_parameters() if one.grad is not None]
    assert with_gradient == ["log_scale"]
    network.zero_grad()
    terms["smooth_l1"].sum().backward()
    assert network.log_scale.grad is None
    assert all(one.grad is not None for n, one in network.named_parameters() if n != "log_scale")


def test_unknown_labels_add_nothing_to_paper_one_s_loss():
    network = built(PaperOneNetwork, **SMALL)
    theta = clusters(4, ONE)
    theta[0] = torch.nan
    theta[1, 2] = torch.nan
    outputs = network({"image": images(4)})
    terms = paper_one_loss(outputs, labelled(theta), ONE)
    sum(term.sum() for term in terms.values()).backward()
    assert terms["smooth_l1"][0].item() == 0
    expected = torch.nn.functional.smooth_l1_loss(
        outputs["estimate"][1, :2], theta[1, :2], reduction="sum"
    )
    assert terms["smooth_l1"][1].item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(bool(one.grad.isfinite().all()) for one in network.parameters())


def test_paper_one_s_posterior_is_about_its_estimate():
    network = built(PaperOneNetwork, **SMALL).eval()
    with torch.no_grad():
        network.output.weight.mul_(0.02)
        outputs = network({"image": images(5)})
    physical = Prior(ONE.parameters()).from_unit(outputs["posterior"].mode())
    physical[:, 2] = torch.log10(physical[:, 2])
    torch.testing.assert_close(physical, outputs["estimate"], rtol=1e-4, atol=1e-4)


def mixed_batch():
    """Two clusters and two backgrounds, whose labels are unknown."""
    theta = clusters(4, TWO)
    theta[2:] = torch.nan
    return labelled(
        theta,
        **{
            "class": torch.tensor([1.0, 1.0, 0.0, 0.0]),
            "visibility": torch.tensor([3.0, 50.0, 0.0, 0.0]),
        },
    )


def test_paper_two_loss_is_four_cross_entropies():
    network = built(PaperTwoNetwork, **SMALL).eval()
    outputs = network({"image": images(4)})
    batch = mixed_batch()
    terms = paper_two_loss(outputs, batch, TWO)
    unit = Prior(TWO.parameters()).to_unit(batch.theta)[:2]
    joint, size = outputs["posterior"].select(torch.tensor([0, 1])).groups
    torch.testing.assert_close(terms["age_extinction_mass"][:2], joint.cross_entropy(unit[:, :3]))
    torch.testing.assert_close(terms["size"][:2], size.cross_entropy(unit[:, 3:]))
    log_presence = torch.log_softmax(torch.stack([torch.zeros(4), outputs["class"]], -1), -1)
    expected = torch.stack([-log_presence[0, 1], -log_presence[3, 0]])
    torch.testing.assert_close(terms["class"][[0, 3]], expected)
    place = math.log10(51) / 2.5 * 20
    weight = torch.softmax(-0.5 * ((torch.arange(20) + 0.5 - place) / 0.5) ** 2, 0)
    expected = -(weight * outputs["visibility_map"].log_mass[1]).sum()
    torch.testing.assert_close(terms["visibility"][1], expected)


def test_backgrounds_teach_class_and_visibility_alone():
    network = built(PaperTwoNetwork, **SMALL)
    outputs = network({"image": images(4)})
    batch = mixed_batch()
    terms = paper_two_loss(outputs, batch, TWO)
    assert terms["age_extinction_mass"][2:].tolist() == [0, 0]
    assert terms["size"][2:].tolist() == [0, 0]
    assert terms["class"][2:].min().item() > 0
    sum(term[2:].sum() for term in terms.values()).backward()
    for part in (network.joint, network.radius):
        assert part.weight.grad is None or float(part.weight.grad.abs().max()) == 0
    for part in (network.presence, network.visibility, network.encoder.first):
        assert float(part.weight.grad.abs().max()) > 0
    assert all(
        bool(one.grad.isfinite().all()) for one in network.parameters() if one.grad is not None
    )


def test_labels_that_a_background_happens_to_have_count_for_nothing():
    outputs = built(PaperTwoNetwork, **SMALL).eval()({"image": images(4)})
    batch = mixed_batch()
    filled = labelled(clusters(4, TWO), **batch.targets)
    for name, term in paper_two_loss(outputs, filled, TWO).items():
        torch.testing.assert_close(term, paper_two_loss(outputs, batch, TWO)[name])


def test_visibility_targets_are_gaussians_and_a_background_s_is_the_first_bin():
    outputs = dict(built(PaperTwoNetwork, **SMALL).eval()({"image": images(4)}))
    logits = torch.randn(4, 20, generator=keyed(3)).requires_grad_()
    outputs["visibility_map"] = ActivationMap(torch.log_softmax(logits, -1), 0.5)
    paper_two_loss(outputs, mixed_batch(), TWO)["visibility"].sum().backward()
    # The gradient of a cross-entropy for its logits is the activations less the target.
    target = torch.softmax(logits.detach(), -1) - logits.grad
    centres = torch.arange(20) + 0.5
    for row, visibility in enumerate((3.0, 50.0, 0.0, 0.0)):
        weight = torch.exp(-2 * (centres - math.log10(1 + visibility) * 8) ** 2)
        torch.testing.assert_close(target[row], weight / weight.sum(), rtol=0, atol=1e-6)
    assert float(target[2:, 0].min()) > 0.98


def test_visibility_is_unfolded_in_its_own_units():
    network = built(PaperTwoNetwork, **SMALL).eval()
    with torch.no_grad():
        network.visibility.weight.zero_()
        for visibility in (0.2, 3.0, 50.0):
            place = math.log10(1 + visibility) * 8
            network.visibility.bias.copy_(-2 * (torch.arange(20) + 0.5 - place) ** 2)
            found = network({"image": images(1)})["visibility"]
            # A tenth of a bin.
            assert math.log10(1 + float(found)) == pytest.approx(place / 8, abs=0.0125)
    assert not found.requires_grad


def test_grids_reach_one_bin_beyond_the_mocks_at_each_end_but_a_v_zero():
    served = {"log_age": (6.6, 10.1), "extinction_v": (0.0, 3.0), "log_mass": (3.5, 5.5)}
    low, high = published_ends(TWO.parameters())
    bins = torch.tensor([*TWO.bins, TWO.radius_bins])
    width = (high - low) / bins
    inside = [*served.values(), (math.log10(0.04), math.log10(0.4))]
    below = [(inside[i][0] - float(low[i])) / float(width[i]) for i in range(4)]
    above = [(float(high[i]) - inside[i][1]) / float(width[i]) for i in range(4)]
    assert below == pytest.approx([1, 0, 1, 1], abs=1e-3)
    assert above == pytest.approx([1, 1, 1, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (PaperOneSettings, {"log_age": (9.5, 6.6)}, "empty or not finite"),
        (PaperTwoSettings, {"half_number_radius": (0.0, 0.4)}, "needs low > 0"),
        (PaperTwoSettings, {"log_visibility": (2.5, 0.0)}, "is empty"),
        (PaperTwoSettings, {"bins": (20, 1, 14)}, "bins.1: found 1"),
    ],
)
def test_impossible_ranges_are_refused(settings, values, message):
    with pytest.raises(MelotteValueError, match=message):
        settings(**values)


def test_a_regression_on_a_normal_scale_is_refused():
    normal = Parameter("feh", -1, 1, scale="normal", centre=0.0, width=0.3)
    with pytest.raises(MelotteValueError, match=r"feh.*found 'normal'"):
        published_ends([normal])


def blobs(theta, n_size=16):
    """Round clusters of sizes, colours and fluxes by age, A_V, mass and radius in unit ranges."""
    axis = torch.arange(n_size) - (n_size - 1) / 2
    squared = axis[:, None] ** 2 + axis**2
    width = 1.5 + 2.5 * theta[:, 3, None, None]
    shape = torch.exp(-0.5 * squared / width**2)
    colour = torch.stack([theta[:, 0], 1 - theta[:, 1], 0.5 * theta[:, 0] + theta[:, 1]], -1)
    return 10 ** theta[:, 2, None, None, None] * (0.2 + colour)[:, :, None, None] * shape[:, None]


def trained(network, make, loss, steps=150):
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0)
    for step in range(steps):
        batch, image = make(step)
        total = sum(term.mean() for term in loss(network({"image": image}), batch).values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return network.eval()


def test_paper_one_learns():
    def make(seed, n=64):
        unit = torch.rand(n, 3, generator=keyed(seed))
        given = torch.cat([unit[:, :1], torch.zeros(n, 1), unit[:, 1:]], 1)
        theta = Prior(ONE.parameters()).from_unit(unit)
        return labelled(theta), torch.log1p(blobs(given))

    network = trained(
        built(PaperOneNetwork, **SMALL), make, lambda *given: paper_one_loss(*given, ONE)
    )
    batch, image = make(9999, 500)
    with torch.no_grad():
        outputs = network({"image": image})
    unit = Prior(ONE.parameters()).to_unit(batch.theta)
    residual = outputs["posterior"].mode() - unit
    assert float((residual.std(0) / unit.std(0)).max()) < 0.5
    ends = outputs["posterior"].quantile(torch.tensor([0.16, 0.84]))
    covered = ((unit > ends[:, 0]) & (unit < ends[:, 1])).float().mean()
    assert 0.5 < float(covered) < 0.9


def test_paper_two_learns():
    def make(seed, n=64):
        unit = torch.rand(n, 4, generator=keyed(seed))
        present = (torch.arange(n) % 2).float()
        theta = Prior(TWO.parameters()).from_unit(unit)
        theta[present == 0] = torch.nan
        flux = present[:, None, None, None] * blobs(unit)
        noise = 0.05 * torch.randn(flux.shape, generator=keyed(seed + 10**6))
        visible = 10 * present * 10 ** unit[:, 2]
        targets = {"class": present, "visibility": visible}
        return labelled(theta, **targets), flux + noise

    network = trained(
        built(PaperTwoNetwork, **SMALL), make, lambda *given: paper_two_loss(*given, TWO)
    )
    batch, image = make(9999, 500)
    with torch.no_grad():
        outputs = network({"image": image})
    present = batch.targets["class"] == 1
    correct = (outputs["class"] > 0) == present
    assert float(correct.float().mean()) > 0.95
    unit = Prior(TWO.parameters()).to_unit(batch.theta)[present]
    posterior = outputs["posterior"].select(torch.nonzero(present)[:, 0])
    ratio = (posterior.mode() - unit)[:, [0, 2, 3]].std(0) / unit[:, [0, 2, 3]].std(0)
    assert float(ratio.max()) < 0.7
    # The prior's is 0.
    assert float(posterior.log_prob(unit).median()) > 1
    ratio = outputs["visibility"][present] / batch.targets["visibility"][present]
    assert float(torch.log10(ratio).abs().median()) < 0.2
    assert float(outputs["visibility"][~present].median()) < 1
