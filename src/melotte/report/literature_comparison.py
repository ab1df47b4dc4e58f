"""Measured objects beside a table of literature values: lines for a person, and a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError
from melotte.report.stored_figures import COMPARISON
from melotte.report.style import BLUE, GREY, RED, label, legend, new_figure, save, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from melotte.engine.results import InferenceResult

Array = NDArray[np.floating[Any]]

CLASS, LIKELY = "class_probability", 0.5
FEWEST = 3
"""Objects that a correlation needs; any two lie on a line."""
_ABOVE: Mapping[str, Any] = {
    "loc": "lower left", "bbox_to_anchor": (0, 1.01), "handletextpad": 0.1, "borderaxespad": 0,
}  # fmt: skip
"""Where legends are: between a panel and its title."""
_ENTRY = 14.0
"""Height of a legend's entry, points."""


def correlation(theirs: ArrayLike, ours: ArrayLike) -> float:
    """Pearson's correlation coefficient of two sets of values.

    Parameters
    ----------
    theirs, ours : array, shape (n,)
        Pairs of which one is not finite are left out.

    Returns
    -------
    float, -1 to 1
        NaN of fewer than three pairs, or where either does not vary.
    """
    x, y = np.asarray(theirs, dtype=float), np.asarray(ours, dtype=float)
    good = np.isfinite(x) & np.isfinite(y)
    if good.sum() < FEWEST or np.ptp(x[good]) == 0 or np.ptp(y[good]) == 0:
        return float("nan")
    return float(np.corrcoef(x[good], y[good])[0, 1])


def comparison_lines(joined: Any, name: str) -> Iterator[str]:
    """Median and scatter of ours minus theirs, and how they correlate.

    Parameters
    ----------
    joined : astropy Table
        Of :func:`melotte.api.compare`.
    name : str
        Of the literature.

    Yields
    ------
    str
        One for every parameter, and source of values, that both have.
    """
    if "values_as" in joined.colnames:
        whose = np.asarray(joined["values_as"]).astype(str)
        for source in dict.fromkeys(whose.tolist()):
            own = joined[whose == source]
            own.remove_column("values_as")
            yield from comparison_lines(own, f"{name}, values as {source}")
        return
    yield f"compared with {name}: {len(joined)} objects in common"
    for column in joined.colnames:
        if column.endswith("_difference"):
            values = np.asarray(joined[column], dtype=float)
            values = values[np.isfinite(values)]
            if len(values):
                low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
                parameter = column.removesuffix("_difference")
                theirs, ours = joined[f"{parameter}_literature"], joined[f"{parameter}_50"]
                yield (
                    f"  {parameter}: ours - theirs = {middle:+.3f}, scatter "
                    f"{0.5 * (high - low):.3f}{_written(correlation(theirs, ours))} "
                    f"({len(values)} objects)"
                )


def with_offset(joined: Any, parameter: str, offset: float) -> Any:
    """A comparison whose literature values of a parameter are larger by an offset.

    Parameters
    ----------
    joined : astropy Table
        Of :func:`melotte.api.compare`.
    parameter : str
    offset : float, the parameter's unit

    Raises
    ------
    MelotteValueError
        When the comparison lacks the parameter.
    """
    if offset == 0:
        return joined
    name = f"{parameter}_literature"
    if name not in joined.colnames:
        raise MelotteValueError(
            f"--compare-extinction-offset: the literature's table has no column {parameter}"
        )
    joined[name] = np.asarray(joined[name], dtype=float) + offset
    joined[f"{parameter}_difference"] = np.asarray(joined[f"{parameter}_difference"]) - offset
    return joined


def write_comparison(result: InferenceResult, joined: Any, folder: Path) -> Path:
    """Write ``comparison.png``: our medians against the literature's values."""
    units = {parameter.name: parameter.unit for parameter in result.parameters}
    return save(comparison_figure(joined, units), folder / COMPARISON)


