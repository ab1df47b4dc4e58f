"""Figures of evaluations of cluster images: what is drawn of which readings, and whether whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
from image_models import small_image_model
from matplotlib.figure import Figure
from test_figures import everything_inside, legends_cover_nothing

from melotte.engine.evaluation import evaluate
from melotte.parameters import Parameter
from melotte.report import evaluation
from melotte.report.image_evaluation import CAPTIONS, image_figures
from melotte.report.style import new_figure
from melotte.systems.cluster_images.judging import ImageJudge, ImageReadings

PARAMETERS = (
    Parameter("log_age", 6.6, 10.1),
    Parameter("extinction_v", 0, 3, "mag"),
    Parameter("log_mass", 3.5, 5.5),
    Parameter("half_number_radius", 0.04, 0.4, "arcsec", "log"),
)
PUBLISHED = {"log_age": 0.9, "extinction_v": 1.4, "log_mass": 0.4, "half_number_radius": 0.2}


class Judge(ImageJudge):
    """What figures ask of a judge, without a system."""

    published_bounds = None

    def __init__(self, readings, parameters=PARAMETERS, published=None):
        self.parameters, self.published_bounds = parameters, published or {}
        self._readings = readings

    def readings(self):
        return self._readings


def planted(n=300, empty=0.3, known=True, peak=False, n_parameters=4):
    """Readings with a class and a visibility where ``known``."""
    rng = np.random.default_rng(1)
    chosen = PARAMETERS[:n_parameters]
    unit = rng.random((n, n_parameters))

    def physical(values):
        ends = [(np.log(p.low), np.log(p.high)) if p.scale == "log" else (p.low, p.high)
                for p in chosen]  # fmt: skip
        place = np.stack([a + (b - a) * values[:, i] for i, (a, b) in enumerate(ends)], 1)
        logs = [p.scale == "log" for p in chosen]
        return np.where(logs, np.exp(np.where(logs, place, 0.0)), place)

    is_cluster = rng.random(n) >= empty
    visibility = np.where(is_cluster, 10 ** rng.uniform(-1, 2, n), 0.0)
    truth = np.where(is_cluster[:, None], physical(unit), np.nan)
    estimates = {"median": physical(np.clip(unit + 0.05 * rng.normal(size=unit.shape), 0, 1))}
    if peak:
        estimates["peak"] = physical(np.clip(unit + 0.1 * rng.normal(size=unit.shape), 0, 1))
    pit = np.where(is_cluster[:, None], rng.random(unit.shape), np.nan)
    seen = np.where(is_cluster, visibility, 0.1) * 10 ** (0.1 * rng.normal(size=n))
    probability = np.where(is_cluster, seen / (seen + 0.2), rng.random(n) ** 4)
    return ImageReadings(
        truth, estimates, pit, is_cluster, visibility,
        probability if known else None, seen if known else None, None, np.arange(n),
    )  # fmt: skip


@pytest.mark.parametrize("peak", [False, True])
def test_every_figure_is_drawn_whole_and_described(peak):
    found = image_figures(Judge(planted(peak=peak), published=PUBLISHED))
    assert set(found) == set(CAPTIONS)
    for figure in found.values():
        assert isinstance(figure, Figure)
        assert everything_inside(figure)
    assert len(found["bounds"].axes) == 4 * (1 + peak)
    assert "published 0.9" in found["bounds"].axes[0].texts[0].get_text()
    names = found["coverage-68"].axes[0].get_legend_handles_labels()[1]
    assert names == ["true", "inferred"]
    for name, texts in (
        ("bounds", ["age inferred beyond the 95 % bound: too young", "too old"]),
        ("fields", ["p <= 0.5", "p > 0.5", "p > 0.99", "mock cluster"]),
    ):
        assert legends_cover_nothing(found[name])
        listed = [one.get_text() for one in found[name].legends[0].get_texts()]
        assert [one.removeprefix("empty field, ") for one in listed] == texts


@pytest.mark.parametrize("n", [2, 3])
def test_legends_find_room_above_few_panels(n):
    found = image_figures(Judge(planted(n_parameters=n), PARAMETERS[:n]))
    assert legends_cover_nothing(found["bounds"])
    assert legends_cover_nothing(found["fields"])


def test_cells_of_one_cluster_are_neither_white_nor_as_the_fullest():
    panel = image_figures(Judge(planted(n=60)))["bounds"].axes[0]
    panel.figure.canvas.draw()
    cells = panel.collections[0]
    faintest = cells.get_facecolors()[np.argmin(cells.get_array())]
    assert faintest[:3].min() < 0.9
    lone = image_figures(Judge(planted(n=8)))["bounds"].axes[1]
    lone.figure.canvas.draw()
    cells = lone.collections[0]
    assert cells.get_array().max() == 1
    assert cells.get_facecolors()[:, :3].max() > 0.7


def test_visibilities_below_the_axis_are_right_where_both_are():
    readings = planted()
    faint = np.where(readings.is_cluster, 0.001, 0.0)
    seen = np.where(readings.is_cluster, 0.002, 0.05)
    found = image_figures(Judge(replace(readings, true_visibility=faint, visibility=seen)))
    assert found["classes"].axes[-1].get_title(loc="left") == "95 % within 0.00 dex"


def test_coverage_that_is_drawn_is_that_of_the_bins():
    readings = planted(n=4000)
    figure = image_figures(Judge(readings))["coverage-95"]
    panel = figure.axes[0]
    bin_of_tens = readings.is_cluster & (readings.true_visibility >= 10)
    bin_of_tens &= readings.true_visibility < 20
    fraction = (np.abs(readings.pit[bin_of_tens, 0] - 0.5) <= 0.475).mean()
    curves = [line.get_ydata() for line in panel.lines if len(line.get_ydata()) == 7]
    assert any(np.isclose(curve[5], fraction) for curve in curves)
    low, high = panel.get_ylim()
    assert all(low < np.nanmin(curve) and np.nanmax(curve) < high for curve in curves)


def test_what_a_network_does_not_say_is_not_drawn():
    found = image_figures(Judge(planted(known=False, empty=0.0, n_parameters=3), PARAMETERS[:3]))
    assert set(found) == {"bounds", "coverage-68", "coverage-95"}
    assert all(everything_inside(figure) for figure in found.values())
    names = found["coverage-68"].axes[0].get_legend_handles_labels()[1]
    assert names == ["true"]
    without_fields = image_figures(Judge(planted(empty=0.0)))
    assert set(CAPTIONS) - set(without_fields) == {"fields"}
    fields_alone = image_figures(Judge(planted(n=20, empty=1.0)))
    assert set(fields_alone) == {"classes", "fields"}


def test_few_clusters_are_drawn(tmp_path):
    for name, figure in image_figures(Judge(planted(n=4, empty=0.5))).items():
        figure.savefig(tmp_path / f"{name}.png", dpi=30)


def test_an_evaluation_writes_and_lists_them(tmp_path, monkeypatch):
    model, _ = small_image_model()

    def blank(judge):
        return {name: new_figure(1, 1)[0] for name in image_figures(judge)}

    monkeypatch.setattr(evaluation, "image_figures", blank)
    found = evaluate(model, n=16, seed=2, progress=False, n_samples=100)
    assert isinstance(found.judged, ImageJudge)
    written = evaluation.write_evaluation(found, model, tmp_path / "e.json", tmp_path / "figures")
    names = [path.name for path in written]
    assert all(f"{name}.png" in names for name in CAPTIONS)
    page = (tmp_path / "figures" / "evaluation.html").read_text()
    assert "Coverage 68" in page
    assert "of empty fields (Fig. 12)" in page
    extra = json.loads((tmp_path / "e.json").read_text())["extra"]
    assert extra["published_bounds_95"]["log_mass"] == 0.4
    assert "selected_empty" in extra
