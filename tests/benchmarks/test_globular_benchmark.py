"""The benchmark of globular clusters' maps on a small library: what each method is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "globular_clusters"))

import globular
import globular_mocks as mocks
from small_library import write_run

from melotte.systems.globular_clusters.preparation import input_sizes
from melotte.systems.registry import build_system, load_preset

TINY = ("data.size=32", "data.least_stars=100")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "clusters.h5"
    families = ["training", "training", "test", "test", "pidoc-training", "pidoc-test"]
    with h5py.File(path, "w") as file:
        for number, family in enumerate(families):
            write_run(file, f"{family}-{number}", family, seed=number)
    return path


@pytest.fixture(scope="module")
def sets(library):
    base = build_system(load_preset("globular", [*TINY, f"data.library={library}"])).data
    return {one.key: one for one in mocks.mock_sets(base, "pidoc-test", True)}


def test_methods_see_the_same_drawing(library, sets):
    ground = mocks.TestGround(sets["pidoc-survey"], 3)
    number, scenes = next(ground.scenes(12))
    batch = ground.recorded(scenes, number, 0.0)
    smooth = ground.recorded(scenes, number, mocks.SMOOTHING)
    assert set(scenes.pointing.distance.tolist()) <= {15.0, 30.0, 60.0, 80.0}
    assert set(scenes.pointing.psf_fwhm.tolist()) == {1.0}
    pidoc = build_system(load_preset("globular-pidoc", [*TINY, f"data.library={library}"])).data
    theirs = mocks.as_read(batch, smooth, pidoc, ("V",)).data
    assert theirs["flux"].shape == (12, 1, 32, 32)
    # Smoothing keeps the light, and the noise is of the same draw.
    plain = batch.observation.data["flux"][:, :1]
    whole = plain.isfinite().all(-1).all(-1)[:, 0]
    torch.testing.assert_close(
        theirs["flux"].sum((1, 2, 3))[whole], plain.sum((1, 2, 3))[whole], rtol=1e-3, atol=1e-2
    )
    assert "dispersion" not in theirs
    ours = mocks.as_read(batch, smooth, sets["ours"].data, ("V",)).data
    assert bool(ours["flux"][:, 1].isnan().all())
    assert bool(ours["flux"][:, 0].isfinite().any())
    assert bool(ours["dispersion"].isnan().all())
    assert bool(ours["distance_told"].isnan().all())
    told = mocks.as_read(batch, smooth, sets["ours"].data, ("V", "B", "distance")).data
    assert torch.equal(told["distance_told"], scenes.pointing.distance)
    assert not {"distance_told", "distance_error"} & set(theirs)
    truth = ground.truth(batch)
    assert all(np.isfinite(truth.values[name]).all() for name in ("age", "distance", "mass_fov"))


def test_models_that_know_noise_read_the_same_drawing_under_a_dark_sky(sets):
    ground = mocks.TestGround(sets["pidoc"], 3)
    number, scenes = next(ground.scenes(6))
    clear = ground.recorded(scenes, number, 0.0)
    assert not clear.observation.data["noise"].any()
    noisy = ground.recorded_with_noise(scenes, number, clear)
    assert bool((noisy.observation.data["noise"] > 0).all())
    assert torch.equal(noisy.theta, clear.theta)
    flux, left = clear.observation.data["flux"], noisy.observation.data["flux"]
    whole = left.isfinite().all(-1).all(-1)
    assert bool(whole.any())
    light = flux.sum((-2, -1))
    error = 0.02 * light + 5 * noisy.observation.data["noise"] * flux.shape[-1]
    assert bool(((left.sum((-2, -1)) - light).abs() < error)[whole].all())
    assert not torch.equal(left, flux)
    survey = mocks.TestGround(sets["pidoc-survey"], 3)
    assert survey.recorded_with_noise(scenes, number, clear) is clear


def test_cases_lie_outside_of_the_training(library, sets):
    data = sets["pidoc"].data
    ground = mocks.TestGround(sets["pidoc"], 4)
    _, scenes = next(ground.scenes(16))
    edge = mocks.brightest(data, 4, n=64)
    far, light = edge
    number, bright, usable = next(mocks.brighter_scenes(ground, 16, 0, edge, 99.0))
    assert number == 0
    assert bool(usable.any())
    for i in torch.nonzero(usable)[:, 0].tolist():
        near = (torch.log(far / bright.pointing.distance[i])).abs() < mocks.NEIGHBOURS
        over = float(bright.log_light_fov[i] - light[near].max())
        assert np.log10(2) <= over <= np.log10(4) + 0.1
    # The same scenes, of more stars: those that need none are as they were.
    same = torch.isclose(bright.log_light_fov, scenes.log_light_fov, atol=0.2)
    assert torch.equal(bright.pointing.distance, scenes.pointing.distance)
    assert bool((same | (bright.log_light_fov > scenes.log_light_fov)).all())
    middle = float(scenes.log_light_fov.median())
    _, capped, reached = next(mocks.brighter_scenes(ground, 16, 0, edge, middle))
    assert float(capped.log_light_fov[reached].max()) <= middle + np.log10(4) + 0.1
    told = data.model_copy(update={"served": {"log_luminosity_fov": (-99.0, middle)}})
    inside = mocks.served(scenes, sets["pidoc"], told)
    assert torch.equal(inside, scenes.log_light_fov <= middle)
    dim = mocks.dimmed(scenes, data)
    ratio = (dim.light.sum((2, 3)) / scenes.light.sum((2, 3))).log10() / -0.4
    # Fitzpatrick 1999, by which training mocks are dimmed too: A_B / A_V is about 1.32.
    np.testing.assert_allclose(ratio.mean(0), [3.3, 3.3 * 1.32], rtol=0.03)
    assert torch.equal(dim.extinction_v, scenes.extinction_v)
    told = mocks.dimmed(scenes, data, told=True)
    torch.testing.assert_close(told.extinction_v, scenes.extinction_v + mocks.DUST)
    assert torch.equal(told.light, dim.light)
    near = mocks.TestGround(mocks.outside(sets["ours"], "nearer", sets["ours"].data), 4)
    _, scenes = next(near.scenes(16))
    assert float(scenes.pointing.distance.max()) <= sets["ours"].data.distance[0] / 2


def test_the_benchmark_runs_and_writes_its_numbers(tmp_path, library, monkeypatch, capsys):
    out = tmp_path / "numbers.json"
    small = {"globular": ["model.widths=[8, 16]", "model.blocks=[1, 1]", "model.features=16"]}
    small["globular-pidoc"] = ["model.widths=[4, 4]", "model.regression_widths=[4, 4]"]
    build = globular.model_of

    def smaller(given, preset, files, overrides):
        return build(given, preset, files, [*overrides, *small[preset]])

    monkeypatch.setattr(globular, "model_of", smaller)
    arguments = ["globular.py", "--library", str(library), "--quick", "--json", str(out)]
    arguments += ["--sets", "pidoc", "ours"]
    arguments += ["--faithful", "perceptual=untrained", "--faithful", "plain=untrained"]
    for setting in (*TINY, "data.log_age=[8.0, 10.16]"):
        arguments += ["--set", setting]
    monkeypatch.setattr(sys, "argv", arguments)
    globular.main()
    shown = capsys.readouterr().out
    assert "27.4 [13.7, 95]" in shown
    assert "Errors over those of perceptual" in shown
    found = json.loads(out.read_text())
    names = {
        "perceptual",
        "plain",
        "ours, V+B",
        "ours, V alone",
        "ours, V+B and dispersions",
        "ours, V+B and distance",
    }
    for key in ("pidoc", "ours"):
        rows = found["sets"][key]["methods"]
        assert set(rows) == names
        assert rows["plain"]["over_baseline"]["pixel_percent_error"][0] == pytest.approx(1.0)
        assert found["sets"][key]["sampling_noise_floor"]["mass_to_light_percent_error"] > 0
    assert set(found["seconds"]) == {"1", "64"}
    assert found["flags"]["ours, V+B"]["younger"] is None
    assert found["flags"]["perceptual"]["nearer"]["n"] == 8


def test_labels_of_models():
    given = ["a.safetensors", "plain=b.safetensors"]
    assert globular.labelled(given, "faithful") == {
        "faithful": "a.safetensors",
        "plain": "b.safetensors",
    }
    with pytest.raises(SystemExit, match="two models are called 'x'"):
        globular.labelled(["x=a", "x=b"], "ours")


def test_the_preset_of_pidocs_mocks_is_of_these_and_our_network():
    folder = Path(__file__).parents[2] / "benchmarks"
    same = build_system(load_preset(str(folder / "globular-pidoc-mocks.yaml")))
    paper, ours = (build_system(load_preset(name)) for name in ("globular-pidoc", "globular"))
    assert same.data.families.training == paper.data.families.training
    for name in ("split", "size", "noise", "offset", "label_spread", "mass_smoothing"):
        assert getattr(same.data, name) == getattr(paper.data, name), name
    assert set(same.data.pixel_scale) == set(paper.data.pixel_scale)
    assert (min(same.data.psf_fwhms), max(same.data.psf_fwhms)) == paper.data.psf_fwhms
    assert (same.data.size_spread, same.data.number_factor, same.data.metallicity_spread) == (
        0,
        1,
        0,
    )
    assert same.model == ours.model
    # So that training may begin from the shipped model.
    assert same.parameters == ours.parameters
    assert input_sizes(same.data) == input_sizes(ours.data)
