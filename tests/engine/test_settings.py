"""A wrong key or value is one line that names the key, what was found and what is allowed."""

from __future__ import annotations

import pytest

from melotte.engine.settings import LocalSettings, Settings, TrainingSettings
from melotte.errors import MelotteValueError


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learnig_rate": 0.1}, ["training.learnig_rate", "did you mean 'learning_rate'", "seed"]),
        ({"batch_size": 0}, ["training.batch_size", "found 0", "greater than 0"]),
        ({"batch_size": "many"}, ["training.batch_size", "'many'", "integer"]),
        ({"schedule": "linear"}, ["training.schedule", "'linear'", "cosine", "plateau"]),
        ({"precision": "16"}, ["training.precision", "'16'", "bf16"]),
        ({"learning_rate": float("nan")}, ["training.learning_rate", "finite"]),
        ({"batch_size": 10, "views": 4}, ["training: batch_size 10", "views 4"]),
    ],
)
def test_wrong_training_settings(values, said):
    with pytest.raises(MelotteValueError) as caught:
        TrainingSettings.parse(values, "training")
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in said), message


def test_direct_construction_fails_the_same_way_and_settings_are_frozen():
    with pytest.raises(MelotteValueError, match="device: found 'tpu'"):
        LocalSettings(device="tpu")
    settings = TrainingSettings(seed=3)
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 4


def test_errors_of_a_section_inside_a_preset_keep_the_full_key():
    class Preset(Settings):
        training: TrainingSettings = TrainingSettings()

    with pytest.raises(MelotteValueError, match=r"^training\.batch_size: found 0, should be"):
        Preset(training={"batch_size": 0})
    with pytest.raises(
        MelotteValueError, match=r"^training\.sed is not a setting \(did you mean 'seed'"
    ):
        Preset(training={"sed": 0})


def test_parse_gives_the_values_and_defaults():
    settings = TrainingSettings.parse({"batch_size": 8, "views": 2}, "training")
    assert (settings.batch_size, settings.views, settings.seed) == (8, 2, 0)
    assert TrainingSettings.parse(settings.model_dump()) == settings


def test_total_mocks_sets_the_number_of_steps():
    settings = TrainingSettings(batch_size=100, n_batches=7, max_epochs=3)
    assert settings.n_steps == 21
    assert TrainingSettings(batch_size=100, total_mocks=1001).n_steps == 11
