"""Names beside points of a figure, where they do not lie on one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from melotte.report.style import INK, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AWAY = 6.0
"""Points between a point and its name."""
_POINT = 4.0
"""Half the width of a point, points."""
_SIDES = (("right", "bottom"), ("left", "bottom"), ("right", "top"), ("left", "top"))
_STEPS = (4.0, 14.0, 24.0, 34.0)


def name_points(axes: Axes, names: Sequence[str], x: ArrayLike, y: ArrayLike) -> None:
    """Write names beside points, each at the first of sixteen places that is free.

    Parameters
    ----------
    axes : Axes
        With its final limits and scales.
    names : sequence of str
    x, y : array, shape (n,)
        Points that are not finite are not named. Where no place is free, the first is taken.
    """
    figure = axes.get_figure(root=True)
    if figure is None:
        return
    figure.draw_without_rendering()
    points = np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    centres = axes.transData.transform(points[known])
    unit = figure.dpi / 72
    taken = [Bbox.from_extents(*(at - _POINT * unit), *(at + _POINT * unit)) for at in centres]
    frame = axes.get_window_extent()
    for row, point in zip(known.tolist(), points[known], strict=True):
        places = [(side, edge, step) for step in _STEPS for side, edge in _SIDES]
        tried = []
        for side, edge, step in places:
            text = axes.annotate(
                names[row], tuple(point), fontsize=SMALL - 1, color=INK, **_beside(side, edge, step)
            )
            box = text.get_window_extent()
            inside = frame.containsx(box.x0) and frame.containsx(box.x1)
            inside = inside and frame.containsy(box.y0) and frame.containsy(box.y1)
            if inside and not any(box.overlaps(one) for one in taken):
                taken.append(box)
                break
            tried.append(text)
        else:
            taken.append(tried.pop(0).get_window_extent())
        for text in tried:
            text.remove()


def _beside(side: str, edge: str, step: float) -> dict[str, Any]:
    """Where a name is written: its end that is near the point, and how far off."""
    away = -_AWAY if side == "right" else _AWAY
    off = step if edge == "bottom" else -step
    return {"ha": side, "va": edge, "xytext": (away, off), "textcoords": "offset points"}
