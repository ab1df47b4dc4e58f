"""The demo's gallery of galaxy clusters shows the mocks' truth, once a system."""

from __future__ import annotations

import numpy as np
import pytest
from galaxy_models import planted_model, small_model
from test_figures import everything_inside

from melotte import api, demo
from melotte.api import models
from melotte.engine.mocks import concatenate, draw_mocks
from melotte.engine.model_files import save_model


@pytest.fixture(autouse=True)
def few_mocks(monkeypatch):
    monkeypatch.setattr(demo, "N_MOCKS", 24)
    monkeypatch.setattr(demo, "N_SHOWN", 5)


def galleries(sections):
    return [one for one in sections if one.title.endswith("members and interlopers")]


def test_dots_are_true_members_and_crosses_true_interlopers(tmp_path):
    model, _ = planted_model()
    (section,) = galleries(demo.demo_sections(model.name, model, tmp_path, seed=3))
    figure = section.figures[0].figure
    assert everything_inside(figure)
    mocks = concatenate(draw_mocks(model.system, 24, demo.DEMO_STREAM_SEED + 3, 100))
    galaxies, truth = mocks.observation.data["galaxies"], mocks.observation.data["is_member"]
    titled = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(titled) == 5
    masses = []
    for panel in titled:
        crosses, dots = (one.get_offsets() for one in panel.collections[-2:])
        title = panel.get_title(loc="left")
        masses.append(float(title.split("$")[2].split()[0]))
        i = int(np.abs(mocks.theta[:, 0].numpy() - masses[-1]).argmin())
        member = truth[i][:, 0].numpy() > 0.5
        assert f"{len(member)} galaxies, members {member.sum()} →" in title
        for offsets, chosen in ((dots, member), (crosses, ~member)):
            expected = galaxies[i].numpy()[chosen][:, [1, 0]]
            np.testing.assert_allclose(
                np.sort(np.asarray(offsets), axis=0), np.sort(expected, axis=0), rtol=1e-5
            )
    assert masses == sorted(masses)


def test_two_presets_of_one_system_share_a_gallery(tmp_path, monkeypatch):
    names = ("galaxy-cluster", "galaxy-cluster-richness")
    model = small_model()[0]
    shipped = {}
    for name in names:
        shipped[name] = tmp_path / f"{name}.safetensors"
        save_model(shipped[name], model)
    for home in (api, models):
        monkeypatch.setattr(home, "shipped_models", lambda: shipped)
    page = demo.run_demo(tmp_path / "demo").read_text()
    assert page.count("data:image/png") == 1
    assert page.count("agreement with the truth") == 2


def test_models_without_memberships_have_no_gallery(tmp_path):
    model, _ = small_model("model.membership_weight=0")
    sections = demo.demo_sections(model.name, model, tmp_path, seed=3)
    assert not galleries(sections)
    assert len(sections) == 2
