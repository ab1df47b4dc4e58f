"""What Gaia records of a star: photometric and astrometric errors, zero points, release.

Errors are drawn about the median curve of each release with the star-to-star scatter seen at
that magnitude (scanning law, crowding, binarity). The curves are medians and half-widths per
magnitude of published cluster members (EDR3: 213,168 stars of Almeida et al. 2022; DR2: 170,095
stars of Liu & Pang 2019), extended below G = 19 with the slopes of the Gaia EDR3 error model
(Gaia Collaboration, Brown et al. 2021; Riello et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from melotte.errors import MelotteValueError

FIRST_MAGNITUDE = 4.0
"""Magnitude of the first node of every error curve; nodes are one magnitude apart."""


@dataclass(frozen=True)
class GaiaRelease:
    """Errors and zero points of one data release.

    Parameters
    ----------
    name : str
        ``"EDR3"`` (also DR3, whose photometry and astrometry are the same) or ``"DR2"``.
    bands : tuple of str
        Names of G, BP and RP in the stellar table.
    log_parallax_error : tuple of float
        log10 of the median parallax error in mas at G = 4, 5, ... 21.
    parallax_scatter : float
        Standard deviation of log10(error) at fixed magnitude, dex.
    log_g_error, log_bp_error, log_rp_error : tuple of float
        log10 of the median photometric error in mag at magnitude 4, 5, ... in that band.
    zero_point : float
        Mean parallax zero point, mas, that is *in* the catalogue (not subtracted).
    zero_point_scatter : float
        Scatter of the zero point from cluster to cluster, mas: its dependence on magnitude,
        colour and position, and small-scale correlated errors (Lindegren et al. 2021).
    """

    name: str
    bands: tuple[str, str, str]
    log_parallax_error: tuple[float, ...]
    parallax_scatter: float
    log_g_error: tuple[float, ...]
    log_bp_error: tuple[float, ...]
    log_rp_error: tuple[float, ...]
    zero_point: float
    zero_point_scatter: float

    def parallax_error(self, g: Tensor) -> Tensor:
        """Median parallax error, mas, of stars of magnitude ``g`` (any shape)."""
        return _curve(g, self.log_parallax_error)

    def photometric_errors(self, g: Tensor, bp: Tensor, rp: Tensor) -> tuple[Tensor, ...]:
        """Median errors, mag, of G, BP and RP at those magnitudes (any common shape)."""
        return (
            _curve(g, self.log_g_error),
            _curve(bp, self.log_bp_error),
            _curve(rp, self.log_rp_error),
        )


_LOG_G_ERROR = (
    *([-2.54, -2.54, -2.555, -2.558, -2.558, -2.558, -2.557, -2.557, -2.558, -2.558]),
    *([-2.557, -2.556, -2.553, -2.541, -2.511, -2.44, -2.30, -2.10]),
)
_LOG_BP_ERROR = (
    *([-2.50, -2.517, -2.521, -2.539, -2.54, -2.544, -2.547, -2.544, -2.542, -2.54, -2.531]),
    *([-2.502, -2.418, -2.234, -1.957, -1.623, -1.333, -1.013, -0.774, -0.55]),
)
_LOG_RP_ERROR = (
    *([-2.40, -2.433, -2.52, -2.54, -2.547, -2.55, -2.551, -2.549, -2.548, -2.542, -2.525]),
    *([-2.47, -2.328, -2.083, -1.859, -1.55, -1.20, -0.85]),
)

RELEASES = {
    "EDR3": GaiaRelease(
        name="EDR3",
        bands=("Gaia_G_EDR3", "Gaia_BP_EDR3", "Gaia_RP_EDR3"),
        log_parallax_error=(
            *([-0.95, -1.039, -1.30, -1.478, -1.535, -1.686, -1.721, -1.714, -1.818, -1.839]),
            *([-1.754, -1.592, -1.396, -1.173, -0.93, -0.70, -0.42, -0.10]),
        ),
        parallax_scatter=0.115,
        log_g_error=_LOG_G_ERROR,
        log_bp_error=_LOG_BP_ERROR,
        log_rp_error=_LOG_RP_ERROR,
        zero_point=-0.035,
        zero_point_scatter=0.015,
    ),
    "DR2": GaiaRelease(
        name="DR2",
        bands=("Gaia_G_DR2", "Gaia_BP_DR2", "Gaia_RP_DR2"),
        log_parallax_error=(
            *([-1.05, -1.15, -1.267, -1.358, -1.329, -1.359, -1.383, -1.399, -1.456, -1.567]),
            *([-1.605, -1.481, -1.30, -1.089, -0.86, -0.58, -0.25, 0.10]),
        ),
        parallax_scatter=0.15,
        log_g_error=_LOG_G_ERROR,
        log_bp_error=tuple(value + 0.05 for value in _LOG_BP_ERROR),
        log_rp_error=tuple(value + 0.05 for value in _LOG_RP_ERROR),
        zero_point=-0.045,
        zero_point_scatter=0.02,
    ),
}


def gaia_release(name: str) -> GaiaRelease:
    """Look a release up by name.

    Parameters
    ----------
    name : str
        ``"DR2"``, ``"EDR3"`` or ``"DR3"``, in any case.

    Raises
    ------
    MelotteValueError
        When there is no such release.
    """
    key = name.upper().removeprefix("GAIA").strip(" _-")
    key = "EDR3" if key == "DR3" else key
    if key not in RELEASES:
        raise MelotteValueError(f"Gaia release {name!r} is unknown; known: DR2, EDR3, DR3")
    return RELEASES[key]


def scattered_errors(median: Tensor, scatter: float, generator: torch.Generator) -> Tensor:
    """Errors of single stars about the median curve.

    Parameters
    ----------
    median : Tensor, any shape, > 0
    scatter : float, dex
        Standard deviation of log10(error).
    generator : torch.Generator

    Returns
    -------
    Tensor, the shape of ``median``
    """
    noise = torch.randn(median.shape, generator=generator, device=median.device)
    return median * torch.pow(10.0, scatter * noise)


@cache
def _nodes(log_errors: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(log_errors, device=device)


def _curve(magnitude: Tensor, log_errors: tuple[float, ...]) -> Tensor:
    nodes = _nodes(log_errors, magnitude.device)
    position = (magnitude - FIRST_MAGNITUDE).clamp(0, len(log_errors) - 1.001)
    position = torch.nan_to_num(position)
    left = position.long()
    fraction = position - left
    return torch.pow(10.0, nodes[left] + fraction * (nodes[left + 1] - nodes[left]))
