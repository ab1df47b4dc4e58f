"""Mass from the whole distribution of galaxies: support distribution machines, and a fast cousin.

A cluster is a sample of ``|v|``, or of ``(|v|, R)``. :class:`SupportDistributionMachine` compares
samples by their divergence, :class:`MeanEmbedding` by their mean features; both put a kernel on the
difference and regress the log mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.baselines.knn_divergence import knn_divergences
from melotte.baselines.velocity_dispersion import checked_sets
from melotte.errors import MelotteValueError, require

Array = NDArray[np.float64]

EXTRA = "baselines"
VELOCITY_UNIT = 700.0
"""km/s."""
RADIUS_UNIT = 0.45
"""Mpc/h."""
SMALLEST_EIGENVALUE = 1e-10


@dataclass(frozen=True)
class SearchGrid:
    """Settings that are chosen by cross-validation within the training set.

    Parameters
    ----------
    bandwidths : tuple of float
        Of the kernel, in medians of the divergence.
    costs : tuple of float
        C of the support vector regression; small ones matter, the kernel is noisy.
    nus : tuple of float
        Its share of support vectors.
    folds : int
    most : int
        Clusters that the search uses; all are used for the fit.
    """

    bandwidths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    costs: tuple[float, ...] = (0.004, 0.016, 0.06, 0.25, 1.0)
    nus: tuple[float, ...] = (0.3, 0.5, 0.7)
    folds: int = 3
    most: int = 1000


class SupportDistributionMachine:
    """Support vector regression on divergences between samples of galaxies.

    Parameters
    ----------
    dimensions : {1, 2}
        ``|v|`` alone, or ``|v|`` and R.
    neighbours : int
        K of the divergence.
    grid : SearchGrid, optional
        Bandwidth and C are searched first, with nu in the middle of its list; then nu.

    Attributes
    ----------
    chosen : dict
        ``bandwidth``, ``cost``, ``nu`` and ``validation_std`` (dex), after the fit.

    References
    ----------
    Sutherland et al. 2012 (arXiv:1202.0302); Ntampaka et al. 2015, ApJ 803, 50, and 2016, ApJ 831,
    135: K = 4; Ho et al. 2019, ApJ 887, 25. The kernel exp(-D^2/(2 w^2)) of the symmetrised
    divergence is projected to positive eigenvalues; new clusters are projected onto the same
    eigenvectors (Chen et al. 2009, JMLR 10, 747, Sect. 4), so that they need not be known in
    training.
    """

    def __init__(
        self, dimensions: Literal[1, 2] = 1, neighbours: int = 4, grid: SearchGrid | None = None
    ) -> None:
        if dimensions not in (1, 2):
            raise MelotteValueError(f"dimensions {dimensions} is neither 1 nor 2")
        self.dimensions = dimensions
        self.neighbours = neighbours
        self.grid = grid or SearchGrid()
        self.chosen: dict[str, float] = {}
        self._points: tuple[Array, NDArray[np.int64]] | None = None
        self._model: Any = None
        self._projection: Array = np.zeros((0, 0))
        self._centre = 0.0
        self._width = 1.0

    def fit(
        self, velocity: ArrayLike, radius: ArrayLike, offsets: ArrayLike, log_mass: ArrayLike
    ) -> Self:
        """Learn from clusters of known mass.

        Parameters
        ----------
        velocity, radius : array, shape (n_galaxies,), km/s and Mpc/h
        offsets : array of int, shape (n_clusters + 1,)
            Every cluster needs more galaxies than ``neighbours``.
        log_mass : array, shape (n_clusters,), log10(M200c/(Msun/h))

        Raises
        ------
        MelotteValueError
            When shapes do not fit or a cluster has too few galaxies.
        MissingExtraError
            When scikit-learn is not installed.
        """
        points, starts = features(velocity, radius, offsets, self.dimensions)
        mass = checked_masses(log_mass, len(starts) - 1)
        divergence = knn_divergences(points, starts, points, starts, self.neighbours)
        symmetric = 0.5 * (divergence + divergence.T)
        np.fill_diagonal(symmetric, 0.0)
        self._points = points, starts
        self._centre = float(mass.mean())
        median = float(np.median(symmetric[np.triu_indices(len(mass), 1)]))
        target = mass - self._centre
        self._search(symmetric, median, target)
        kernel = _kernel(symmetric, self._width)
        vectors = _positive_eigenvectors(kernel)
        self._projection = vectors @ vectors.T
        self._model = self._regressor(self.chosen["cost"], self.chosen["nu"])
        self._model.fit(_symmetric(kernel @ self._projection), target)
        return self

    def predict(self, velocity: ArrayLike, radius: ArrayLike, offsets: ArrayLike) -> Array:
        """log10(M200c/(Msun/h)), shape (n_clusters,)."""
        if self._points is None:
            raise MelotteValueError("fit the regressor before it predicts")
        points, starts = features(velocity, radius, offsets, self.dimensions)
        known, known_starts = self._points
        there = knn_divergences(points, starts, known, known_starts, self.neighbours)
        back = knn_divergences(known, known_starts, points, starts, self.neighbours)
        kernel = _kernel(0.5 * (there + back.T), self._width)
        return np.asarray(self._model.predict(kernel @ self._projection)) + self._centre

    def _search(self, divergence: Array, median: float, target: Array) -> None:
        rows = np.linspace(0, len(target) - 1, min(len(target), self.grid.most)).astype(int)
        part, known = divergence[np.ix_(rows, rows)], target[rows]
        fold = np.arange(len(rows)) % self.grid.folds
        best = np.inf
        nu = self.grid.nus[len(self.grid.nus) // 2]
        for bandwidth in self.grid.bandwidths:
            kernel = _kernel(part, bandwidth * median)
            vectors = _positive_eigenvectors(kernel)
            kernel = _symmetric(kernel @ (vectors @ vectors.T))
            for cost in self.grid.costs:
                error = self._validated(kernel, known, fold, cost, nu)
                if error < best:
                    best, self._width = error, bandwidth * median
                    self.chosen = {"bandwidth": bandwidth, "cost": cost, "nu": nu}
        kernel = _kernel(part, self._width)
        vectors = _positive_eigenvectors(kernel)
        kernel = _symmetric(kernel @ (vectors @ vectors.T))
        for other in self.grid.nus:
            error = self._validated(kernel, known, fold, self.chosen["cost"], other)
            if error < best:
                best, self.chosen["nu"] = error, other
        self.chosen["validation_std"] = float(np.sqrt(best))

    def _validated(
        self, kernel: Array, target: Array, fold: NDArray[np.int64], cost: float, nu: float
    ) -> float:
        """Mean square error over clusters that the fit did not see."""
        squares = 0.0
        for number in range(self.grid.folds):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            model = self._regressor(cost, nu).fit(kernel[np.ix_(train, train)], target[train])
            squares += float(
                ((model.predict(kernel[np.ix_(test, train)]) - target[test]) ** 2).sum()
            )
        return squares / len(target)

    @staticmethod
    def _regressor(cost: float, nu: float) -> Any:
        svm: Any = require("sklearn.svm", EXTRA)
        return svm.NuSVR(kernel="precomputed", C=cost, nu=nu)


class MeanEmbedding:
    """Kernel ridge regression on the mean features of a cluster's galaxies.

    A cluster's embedding is the mean of random Fourier features of its galaxies, over kernels of
    several widths; the distance between embeddings is a maximum mean discrepancy. A Gaussian
    kernel on that distance, and ridge regression, whose leave-one-out error is known in closed
    form, give the mass. No pair of galaxies is ever compared, so that the time grows with the
    number of galaxies, and with that of clusters as their matrix is solved.

    Parameters
    ----------
    dimensions : {1, 2}
        ``|v|`` alone, or ``|v|`` and R.
    n_features : int
    bandwidths : tuple of float
        Of the kernel between clusters, in medians of the squared distance.
    penalties : tuple of float
        Of the ridge, in variances of the kernel.
    most : int
        Clusters that the search of bandwidth and penalty uses.
    seed : int
        Of the random features.

    Attributes
    ----------
    chosen : dict
        ``bandwidth``, ``penalty`` and ``validation_std`` (dex), after the fit.

    References
    ----------
    Rahimi & Recht 2007, NeurIPS 20 (random features); Muandet et al. 2012 (arXiv:1202.6504) and
    Szabo et al. 2016, JMLR 17, 152 (regression on embeddings).
    """

    def __init__(
        self,
        dimensions: Literal[1, 2] = 1,
        n_features: int = 600,
        bandwidths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
        penalties: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        most: int = 1000,
        seed: int = 0,
    ) -> None:
        if dimensions not in (1, 2):
            raise MelotteValueError(f"dimensions {dimensions} is neither 1 nor 2")
        self.dimensions = dimensions
        self.n_features = n_features
        self.bandwidths = bandwidths
        self.penalties = penalties
        self.most = most
        generator = np.random.default_rng(seed)
        scale = generator.choice([0.7, 1.4, 3.0], n_features)
        self._frequencies = generator.normal(size=(dimensions, n_features)) * scale
        self._phases = generator.uniform(0, 2 * np.pi, n_features)
        self.chosen: dict[str, float] = {}
        self._known: Array | None = None
        self._weights: Array = np.zeros(0)
        self._centre = 0.0
        self._width = 1.0

    def fit(
        self, velocity: ArrayLike, radius: ArrayLike, offsets: ArrayLike, log_mass: ArrayLike
    ) -> Self:
        """Learn from clusters of known mass; parameters as :meth:`SupportDistributionMachine.fit`.

        Clusters need at least one galaxy.
        """
        from scipy.linalg import cho_factor, cho_solve

        known = self.embeddings(velocity, radius, offsets)
        mass = checked_masses(log_mass, len(known))
        self._centre = float(mass.mean())
        target = mass - self._centre
        rows = np.linspace(0, len(mass) - 1, min(len(mass), self.most)).astype(int)
        squared = _squared_distances(known[rows], known[rows])
        median = float(np.median(squared[np.triu_indices(len(rows), 1)]))
        best = np.inf
        for bandwidth in self.bandwidths:
            error, penalty = self._leave_one_out(
                np.exp(-squared / (bandwidth * median)), target[rows]
            )
            if error < best:
                best, self._width = error, bandwidth * median
                self.chosen = {"bandwidth": bandwidth, "penalty": penalty}
        self.chosen["validation_std"] = float(np.sqrt(best))
        kernel = np.exp(-_squared_distances(known, known) / self._width)
        kernel[np.diag_indices_from(kernel)] += self.chosen["penalty"]
        self._weights = cho_solve(cho_factor(kernel, overwrite_a=True), target)
        self._known = known
        return self

    def predict(self, velocity: ArrayLike, radius: ArrayLike, offsets: ArrayLike) -> Array:
        """log10(M200c/(Msun/h)), shape (n_clusters,)."""
        if self._known is None:
            raise MelotteValueError("fit the regressor before it predicts")
        mine = self.embeddings(velocity, radius, offsets)
        kernel = np.exp(-_squared_distances(mine, self._known) / self._width)
        return kernel @ self._weights + self._centre

    def embeddings(self, velocity: ArrayLike, radius: ArrayLike, offsets: ArrayLike) -> Array:
        """Mean features of each cluster, shape (n_clusters, n_features).

        Raises
        ------
        MelotteValueError
            When shapes do not fit or a cluster has no galaxy.
        """
        points, starts = features(velocity, radius, offsets, self.dimensions)
        counts = np.diff(starts)
        if (counts < 1).any():
            raise MelotteValueError("a cluster has no galaxy; one is needed")
        means = np.empty((len(counts), self.n_features))
        # In parts, so that the features of all galaxies need not be held at once.
        for part in np.array_split(np.arange(len(counts)), max(1, len(points) // 20_000)):
            if not len(part):
                continue
            begin, end = starts[part[0]], starts[part[-1] + 1]
            waves = np.cos(points[begin:end] @ self._frequencies + self._phases)
            means[part] = np.add.reduceat(waves, starts[part] - begin, axis=0)
        return means / counts[:, None] * np.sqrt(2 / self.n_features)

    def _leave_one_out(self, kernel: Array, target: Array) -> tuple[float, float]:
        """Least mean square error of clusters left out one by one, and its penalty."""
        from scipy.linalg import eigh

        values, vectors = eigh(kernel)
        values = np.maximum(values, 0.0)
        turned = vectors.T @ target
        best = np.inf, self.penalties[0]
        for penalty in self.penalties:
            inverse = 1 / (values + penalty)
            residual = (vectors @ (inverse * turned)) / ((vectors**2) @ inverse)
            error = float((residual**2).mean())
            if error < best[0]:
                best = error, penalty
        return best


def features(
    velocity: ArrayLike, radius: ArrayLike, offsets: ArrayLike, dimensions: int
) -> tuple[Array, NDArray[np.int64]]:
    """Points ``(|v|/700 km/s[, R/(0.45 Mpc/h)])`` of all galaxies, shape (n_galaxies, dimensions).

    Which side is approaching says nothing of the mass, so that only ``|v|`` counts.
    """
    values, starts = checked_sets(velocity, offsets)
    radii, _ = checked_sets(radius, offsets)
    columns = [np.abs(values) / VELOCITY_UNIT, radii / RADIUS_UNIT]
    return np.stack(columns[:dimensions], axis=1), starts


def checked_masses(log_mass: ArrayLike, n: int) -> Array:
    """Log masses, one a cluster.

    Raises
    ------
    MelotteValueError
        When there are more or fewer than ``n``, fewer than ten, or one is not finite.
    """
    mass = np.asarray(log_mass, dtype=float)
    if mass.shape != (n,) or not np.isfinite(mass).all():
        raise MelotteValueError(f"log_mass must hold {n} finite numbers, found shape {mass.shape}")
    if n < 10:
        raise MelotteValueError(f"{n} clusters to learn from; 10 are needed")
    return mass


def _kernel(divergence: Array, width: float) -> Array:
    return np.exp(-0.5 * (divergence / width) ** 2)


def _positive_eigenvectors(kernel: Array) -> Array:
    from scipy.linalg import eigh

    values, vectors = eigh(kernel)
    return vectors[:, values > SMALLEST_EIGENVALUE * values[-1]]


def _symmetric(kernel: Array) -> Array:
    return 0.5 * (kernel + kernel.T)


def _squared_distances(first: Array, second: Array) -> Array:
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.maximum(squares, 0.0)
