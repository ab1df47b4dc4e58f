"""The papers' figures: what is drawn is what was given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_figures import everything_inside

from melotte.errors import MelotteValueError
from melotte.parameters import Parameter
from melotte.report import cluster_image_figures as figures
from melotte.report import cluster_image_galleries as galleries
from melotte.report import cluster_image_grids as grids
from melotte.report import cluster_image_populations as populations
from melotte.report import visibility_figures as visibilities
from melotte.report.style import PINK, RED

PARAMETERS = (
    Parameter("log_age", 6.6, 10.1),
    Parameter("extinction_v", 0, 3, "mag"),
    Parameter("log_mass", 3.5, 5.5),
    Parameter("half_number_radius", 0.04, 0.4, "arcsec", "log"),
)
N = 800


def planted(spread=0.1, seed=0, n=N):
    """Truths over the ranges, and estimates with errors of known scatter, size in dex."""
    rng = np.random.default_rng(seed)
    ends = np.array([figures.axis_range(one) for one in PARAMETERS])
    true = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * rng.random((n, 4))
    given = true + spread * rng.normal(size=true.shape)
    true[:, 3], given[:, 3] = 10 ** true[:, 3], 10 ** given[:, 3]
    return true, given


def dashed(axes):
    return [line for line in axes.lines if line.get_linestyle() == "--"]


def test_dashed_lines_hold_95_percent_on_the_scale_of_each_parameter():
    true, given = planted(0.1)
    given[:3] = np.nan
    figure = figures.true_inferred_figure(
        {"network": (true, given), "none": (true, np.full_like(given, np.nan))},
        PARAMETERS,
        {"log_age": 0.9, "half_number_radius": 0.2},
    )
    assert everything_inside(figure)
    for i in range(4):
        low, high = (float(np.mean(line.get_ydata() - np.asarray(line.get_xdata())))
                     for line in dashed(figure.axes[i]))  # fmt: skip
        assert high == pytest.approx(0.196, abs=0.02)
        assert low == pytest.approx(-high)
    assert "published 0.9" in figure.axes[0].texts[0].get_text()
    assert not dashed(figure.axes[4])


def test_misdated_clusters_are_marked_by_their_direction():
    true, given = planted(0.01)
    given[:30, 0] -= 1
    given[30:50, 0] += 1
    figure = figures.true_inferred_figure({"network": (true, given)}, PARAMETERS)
    for axes in figure.axes:
        marked = {
            "#{:02x}{:02x}{:02x}".format(
                *(round(255 * c) for c in one.get_facecolor()[0][:3])
            ): len(one.get_offsets())
            for one in axes.collections
            if one.get_paths() and len(one.get_facecolor()) == 1
        }
        assert 20 <= marked[RED] <= 30
        assert 10 <= marked[PINK] <= 20


def test_class_and_visibility_show_every_mock_and_field():
    rng = np.random.default_rng(3)
    cluster = np.arange(N) < N // 2
    true = np.where(cluster, 10 ** rng.uniform(-0.5, 2, N), 0)
    seen = np.where(cluster, true * 10 ** (0.1 * rng.normal(size=N)), 0.0)
    probability = np.clip(np.where(cluster, 0.9, 0.1) + 0.1 * rng.normal(size=N), 0, 1)
    figure = visibilities.class_visibility_figure(probability, seen, cluster, true, "ours")
    assert everything_inside(figure)
    main = next(axes for axes in figure.axes if axes.get_xlabel() == "probability of a cluster")
    assert [len(one.get_offsets()) for one in main.collections] == [N // 2, N // 2]
    corner = next(axes for axes in figure.axes if axes.get_xlabel() == "true visibility")
    assert float(corner.get_title(loc="left").split()[3]) == pytest.approx(0.196, abs=0.03)
    assert len(visibilities.class_visibility_figure(probability, seen, cluster).axes) == 3


def test_pairs_of_parameters_have_six_panels_and_colours_of_visibility():
    _, given = planted()
    seen = np.geomspace(0.1, 100, N)
    figure = figures.selection_figure(given, PARAMETERS, seen, "mocks")
    assert everything_inside(figure)
    panels = [axes for axes in figure.axes if axes.collections and axes.get_xlabel()]
    assert len(panels) == 6
    offsets = np.asarray(panels[0].collections[0].get_offsets())
    np.testing.assert_allclose(offsets, given[:, :2])
    np.testing.assert_allclose(
        np.asarray(panels[2].collections[0].get_offsets())[:, 1], np.log10(given[:, 3])
    )


def test_fields_that_look_like_clusters_stand_out():
    _, given = planted()
    probability = np.linspace(0, 1, N)
    figure = figures.background_selection_figure(given, PARAMETERS, probability, given[:50])
    assert everything_inside(figure)
    behind, dots = figure.axes[0].collections[:2]
    assert len(behind.get_offsets()) == 50
    sizes = dots.get_sizes()
    assert sizes[-1] > 5 * sizes[0]
    assert len(np.unique(dots.get_facecolors(), axis=0)) == 3


def test_coverage_is_drawn_at_each_bin():
    rows = {"ours": {"log_age": ([0.6, 0.7], [0.02, 0.03])}, "other": {"log_age": ([0.5] * 2,) * 2}}
    figure = visibilities.coverage_visibility_figure(["< 1", "> 1"], rows)
    assert everything_inside(figure)
    np.testing.assert_allclose(figure.axes[0].containers[0][0].get_ydata(), [0.6, 0.7])


def test_boxes_are_percentiles_of_each_bin():
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 2, 40_000)
    error = np.where(true < 1, 0.1, 0.3) * rng.normal(size=len(true)) + 0.05
    found = grids.binned_errors(true, error, [0, 1, 2])
    np.testing.assert_allclose(found.std, [0.1, 0.3], rtol=0.03)
    np.testing.assert_allclose(found.quantiles[:, 2], 0.05, atol=0.01)
    np.testing.assert_allclose(found.quantiles[:, 4] - 0.05, 2.054 * found.std, rtol=0.04)
    assert found.counts.sum() == len(true)
    assert len(found.outside[0]) == pytest.approx(0.04 * found.counts[0], rel=0.02)
    edge = grids.binned_errors([2.0, 2.1, -0.1, np.nan], [0, 0, 0, 0], [0, 1, 2])
    assert edge.counts.tolist() == [0, 1]
    assert math.isnan(edge.std[1])


def test_box_figure_has_a_panel_for_each_pair():
    true, given = planted()
    columns = [0, 2]
    pair = (true[:, columns], given[:, columns])
    figure = grids.box_figure(
        {"one": pair, "two": pair}, ["age", "mass"], [np.linspace(6.6, 10.1, 4), [3.5, 4.5, 5.5]]
    )
    assert everything_inside(figure)
    assert len(figure.axes) == 4


def scattered(truth, mean, spread, seed=0, n=4000):
    rng = np.random.default_rng(seed)
    return grids.node_scatter(truth, np.asarray(mean) + rng.normal(size=(n, 2)) * spread)


def test_one_sigma_of_two_dimensions_holds_39_percent():
    node = scattered((7, 3), (7.2, 3.1), (0.1, 0.3))
    assert node.inside == pytest.approx(1 - math.exp(-0.5), abs=0.02)
    np.testing.assert_allclose(node.mean - node.truth, [0.2, 0.1], atol=0.02)
    distance = np.abs((node.outline() - node.mean) / (0.1, 0.3))
    np.testing.assert_allclose((distance**2).sum(1), 1, atol=0.1)
    with pytest.raises(MelotteValueError, match="needs 3"):
        grids.node_scatter((0, 0), [[0, 0], [1, 1], [np.nan, 0]])


def test_ellipses_touch_when_they_should():
    node = scattered((0, 0), (0, 0), (1, 0.2))
    assert not node.overlaps(scattered((0, 0), (2.2, 0), (1, 0.2)))
    assert node.overlaps(scattered((0, 0), (1.8, 0), (1, 0.2)))
    assert not node.overlaps(scattered((0, 0), (0, 0.5), (1, 0.2)))
    assert node.overlaps(scattered((0, 0), (0, 0), (0.01, 0.01)))
    # Crossed: neither holds the other's outline as a whole, nor its ends.
    assert node.overlaps(scattered((0, 0), (0, 0), (0.2, 1)))


@pytest.mark.parametrize(("step", "groups"), [(3.0, 5), (1.3, 3), (0.3, 1)])
def test_groups_that_can_be_told_apart_are_counted(step, groups):
    nodes = [scattered((i, 0), (step * i, 0), (1, 1), seed=i) for i in range(5)]
    assert grids.separable(nodes) == groups


def test_nodes_are_drawn_with_their_biases():
    nodes = [scattered((i, 1), (i + 0.1, 1.1), (0.05, 0.05)) for i in range(3)]
    figure = grids.node_figure(
        {"one": {"7": nodes, "8": nodes}, "two": {"7": nodes}}, "age", "mass"
    )
    assert everything_inside(figure)
    assert len(figure.axes[0].patches) == 3
    assert tuple(figure.axes[0].patches[0].get_center()) == pytest.approx((0.1, 1.1), abs=0.01)


def picture(level=0.0, seed=0):
    rng = np.random.default_rng(seed)
    image = 0.01 * rng.normal(size=(3, 16, 16)) + 0.1
    image[:, 7:9, 7:9] += level
    return image


def test_the_reddest_band_is_red_and_the_background_is_dark():
    image = picture()
    image[2, 8, 8] += 5
    image[0, 3, 3] += 5
    image[1, 0, 0] = np.nan
    stretch = galleries.stretch_of(np.stack([image, picture(5.0)]))
    shown = galleries.rgb_image(image, stretch)
    assert shown.shape == (16, 16, 3)
    assert shown[8, 8, 0] > 0.9 > shown[8, 8, 2]
    assert shown[3, 3, 2] > 0.9 > shown[3, 3, 0]
    assert np.median(shown) < 0.4
    assert shown[0, 0, 1] == 0.5
    assert galleries.rgb_image(image[:1], galleries.stretch_of(image[None, :1])).shape[2] == 3
    with pytest.raises(MelotteValueError, match="no known pixel"):
        galleries.stretch_of(np.full((1, 3, 4, 4), np.nan))


def test_gallery_writes_faint_visibilities_only():
    row = [galleries.Picture(picture(1.0), 12.3, 3.0), galleries.Picture(picture(9.0), 512.0)]
    one = galleries.Gallery("7.5", [row, row], ["5.0", "4.0"], ["-1.0", "-0.5"])
    figure = galleries.gallery_figure([one, one, one], "log mass", "log size")
    assert everything_inside(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["12", "12"]
    assert len(figure.axes[0].images) == 4


def test_stochastic_maps_lie_in_their_ranges():
    density = np.zeros((20, 10))
    density[15, 2] = 1
    one = galleries.StochasticMap((9.0, 0.5), density, np.array([[9.1, 0.6], [8.9, 0.4]]))
    axes_of = [("age", "extinction"), ("age", "mass")]
    ranges = [((6.4, 10.3), (0.0, 3.3)), ((6.4, 10.3), (3.3, 5.7))]
    figure = galleries.stochastic_figure([("stars", [[one, one], [one]])], axes_of, ranges)
    assert everything_inside(figure)
    image = figure.axes[0].images[0]
    assert image.get_array().shape == (10, 20)
    assert tuple(np.argwhere(image.get_array() > 0)[0]) == (2, 15)


def test_colours_are_differences_of_magnitudes():
    rng = np.random.default_rng(4)
    light = rng.uniform(17, 24, (N, 3))
    light[0] = np.inf
    bands = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")
    age = rng.uniform(6.6, 10, N)
    partly = np.where(np.arange(N) < 100, age, np.nan)
    track = populations.Track("SSP", light[1:20])
    figure = populations.colour_figure(light, bands, {"age": age, "low": partly}, [track], 23.0)
    assert everything_inside(figure)
    offsets = np.asarray(figure.axes[0].collections[0].get_offsets())
    np.testing.assert_allclose(
        offsets, np.stack([light[1:, 1] - light[1:, 2], light[1:, 0] - light[1:, 1]], 1)
    )
    assert len(figure.axes[1].collections[0].get_offsets()) == 99
    assert figure.axes[2].yaxis_inverted()
    with pytest.raises(MelotteValueError, match="magnitude"):
        populations.colour_figure(light[:, :2], bands, {})


def test_power_laws_have_the_numbers_they_are_normalised_to():
    edges = np.linspace(3.5, 6.0, 26)
    counts = populations.expected_counts(edges, math.inf, 500.0, 4.0)
    assert counts[edges[:-1] > 3.99].sum() == pytest.approx(500, rel=0.01)
    # dN/dM ~ M^-2 is a slope of -1 in the number a dex.
    slope = np.polyfit(edges[:-1], np.log10(counts), 1)[0]
    assert slope == pytest.approx(-1, abs=0.01)
    cut = populations.expected_counts(edges, 2.5e5, 500.0, 4.0)
    assert cut[-1] < 0.1 * counts[-1]
    assert populations.truncated_power_law(2.0e5, 1e6) == pytest.approx(math.exp(-0.2) / 4e10)


def test_mass_function_counts_clusters_of_each_age():
    rng = np.random.default_rng(5)
    mass = 3.5 + rng.exponential(1 / math.log(10), 4000)
    age = rng.uniform(6.6, 9.5, 4000)
    figure = populations.mass_function_figure(mass, age)
    assert everything_inside(figure)
    inside = (mass >= 3.5) & (mass <= 6)
    young = int((inside & (age < 7.7)).sum())
    drawn = figure.axes[0].containers[0][0]
    assert int(np.sum(drawn.get_ydata())) == young
    curve = next(
        line
        for line in figure.axes[0].lines
        if line.get_color() == RED and line.get_linestyle() == "-"
    )
    ratio = np.asarray(drawn.get_ydata())[:6] / np.asarray(curve.get_ydata())[:6]
    np.testing.assert_allclose(ratio, 1, atol=0.25)
