"""Progress: lines with rate and time left off a terminal, a bar on one, silence on request."""

from __future__ import annotations

import pytest

from melotte.engine.progress import Progress, duration


def test_lines_count_from_where_an_earlier_run_stopped(capsys):
    progress = Progress(100, "training", start=40, style="auto", line_seconds=0)
    assert progress.wants_details
    progress.update(60, "loss 1.5")
    progress.say("epoch 1")
    progress.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("training 60/100 (")
    assert first.endswith("left) loss 1.5")
    assert second == "epoch 1"


def test_lines_keep_their_distance(capsys):
    progress = Progress(10, "mocks", style="lines", line_seconds=1000)
    for done in range(10):
        progress.update(done)
    assert not progress.wants_details
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("style", [False, "none"])
def test_silence(capsys, style):
    progress = Progress(10, "mocks", style=style, line_seconds=0)
    progress.update(5)
    progress.say("epoch 1")
    assert capsys.readouterr().err == ""


def test_a_bar_shows_counts_and_words(capsys):
    progress = Progress(10, "mocks", style="bar")
    progress.update(4, "loss 1.5")
    progress.say("epoch 1")
    progress.close()
    progress.close()
    shown = capsys.readouterr().err
    assert "mocks" in shown
    assert "epoch 1" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0s"), (59, "59s"), (61, "1m01s"), (7500, "2h05m"), (float("inf"), "?")],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown
