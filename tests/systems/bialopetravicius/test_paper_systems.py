import math

import pytest
import torch

from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream, keyed_generator
from melotte.errors import MelotteValueError
from melotte.systems.bialopetravicius.system import PaperOne, PaperTwo
from melotte.systems.registry import build_system, load_preset

FEW_FIELDS = ("data.fields.tiles=1", "data.fields.held_out_tiles=1", "data.fields.size=160")


def few_ages(preset, *more):
    low, high = {"m31-paper1": (6.6, 9.5), "m83-paper2": (6.6, 10.1)}[preset]
    step = f"data.clusters.age_step={(high - low) / 4}"
    return build_system(load_preset(preset, [*FEW_FIELDS, step, *more]))


@pytest.fixture(scope="module")
def paper_two():
    return few_ages("m83-paper2")


@pytest.fixture(scope="module")
def two_mocks(paper_two):
    return mock_batch(paper_two, 48, 1, Stream.MOCKS, 0)


def test_presets_say_what_the_papers_say():
    one, two = (build_system(load_preset(name)) for name in ("m31-paper1", "m83-paper2"))
    assert isinstance(one, PaperOne)
    assert isinstance(two, PaperTwo)
    assert (one.data.size, two.data.size) == (80, 64)
    assert one.data.clusters.n_ages == 59
    assert two.data.clusters.n_ages == 71
    assert 10 ** (one.data.camera.distance_modulus[0] / 5 + 1) == pytest.approx(785e3, rel=1e-3)
    assert 10 ** (two.data.camera.distance_modulus[0] / 5 + 1) == pytest.approx(4.5e6, rel=1e-3)
    # The shipped isochrones' solar Z is 0.0185.
    for system, heavy in ((one, 0.009), (two, 0.03)):
        assert system.data.camera.metallicity[0] == pytest.approx(
            math.log10(heavy / 0.0185), abs=1e-3
        )
    assert two.data.background_share == 0.5
    assert two.model.bins == (20, 10, 14)


def test_half_of_paper_twos_images_are_backgrounds(paper_two):
    batch = mock_batch(paper_two, 400, 1, Stream.MOCKS, 1)
    assert abs(float(batch.targets["class"].mean()) - 0.5) < 0.1


def test_paper_twos_mocks_lie_inside_its_grid(paper_two, two_mocks):
    theta = two_mocks.theta[two_mocks.targets["class"] > 0.5]
    for column, parameter in zip(theta.unbind(1), paper_two.parameters, strict=True):
        assert parameter.low <= float(column.min())
        assert float(column.max()) <= parameter.high
    assert [one.name for one in paper_two.parameters][:2] == ["log_age", "extinction_v"]
    dust = theta[:, 1] / 0.1
    assert torch.allclose(dust, dust.round(), atol=1e-3)


def test_paper_two_runs_and_reports(paper_two, two_mocks):
    torch.manual_seed(1)
    network = paper_two.network({}).eval()
    with torch.no_grad():
        outputs = network(paper_two.prepare(two_mocks.observation, {}))
        terms = paper_two.loss(outputs, two_mocks)
    empty = two_mocks.targets["class"] == 0
    for name in ("age_extinction_mass", "size"):
        assert float(terms[name][empty].abs().sum()) == 0
        assert bool((terms[name][~empty] > 0).all())
    for name in ("class", "visibility"):
        assert bool((terms[name] >= 0).all())
        assert float(terms[name][empty].sum()) > 0
    columns = paper_two.result_columns(two_mocks.observation, outputs)
    assert set(columns) == {
        "class_probability",
        "visibility",
        *(f"{parameter.name}_peak" for parameter in paper_two.parameters),
    }
    for parameter in paper_two.parameters:
        values = columns[f"{parameter.name}_peak"].values
        assert ((values >= parameter.low) & (values <= parameter.high)).all()


def test_paper_one_runs_without_extinction():
    system = few_ages("m31-paper1")
    batch = mock_batch(system, 8, 1, Stream.MOCKS, 0)
    assert [one.name for one in system.parameters] == [
        "log_age",
        "log_mass",
        "half_number_radius",
    ]
    assert bool((batch.observation.data["exposure"] == 1).all())
    torch.manual_seed(1)
    network = system.network({}).eval()
    with torch.no_grad():
        terms = system.loss(network(system.prepare(batch.observation, {})), batch)
    assert bool((terms["smooth_l1"] > 0).all())
    with pytest.raises(MelotteValueError, match="one extinction alone"):
        few_ages("m31-paper1", "data.clusters.extinction_v=[0.0,1.0]")


def test_clusters_outside_the_grid_are_refused():
    with pytest.raises(MelotteValueError, match=r"log_mass: .* must lie within"):
        few_ages("m83-paper2", "data.clusters.log_mass=[2.0,5.5]")


def test_the_papers_limits_exclude_an_eighth_when_joined_with_and():
    """Fig. 3's caption: 50,000 clusters kept, about 7,000 too faint."""
    system = build_system(load_preset("m83-paper2", [*FEW_FIELDS, "data.clusters.age_step=0.175"]))
    scenes = system.simulator().scenes
    drawn = scenes._candidates(torch.zeros(1500, dtype=torch.int64), keyed_generator(5, 1))
    limit = torch.tensor(system.data.clusters.faintest)
    faint_in_all = float((drawn.magnitude > limit).all(1).float().mean())
    faint_in_any = float((drawn.magnitude > limit).any(1).float().mean())
    assert faint_in_all == pytest.approx(0.175, abs=0.04)
    assert abs(faint_in_all - 7 / 57) < abs(faint_in_any - 7 / 57)
