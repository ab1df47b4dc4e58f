"""What the judge of cluster images counts: laws, planted readings, and what a network lacks."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from melotte.engine.json_values import plain_json
from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream
from melotte.engine.results import ResultColumn
from melotte.parameters import Parameter
from melotte.systems.base import Batch, Observation
from melotte.systems.cluster_images import judging
from melotte.systems.cluster_images.judging import ImageJudge, ImageReadings
from melotte.systems.registry import build_system, load_preset

PARAMETERS = (
    Parameter("log_age", 6.6, 10.1),
    Parameter("half_number_radius", 0.04, 0.4, "arcsec", "log"),
)
FEW_FIELDS = ("data.clusters.age_step=0.725", "data.fields.tiles=1",
              "data.fields.held_out_tiles=1", "data.fields.size=160")  # fmt: skip


class Planted:
    """Normal posteriors of known place and width in the unit cube."""

    def __init__(self, place, width):
        self.place, self.width = place, width

    def sample(self, n, generator=None):
        shape = (len(self.place), n, self.place.shape[1])
        return self.place[:, None] + self.width[:, None] * torch.randn(shape, generator=generator)

    def mode(self):
        return self.place


class PlantedSystem:
    """Gives the outputs back as columns."""

    parameters = PARAMETERS

    def __init__(self, galaxy="m83"):
        bands = judging.PUBLISHED_BANDS
        self.data = SimpleNamespace(bands=bands, fields=SimpleNamespace(galaxy=galaxy))

    def result_columns(self, observation, outputs):
        del observation
        names = ("class_probability", "visibility", "visibility_16", "visibility_84")
        return {name: ResultColumn(outputs[name], "", "") for name in names}


def planted_batch(n, seed, stretch=1.0, empty=0.25):
    """Mocks whose posteriors are right where ``stretch`` is 1, narrower by it otherwise."""
    rng = torch.Generator().manual_seed(seed)
    is_cluster = torch.rand(n, generator=rng) >= empty
    visibility = 10 ** (3 * torch.rand(n, generator=rng) - 1)
    seen = visibility * 10 ** (0.1 * torch.randn(n, generator=rng))
    width = (0.1 / (1 + seen))[:, None].expand(n, 2)
    place = 0.3 + 0.4 * torch.rand(n, 2, generator=rng)
    unit = place + width * torch.randn(n, 2, generator=rng)
    theta = torch.stack([p.from_unit(unit[:, i]) for i, p in enumerate(PARAMETERS)], 1)
    theta[~is_cluster] = torch.nan
    targets = {
        "class": is_cluster.float(),
        "visibility": torch.where(is_cluster, visibility, 0.0),
    }
    seen = torch.where(is_cluster, seen, 0.2)
    outputs = {
        "posterior": Planted(place, width / stretch),
        "embedding": torch.zeros(n, 1),
        "class_probability": torch.where(is_cluster, seen / (seen + 0.3), 0.2).numpy(),
        "visibility": seen.numpy(),
        "visibility_16": (seen * 10**-0.0994).numpy(),
        "visibility_84": (seen * 10**0.0994).numpy(),
    }
    observation = Observation({"none": torch.zeros(n)})
    return outputs, Batch.labelled(observation, theta, targets, torch.arange(n) + n * seed)


def judged(stretch=1.0, galaxy="m83"):
    judge = ImageJudge(PlantedSystem(galaxy))
    for seed in (1, 2):
        judge.add(*planted_batch(3000, seed, stretch))
    return judge


@pytest.fixture(scope="module")
def right():
    return judged().result()


def test_right_posteriors_cover_in_every_bin_of_what_is_inferred(right):
    rows = right["by_inferred_visibility"]
    assert rows["bins"][0] == "0-0.5"
    assert rows["bins"][-1] == "> 20"
    assert sum(rows["n"]) == sum(right["by_visibility"]["n"])
    for name, level in judging.LEVELS.items():
        for parameter in PARAMETERS:
            fractions = np.array(rows[name][parameter.name])
            errors = np.array(rows[f"{name}_error"][parameter.name])
            assert (np.abs(fractions - level) < 4 * errors).all()


def test_overconfident_posteriors_are_found_out():
    rows = judged(stretch=2.0).result()["by_inferred_visibility"]
    for name, level in judging.LEVELS.items():
        for parameter in PARAMETERS:
            fractions = np.array(rows[name][parameter.name])
            errors = np.array(rows[f"{name}_error"][parameter.name])
            assert (fractions < level - 3 * errors).all()


def test_bounds_are_of_the_axes_scale_and_fall_with_visibility(right):
    judge = judged()
    readings = judge.readings()
    known = readings.is_cluster
    size = np.abs(np.log10(readings.estimates["median"] / readings.truth)[known, 1])
    assert right["bounds_95"]["half_number_radius"] == pytest.approx(np.quantile(size, 0.95))
    # The range of sizes is one dex: widths in the unit cube are dex.
    bounds = right["by_inferred_visibility"]["bounds_95"]["half_number_radius"]
    assert (np.diff(bounds) < 0).all()
    assert 1.96 * 0.1 / 1.5 < bounds[0] < 1.96 * 0.1
    assert right["visibility_dex"]["std"] == pytest.approx(0.1, rel=0.05)
    assert right["visibility_coverage_68"] == pytest.approx(0.68, abs=0.03)


def test_selection_is_counted_by_class_and_visibility(right):
    clusters, empty = right["selected_clusters"], right["selected_empty"]
    # Probabilities are s / (s + 0.3) of the visibility s, even in its logarithm from 0.1 to 100.
    assert clusters["class_0.5"] == pytest.approx(1 - math.log10(3) / 3, abs=0.03)
    assert clusters["visible"] == pytest.approx(2 / 3, abs=0.03)
    assert clusters["class_0.99"] == pytest.approx((2 - math.log10(29.7)) / 3, abs=0.03)
    assert clusters["class_0.5_visible"] == clusters["visible"]
    assert clusters["class_0.99_visible"] == clusters["class_0.99"]
    assert set(empty.values()) == {0.0}
    found = right["by_visibility"]["class_0.5"]
    assert found[0] < 0.8
    assert found[-1] == 1


def test_published_bounds_stand_beside_those_of_m83_alone(right):
    assert right["published_bounds_95"] == judging.PUBLISHED_BOUNDS
    assert "published_bounds_95" not in judged(galaxy="m31").result()
    presets = {name: build_system(load_preset(name)) for name in ("m83", "m83-five-bands", "m31")}
    found = {name: bool(one.judge().published_bounds) for name, one in presets.items()}
    assert found == {"m83": True, "m83-five-bands": False, "m31": False}


def test_bins_without_clusters_and_lone_ones_have_no_number():
    one = judged().readings()
    kept = np.flatnonzero(one.is_cluster & (one.true_visibility > 20))[:1]

    def part(value):
        if isinstance(value, dict):
            return {name: each[kept] for name, each in value.items()}
        return None if value is None else value[kept]

    fields = dataclasses.fields(ImageReadings)
    lone = ImageReadings(**{field.name: part(getattr(one, field.name)) for field in fields})
    rows = judging.by_visibility(lone, lone.true_visibility, PARAMETERS)
    assert rows["n"] == [0] * 6 + [1]
    assert np.isnan(rows["bounds_95"]["log_age"]).all()
    assert np.isnan(rows["coverage_68"]["log_age"][:6]).all()
    assert np.isnan(rows["class_0.5"][:6]).all()


def test_a_network_of_ours_is_judged(small_m83, m83_mocks, m83_network):
    constants = small_m83.constants(m83_mocks)
    with torch.no_grad():
        outputs = m83_network(small_m83.prepare(m83_mocks.observation, constants))
    judge = small_m83.judge()
    judge.add(outputs, m83_mocks)
    found = judge.result()
    assert {"selected_clusters", "selected_empty", "visibility_coverage_68"} <= set(found)
    assert "bounds_95_peak" not in found
    n_clusters = int((m83_mocks.targets["class"] > 0.5).sum())
    assert sum(found["by_visibility"]["n"]) == n_clusters
    readings = judge.readings()
    assert np.isnan(readings.pit[~readings.is_cluster]).all()
    assert np.isfinite(readings.pit[readings.is_cluster]).all()
    text = json.dumps(plain_json(found, "judge", nulls=True), allow_nan=False)
    assert set(json.loads(text)["bounds_95"]) == {one.name for one in small_m83.parameters}
    again = small_m83.judge()
    again.add(outputs, m83_mocks)
    assert (again.readings().pit == readings.pit)[readings.is_cluster].all()


def paper_outputs(system, batch):
    """Posteriors about the middle of the ranges."""
    place = torch.full((len(batch), len(system.parameters)), 0.5)
    return {"posterior": Planted(place, 0.2 * place), "embedding": torch.zeros(len(batch), 1)}


def test_paper_two_is_judged_by_its_peaks_too():
    system = build_system(load_preset("m83-paper2", [*FEW_FIELDS, "data.clusters.age_step=0.7"]))
    batch = mock_batch(system, 24, 1, Stream.MOCKS, 0)
    outputs = paper_outputs(system, batch) | {
        "class": torch.linspace(-5, 5, 24),
        "visibility": torch.linspace(0, 8, 24),
    }
    judge = system.judge()
    judge.add(outputs, batch)
    found = judge.result()
    middle = [float(one.from_unit(torch.tensor(0.5))) for one in system.parameters]
    np.testing.assert_allclose(judge.readings().quoted, np.tile(middle, (24, 1)), rtol=1e-5)
    assert set(found["bounds_95_peak"]) == set(found["published_bounds_95"])
    assert found["selected_clusters"]["class_0.99"] < found["selected_clusters"]["class_0.5"]
    assert "visibility_coverage_68" not in found


def test_paper_one_has_neither_class_nor_visibility():
    system = build_system(load_preset("m31-paper1", FEW_FIELDS))
    batch = mock_batch(system, 16, 1, Stream.MOCKS, 0)
    judge = system.judge()
    judge.add(paper_outputs(system, batch), batch)
    found = judge.result()
    assert set(found) == {"bounds_95", "by_visibility"}
    assert "class_0.5" not in found["by_visibility"]
    assert sum(found["by_visibility"]["n"]) == 16
