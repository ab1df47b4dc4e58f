"""Methods of an earlier run of the benchmark of maps, beside today's."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from globular_stored import add_stored, stored_run

NOISE = {"pixel_percent_error": 16.58}


def rows(error, spread):
    return {"pixel_percent_error": error, "errors": {"pixel_percent_error": spread}}


def earlier():
    old = rows(30.0, 1.0) | {"over_baseline": {"pixel_percent_error": [0.75, 0.04]}}
    methods = {"plain": rows(40.0, 2.0), "ours": old, "ours, V alone": old}
    return {"methods": methods, "sampling_noise_floor": NOISE}


def test_ratios_are_to_the_stored_baseline_and_today_counts_before_it():
    found = {"ours": rows(20.0, 1.5)}
    assert add_stored(found, NOISE, earlier()) == "plain"
    assert list(found) == ["ours", "plain", "ours, V alone"]
    assert found["ours"]["pixel_percent_error"] == 20.0
    ratio, error = found["ours"]["over_baseline"]["pixel_percent_error"]
    assert ratio == 0.5
    assert error == pytest.approx(0.5 * math.hypot(1.5 / 20, 2 / 40))


def test_other_clusters_are_refused():
    with pytest.raises(SystemExit, match=r"of other clusters; their pixel_percent_error .* 16\.58"):
        add_stored({"ours": rows(20.0, 1.5)}, {"pixel_percent_error": 17.0}, earlier())


def test_other_mocks_are_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"maps": 1500, "seed": 1, "sets": {"pidoc": earlier()}}))
    assert list(stored_run(path, 1500, 1)) == ["pidoc"]
    with pytest.raises(SystemExit, match=r"'seed': 1\}; wanted .*'seed': 2\}"):
        stored_run(path, 1500, 2)
