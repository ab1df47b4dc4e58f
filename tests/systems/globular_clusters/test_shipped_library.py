"""The shipped library of evolved clusters: by its word, what it holds, and the demo's use of it."""

import h5py
import numpy as np
import pytest
import torch
from small_library import SMALL, write_run
from torch import nn

from melotte import demo
from melotte.engine.mocks import concatenate, draw_mocks
from melotte.engine.model_files import Model
from melotte.errors import MelotteValueError
from melotte.networks.map_posteriors import MapPosterior
from melotte.sky.cluster_libraries import ClusterLibrary, shipped_library
from melotte.systems.globular_clusters.library_stars import load_stars, named_library
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.systems.registry import build_system, load_preset

DEGREES, SCALE = 4.0, 0.1


class PlantedMaps(nn.Module):
    """A network whose map of mass is known: 0.01 times the number of the pixel's column."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        outputs = self.network(inputs)
        mean = outputs["mass_map"].mean
        columns = 0.01 * torch.arange(mean.shape[-1]).expand(mean.shape)
        planted = MapPosterior(columns, torch.full_like(columns, SCALE), torch.tensor([DEGREES]))
        return outputs | {"mass_map": planted}


@pytest.fixture(scope="module")
def model():
    """An untrained model whose preset names no library, as those of shipped models do not."""
    # Of one component, so that no posterior has two peaks by chance, and none lies out of range.
    settings = [*SMALL, "model.head_settings={components: 1, hidden: 16}", "data.served={}"]
    preset = load_preset("globular", settings).model_dump(mode="json")
    content = preset | {"data": preset["data"] | {"library": "small"}}
    drawn = build_system(content)
    mocks = concatenate(draw_mocks(drawn, 16, 4, 16))
    constants = drawn.constants(mocks)
    torch.manual_seed(2)
    system = build_system(preset)
    return Model(system, preset, constants, PlantedMaps(system.network(constants)).eval())


def test_it_holds_the_test_family_alone_and_is_small():
    with shipped_library() as path, ClusterLibrary(path) as library:
        assert path.stat().st_size <= 2.5e6
        # Libraries of training have seeds 1 to 5, that of evaluations seed 1.
        assert [run.name for run in library.runs] == [f"test-7-{k:05d}" for k in range(1, 9)]
        assert {run.family for run in library.runs} == {"test"}
        ages = [time / 1e3 for run in library.runs for time in run.times]
        assert min(ages) < 1
        assert max(ages) > 13
        assert len(set(np.round(ages, 2))) >= 10
        for run in library.runs:
            for number in range(len(run.times)):
                snapshot = library.snapshot(run, number)
                assert snapshot.total_mass == pytest.approx(run.history["mass"][number], rel=2e-3)
                assert run.history["time"][number] == pytest.approx(run.times[number], rel=0.02)
                assert 0.2 < snapshot.total_mass / snapshot.total_light_v < 4


def test_its_word_is_understood_and_serves_tests_alone():
    data = DataSettings(library="small")
    assert data.library == ("small",)
    stars = load_stars(data, "test")
    assert len(stars.count) == 16
    assert sorted(set(stars.run.tolist())) == list(range(8))
    with pytest.raises(MelotteValueError, match="families test; wanted training"):
        load_stars(data, "training")
    with pytest.raises(MelotteValueError, match=r"ships: data\.library=small"):
        load_stars(DataSettings(), "test")


def test_a_file_of_that_name_is_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    with named_library(["small"]) as library:
        assert len(library.runs) == 8
    (tmp_path / "small").rmdir()
    with h5py.File(tmp_path / "small", "w") as file:
        write_run(file, "own", "test", seed=1)
    with (
        pytest.raises(MelotteValueError, match=r"give the file as \./small"),
        named_library(["small"]),
    ):
        pass
    with named_library(["./small"]) as library:
        assert [run.name for run in library.runs] == ["own"]


def test_the_demo_draws_maps_of_the_small_library(model, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "N_MAPPED", 12)
    monkeypatch.setattr(demo, "N_ROWS", 3)
    sections = demo.demo_sections("globular", model, tmp_path, seed=3)
    assert (tmp_path / "globular.ecsv").stat().st_size > 1000
    (section,) = [one for one in sections if one.title.endswith("maps of mass")]
    figure = section.figures[0].figure
    mocks = concatenate(draw_mocks(demo.demo_system(model), 12, demo.DEMO_STREAM_SEED + 3, 100))
    distances = mocks.theta[:, 0].numpy()
    rows = np.array(figure.axes[:15]).reshape(3, 5)
    found = []
    for said, light, true, inferred, deviation in rows:
        text = [one.get_text() for one in said.texts]
        assert text[::2] == ["distance", "age", r"log(mass/M$_\odot$)", "M/L", "seen in"]
        found.append(float(text[1].split(" → ")[0]))
        i = int(np.abs(distances - found[-1]).argmin())
        assert float(text[3].split(" → ")[0]) == pytest.approx(
            10 ** (float(mocks.theta[i, 1]) - 9), rel=0.01
        )
        assert light.images[0].get_array().shape == (48, 48)
        target = mocks.targets["log_mass_map"][i, 0].numpy()
        np.testing.assert_allclose(true.images[0].get_array(), target)
        assert true.images[0].get_clim() == inferred.images[0].get_clim()
        np.testing.assert_allclose(inferred.images[0].get_array()[5], 0.01 * np.arange(48))
        # Student's distribution of four degrees of freedom is wider than its scale by sqrt(2).
        np.testing.assert_allclose(deviation.images[0].get_array(), SCALE * 2**0.5, rtol=1e-6)
    assert found == sorted(found)
    figure.savefig(tmp_path / "gallery.png", dpi=30)


def test_nothing_is_drawn_without_a_gallery(model, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "N_MAPPED", 4)
    sections = demo.demo_sections("globular", model, tmp_path, seed=3, gallery=False)
    assert not any(one.figures for one in sections)
