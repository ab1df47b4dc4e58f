"""What every reader of simulations must bring back."""

from __future__ import annotations

import numpy as np
from snapshot_writers import N_PAIRS, Cluster

from melotte.io.simulation_files import effective_temperature
from melotte.io.star_snapshots import StarSnapshot

CENTRE = np.array([3.0, -2.0, 5.0])


def by_name(snapshot: StarSnapshot, stars: Cluster) -> np.ndarray:
    """Rows of the snapshot in the order of the stars that were written."""
    order = np.argsort(snapshot.ids)
    place = np.searchsorted(snapshot.ids[order], stars.name)
    np.testing.assert_array_equal(snapshot.ids[order][place], stars.name)
    return order[place]


def assert_places(
    snapshot: StarSnapshot, stars: Cluster, exact: np.ndarray | slice, centred: bool = True
) -> None:
    """Positions as written where the file tells the centre, else but for one shift."""
    rows = by_name(snapshot, stars)[exact]
    assert snapshot.position is not None
    assert snapshot.velocity is not None
    shift = snapshot.position[rows] - stars.position[exact]
    drift = snapshot.velocity[rows] - stars.velocity[exact]
    np.testing.assert_allclose(shift, 0 if centred else shift[0] + 0 * shift, atol=2e-6)
    np.testing.assert_allclose(drift, drift[0] + 0 * drift, atol=2e-6)
    assert np.abs(shift).max() < 2.0


def assert_light(snapshot: StarSnapshot, stars: Cluster, tolerance: float = 1e-5) -> None:
    rows = by_name(snapshot, stars)
    np.testing.assert_allclose(snapshot.mass[rows], stars.mass, rtol=1e-6)
    np.testing.assert_array_equal(snapshot.kind[rows], stars.kind)
    np.testing.assert_allclose(snapshot.luminosity[rows], stars.luminosity, rtol=tolerance)
    expected = effective_temperature(stars.luminosity, stars.radius)
    np.testing.assert_allclose(snapshot.temperature[rows], expected, rtol=tolerance)


def assert_pairs(snapshot: StarSnapshot, stars: Cluster, n_pairs: int = N_PAIRS) -> None:
    system = snapshot.system[by_name(snapshot, stars)]
    pairs = system[: 2 * n_pairs].reshape(-1, 2)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
    assert len(np.unique(system)) == len(stars) - n_pairs
