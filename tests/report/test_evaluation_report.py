"""The evaluation's table, JSON, figures and page."""

from __future__ import annotations

import io
import json

import pytest
from linear_gaussian import PRESET, LinearGaussian
from rich.console import Console

from melotte.engine.evaluation import evaluate
from melotte.engine.model_files import Model
from melotte.errors import MelotteFileError
from melotte.report.comparison import comparison_html, comparison_rows
from melotte.report.evaluation import show_evaluation, verdict_lines, write_evaluation


@pytest.fixture(scope="module")
def model():
    system = LinearGaussian(noise=0.1)
    return Model(system, dict(PRESET), system.identity_constants, system.exact_network())


@pytest.fixture(scope="module")
def evaluation(model):
    published = {"parameters": {"log_age": {"std": 0.123, "bias": 0}}, "extra": {"n_groups": 7}}
    return evaluate(model, n=400, progress=False, published=published)


def test_published_numbers_stand_beside_ours(evaluation):
    rows = {row[0]: row[1:] for row in comparison_rows(evaluation).rows}
    assert rows["log_age std"][0] == "0.123"
    assert rows["log_age bias"][0] == "0"
    assert rows["log_age mae"][0] == ""
    assert rows["n_groups"] == ["7", "", "400"]
    assert float(rows["distance std / kpc"][2]) == pytest.approx(
        evaluation.parameters["distance"]["std"], rel=0.01
    )


def test_terminal_and_html_leave_out_empty_columns(evaluation):
    stream = io.StringIO()
    show_evaluation(evaluation, Console(file=stream, width=100))
    text = stream.getvalue()
    assert "published" in text
    assert "faithful" not in text
    assert "calibrat" in text
    assert "400 mocks are few" in text
    html = comparison_html(evaluation)
    assert html.count("<th>") == 3
    assert "<td>0.123</td>" in html


def test_a_joint_p_value_of_few_mocks_is_unknown(model, evaluation):
    few = evaluate(model, n=60, progress=False)
    assert verdict_lines(few)[0].endswith("; joint (TARP) p unknown (too few mocks)")
    p = evaluation.calibration.joint.p_value
    assert p > 0.01
    assert verdict_lines(evaluation)[0].endswith(f"; joint (TARP) p = {p:.2f}")


def test_files(evaluation, model, tmp_path):
    written = write_evaluation(evaluation, model, tmp_path / "e.json", tmp_path / "f" / "g")
    assert [path.name for path in written] == [
        "e.json",
        "recovery.png",
        "coverage.png",
        "ranks.png",
        "evaluation.html",
    ]
    assert json.loads(written[0].read_text())["n"] == 400
    assert all(path.stat().st_size > 1000 for path in written)
    assert write_evaluation(evaluation, model, None, None) == []


def test_unwritable_places_are_refused(evaluation, model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MelotteFileError):
        write_evaluation(evaluation, model, tmp_path / "none" / "e.json", None)
    with pytest.raises(MelotteFileError):
        write_evaluation(evaluation, model, None, tmp_path / "file" / "g")
