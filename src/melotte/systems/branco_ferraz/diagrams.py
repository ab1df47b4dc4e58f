"""Colour-magnitude diagrams as the seed's networks see them: a histogram, or an image of dots.

The image is the one that matplotlib's ``scatter`` with its default marker gives on a figure of 4
by 4 inches saved at 45 dpi, in axes at their default place, without frame, ticks and labels (they
are the same on every image). One channel is kept: 0 is paper, 1 is ink.
"""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.ragged import Ragged

COLOUR_RANGE = (0.0, 4.0)
MAGNITUDE_RANGE = (10.0, 18.0)
N_COLOUR, N_MAGNITUDE = 40, 10
"""Bins of 0.1 mag in BP-RP and of 0.8 mag in G."""

N_PIXELS = 180
AXES_LEFT, AXES_RIGHT, AXES_BOTTOM, AXES_TOP = 0.125, 0.9, 0.11, 0.88
"""matplotlib's default place of axes, in fractions of the figure."""
AXES_ROWS, AXES_COLUMNS = slice(22, 161), slice(23, 163)
"""Pixels inside the axes, as matplotlib rounds their edge."""
REACH = 2
"""Pixels that a dot extends from its middle one."""
DOT = (
    (2, 127, 194, 127, 2),
    (127, 244, 255, 244, 127),
    (194, 255, 255, 255, 194),
    (127, 244, 255, 244, 127),
    (2, 127, 194, 127, 2),
)
"""Ink of a dot, in 1/255, as matplotlib's renderer gives it at 45 dpi: a disc of 6 points with an
edge line of 1.5 points, centred on a pixel."""
LEAST_WHITE = 1e-6
"""What a fully inked pixel keeps, so that its logarithm is finite."""


def histogram(stars: Ragged) -> Tensor:
    """Share of the counted stars in each bin of colour and magnitude.

    Parameters
    ----------
    stars : Ragged, values of shape (n_stars, n_columns)
        G and BP-RP, in mag, first. Stars outside the ranges are not counted; as in numpy, a
        star on the upper edge of the last bin is.

    Returns
    -------
    Tensor, shape (batch, 400), 0 to 1
        By colour, then by magnitude; adds up to 1. Zero for a list without a star in the ranges.
    """
    g, colour = stars.values[:, 0], stars.values[:, 1]
    column, column_inside = _bin(colour, COLOUR_RANGE, N_COLOUR)
    row, row_inside = _bin(g, MAGNITUDE_RANGE, N_MAGNITUDE)
    inside = column_inside & row_inside
    place = (stars.index * N_COLOUR + column) * N_MAGNITUDE + row
    n_bins = N_COLOUR * N_MAGNITUDE
    counts = torch.bincount(place[inside], minlength=stars.n_sets * n_bins)
    counts = counts.view(stars.n_sets, n_bins).to(g.dtype)
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def image(stars: Ragged) -> Tensor:
    """Each list drawn as dots, bright stars on top.

    Parameters
    ----------
    stars : Ragged, values of shape (n_stars, n_columns)
        G and BP-RP, in mag, first. As matplotlib does, dots are cut at the axes' edge, and stars
        whose dot lies outside are not seen.

    Returns
    -------
    Tensor, shape (batch, 1, 180, 180), 0 to 1
        Rows from top to bottom, columns from blue to red.
    """
    g, colour = stars.values[:, 0], stars.values[:, 1]
    along = (colour - COLOUR_RANGE[0]) / (COLOUR_RANGE[1] - COLOUR_RANGE[0])
    down = (g - MAGNITUDE_RANGE[0]) / (MAGNITUDE_RANGE[1] - MAGNITUDE_RANGE[0])
    x = N_PIXELS * (AXES_LEFT + (AXES_RIGHT - AXES_LEFT) * along)
    y = N_PIXELS * (1 - AXES_TOP + (AXES_TOP - AXES_BOTTOM) * down)
    # As matplotlib does, a dot is centred on a pixel.
    column, row = (x + 0.5).floor().long(), (y + 0.5).floor().long()
    near = (column >= 0) & (column < N_PIXELS) & (row >= 0) & (row < N_PIXELS)
    # A margin on all sides holds what dots reach over the edge.
    size = N_PIXELS + 2 * REACH
    place = (stars.index * size + row + REACH) * size + column + REACH
    steps = torch.arange(-REACH, REACH + 1, device=g.device)
    offsets = (steps[:, None] * size + steps).flatten()
    # What several dots leave white multiplies: its logarithm adds up.
    white = torch.log((1 - torch.tensor(DOT, device=g.device) / 255).clamp(min=LEAST_WHITE))
    places = (place[near, None] + offsets).flatten()
    weights = white.flatten().expand(int(near.sum()), -1).flatten().to(g.dtype)
    canvas = g.new_zeros(stars.n_sets * size**2).index_add_(0, places, weights)
    canvas = canvas.view(stars.n_sets, 1, size, size)[..., REACH:-REACH, REACH:-REACH]
    picture = g.new_zeros(stars.n_sets, 1, N_PIXELS, N_PIXELS)
    inside = (..., AXES_ROWS, AXES_COLUMNS)
    picture[inside] = -torch.expm1(canvas[inside])
    return picture


def _bin(value: Tensor, limits: tuple[float, float], n: int) -> tuple[Tensor, Tensor]:
    edges = torch.linspace(*limits, n + 1, dtype=torch.float64, device=value.device)
    number = torch.bucketize(value.double(), edges, right=True) - 1
    number = torch.where(value == limits[1], n - 1, number)
    return number, (number >= 0) & (number < n)
