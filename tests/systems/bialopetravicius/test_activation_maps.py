"""Activation maps: soft targets against a plain loop, unfolding against examples by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from melotte.systems.bialopetravicius.activation_maps import ActivationMap


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def random_map(*bins, n=4, softness=0.25):
    logits = torch.randn(n, *bins, generator=keyed(0))
    return ActivationMap(torch.log_softmax(logits.flatten(1), 1).view_as(logits), softness)


def of_masses(masses, softness=0.5):
    masses = torch.as_tensor(masses, dtype=torch.float32)[None]
    return ActivationMap(torch.log(masses / masses.sum()), softness)


def looped_cross_entropy(one, u, i):
    """Eq. 4 bin by bin, with the Gaussian of the bins' centres, of sum 1."""
    target, total = {}, 0.0
    for cell in itertools.product(*[range(n) for n in one.bins]):
        squares = [
            ((place + 0.5) - float(value) * n) ** 2
            for place, value, n in zip(cell, u, one.bins, strict=True)
        ]
        target[cell] = math.exp(-0.5 * sum(squares) / one.softness**2)
        total += target[cell]
    return -sum(y / total * float(one.log_mass[(i, *cell)]) for cell, y in target.items())


@pytest.mark.parametrize(("bins", "softness"), [((5, 4, 6), 0.25), ((14,), 0.5), ((3, 4), 2.0)])
def test_cross_entropy_is_that_of_a_loop_over_bins(bins, softness):
    one = random_map(*bins, softness=softness)
    u = torch.rand(4, len(bins), generator=keyed(1))
    expected = [looped_cross_entropy(one, u[i], i) for i in range(4)]
    assert one.cross_entropy(u).tolist() == pytest.approx(expected, rel=1e-4)


def test_validation_without_gradients_has_the_loss_of_training():
    one = random_map(5, 4, 6)
    u = torch.rand(4, 3, generator=keyed(1))
    with torch.no_grad():
        validated = one.cross_entropy(u)
    torch.testing.assert_close(validated, one.cross_entropy(u))


def test_the_target_itself_has_the_least_cross_entropy():
    u = torch.tensor([[0.37]])
    centres = torch.arange(14) + 0.5
    target = torch.softmax(-0.5 * ((centres - 0.37 * 14) / 0.5) ** 2, 0)
    entropy = float(torch.special.entr(target).sum())
    best = of_masses(target.clamp(min=1e-12)).cross_entropy(u)
    assert float(best) == pytest.approx(entropy, rel=1e-5)
    for shift in (-1, 1):
        assert (
            float(of_masses(target.roll(shift).clamp(min=1e-12)).cross_entropy(u)) > entropy + 0.1
        )


def test_unknown_parameters_are_summed_over_and_nothing_known_costs_nothing():
    one = random_map(5, 4, 6)
    u = torch.rand(4, 3, generator=keyed(1))
    u[:, 1] = torch.nan
    known = torch.tensor([[True, False, True]]).expand(4, -1)
    summed = ActivationMap(torch.logsumexp(one.log_mass, 2), one.softness)
    torch.testing.assert_close(one.cross_entropy(u, known), summed.cross_entropy(u[:, [0, 2]]))
    nothing = one.cross_entropy(torch.full((4, 3), torch.nan), torch.zeros(4, 3, dtype=torch.bool))
    assert nothing.tolist() == [0, 0, 0, 0]


def test_values_beyond_the_grid_count_to_its_outer_bins():
    one = random_map(8, softness=0.5)
    at_faces = one.cross_entropy(torch.tensor([[0.0], [1.0], [0.0], [1.0]]))
    beyond = one.cross_entropy(torch.tensor([[-0.3], [7.0], [-9.0], [1.1]]))
    torch.testing.assert_close(beyond, at_faces)


def test_unfolding_averages_seven_bins_around_the_peak():
    # Highest: bin 3, so bins 0 to 6; bin 7 is left out although it is large.
    one = of_masses([0.0, 0.1, 0.2, 0.4, 0.1, 0.05, 0.05, 0.3, 0.0, 0.0])
    centres = 1.5 * 0.1 + 2.5 * 0.2 + 3.5 * 0.4 + 4.5 * 0.1 + 5.5 * 0.05 + 6.5 * 0.05
    assert float(one.mode()) == pytest.approx(centres / 0.9 / 10, abs=1e-6)


def test_unfolding_a_joint_grid_averages_a_ball():
    masses = torch.zeros(9, 9)
    masses[4, 4] = 3.0
    masses[7, 4] = 1.0  # Three bins away: counts.
    masses[6, 6] = 1.0  # The square root of eight bins away: counts.
    masses[7, 5] = 2.9  # The square root of ten bins away: does not, though in the box.
    expected = [(3 * 4.5 + 7.5 + 6.5) / 5 / 9, (3 * 4.5 + 4.5 + 6.5) / 5 / 9]
    assert of_masses(masses).mode()[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_unfolding_at_an_edge_averages_what_there_is():
    one = of_masses([0.6, 0.2, 0.1, 0.05, 0.05, 0.0])
    centres = 0.5 * 0.6 + 1.5 * 0.2 + 2.5 * 0.1 + 3.5 * 0.05
    assert float(one.mode()) == pytest.approx(centres / 0.95 / 6, abs=1e-6)


def test_selection_keeps_rows_and_softness():
    one = random_map(5, 4)
    chosen = one.select(torch.tensor([2, 0]))
    assert isinstance(chosen, ActivationMap)
    torch.testing.assert_close(chosen.mode(), one.mode()[[2, 0]])
    u = torch.rand(2, 2, generator=keyed(1))
    torch.testing.assert_close(
        chosen.cross_entropy(u), torch.tensor([looped_cross_entropy(one, u[k], i) for k, i in
                                               enumerate((2, 0))]), rtol=1e-4, atol=1e-5,
    )  # fmt: skip
