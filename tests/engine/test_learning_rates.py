"""Schedules: linear warm-up, falls that end where they should, halves, drops on a plateau."""

from __future__ import annotations

from itertools import pairwise

import pytest

from melotte.engine.learning_rates import ema_decay, learning_rate
from melotte.engine.settings import TrainingSettings
from melotte.errors import MelotteValueError

STEPS = {"n_batches": 50, "max_epochs": 4, "learning_rate": 0.1, "warmup_batches": 20}


def rates(drops=0, **changes):
    settings = TrainingSettings.parse(STEPS | changes)
    return [learning_rate(settings, step, drops) for step in range(settings.n_steps)]


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "halving", "plateau", "constant"])
def test_warm_up_rises_linearly_to_the_peak(schedule):
    found = rates(schedule=schedule)
    assert found[:20] == pytest.approx([0.1 * (step + 1) / 21 for step in range(20)])
    assert found[20] == pytest.approx(0.1)
    assert max(found) == pytest.approx(0.1)


def test_cosine_falls_symmetrically_to_the_final_fraction():
    found = rates(final_rate_fraction=0.2)
    assert all(later < earlier for earlier, later in pairwise(found[20:]))
    assert found[-1] == pytest.approx(0.02)
    assert found[30] + found[-11] == pytest.approx(0.1 + 0.02)


def test_exponential_falls_by_one_factor_to_the_final_fraction():
    found = rates(schedule="exponential", final_rate_fraction=0.01, warmup_batches=0)
    assert found[0] == pytest.approx(0.1)
    assert found[-1] == pytest.approx(0.001)
    factors = [later / earlier for earlier, later in pairwise(found)]
    assert factors == pytest.approx([0.01 ** (1 / 199)] * 199)


def test_an_exponential_fall_to_zero_is_refused():
    with pytest.raises(MelotteValueError, match="final_rate_fraction 0 is never reached"):
        TrainingSettings(schedule="exponential", final_rate_fraction=0)


def test_halving_holds_the_rate_during_an_epoch_and_halves_it_between():
    found = rates(schedule="halving", warmup_batches=0)
    assert found == [0.1] * 50 + [0.05] * 50 + [0.025] * 50 + [0.0125] * 50


def test_plateau_drops_and_a_constant_rate():
    assert rates(schedule="plateau", plateau_factor=0.3, drops=2)[-1] == pytest.approx(0.009)
    assert rates(schedule="constant")[-1] == pytest.approx(0.1)


def test_a_short_training_still_reaches_its_peak():
    found = rates(n_batches=3, max_epochs=2, warmup_batches=1000)
    assert max(found) == pytest.approx(0.1)


def test_the_average_of_weights_forgets_its_first_steps():
    settings = TrainingSettings(ema_decay=0.99)
    assert ema_decay(settings, 0) == pytest.approx(0.1)
    assert ema_decay(settings, 10**6) == pytest.approx(0.99)
