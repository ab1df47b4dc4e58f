"""Gaussian kernel densities of galaxies in velocity and projected radius, on a regular grid.

The estimates of ``scipy.stats.gaussian_kde`` with a fixed ``bw_method``: the kernel's covariance
is that of the galaxies (divisor n - 1), times the bandwidth squared. They are evaluated at the
centres of the bins and divided by their sum. Double precision inside, because exponents are large.

In two dimensions the sum over galaxies costs an exponential a galaxy and bin. With velocities x
and radii y in kernel widths and the correlation r, the exponent is

    -((x - x_i)^2 - 2 r (x - x_i) (y - y_i) + (y - y_i)^2) / (2 (1 - r^2))

whose only term that joins x and y without a galaxy, r x y / (1 - r^2), leaves the sum. What remains
is a function of x times one of y for each galaxy: a matrix product. Where r is so large that
the factors could overflow, the sum is taken as it stands.
"""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.networks.sets import segment_mean
from melotte.ragged import Ragged

LARGEST_CORRELATION = 0.99
"""Galaxies on a line, two for instance, have a kernel of no area: scipy refuses them."""
LARGEST_EXPONENT = 150.0
"""Of a factor; a term that one of its three factors loses in rounding is below exp(-300)."""
CLUSTERS_AT_ONCE = 32
BINS_AT_ONCE = 1 << 22
"""Galaxies times bins of the direct sum."""


def velocity_density(galaxies: Ragged, velocity_cut: Tensor, bins: int, bandwidth: float) -> Tensor:
    """Density of velocities.

    Parameters
    ----------
    galaxies : Ragged, values of shape (n_galaxies, >= 1)
        Velocity, km/s, first. A standard deviation below a bin counts as a bin.
    velocity_cut : Tensor, shape (batch,), km/s, > 0
        The bins span both signs of it.
    bins : int
    bandwidth : float, > 0
        Kernel width in standard deviations of the galaxies.

    Returns
    -------
    Tensor, shape (batch, bins), >= 0
        Adds up to 1; zero for a cluster without galaxies.

    References
    ----------
    Ho et al. 2019, Sect. 4 (CNN1D).
    """
    velocity = galaxies.values[:, :1].double() / velocity_cut.double()[galaxies.index][:, None]
    centres = _bin_centres(-1.0, 1.0, bins, velocity)
    variance = _moments(velocity, galaxies)[1][:, 0, 0].clamp(min=(2.0 / bins) ** 2)
    width = bandwidth * variance.sqrt()
    scaled = (centres - velocity) / width[galaxies.index][:, None]
    kernels = torch.exp(-0.5 * scaled**2)
    summed = kernels.new_zeros(galaxies.n_sets, bins).index_add_(0, galaxies.index, kernels)
    return _normalised(summed).to(galaxies.values.dtype)


def phase_space_density(
    galaxies: Ragged, velocity_cut: Tensor, aperture: Tensor, bins: int, bandwidth: float
) -> Tensor:
    """Density of velocities and projected radii.

    Parameters
    ----------
    galaxies : Ragged, values of shape (n_galaxies, >= 2)
        Velocity, km/s, and projected radius, Mpc/h, first. A standard deviation below a bin
        counts as a bin, a correlation beyond 0.99 as 0.99.
    velocity_cut : Tensor, shape (batch,), km/s, > 0
        The bins span both signs of it.
    aperture : Tensor, shape (batch,), Mpc/h, > 0
        The bins of radius span 0 to it.
    bins : int
        On each axis.
    bandwidth : float, > 0
        Kernel width in standard deviations of the galaxies.

    Returns
    -------
    Tensor, shape (batch, bins, bins), >= 0
        Velocity, then radius. Adds up to 1; zero for a cluster without galaxies.

    References
    ----------
    Ho et al. 2019, Sect. 4 (CNN2D).
    """
    index = galaxies.index
    spans = torch.stack([velocity_cut, aperture], -1).double()
    places = galaxies.values[:, :2].double() / spans[index]
    mean, covariance = _moments(places, galaxies)
    smallest = places.new_tensor([2.0 / bins, 1.0 / bins])
    spread = covariance.diagonal(dim1=1, dim2=2).sqrt()
    scale = spread.clamp(min=1e-12).prod(-1)
    correlation = (covariance[:, 0, 1] / scale).clamp(-LARGEST_CORRELATION, LARGEST_CORRELATION)
    width = bandwidth * torch.maximum(spread, smallest)
    x = (_bin_centres(-1.0, 1.0, bins, places) - mean[:, :1]) / width[:, :1]
    y = (_bin_centres(0.0, 1.0, bins, places) - mean[:, 1:]) / width[:, 1:]
    scaled = Ragged((places - mean[index]) / width[index], galaxies.offsets)
    precision = 1 / (1 - correlation**2)
    furthest = x.new_zeros(len(x), 2).scatter_reduce(
        0, index[:, None].expand(-1, 2), scaled.values.abs(), "amax"
    )
    furthest = torch.maximum(furthest, torch.stack([x.abs().amax(1), y.abs().amax(1)], -1))
    safe = (correlation * precision).abs() * furthest.prod(-1) < LARGEST_EXPONENT
    density = x.new_zeros(len(x), bins, bins)
    for chosen, summed in ((safe, _factored_sums), (~safe, _direct_sums)):
        rows = torch.nonzero(chosen)[:, 0]
        rows = rows[torch.argsort(galaxies.counts[rows])]
        for part in rows.split(CLUSTERS_AT_ONCE) if len(rows) else ():
            density[part] = summed(
                scaled.select(part), x[part], y[part], correlation[part], precision[part]
            )
    return _normalised(density.flatten(1)).view_as(density).to(galaxies.values.dtype)


