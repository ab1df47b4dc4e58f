"""Figures of chosen objects: nothing is computed for the others, of whatever system."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.table import Table
from galaxy_models import planted_model

from melotte import api
from melotte.engine.model_files import Model
from melotte.engine.results import InferenceResult
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.report import cluster_galaxies, object_figures
from melotte.report.object_figures import Drawing, with_named, write_figures
from melotte.report.stored_figures import figure_sections
from melotte.report.style import new_figure
from melotte.systems.base import Observation, RowError
from melotte.systems.registry import build_system, load_preset


def test_named_objects_must_be_in_the_inputs():
    entries = [Observation({}, ("a", "b")), RowError("lost", "no pixel", 0)]
    assert with_named(iter(entries), ("b", "lost")) == entries
    with pytest.raises(MelotteValueError, match=r"'c': no such object .* they hold a, b, lost"):
        with_named(entries, ("a", "c"))
    with pytest.raises(MelotteValueError, match="they hold none"):
        with_named([], ("a",))


@pytest.mark.parametrize("known", [False, True])
def test_members_are_sought_of_named_galaxy_clusters_alone(tmp_path, monkeypatch, known):
    model, mocks = planted_model()
    observation = mocks.observation.select(torch.arange(3))
    data = {name: one for name, one in observation.data.items() if name != "is_member"}
    observation = replace(observation, data=data, ids=("a", "b", "c"))
    result = api.infer_observations(model, [observation], samples=50, progress=False)
    galaxies = None
    if known:
        listed = list(cluster_galaxies.galaxy_lists(result, [observation]))
        galaxies = cluster_galaxies.with_memberships(model, listed)
    sought = []
    seek = cluster_galaxies.with_memberships
    monkeypatch.setattr(
        cluster_galaxies,
        "with_memberships",
        lambda model, some: sought.extend(one.name for one in some) or seek(model, some),
    )
    drawing = Drawing(model, result, [observation], galaxies=galaxies, names=("b",))
    assert write_figures(drawing, tmp_path) == 1
    assert sought == ([] if known else ["b"])
    assert {one.name for one in tmp_path.iterdir()} == {"b_diagram.png", "b_mass.png"}


def test_objects_of_one_name_have_figures_of_their_own(tmp_path, monkeypatch):
    ids = ("a b", "lost", "a_b", ".c", "a b", "A B_2")
    flags = np.array([0, int(Flag.FAILED), 0, 0, 0, 0])
    empty = np.zeros((6, 1, 0), dtype=np.float32)
    result = InferenceResult(ids, (), np.zeros((6, 3, 0)), flags, samples=empty)
    system = SimpleNamespace(name="globular-clusters")
    for names in ((), ("a b",)):
        drawing = Drawing(SimpleNamespace(system=system), result, [], names=names)
        chosen = [name for name in ids if name != "lost" and drawing.wants(name)]
        drawn = [(name, {"diagram": new_figure(1, 1)[0]}) for name in chosen]
        monkeypatch.setitem(object_figures._SYSTEMS, system.name, lambda _, drawn=drawn: drawn)
        folder = tmp_path / str(len(names))
        assert write_figures(drawing, folder) == len(chosen)
        stems = ["a_b", "a_b_2", "_c", "a_b_3", "A_B_2_2"]
        expected = stems if not names else ["a_b", "a_b_3"]
        assert {one.name for one in folder.iterdir()} == {f"{one}_diagram.png" for one in expected}
    table = Table({"id": ids, "flags": flags, "metallicity_50": np.zeros(6)})
    table.meta["melotte"] = {"header": {"figures": "0"}}
    (section,) = figure_sections(table, tmp_path)
    assert [(one.path.name, one.alt) for one in section.figures] == [
        (f"{stem}_diagram.png", f"diagram of {name}")
        for stem, name in zip(stems, [one for one in ids if one != "lost"], strict=True)
    ]


def test_maps_are_made_of_named_globulars_alone(tmp_path, monkeypatch):
    model = Model(build_system(load_preset("globular-pidoc")), {}, {}, None)
    n = len(model.parameters)
    data = {"flux": torch.ones(3, 1, 8, 8), "pixel_scale": torch.full((3,), 0.5)}
    observation = Observation(data, ("a", "b", "c"))
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(3, 50, n))
    quantiles = np.quantile(samples, [0.16, 0.5, 0.84], axis=1).transpose(1, 0, 2)
    result = InferenceResult(
        ("a", "b", "c"), model.parameters, quantiles, np.zeros(3, dtype=int), samples=samples
    )
    run = []
    monkeypatch.setattr(
        "melotte.report.mass_map_diagrams.mass_map_diagram",
        lambda model, result, image: run.append(image.name) or new_figure(1, 1)[0],
    )
    assert write_figures(Drawing(model, result, [observation], names=("a", "c")), tmp_path) == 2
    assert run == ["a", "c"]


def test_as_many_are_drawn_as_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(object_figures, "MOST_FIGURES", 1)
    model = Model(build_system(load_preset("open-cluster")), {}, {}, None)
    monkeypatch.setitem(
        object_figures._SYSTEMS, "open-cluster", lambda drawing: ((name, {}) for name in "abc")
    )
    result = InferenceResult(
        ("a",), model.parameters, np.zeros((1, 3, 4)), np.zeros(1, dtype=int),
        samples=np.zeros((1, 2, 4)),
    )  # fmt: skip
    assert write_figures(Drawing(model, result, []), tmp_path) == 1
    assert write_figures(Drawing(model, result, [], names=("a", "b", "c")), tmp_path) == 3
