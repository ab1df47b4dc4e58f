"""The cross-validation's folds and scores; the benchmark's folder is imported as scripts are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from melotte.io.cluster_labels import ClusterLabels
from melotte.ragged import Ragged
from melotte.systems.base import Observation

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import open_cluster_catalogues
    import open_cluster_cv
    import open_cluster_methods

    yield type(
        "Scripts",
        (),
        {
            "catalogues": open_cluster_catalogues,
            "cv": open_cluster_cv,
            "methods": open_cluster_methods,
        },
    )
    for name in [one for one in sys.modules if one.startswith("open_cluster_")]:
        sys.modules.pop(name, None)


def lists_of(ids: tuple[str, ...]) -> Observation:
    """One star a list; its G is the list's number."""
    n = len(ids)
    stars = torch.ones(n, 7)
    stars[:, 0] = torch.arange(n, dtype=torch.float32)
    data = {
        "stars": Ragged(stars, torch.arange(n + 1)),
        "n_listed": torch.ones(n),
        "release": torch.zeros(n),
    }
    return Observation(data, ids)


def test_folds_do_not_depend_on_the_order_of_rows(scripts: Any) -> None:
    keys = [f"c{i}" for i in range(103)]
    folds = scripts.catalogues.folds_of(keys, 5, seed=3)
    shuffled = np.random.default_rng(0).permutation(keys + keys[:20]).tolist()
    assert scripts.catalogues.folds_of(shuffled, 5, seed=3) == folds
    assert scripts.catalogues.folds_of(keys, 5, seed=4) != folds
    counts = np.bincount(list(folds.values()))
    assert counts.max() - counts.min() <= 1
    assert len(counts) == 5


def test_a_cluster_listed_twice_is_kept_once(scripts: Any) -> None:
    keys, kept = scripts.catalogues.once_each(("a", "b", "a", "c", "b"), lists_of(tuple("vwxyz")))
    assert keys == kept.ids == ("a", "b", "c")
    assert kept.data["stars"].values[:, 0].tolist() == [0, 1, 3]


def test_the_first_table_that_has_a_label_counts(scripts: Any) -> None:
    first = ClusterLabels(
        ("a", "b"), ("CG20",), np.array([[[8.0, np.nan, 1, np.nan]], [[7.0] * 4]])
    )
    second = ClusterLabels(("c", "a"), ("CG20", "Other"), np.arange(16.0).reshape(2, 2, 4))
    labels = scripts.catalogues.labels_of(("a", "c", "d"), (first, second))
    assert labels["CG20"][0].tolist() == [8.0, 9.0, 1.0, 11.0]
    assert labels["CG20"][1].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert np.isnan(labels["CG20"][2]).all()
    assert labels["Other"][0].tolist() == [12.0, 13.0, 14.0, 15.0]


def labelled(scripts: Any, n: int = 60) -> tuple[Any, np.ndarray]:
    """Each of ``n`` clusters in both releases, the second in another order; their folds."""
    keys = [f"c{i}" for i in range(n)]
    order = np.random.default_rng(1).permutation(n)
    both = tuple(keys + [keys[i] for i in order])
    truth = np.random.default_rng(2).uniform(1, 2, size=(n, 4))
    labels = np.concatenate([truth, truth[order]])
    labels[5] = np.nan
    lists = scripts.catalogues.LabelledClusters(
        both, lists_of(both), {"CG20": labels}, np.repeat([False, True], n)
    )
    dealt = scripts.catalogues.folds_of(both, 5, seed=0)
    return lists, np.array([dealt[key] for key in both])


def test_no_method_sees_a_test_cluster_under_either_release(scripts: Any) -> None:
    lists, folds = labelled(scripts)
    seen = []

    def fit_predict(train: Any, test: Observation, seed: int) -> Any:
        seen.append((set(train.keys), set(test.ids), seed))
        estimate = np.full((len(test), 3), float(seed))
        return scripts.methods.Predictions(estimate, None, 1.0, 0.1)

    method = scripts.methods.Method(fit_predict, "spy", releases=("EDR3",))
    found = scripts.cv.out_of_fold(method, lists, folds, seed=10)
    assert len(seen) == 5
    assert all(not trained & tested for trained, tested, _ in seen)
    assert all(len(trained) == 48 for trained, _, _ in seen)
    assert [seed for *_, seed in seen] == [10, 11, 12, 13, 14]
    assert found.estimate[:, 0].tolist() == (10.0 + folds).tolist()
    assert found.seconds_to_train == pytest.approx(1.0)


