"""The benchmark of centres runs on the small library, and finds far clusters where they are."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import cluster_centres

from melotte.sky.cluster_libraries import shipped_library


def test_far_clusters_are_found_where_they_are():
    with shipped_library() as library:
        found = cluster_centres.measured(library, 160, 100.0, 1)
    assert found["n"] >= 8
    assert found["median_arcsec"] < 2
    assert found["off_unremarked_percent"] == 0
    assert 0.5 < found["median_of_ratios"] < 2.5
