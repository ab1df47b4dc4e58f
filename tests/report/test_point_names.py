"""Names beside points."""

import itertools

import numpy as np

from melotte.report.point_names import name_points
from melotte.report.style import new_figure


def named(x, y, names):
    figure, axes = new_figure(5, 4)
    axes[0, 0].set(xlim=(0, 10), ylim=(0, 10))
    name_points(axes[0, 0], names, x, y)
    figure.draw_without_rendering()
    return axes[0, 0]


def test_names_of_neighbours_do_not_lie_on_one_another():
    x, y = [5.0, 5.1, 5.2, 4.9, 5.0], [5.0, 5.1, 5.0, 5.2, 4.9]
    axes = named(x, y, [f"NGC {k}" for k in range(6200, 6205)])
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_names_stay_within_the_frame():
    axes = named([0.1, 9.9, 5.0], [9.9, 0.1, 5.0], ["M 13", "47 Tuc", "M 4"])
    frame = axes.get_window_extent()
    for text in axes.texts:
        (low, bottom), (high, top) = text.get_window_extent().get_points()
        assert frame.x0 <= low < high <= frame.x1
        assert frame.y0 <= bottom < top <= frame.y1


def test_unknown_points_have_no_name():
    axes = named([1.0, np.nan], [2.0, 3.0], ["a", "b"])
    assert [text.get_text() for text in axes.texts] == ["a"]


def test_a_name_is_written_even_where_no_place_is_free():
    axes = named([5.0] * 40, [5.0] * 40, ["a long name of a cluster"] * 40)
    assert len(axes.texts) == 40
