"""Methods of an earlier run beside those of today, from the JSON file of the run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import image_systems_measures as measures
import image_systems_paper1 as paper1
from image_systems_methods import Reading, Truth
from image_systems_stored import add_stored, binned, stored_run

from melotte.engine.json_values import plain_json
from melotte.parameters import Parameter

PARAMETERS = (
    Parameter("log_age", 6.4, 9.7),
    Parameter("log_mass", 1.9, 4.3),
    Parameter("half_number_radius", 0.08, 1.8, "arcsec", "log"),
)
N = 2000


def readings():
    """A truth within the bank's edges, and readings of two methods whose errors differ by two."""
    rng = np.random.default_rng(5)
    ends = np.array([[e[0], e[-1]] for e in (paper1.EDGES[p.name] for p in PARAMETERS)])
    true = rng.uniform(ends[:, 0], ends[:, 1], (N, 3))
    truth = Truth(true, np.ones(N, bool), 10 ** rng.uniform(-1, 2, N), np.zeros((N, 3)))
    found = {}
    for key, spread in (("faithful", 0.2), ("ours", 0.1)):
        point = true + spread * rng.normal(size=true.shape)
        samples = point[:, None] + spread * rng.normal(size=(N, 20, 3))
        unknown = np.full(N, np.nan)
        found[key] = Reading(point, point, samples, np.zeros((N, 0, 0)), unknown, unknown)
    return truth, found


def written(path, found, truth, reading, **wrapped):
    """The JSON file of a run."""
    boxes = {key: paper1.boxes(truth, one, PARAMETERS) for key, one in reading.items()}
    document = {"paper": 1, "n": N, "seed": 3, "bank": {"test": found, "boxes": boxes}}
    content = {"paper1_mocks": {"results": document}} if wrapped.get("card") else document
    path.write_text(json.dumps(plain_json(content, "report", nulls=True)))


@pytest.mark.parametrize("card", [False, True])
def test_an_earlier_run_gives_the_ratios_of_one_run(tmp_path, card):
    truth, both = readings()
    together = measures.measured(truth, both, PARAMETERS)
    written(tmp_path / "run.json", together, truth, both, card=card)
    stored = stored_run(tmp_path / "run.json", 1, N, 3)["bank"]
    today = measures.measured(truth, {"ours": both["ours"]}, PARAMETERS)
    assert "bounds_over_faithful" not in today["ours"]
    add_stored(today, stored["test"])
    assert set(today) == {"ours", "faithful"}
    for name, of_both in together["ours"]["bounds_over_faithful"].items():
        ratio = today["ours"]["bounds_over_faithful"][name]
        assert ratio["ratio"] == pytest.approx(of_both["ratio"], rel=1e-6)
        # Independent errors here: pairs and quadrature agree.
        assert ratio["error"] == pytest.approx(of_both["error"], rel=0.5)


def test_todays_reading_of_a_method_is_kept():
    truth, both = readings()
    found = measures.measured(truth, both, PARAMETERS)
    now = measures.measured(truth, {"ours": both["faithful"]}, PARAMETERS)
    error = now["ours"]["errors"]["log_age"]["point"]["std"]
    add_stored(now, found)
    assert now["ours"]["errors"]["log_age"]["point"]["std"] == error
    assert now["ours"]["bounds_over_faithful"]["log_age"]["ratio"] == pytest.approx(1)


def test_boxes_come_back_as_they_were(tmp_path):
    truth, both = readings()
    written(tmp_path / "run.json", {}, truth, both)
    boxes = stored_run(tmp_path / "run.json", 1, N, 3)["bank"]["boxes"]["ours"]
    rows = binned(boxes, PARAMETERS)
    error = both["ours"].point - truth.theta
    lowest = truth.theta[:, 1] < paper1.EDGES["log_mass"][1]
    kept = rows[0][1]
    assert kept.counts[0] == lowest.sum()
    np.testing.assert_allclose(kept.quantiles[0, 2], np.median(error[lowest, 0]), rtol=1e-6)
    assert len(kept.outside[0]) == 0


def test_other_mocks_are_refused(tmp_path):
    truth, both = readings()
    written(tmp_path / "run.json", {}, truth, both)
    with pytest.raises(SystemExit, match=r"run.json: of .*'seed': 3.*wanted .*'seed': 4"):
        stored_run(tmp_path / "run.json", 1, N, 4)
