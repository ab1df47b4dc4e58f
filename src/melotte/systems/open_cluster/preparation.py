"""From a member list to network input: one path for mocks and for real clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from melotte.networks.sets import segment_mean, segment_quantiles
from melotte.ragged import Ragged, offsets_of
from melotte.systems.base import Field, Observation
from melotte.telescope.gaia import RELEASES

STAR_FEATURES = (
    "g",
    "bp_rp",
    "absolute_g",
    "log_parallax_error",
    "parallax_residual",
    "log_bp_rp_error",
    "membership",
)
CONTEXT_FEATURES = (
    "log_n_listed",
    "parallax",
    "log_parallax",
    "log_mean_parallax_error",
    "g_05",
    "g_50",
    "g_95",
    "bp_rp_05",
    "bp_rp_50",
    "bp_rp_95",
    "dr2",
    "no_membership",
    "no_photometric_errors",
)
SUMMARIES = (
    "log10 of the number of listed stars",
    "brightest G",
    "median G",
    "faintest G",
    "5 % quantile of BP-RP",
    "median BP-RP",
    "95 % quantile of BP-RP",
    "mean parallax (asinh of mas/0.1)",
    "scatter of parallax residuals in errors",
    "fraction of parallaxes beyond 3 errors",
    "scatter of BP-RP about its trend with G",
)
SMALLEST_PARALLAX = 0.03
"""Floor, mas, under which a mean parallax says only that the cluster is far away."""


def thin(stars: Ragged, most: int) -> Ragged:
    """Sample longer lists down at random, the same way each time.

    Parameters
    ----------
    stars : Ragged, values of shape (n_stars, n_columns)
    most : int
        Stars to keep of each list.
    """
    counts = stars.counts
    if not len(counts) or int(counts.max()) <= most:
        return stars
    keep = torch.ones(len(stars.values), dtype=torch.bool, device=stars.values.device)
    for i in torch.nonzero(counts > most)[:, 0].tolist():
        n = int(counts[i])
        generator = torch.Generator().manual_seed(n)
        dropped = torch.randperm(n, generator=generator)[most:]
        keep[int(stars.offsets[i]) + dropped.to(keep.device)] = False
    return stars.where(keep)


def features(observation: Observation, max_stars: int) -> tuple[Ragged, Tensor]:
    """Features of stars and of lists, not yet standardised.

    Parameters
    ----------
    observation : Observation
        ``stars``: Ragged with the simulator's columns; ``n_listed``: (batch,); ``release``:
        (batch,), 1 for DR2. A NaN error is replaced by the median of its release at that
        magnitude, a NaN membership by 1.
    max_stars : int

    Returns
    -------
    stars : Ragged, values of shape (n_stars, len(STAR_FEATURES))
    context : Tensor, shape (batch, len(CONTEXT_FEATURES))
    """
    listed: Ragged = observation.data["stars"]  # type: ignore[assignment]
    n_listed, release = observation.data["n_listed"], observation.data["release"]
    assert isinstance(n_listed, Tensor)
    assert isinstance(release, Tensor)
    stars = thin(listed, max_stars)
    index, counts = stars.index, stars.counts
    g, colour, parallax, parallax_error, _, colour_error, membership = stars.values.unbind(-1)
    dr2 = release[index] > 0.5
    parallax_error = filled_errors(parallax_error, dr2, g, colour, "parallax")
    no_errors = torch.isnan(colour_error)
    colour_error = filled_errors(colour_error, dr2, g, colour, "colour")
    no_membership = torch.isnan(membership)
    membership = torch.where(no_membership, 1.0, membership)

    mean, mean_error = mean_parallax(stars, parallax, parallax_error, membership)
    residual = ((parallax - mean[index]) / parallax_error).clamp(-6, 6)
    closest = mean.clamp(min=SMALLEST_PARALLAX)
    absolute = g + 5 * torch.log10(closest)[index] - 10
    values = torch.stack(
        [
            g,
            colour,
            absolute,
            torch.log10(parallax_error),
            residual,
            torch.log10(colour_error),
            membership,
        ],
        -1,
    )
    shares = torch.stack([no_membership, no_errors], -1).to(g.dtype)
    context = torch.cat(
        [
            torch.log10(n_listed.clamp(min=1).to(g.dtype))[:, None],
            torch.asinh(mean / 0.1)[:, None],
            torch.log10(closest)[:, None],
            torch.log10(mean_error)[:, None],
            segment_quantiles(g, stars.offsets, (0.05, 0.5, 0.95)),
            segment_quantiles(colour, stars.offsets, (0.05, 0.5, 0.95)),
            release.to(g.dtype)[:, None],
            segment_mean(shares, index, counts),
        ],
        -1,
    )
    # A list without a star has no quantiles: zeros, and a count that says so.
    return Ragged(values, stars.offsets), context.nan_to_num(0.0)


def standardised(
    observation: Observation, constants: Mapping[str, Any], max_stars: int
) -> dict[str, Field]:
    """Network input: features less their mean, over their standard deviation on mocks."""
    stars, context = features(observation, max_stars)

    def scale(values: Tensor, name: str) -> Tensor:
        mean = values.new_tensor(constants[f"{name}_mean"])
        spread = values.new_tensor(constants[f"{name}_std"])
        return ((values - mean) / spread).clamp(-8, 8)

    return {
        "stars": Ragged(scale(stars.values, "star"), stars.offsets),
        "context": scale(context, "context"),
    }


def measure_constants(observation: Observation, max_stars: int) -> dict[str, list[float]]:
    """Means and standard deviations of the features over mocks (n_features,)."""
    stars, context = features(observation, max_stars)
    return {
        "star_mean": stars.values.mean(0).tolist(),
        "star_std": stars.values.std(0).clamp(min=1e-3).tolist(),
        "context_mean": context.mean(0).tolist(),
        "context_std": context.std(0).clamp(min=1e-3).tolist(),
    }


def mean_parallax(
    stars: Ragged, parallax: Tensor, error: Tensor, membership: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean parallax of each list and its formal error, mas; stars far off count little.

    Weights are membership over variance; a second pass divides them by 1 + (residual / 3)^2 (a
    Cauchy weight), so that field stars and disturbed solutions pull weakly. An empty list gets
    NaN.

    Parameters
    ----------
    stars : Ragged
        Gives the lists.
    parallax, error, membership : Tensor, shape (n_stars,)

    Returns
    -------
    mean, mean_error : Tensor, shape (batch,), mas
    """
    index, counts = stars.index, stars.counts
    # A floor keeps a few bright stars of a nearby, extended cluster from ruling the mean.
    weight = membership / (error**2 + 0.01**2)
    mean = _weighted(parallax, weight, index, counts)
    residual = (parallax - mean[index]) / error
    weight = weight / (1 + (residual / 3) ** 2)
    mean = _weighted(parallax, weight, index, counts)
    total = segment_mean(weight[:, None], index, counts)[:, 0] * counts
    return mean, 1 / torch.sqrt(total)


