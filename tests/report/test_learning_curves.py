"""Learning curves: read from a run's log, drawn, and what cannot be drawn."""

import json

import numpy as np
import pytest

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.report.learning_curves import (
    learning_curve_figure,
    read_learning_curve,
    write_learning_curve,
)


def entry(step, training, validation):
    return {
        "event": "epoch",
        "step": step,
        "mocks": 64 * step,
        "training_loss": training,
        "validation_loss": validation,
    }


def written(folder, entries):
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in entries)
    (folder / "log.jsonl").write_text(text)
    return folder


def test_a_log_gives_its_passes_once(tmp_path):
    entries = [entry(10, 2.0, 3.0), {"event": "resumed", "step": 10}, entry(20, 1.5, 2.5)]
    run = written(tmp_path / "run", [*entries, entry(20, 1.4, 2.4)])
    found = read_learning_curve(run)
    assert [(one["mocks"], one["training_loss"]) for one in found] == [(640, 2.0), (1280, 1.4)]
    path = write_learning_curve(run, tmp_path / "figures")
    assert path is not None
    assert path.stat().st_size > 2000
    assert write_learning_curve(written(run, entries[1:2]), tmp_path / "figures") is None


def test_the_best_pass_is_marked_and_gaps_are_left():
    figure = learning_curve_figure([entry(1, 5.0, None), entry(2, 0.4, 0.2), entry(3, 0.2, 0.3)])
    panel = figure.axes[0]
    training, validation, best = (np.asarray(line.get_xydata()) for line in panel.lines)
    assert np.isnan(validation[0, 1])
    assert best.tolist() == [[128, 0.2]]
    assert panel.get_yscale() == "log"
    np.testing.assert_allclose(training, [[64, 5.0], [128, 0.4], [192, 0.2]])
    below = learning_curve_figure([entry(1, -2.0, -2.5)])
    assert below.axes[0].get_yscale() == "linear"


def test_what_cannot_be_drawn_is_named(tmp_path):
    with pytest.raises(MelotteValueError, match="no pass"):
        learning_curve_figure([])
    with pytest.raises(MelotteFileError, match=r"log\.jsonl cannot be read"):
        read_learning_curve(tmp_path)
    (tmp_path / "log.jsonl").write_text("[1]\n")
    with pytest.raises(MelotteFileError, match="not a log"):
        read_learning_curve(tmp_path)