def comparison_figure(joined: Any, names: Mapping[str, str]) -> Figure:
    """Our medians against the literature's values, one panel a parameter.

    Parameters
    ----------
    joined : astropy Table
        Of :func:`melotte.api.compare`; errors are drawn where it has them (ours from 16 to 84 %),
        and objects whose class probability is below 0.5 in a colour of their own.
    names : mapping of str to str
        Units by parameter.

    Returns
    -------
    Figure
        The title says the median and scatter of ours minus theirs, and Pearson's correlation
        coefficient; of all objects, those in both colours.

    References
    ----------
    Bialopetravičius & Narbutis 2020, Figs. 15 to 18; Bialopetravičius et al. 2019, Fig. 12.
    """
    shared = [name for name in names if f"{name}_literature" in joined.colnames]
    figure, axes = new_figure(3.5 * max(len(shared), 1), 3.6, 1, max(len(shared), 1))
    unlikely = np.zeros(len(joined), dtype=bool)
    if CLASS in joined.colnames:
        unlikely = np.asarray(joined[CLASS], dtype=float) < LIKELY
    for panel, name in zip(axes[0], shared, strict=True):
        theirs, ours = _column(joined, f"{name}_literature"), _column(joined, f"{name}_50")
        good = np.isfinite(theirs) & np.isfinite(ours)
        across = _errors(
            _column(joined, f"{name}_literature_lower"), _column(joined, f"{name}_literature_upper")
        )
        along = _errors(ours - _column(joined, f"{name}_16"), _column(joined, f"{name}_84") - ours)
        for colour, chosen, text in (
            (BLUE, good & ~unlikely, "P(cluster) >= 0.5"),
            (RED, good & unlikely, "P(cluster) < 0.5"),
        ):
            if chosen.any():
                r = _written(correlation(theirs[chosen], ours[chosen]))
                _draw(
                    panel, theirs[chosen], ours[chosen], across[:, chosen], along[:, chosen],
                    colour, f"{text}: {int(chosen.sum())}{r}",
                )  # fmt: skip
        title = f"{int(good.sum())} objects"
        if good.any():
            both = np.concatenate([theirs[good], ours[good]])
            panel.plot([both.min(), both.max()], [both.min(), both.max()], color=GREY, lw=0.8)
            low, middle, high = np.quantile((ours - theirs)[good], [0.16, 0.5, 0.84])
            title += _written(correlation(theirs, ours))
            title += f"\nours - theirs: {middle:+.2f}, scatter {(high - low) / 2:.2f}"
            if CLASS in joined.colnames:
                legend(panel, **_ABOVE)
        written = with_unit(name, names[name])
        entries = len(panel.get_legend_handles_labels()[1]) if panel.get_legend() else 0
        pad = 6 + _ENTRY * entries
        label(panel, f"literature: {written}", f"ours: {written}", title, pad)
    return figure


def _draw(
    panel: Axes, x: Array, y: Array, across: Array, along: Array, colour: str, text: str
) -> None:
    """Dots with thin errors, which do not hide them."""
    panel.errorbar(
        x, y, along, across, fmt="none", ecolor=colour, elinewidth=0.7, alpha=0.3, zorder=1
    )
    panel.plot(x, y, ls="none", marker="o", ms=3.5, color=colour, alpha=0.75, label=text)


def _column(joined: Any, name: str) -> Array:
    """A column of numbers, NaN where the table lacks it."""
    if name not in joined.colnames:
        return np.full(len(joined), np.nan)
    return np.asarray(joined[name], dtype=float)


def _errors(down: Array, up: Array) -> Array:
    """Lengths of error bars, shape (2, n); 0 where unknown."""
    return np.nan_to_num(np.maximum(np.stack([down, up]), 0), nan=0.0, posinf=0.0)


def _written(r: float) -> str:
    return f", r = {r:.2f}" if np.isfinite(r) else ""
