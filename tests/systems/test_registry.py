import pytest

from melotte.errors import MelotteError
from melotte.systems.base import System
from melotte.systems.registry import build_system, load_preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_builds_its_system(name):
    preset = load_preset(name)
    assert preset.name == name
    system = build_system(preset)
    assert isinstance(system, System)
    assert system.name == preset.system


@pytest.mark.parametrize("name", preset_names())
def test_what_a_model_stores_builds_the_same_system(name):
    preset = load_preset(name)
    again = build_system(preset.model_dump(mode="json"))
    assert again.parameters == build_system(preset).parameters


def test_overrides_change_one_setting():
    preset = load_preset("open-cluster", ["training.batch_size=64", "data.prior.log_age=[7, 9]"])
    assert preset.training.batch_size == 64
    assert build_system(preset).parameters[0].low == 7


@pytest.mark.parametrize(
    ("source", "override", "complaint"),
    [
        ("open-clusters", None, "known: .*open-cluster"),
        ("open-cluster", "training.batchsize=3", "did you mean 'batch_size'"),
        ("open-cluster", "training.batch_size=-3", "training.batch_size: found -3"),
        ("open-cluster", "training.batch_size", "section.key=value"),
        ("open-cluster", "batch_size=3", "section.key=value"),
        ("open-cluster", "data.members=[100, 10]", "100 is above 10"),
        ("open-cluster", "data.stars=3", "data.stars is not a setting"),
        ("open-cluster", "data.prior.log_age=[9, 7]", "low must be below high"),
        ("open-cluster", "model.head=oracle", "model.head"),
        ("open-cluster", "model.width=33", "multiple"),
        ("open-cluster", "system=quasar", "section.key=value"),
        ("open-cluster", "name.x=3", "holds a value"),
        ("nowhere.yaml", None, "cannot be read"),
    ],
)
def test_bad_presets_say_what_is_wrong_in_one_line(source, override, complaint):
    with pytest.raises(MelotteError, match=complaint) as caught:
        load_preset(source, [override] if override else [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- a list", "not a mapping"),
        ("a: [", "not valid YAML"),
        ("name: x", "system is missing"),
        ("name: x\nsystem: quasar", "quasar"),
    ],
)
def test_bad_preset_files(tmp_path, text, complaint):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(MelotteError, match=complaint):
        load_preset(path)