def test_a_cache_of_other_folds_is_refused(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, folds = labelled(scripts)
    calls = []

    def fit_predict(train: Any, test: Observation, seed: int) -> Any:
        calls.append(seed)
        shape = (len(test), len(scripts.methods.LEVELS), 3)
        return scripts.methods.Predictions(np.ones((len(test), 3)), np.ones(shape), 1.0, 0.1)

    monkeypatch.setitem(scripts.cv.METHODS, "spy", scripts.methods.Method(fit_predict, "spy"))
    first = scripts.cv.cached("spy", lists, folds, 0, tmp_path)
    again = scripts.cv.cached("spy", lists, folds, 0, tmp_path)
    assert len(calls) == 5
    assert np.array_equal(first.quantiles, again.quantiles)
    with pytest.raises(ValueError, match="other folds"):
        scripts.cv.cached("spy", lists, (folds + 1) % 5, 0, tmp_path)
    scripts.cv.cached("spy", lists, (folds + 1) % 5, 0, tmp_path, again=True)
    assert len(calls) == 10


def test_pit_and_coverage_tell_right_from_narrow_posteriors(scripts: Any) -> None:
    from scipy.stats import norm

    generator = np.random.default_rng(3)
    centre = generator.normal(size=(3000, 3))
    truth = centre + 0.5 * generator.normal(size=(3000, 3))
    offsets = norm.ppf(scripts.methods.LEVELS)[None, :, None]
    right = scripts.cv.calibration(centre[:, None] + 0.5 * offsets, truth)["log_age"]
    narrow = scripts.cv.calibration(centre[:, None] + 0.25 * offsets, truth)["log_age"]
    assert right["coverage_68"] == pytest.approx(0.68, abs=0.03)
    assert right["coverage_95"] == pytest.approx(0.95, abs=0.015)
    assert np.ptp(right["pit_histogram"]) < 0.05
    assert narrow["coverage_68"] == pytest.approx(0.38, abs=0.03)
    assert narrow["pit_histogram"][0] > 0.2


def test_the_report_ranks_methods_and_skips_unlabelled_clusters(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lists, _ = labelled(scripts)
    truth = np.nan_to_num(lists.labels["CG20"][:, :3], nan=9.0)
    scatter = np.random.default_rng(5).normal(size=truth.shape)
    found = {}
    for name, error, baseline in (("good", 0.02, False), ("base", 0.1, True), ("bad", 0.3, True)):
        method = scripts.methods.Method(None, name, baseline=baseline)
        monkeypatch.setitem(scripts.cv.METHODS, name, method)
        found[name] = scripts.cv.OutOfFold(truth + error * scatter, None, 1.0, 0.1)
    report = scripts.cv.judge(found, lists, "EDR3", seed=0)
    assert (report["n_lists"], report["n_labelled"]) == (60, 59)
    assert report["best_baseline"] == "base"
    compared = report["methods"]["good"]["difference_to_best_baseline"]
    assert compared["n"] == 59
    assert compared["mean_r2"]["low"] > 0
    assert report["methods"]["bad"]["difference_to_best_baseline"]["mean_r2"]["high"] < 0
    assert scripts.cv.judge(found, lists, "DR2", seed=0)["n_labelled"] == 60
    scripts.cv.show(report)
    assert "59 with labels of CG20" in capsys.readouterr().out


def test_real_catalogues_share_no_cluster_between_folds(scripts: Any, shared_data: Path) -> None:
    folder = shared_data / "opencluster"
    catalogues = scripts.catalogues.read_catalogues(folder)
    fold = {}
    for one in catalogues.values():
        assert len(set(one.keys)) == len(one.keys) == len(one.observation) == len(one.folds)
        for key, number in zip(one.keys, one.folds, strict=True):
            assert fold.setdefault(key, number) == number
    edr3, dr2 = catalogues["EDR3"], catalogues["DR2"]
    assert len(set(edr3.keys) & set(dr2.keys)) > 400
    assert np.isfinite(edr3.labels["CG20"][:, :3]).all(1).sum() == 911
    assert np.isfinite(dr2.labels["CG20"][:, :3]).all(1).sum() > 600
    together = scripts.catalogues.together(catalogues.values())
    assert together.observation.ids == together.keys
    assert int(together.dr2.sum()) == len(dr2.keys)