def _factored_sums(
    galaxies: Ragged, x: Tensor, y: Tensor, correlation: Tensor, precision: Tensor
) -> Tensor:
    """Sums of kernels as matrix products; see the module."""
    index, counts = galaxies.index, galaxies.counts
    own_x, own_y = galaxies.values[:, :1], galaxies.values[:, 1:]
    cross = correlation * precision
    # The galaxy's own product is split between the two factors, so that both stay small.
    in_x = -0.5 * precision[index, None] * (x[index] - own_x) ** 2
    in_x = in_x - cross[index, None] * (x[index] - 0.5 * own_x) * own_y
    in_y = -0.5 * precision[index, None] * (y[index] - own_y) ** 2
    in_y = in_y - cross[index, None] * (y[index] - 0.5 * own_y) * own_x
    longest = int(counts.max()) if len(counts) else 0
    rank = torch.arange(len(index), device=index.device) - galaxies.offsets[:-1][index]
    place = index * longest + rank

    def padded(exponent: Tensor) -> Tensor:
        rows = exponent.new_zeros(len(counts) * longest, exponent.shape[1])
        return rows.index_copy_(0, place, exponent.exp_()).view(len(counts), longest, -1)

    sums = padded(in_x).transpose(1, 2) @ padded(in_y)
    return sums * torch.exp(cross[:, None, None] * x[:, :, None] * y[:, None, :])


def _direct_sums(
    galaxies: Ragged, x: Tensor, y: Tensor, correlation: Tensor, precision: Tensor
) -> Tensor:
    """Sums of kernels, one exponential a galaxy and bin."""
    sums = x.new_zeros(len(x), x.shape[1], y.shape[1])
    at_once = max(1, BINS_AT_ONCE // (x.shape[1] * y.shape[1]))
    for values, index in zip(
        galaxies.values.split(at_once), galaxies.index.split(at_once), strict=True
    ):
        from_x = (x[index] - values[:, :1])[:, :, None]
        from_y = (y[index] - values[:, 1:])[:, None, :]
        distance = from_x**2 - 2 * correlation[index, None, None] * from_x * from_y + from_y**2
        sums.index_add_(0, index, torch.exp(-0.5 * precision[index, None, None] * distance))
    return sums


def _moments(places: Tensor, galaxies: Ragged) -> tuple[Tensor, Tensor]:
    """Mean (batch, d) and covariance (batch, d, d) of each set; the divisor is n - 1."""
    index, counts = galaxies.index, galaxies.counts
    mean = segment_mean(places, index, counts)
    offset = places - mean[index]
    products = (offset[:, :, None] * offset[:, None, :]).flatten(1)
    bessel = counts / (counts - 1).clamp(min=1)
    covariance = segment_mean(products, index, counts) * bessel[:, None]
    return mean, covariance.view(len(counts), places.shape[1], places.shape[1])


def _bin_centres(low: float, high: float, bins: int, like: Tensor) -> Tensor:
    steps = torch.arange(bins, dtype=like.dtype, device=like.device)
    return low + (high - low) * (steps + 0.5) / bins


def _normalised(density: Tensor) -> Tensor:
    total = density.sum(1, keepdim=True)
    return torch.where(total > 0, density / total.clamp(min=1e-300), 0.0)
