import pytest
import torch

from melotte.sky.isochrones import StellarGrid
from melotte.systems.open_cluster.settings import DataSettings, PriorSettings
from melotte.systems.open_cluster.simulator import COLUMNS, ClusterSimulator
from melotte.telescope.gaia import RELEASES


def keyed(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def simulator():
    return ClusterSimulator(DataSettings(max_stars=256))


@pytest.fixture(scope="module")
def mocks(simulator):
    clusters = simulator.draw(300, keyed(1))
    stars, n_listed = simulator.observe(clusters, keyed(2))
    return clusters, stars, n_listed


def quiet(**changes):
    """Settings without nuisances: what is left is physics and photon noise."""
    return DataSettings(
        contamination=0,
        no_membership=0,
        no_photometric_errors=0,
        colour_zero_point=0,
        magnitude_zero_point=0,
        cool_star_slope=0,
        dr2=0,
        **changes,
    )


def test_same_seed_same_stars(simulator):
    first = simulator.observe(simulator.draw(20, keyed(3)), keyed(4))
    second = simulator.observe(simulator.draw(20, keyed(3)), keyed(4))
    other = simulator.observe(simulator.draw(20, keyed(3)), keyed(5))
    assert torch.equal(first[0].values.nan_to_num(-1), second[0].values.nan_to_num(-1))
    assert first[0].values.shape != other[0].values.shape or not torch.equal(
        first[0].values.nan_to_num(-1), other[0].values.nan_to_num(-1)
    )


def test_lists_keep_their_bounds(simulator, mocks):
    clusters, stars, n_listed = mocks
    stars.check()
    assert int(stars.counts.max()) <= 256
    assert (stars.counts >= 1).float().mean() > 0.98
    assert (n_listed >= stars.counts).all()
    assert simulator.prior.contains(clusters.theta).all()
    g = stars.values[:, COLUMNS.index("g")]
    assert (g < clusters.limit[stars.index]).all()
    for name in ("g", "bp_rp", "parallax", "parallax_error"):
        assert torch.isfinite(stars.values[:, COLUMNS.index(name)]).all(), name
    assert (stars.values[:, COLUMNS.index("parallax_error")] > 0).all()
    membership = stars.values[:, COLUMNS.index("membership")]
    known = membership[torch.isfinite(membership)]
    assert ((known >= 0.5) & (known <= 1)).all()


def test_mean_parallax_is_the_inverse_distance_plus_the_zero_point():
    simulator = ClusterSimulator(quiet(members=(200, 400)))
    clusters = simulator.draw(60, keyed(6))
    stars, _ = simulator.observe(clusters, keyed(7))
    parallax, error = stars.values[:, 2], stars.values[:, 3]
    for i in range(60):
        here = stars.index == i
        weight = 1 / error[here] ** 2
        mean = float((parallax[here] * weight).sum() / weight.sum())
        expected = float(1 / clusters.theta[i, 2] + clusters.zero_point[i])
        # Depth along the line of sight adds to the formal error of nearby clusters, where a few
        # bright stars have most of the weight.
        effective = float(weight.sum() ** 2 / (weight**2).sum())
        depth = float(clusters.depth[i] / clusters.theta[i, 2] ** 2) / effective**0.5
        tolerance = 5 * float(weight.sum() ** -0.5) + 6 * depth + 0.002
        assert mean == pytest.approx(expected, abs=tolerance)


def test_stars_lie_on_their_isochrone():
    prior = PriorSettings(log_age=(8.4, 8.5), extinction_v=(0.3, 0.31), distance=(0.5, 0.51))
    settings = quiet(prior=prior, binary_fraction=(0.0, 0.0), members=(200, 300))
    simulator = ClusterSimulator(settings)
    clusters = simulator.draw(8, keyed(8))
    stars, _ = simulator.observe(clusters, keyed(9))
    bands = list(RELEASES["EDR3"].bands)
    grid = StellarGrid.shipped(bands)
    for i in range(8):
        log_age, extinction_v, distance, metallicity = clusters.theta[i].tolist()
        isochrone = grid.isochrone(log_age, metallicity)
        curve = torch.as_tensor(isochrone.magnitudes(bands, extinction_v=extinction_v))
        track = torch.stack(
            [curve[:, 0] + 5 * torch.tensor(distance).log10() + 10, curve[:, 1] - curve[:, 2]], -1
        ).float()
        g_and_colour = stars[i][:, :2]
        bright = g_and_colour[:, 0] < 15.5
        gap = torch.cdist(g_and_colour[bright], track[torch.isfinite(track).all(1)]).min(1).values
        assert float(gap.median()) < 0.05


def test_doubles_brighten_the_sequence():
    prior = PriorSettings(log_age=(8.4, 8.5), extinction_v=(0.3, 0.31), distance=(0.5, 0.51))
    spread = []
    for fraction in (0.0, 1.0):
        settings = quiet(prior=prior, binary_fraction=(fraction, fraction), members=(300, 301))
        simulator = ClusterSimulator(settings)
        stars, _ = simulator.observe(simulator.draw(12, keyed(10)), keyed(11))
        g, colour = stars.values[:, 0], stars.values[:, 1]
        dwarfs = (colour > 1.0) & (colour < 1.2)
        spread.append(float(g[dwarfs].median()))
    assert spread[0] - spread[1] > 0.1


def test_contamination_setting_makes_field_stars():
    shares = []
    for contamination in (0.0, 0.3):
        settings = DataSettings(contamination=contamination, members=(100, 300))
        simulator = ClusterSimulator(settings)
        clusters = simulator.draw(100, keyed(12))
        shares.append(float(clusters.contamination.mean()))
    assert shares[0] == 0
    assert 0.2 < shares[1] < 0.4


def test_no_list_needs_more_mass_than_allowed():
    heavy = ClusterSimulator(DataSettings(max_cluster_mass=1e5)).draw(400, keyed(13))
    light = ClusterSimulator(DataSettings(max_cluster_mass=1e3)).draw(400, keyed(13))
    assert light.n_listed.mean() < 0.5 * heavy.n_listed.mean()
    # Small clusters are seen when they are near.
    assert light.theta[:, 2].median() < heavy.theta[:, 2].median()
