"""The mixture behind single stars, binaries and blue stragglers in the colour-magnitude plane.

A component of sequences is a sum over straight segments: the density of a star under a segment is
a normal across it times the difference of two normal distribution functions along it, in
coordinates in which the star's errors are round. Only pairs of stars and segments that are near
each other are ever evaluated.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from melotte.systems.open_cluster.preparation import filled_errors
from melotte.systems.open_cluster.sequences import (
    COLOUR_EXCESS,
    G_EXCESS,
    POINTS,
    RATIOS,
    Sequences,
)
from melotte.systems.open_cluster.settings import DataSettings
from melotte.telescope.gaia import gaia_release

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

STRAGGLER_AGE = 8.48
STRAGGLER_RANGE = (-3.0, 0.5)
"""G of a blue straggler less that of the turn-off, mag."""
STRAGGLER_GAP = 0.05
"""How much bluer than the turn-off a straggler is at least, mag."""
ZERO_AGE_MARGIN = 0.08
LENIENCE = (2.0, 1.0, 3.0)
"""How many times wider than the mocks' the priors of the offsets are: real pre-main-sequence and
cool stars miss the models by more, and the shape of the whole sequence tells it."""
REDDENING_SCATTERS = (0.0, 0.03, 0.06, 0.1, 0.16, 0.25, 0.4)
"""Trial standard deviations of A_V from star to star, mag."""
PRIOR_COUNTS = np.array([5.0, 3.0, 3.0, 0.5])
"""Stars that the prior of the shares counts for, by component."""
ROUNDS = 4
FITTED_STARS = 140
LARGEST_BLOCK = 2**24


@dataclass(frozen=True)
class Pairs:
    """Stars with the segments near them: numbers of sample, star, curve and segment."""

    sample: Integers
    star: Integers
    curve: Integers
    segment: Integers

    @property
    def cell(self) -> tuple[Integers, Integers]:
        """Numbers of sample and star, an index of arrays (S, n_stars, ...)."""
        return self.sample, self.star


@dataclass(frozen=True)
class Fit:
    """The mixture fitted to S samples, and its sums over segments.

    Parameters
    ----------
    shift : array, shape (S, 3)
        Offsets of the models: colour and magnitude, mag, and the slope of cool stars.
    share : array, shape (S, 4)
        Shares of single stars, binaries, blue stragglers and others.
    weight : array, shape (S,)
        Of the samples; sums to 1.
    component : array, shape (S, n_stars, 4)
        Probabilities of the components for each star.
    heavy : array, shape (S, n_stars)
        Probability of a companion of at least ``least_ratio``.
    primary, primary_square : array, shape (S, n_stars)
        Sums of mass and its square over both sequences, by probability; Msun.
    ratio, ratio_square : array, shape (S, n_stars)
        Likewise of the mass ratio, over the binaries.
    """

    shift: Array
    share: Array
    weight: Array
    component: Array
    heavy: Array
    primary: Array
    primary_square: Array
    ratio: Array
    ratio_square: Array


class Mixture:
    """The mixture of one cluster: fits shares and offsets for each sample.

    Parameters
    ----------
    stars : array, shape (n_stars, 7), columns of the simulator
    sequences : Sequences
    settings : DataSettings
        Priors of the offsets, which are also the floor of the errors.
    release : str
    least_ratio : float
        Companions of a smaller mass ratio count with the single stars.
    """

    def __init__(
        self,
        stars: Array,
        sequences: Sequences,
        settings: DataSettings,
        release: str,
        least_ratio: float,
    ) -> None:
        self.place = stars[:, [1, 0]]
        self.sequences = sequences
        self.least_ratio = least_ratio
        membership = stars[:, 6]
        self.membership = np.where(np.isfinite(membership), membership, 1.0)
        floor = settings.colour_zero_point, settings.magnitude_zero_point
        self.variance = cmd_errors(stars, release) ** 2 + np.maximum(floor, 1e-3) ** 2
        width = (*floor, settings.cool_star_slope)
        self.precision = np.diag(1 / np.maximum(np.multiply(LENIENCE, width), 1e-4) ** 2)
        low, high = self.place.min(0), self.place.max(0)
        self.area = float(np.prod(high - low + (0.5, 1.0)))
        weight = np.ones(len(RATIOS))
        weight[[0, -1]] = 0.5
        self.curve_weight = np.concatenate([[1.0], weight / weight.sum()])
        self.curve_ratio = np.concatenate([[0.0], RATIOS])
        self.scatter = 0.0

    def fit(self) -> Fit:
        """Choose the reddening scatter, fit every sample, then sum over all stars.

        Shares and offsets are fitted to at most ``FITTED_STARS`` stars: a few hundred tell them
        better than the models deserve.
        """
        everything = self.sequences
        fitter = self._thinned(FITTED_STARS)
        self.scatter = fitter.scatter = fitter.best_scatter()
        parts = []
        block = max(1, LARGEST_BLOCK // (len(self.place) * everything.points[0, ..., 0].size))
        for start in range(0, len(everything), block):
            self.sequences = fitter.sequences = everything.select(slice(start, start + block))
            shift, share, _ = fitter.maximise(ROUNDS)
            parts.append({"shift": shift, "share": share, **self._sums(shift, share)})
        self.sequences = everything
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        joined["weight"] = tempered(joined["weight"])
        return Fit(**joined)

    def best_scatter(self) -> float:
        """The trial standard deviation of A_V under which some of the samples fit best."""
        everything = self.sequences
        some = np.linspace(0, len(everything) - 1, min(3, len(everything))).round().astype(int)
        self.sequences = everything.select(some)
        scores: list[float] = []
        for scatter in REDDENING_SCATTERS:
            self.scatter = scatter
            scores.append(float(self.maximise(3)[2].max()))
            if scores[-1] < max(scores) - 10:
                break
        self.sequences = everything
        return REDDENING_SCATTERS[int(np.argmax(scores))]

    def _thinned(self, most: int) -> Mixture:
        """The same mixture over evenly spaced stars of the list, sorted by G."""
        few = copy(self)
        if len(self.place) > most:
            order = np.argsort(self.place[:, 1], kind="stable")
            chosen = order[np.linspace(0, len(order) - 1, most).round().astype(int)]
            few.place, few.variance = self.place[chosen], self.variance[chosen]
            few.membership = self.membership[chosen]
        return few

    def maximise(self, rounds: int) -> tuple[Array, Array, Array]:
        """Offsets (S, 3), shares (S, 4) and log likelihoods (S,) by expectation-maximisation."""
        n = len(self.sequences)
        pairs = self._pairs()
        shift, share = np.zeros((n, 3)), np.tile(PRIOR_COUNTS / PRIOR_COUNTS.sum(), (n, 1))
        evidence = np.zeros(n)
        for number in range(rounds):
            density, normal, offset, _ = self._segments(pairs, shift)
            components = self._components(pairs, density, shift)
            weighted = components * self._prior(share)
            total = weighted.sum(-1)
            evidence = self._evidence(total, shift)
            if number == rounds - 1:
                break
            part = weighted / total[..., None] * self.membership[:, None]
            counts = part.sum(1) + PRIOR_COUNTS
            responsibility = (
                density
                * share[pairs.sample, (pairs.curve > 0).astype(int)]
                * (self.membership**2 / total)[pairs.cell]
            )
            share = counts / counts.sum(1, keepdims=True)
            shift = shift + self._step(pairs, responsibility, normal, offset, shift)
        return shift, share, evidence

    def _evidence(self, total: Array, shift: Array) -> Array:
        """Log likelihood (S,) of the stars, weighted by membership, and of the offsets."""
        penalty = ((shift @ self.precision) * shift).sum(1)
        return (np.log(total) * self.membership).sum(1) - 0.5 * penalty

    def _pairs(self) -> Pairs:
        """All stars and the segments that may matter to them."""
        points = self.sequences.points
        a, b = points[:, :, :-1], points[:, :, 1:]
        cool = self.sequences.cool[:, :, :-1]
        reach = 3.7 * np.sqrt(self.variance + self._reddening_variance()) + (0.06, 0.1)
        low, high = np.minimum(a, b), np.maximum(a, b)
        low[..., 0] -= 0.25 * cool
        high[..., 0] += 0.25 * cool
        n = len(points)
        low, high = (edge.reshape(n, 1, -1, 2).astype(np.float32) for edge in (low, high))
        below, above = (
            edge.astype(np.float32) for edge in (self.place - reach, self.place + reach)
        )
        near = low[..., 1] < above[:, 1, None]
        near &= high[..., 1] > below[:, 1, None]
        near &= low[..., 0] < above[:, 0, None]
        near &= high[..., 0] > below[:, 0, None]
        sample, star, segment = np.nonzero(near)
        return Pairs(sample, star, segment // (POINTS - 1), segment % (POINTS - 1))

    def _sums(self, shift: Array, share: Array) -> dict[str, Array]:
        """Probabilities and sums of masses and mass ratios, as :class:`Fit` names them.

        ``weight`` is still the log likelihood.
        """
        pairs = self._pairs()
        density, _, _, along = self._segments(pairs, shift)
        weighted = self._components(pairs, density, shift) * self._prior(share)
        total = weighted.sum(-1)
        part = density * share[pairs.sample, (pairs.curve > 0).astype(int)]
        part = part * self.membership[pairs.star] / total[pairs.cell]
        mass = self.sequences.mass
        low, high = mass[pairs.sample, pairs.segment], mass[pairs.sample, pairs.segment + 1]
        primary = low + along * (high - low)
        ratio = self.curve_ratio[pairs.curve]
        # The node at the limit stands for ratios on both sides of it.
        heavy = np.clip((ratio - self.least_ratio) / (RATIOS[1] - RATIOS[0]) + 0.5, 0, 1)
        shape = total.shape
        flat = pairs.sample * shape[1] + pairs.star

        def summed(values: Array) -> Array:
            sums = np.bincount(flat, part * values, shape[0] * shape[1])
            return sums.astype(float).reshape(shape)

        return {
            "weight": self._evidence(total, shift),
            "component": weighted / total[..., None],
            "heavy": summed(heavy),
            "primary": summed(primary),
            "primary_square": summed(primary**2),
            "ratio": summed(ratio),
            "ratio_square": summed(ratio**2),
        }

    def _reddening_variance(self) -> Array:
        return np.array([COLOUR_EXCESS**2, G_EXCESS**2]) * self.scatter**2

    def whitening(self) -> tuple[Array, Array, Array, Array]:
        """W of each star with W cov W^T = 1: entries (00, 10, 11), and its determinant."""
        extra = self.scatter**2
        cc = self.variance[:, 0] + extra * COLOUR_EXCESS**2
        gg = self.variance[:, 1] + extra * G_EXCESS**2
        cg = np.full_like(cc, extra * COLOUR_EXCESS * G_EXCESS)
        rest = np.sqrt(gg - cg**2 / cc)
        first = 1 / np.sqrt(cc)
        return first, -cg / cc / rest, 1 / rest, first / rest

    def _segments(self, pairs: Pairs, shift: Array) -> tuple[Array, Array, Array, Array]:
        """Densities of stars under segments near them, and how each misses its line.

        Returns
        -------
        density : array, shape (n_pairs,), 1 / mag^2
        normal : array, shape (n_pairs, 2), the unit normal in whitened coordinates
        offset : array, shape (n_pairs,), whitened distance from the line along it
        along : array, shape (n_pairs,), place of the foot on the segment, in [0, 1]
        """
        # Single precision: a magnitude is good to 1e-6 of itself, far below any error.
        points = self.sequences.shifted(shift).astype(np.float32)
        place = self.place.astype(np.float32)
        at = pairs.sample, pairs.curve, pairs.segment
        w00, w10, w11, determinant = (
            entry.astype(np.float32)[pairs.star] for entry in self.whitening()
        )
        start = points[at]
        edge = points[pairs.sample, pairs.curve, pairs.segment + 1] - start
        star = place[pairs.star] - start
        ex, ey = w00 * edge[:, 0], w10 * edge[:, 0] + w11 * edge[:, 1]
        sx, sy = w00 * star[:, 0], w10 * star[:, 0] + w11 * star[:, 1]
        length = np.maximum(np.sqrt(ex * ex + ey * ey), np.float32(1e-3))
        ex, ey = ex / length, ey / length
        foot, offset = sx * ex + sy * ey, sy * ex - sx * ey
        inside = (ndtr(length - foot) - ndtr(-foot)) / length
        weight = self.sequences.share[pairs.sample, pairs.segment] * self.curve_weight[pairs.curve]
        across = inside * np.exp(np.float32(-0.5) * offset * offset)
        density = weight * determinant * across / np.sqrt(2 * np.pi)
        return density, np.stack([-ey, ex], -1), offset, np.clip(foot / length, 0, 1)

    def _components(self, pairs: Pairs, density: Array, shift: Array) -> Array:
        """Densities (S, n_stars, 4) of the stars under the components, 1 / mag^2."""
        n, n_stars = len(self.sequences), len(self.place)
        components = np.empty((n, n_stars, 4))
        flat = pairs.sample * n_stars + pairs.star
        for number, mine in enumerate((pairs.curve == 0, pairs.curve > 0)):
            sums = np.bincount(flat[mine], density[mine], n * n_stars)
            components[..., number] = sums.reshape(n, n_stars)
        components[..., 2] = self._stragglers(shift)
        components[..., 3] = 1 / self.area
        return components

    def _prior(self, share: Array) -> Array:
        """Shares (S, n_stars, 4) for each star: what is no member may lie anywhere."""
        prior = share[:, None] * self.membership[:, None]
        prior[..., 3] += 1 - self.membership
        return prior

    def _stragglers(self, shift: Array) -> Array:
        """Density (S, n_stars) of blue stragglers, 1 / mag^2; 0 in young clusters."""
        density = np.zeros((len(self.sequences), len(self.place)))
        sigma = np.sqrt(self.variance[:, 0])
        bright, faint = STRAGGLER_RANGE
        for i in np.flatnonzero(self.sequences.log_age > STRAGGLER_AGE):
            colour, g = (self.place - shift[i, :2]).T
            red = self.sequences.turn_off[i, 0] - STRAGGLER_GAP
            above = g - self.sequences.turn_off[i, 1]
            line = self.sequences.zero_age[i]
            rungs = self.sequences.turn_off[i, 1] + np.linspace(bright, faint, 30)
            blue = np.interp(rungs, line[:, 1], line[:, 0]) - ZERO_AGE_MARGIN
            area = float(np.maximum(red - blue, 0.02).mean() * (faint - bright))
            edge = np.interp(g, line[:, 1], line[:, 0]) - ZERO_AGE_MARGIN
            within = ndtr((red - colour) / sigma) * ndtr((colour - edge) / sigma)
            density[i] = within * ((above > bright) & (above < faint)) / area
        return density

    def _step(
        self, pairs: Pairs, weight: Array, normal: Array, offset: Array, shift: Array
    ) -> Array:
        """Gauss-Newton step (S, 3) of the offsets under their priors."""
        w00, w10, w11, _ = (entry[pairs.star] for entry in self.whitening())
        in_colour = normal[:, 0] * w00 + normal[:, 1] * w10
        cool = self.sequences.cool[pairs.sample, pairs.curve, pairs.segment]
        slopes = np.stack([in_colour, normal[:, 1] * w11, in_colour * cool], -1)
        n = len(self.sequences)
        # Stars far off say nothing of the offsets: a Cauchy weight.
        weight = weight / (1 + (offset / 3) ** 2)

        def summed(values: Array) -> Array:
            return np.bincount(pairs.sample, weight * values, n).astype(float)

        matrix = np.empty((n, 3, 3))
        right = np.empty((n, 3))
        for i in range(3):
            right[:, i] = summed(slopes[:, i] * offset)
            for j in range(i + 1):
                matrix[:, i, j] = matrix[:, j, i] = summed(slopes[:, i] * slopes[:, j])
        right -= shift @ self.precision
        step = np.linalg.solve(matrix + self.precision, right[..., None])
        return np.asarray(step[..., 0], dtype=np.float64)


def cmd_errors(stars: Array, release: str) -> Array:
    """Photometric errors (BP-RP, G) of stars, mag, shape (n_stars, 2); medians where unknown."""
    columns = torch.from_numpy(np.asarray(stars, dtype=np.float32))
    dr2 = torch.full((len(stars),), gaia_release(release).name == "DR2")
    g, colour = columns[:, 0], columns[:, 1]
    errors = [
        filled_errors(columns[:, number], dr2, g, colour, kind)
        for number, kind in ((5, "colour"), (4, "g"))
    ]
    return torch.stack(errors, -1).numpy().astype(np.float64)


def tempered(evidence: Array) -> Array:
    """Weights of samples from log likelihoods, flattened until a quarter of them counts.

    The posterior of the network is wider than that of the diagram: samples whose isochrone misses
    the stars should not vote on them, yet no single sample may decide.

    Parameters
    ----------
    evidence : array, shape (n_samples,)
    """
    relative = evidence - evidence.max()
    power = 1.0
    while True:
        weight = np.exp(power * relative)
        weight /= weight.sum()
        if 1 / (weight**2).sum() >= len(weight) / 4 or power < 1e-6:
            return weight
        power *= 0.7
