"""Explanations of galaxy clusters: planted dependences are found where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from galaxy_models import one_cluster, small_model
from test_figures import everything_inside
from torch import nn

from melotte.cli import main
from melotte.engine.model_files import save_model
from melotte.errors import MelotteValueError
from melotte.networks.point import PointPosterior
from melotte.report.explanation import explainer_of
from melotte.report.galaxy_attributions import cell_changes, cells_figure, explain_galaxies

FAST = 0.2
"""Share of the velocity cut beyond which a galaxy counts for the planted network."""
STEP = 0.01
POINT = ("model.head=point", "model.head_settings={}")


class FastGalaxies(nn.Module):
    """The mean is the number of fast galaxies, times STEP of the unit range."""

    def __init__(self, constants):
        super().__init__()
        self.mean, self.std = constants["galaxy_mean"][1], constants["galaxy_std"][1]
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        galaxies = inputs["galaxies"]
        speed = galaxies.values[:, 1] * self.std + self.mean
        fast = torch.sigmoid((speed - FAST * 2.5) / 0.002)
        n = torch.zeros(galaxies.n_sets).index_add(0, galaxies.index, fast)
        place = (0.1 + STEP * n)[:, None]
        return {
            "posterior": PointPosterior(place, torch.full_like(place, 0.05) + self.scale, "mse"),
            "embedding": place,
        }


@pytest.fixture(scope="module")
def model():
    return small_model(*POINT)[0]


@pytest.fixture(scope="module")
def observation():
    return one_cluster(small_model()[1], 40)


def test_cells_give_what_their_galaxies_carry(model, observation):
    planted = replace(model, network=FastGalaxies(model.constants).eval())
    cells = cell_changes(planted, observation, "log_m200c")
    table = observation.data["galaxies"].values.double().numpy()
    assert cells.counts.sum() == len(table)
    radius = table[:, 1] / float(observation.data["aperture"][0])
    speed = np.abs(table[:, 0]) / float(observation.data["velocity_cut"][0])
    counts, _, _ = np.histogram2d(radius, speed, bins=[cells.radius_edges, cells.speed_edges])
    assert (cells.counts == counts).all()
    # Two units of log mass are the unit range; slow galaxies carry nothing.
    expected = 2 * STEP * counts * (cells.speed_edges[:-1] >= FAST - 1e-9)
    assert 5 < counts[:, 1:].sum() < len(table) - 5
    known = counts > 0
    np.testing.assert_allclose(cells.change[known], expected[known], atol=2e-3)
    assert np.isnan(cells.change[~known]).all()
    figure = cells_figure("log_m200c", cells)
    assert everything_inside(figure)
    assert len(figure.axes[0].texts) == counts.size


def test_a_cluster_in_one_cell_leaves_nothing_to_compare(model, observation):
    cells = cell_changes(model, observation, "log_m200c", 1, 1)
    assert np.isnan(cells.change).all()
    assert everything_inside(cells_figure("log_m200c", cells))


@pytest.mark.parametrize("head", [POINT, ()])
def test_sections_of_an_explanation(head, observation):
    model, _ = small_model(*head)
    sections = explain_galaxies(model, observation, "log_m200c")
    titles = [section.title.split(": ")[-1] for section in sections]
    assert titles[:3] == ["galaxy by galaxy", "cells of phase space", "features"]
    assert "learnt nothing" in titles[3]
    for section in sections:
        for one in section.figures:
            assert everything_inside(one.figure)
    first = sections[0]
    n = len(observation.data["galaxies"].values)
    for panel in first.figures[0].figure.axes[:2]:
        assert len(panel.collections[0].get_offsets()) == n
    sizes = [abs(float(row[2])) for row in first.table.rows]
    assert sizes == sorted(sizes, reverse=True)
    features = [row[0] for row in sections[2].table.rows]
    assert "log velocity scatter" in features
    assert "log n galaxies" not in features


def test_the_command_writes_a_page(observation, tmp_path, capsys):
    model, _ = small_model()
    path = tmp_path / "small.safetensors"
    save_model(path, model)
    table = observation.data["galaxies"].values.numpy()
    lines = [f"C{k % 2} {r / 0.6777:.5f} {v:.2f} 0.1" for k, (v, r) in enumerate(table[:, :2])]
    source = tmp_path / "galaxies.txt"
    source.write_text("\n".join(["CID dproj vlos zclus", *lines]) + "\n")
    page = tmp_path / "page.html"
    for words, code in (((), 2), (("--id", "C1", "--option", "velocity_centre=given"), 0)):
        with pytest.raises(SystemExit) as caught:
            main([str(one) for one in ("explain", path, source, "-o", page, *words)])
        assert int(caught.value.code or 0) == code
        assert page.exists() == (code == 0)
    assert "choose one with --id, such as C0" in capsys.readouterr().err
    text = page.read_text()
    assert text.count("data:image/png") == 2
    assert "Control: a network that has learnt nothing" in text


def test_systems_without_an_explanation_are_named(model):
    class Other:
        name = "m83"

    with pytest.raises(MelotteValueError, match=r"open-cluster, galaxy-cluster.*measures m83"):
        explainer_of(replace(model, system=Other()))
