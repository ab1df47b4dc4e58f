"""The demo on cluster images: few fields of its own, truths in the titles, empty places apart."""

from __future__ import annotations

import numpy as np
import pytest
from image_models import small_image_model
from test_figures import everything_inside

from melotte import demo


@pytest.fixture
def sections(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "N_MOCKS", 48)
    monkeypatch.setattr(demo, "N_SHOWN", 5)
    monkeypatch.setattr(demo, "DEMO_TILES", 1)
    monkeypatch.setattr(demo, "DEMO_TILE", 96)
    model, _ = small_image_model()
    return demo.demo_sections("m83", model, tmp_path, 3)


def test_the_gallery_ends_with_an_empty_place(sections):
    accuracy, gallery, _ = sections
    # Empty places have no true parameters, and must not make the errors NaN.
    assert all(np.isfinite(float(row[1])) for row in accuracy.table.rows)
    pictures, presence = (one.figure for one in gallery.figures)
    titles = [one.get_title(loc="left") for one in pictures.axes if one.images]
    assert 3 <= len(titles) <= 5
    assert titles[-1].startswith("empty place")
    assert all("log age" in one and "→" in one for one in titles[:-1])
    seen = [float(one.split("visibility ")[1].split()[0]) for one in titles[:-1]]
    assert seen == sorted(seen)
    assert everything_inside(pictures)
    assert everything_inside(presence)
    assert "of the 48 mocks hold a cluster" in gallery.text[0]