def summaries(observation: Observation, max_stars: int) -> Tensor:
    """Physical summaries of lists for the domain check, shape (batch, len(SUMMARIES))."""
    stars, context = features(observation, max_stars)
    index, counts = stars.index, stars.counts
    g, colour, residual = stars.values[:, 0], stars.values[:, 1], stars.values[:, 4]
    scatter = (
        segment_quantiles(residual, stars.offsets, (0.84,))
        - segment_quantiles(residual, stars.offsets, (0.16,))
    ) / 2
    far = segment_mean((residual.abs() > 3).to(g.dtype)[:, None], index, counts)
    return torch.cat(
        [
            context[:, :1],
            segment_quantiles(g, stars.offsets, (0.0, 0.5, 1.0)),
            context[:, 7:10],
            context[:, 1:2],
            scatter,
            far,
            _sequence_scatter(g, colour, stars.offsets)[:, None],
        ],
        -1,
    )


def _sequence_scatter(g: Tensor, colour: Tensor, offsets: Tensor) -> Tensor:
    """Half of the 16-84 % range of the colour step between stars neighbouring in G, (batch,)."""
    counts = offsets.diff()
    sets = torch.arange(len(counts), device=g.device)
    index = torch.repeat_interleave(sets, counts, output_size=len(g))
    order = torch.argsort(g)
    order = order[torch.argsort(index[order], stable=True)]
    step = torch.diff(colour[order], append=colour[order][-1:]).abs()
    last = torch.zeros_like(step, dtype=torch.bool)
    last[(offsets[1:] - 1).clamp(min=0)[counts > 0]] = True
    steps = Ragged(step, offsets).where(~last)
    return segment_quantiles(steps.values, steps.offsets, (0.5,))[:, 0].nan_to_num(0.0)


def _weighted(values: Tensor, weight: Tensor, index: Tensor, counts: Tensor) -> Tensor:
    sums = segment_mean(torch.stack([values * weight, weight], -1), index, counts)
    return sums[:, 0] / sums[:, 1]


def filled_errors(error: Tensor, dr2: Tensor, g: Tensor, colour: Tensor, kind: str) -> Tensor:
    """Errors with NaN or non-positive entries replaced by the release's median curve.

    Parameters
    ----------
    error : Tensor, shape (n_stars,), mas or mag
    dr2 : BoolTensor, shape (n_stars,)
    g, colour : Tensor, shape (n_stars,), mag
    kind : {"parallax", "colour", "g"}
    """
    missing = ~(error > 0)
    if not missing.any():
        return error
    filled = error.clone()
    for name, chosen in (("DR2", missing & dr2), ("EDR3", missing & ~dr2)):
        release = RELEASES[name]
        magnitude, bp_rp = g[chosen], colour[chosen]
        if kind == "parallax":
            filled[chosen] = release.parallax_error(magnitude)
            continue
        # BP and RP of a star of this G and colour, to a tenth of a magnitude.
        bp, rp = magnitude + 0.55 * bp_rp, magnitude - 0.45 * bp_rp
        g_error, bp_error, rp_error = release.photometric_errors(magnitude, bp, rp)
        filled[chosen] = g_error if kind == "g" else torch.sqrt(bp_error**2 + rp_error**2)
    return filled


def pack_lists(tables: list[Tensor], n_listed: list[int], dr2: list[bool]) -> dict[str, Field]:
    """Observation data of several member lists.

    Parameters
    ----------
    tables : list of Tensor, each (n_stars, n_columns)
        Columns of the simulator; NaN where an error or a membership is not known.
    n_listed : list of int
    dr2 : list of bool
    """
    counts = torch.tensor([len(table) for table in tables], dtype=torch.int64)
    return {
        "stars": Ragged(torch.cat(tables), offsets_of(counts)),
        "n_listed": torch.tensor(n_listed, dtype=torch.float32),
        "release": torch.tensor([float(flag) for flag in dr2]),
    }
