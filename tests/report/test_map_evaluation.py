"""Figures of maps of mass, of planted readings: what they count, and that all are drawn."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from test_figures import everything_inside, legends_cover_nothing

from melotte.networks.map_posteriors import MapPosterior
from melotte.report.field_luminosities import (
    PUBLISHED_CLUSTERS,
    literature_figure,
    luminosity_figure,
    measured_light_figure,
    within_mocks,
)
from melotte.report.map_evaluation import CAPTIONS, map_figures
from melotte.report.map_gallery import measured_figure
from melotte.report.residual_panels import CountedPairs
from melotte.systems.base import Observation
from melotte.systems.globular_clusters.derived_maps import smoothed_light
from melotte.systems.globular_clusters.judging import MapExample, MapJudge
from melotte.systems.globular_clusters.map_readings import MapReading, MapTruth, of_map
from melotte.systems.globular_clusters.map_scores import MapScores
from melotte.systems.globular_clusters.mass_profiles import mass_profiles
from melotte.systems.globular_clusters.settings import DataSettings


class Judge(MapJudge):
    """What figures ask of a judge, without a system."""

    def __init__(self, scores: MapScores, examples: list[MapExample]) -> None:
        self.scores, self.listed = scores, examples

    def examples(self, n=6):
        return self.listed[:n]


def legend_of(figure):
    """Texts of the first panel's legend."""
    return figure.axes[0].get_legend_handles_labels()[1]


def planted(distances, with_error, n=60, side=24):
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[:side, :side] - side / 2
    shape = -0.5 * np.log10(1 + (rows**2 + columns**2) / 9)
    log_map = (rng.uniform(-1, 1, n)[:, None, None] + shape).astype(np.float32)
    light = rng.uniform(500, 3000, n)
    sums = of_map(log_map, light)
    values = sums | {"age": rng.uniform(1, 13, n), "distance": rng.choice(distances, n)}
    truth = MapTruth(log_map, light, values, np.arange(n) // 6)
    given = (log_map + 0.1 * rng.normal(size=log_map.shape)).astype(np.float32)
    scale = np.full(given.shape, 0.1, dtype=np.float32) if with_error else None
    guess = of_map(given, light) | {
        "age": values["age"] + rng.normal(size=n),
        "distance": values["distance"] * np.exp(0.1 * rng.normal(size=n)),
    }
    reading = MapReading(given, scale, None, guess, {})
    scores = MapScores(-3.0)
    scores.add(truth, reading)
    examples = [
        MapExample(
            np.where(log_map[i] > -1.4, 10.0 ** log_map[i], np.nan),
            log_map[i],
            given[i],
            None if scale is None else scale[i],
            10.0 ** log_map[i] / 2,
            0.25,
            (values["age"][i], guess["age"][i]),
            (values["distance"][i], guess["distance"][i]),
            float(sums["map_mass"][i]),
        )
        for i in range(3)
    ]
    return Judge(scores, examples)


@pytest.mark.parametrize("with_error", [True, False])
def test_every_figure_is_drawn_and_described(tmp_path, with_error):
    distances = [15.0, 30.0, 60.0, 80.0] if with_error else np.geomspace(3, 100, 60)
    found = map_figures(planted(distances, with_error))
    assert set(found) == set(CAPTIONS)
    for name, figure in found.items():
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{name}.png", dpi=30)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    rows = 5 if with_error else 4
    names = [axes.get_ylabel() for axes in found["gallery"].axes]
    assert sum(bool(name) for name in names[: rows * 3]) == rows


def test_residuals_of_counted_pairs_are_those_of_the_pairs():
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 10, 20_000)
    given = true + 0.5 + 0.3 * rng.normal(size=true.shape)
    pairs = CountedPairs.of(true, given, "x", "")
    assert pairs.counts.sum() == pytest.approx(20_000, abs=60)
    place, mean, spread = pairs.residuals(0)
    middle = (place > 2) & (place < 8)
    np.testing.assert_allclose(mean[middle], 0.5, atol=0.05)
    np.testing.assert_allclose(spread[middle], 0.3, atol=0.05)
    # By the prediction, where the truth is even: the same.
    _, mean, _ = pairs.residuals(1)
    np.testing.assert_allclose(mean[middle], 0.5, atol=0.05)
    assert np.isnan(CountedPairs.of([1.0, 2.0], [1.0, 2.0], "x", "").residuals(0)[1]).all()


def test_five_published_clusters_are_within_light_like_pidoc_s():
    # Sect. 5: 300 to 5000 Lsun for clusters older than 11 Gyr between 10 and 40 kpc.
    rng = np.random.default_rng(3)
    light = np.exp(rng.uniform(np.log(300), np.log(5000), 6000))
    far = np.exp(rng.uniform(np.log(8), np.log(60), 6000))
    known = PUBLISHED_CLUSTERS
    found = within_mocks(known.luminosity, known.distance, light, np.full(6000, 12.0), far)
    assert found.tolist() == [True] * 5 + [False] * 12
    young = within_mocks(known.luminosity, known.distance, light, np.full(6000, 3.0), far)
    assert not young.any()
    figure = luminosity_figure(light, np.full(6000, 12.0), far)
    assert legend_of(figure) == ["within the mocks' light (5)", "outside of it (12)"]
    assert legends_cover_nothing(figure)


def test_few_mocks_do_not_prove_a_cluster_outside():
    # Of the 17, nine are within a factor of 1.5 of 20 kpc, and four of these as faint as the mocks.
    for n, found in (
        (19, ["too few mocks to tell (17)"]),
        (199, ["within the mocks' light (4)", "too few mocks to tell (13)"]),
        (200, ["within the mocks' light (4)", "outside of it (5)", "too few mocks to tell (8)"]),
    ):
        figure = luminosity_figure(np.geomspace(300, 5000, n), np.full(n, 12.0), np.full(n, 20.0))
        assert legend_of(figure) == found


def test_measured_light_is_drawn_beside_what_is_served():
    far = np.array([[18.0, np.nan], [20.0, np.nan], [22.0, np.nan]])
    bare = measured_light_figure(3 * far**2, far, names=("NGC 1", "NGC 2"))
    assert legend_of(bare) == ["17 real clusters, 40″ (17)", "here"]
    assert [one.get_text() for one in bare.axes[0].texts] == ["NGC 1"]
    assert len(bare.axes) == 1
    served = {"log_luminosity_fov": (1.5, 4.0)}
    band = measured_light_figure(3 * far**2, far, [False, True], served)
    # Eight of the paper's clusters are fainter than 10,000 Lsun.
    assert legend_of(band) == [
        "17 real clusters, 40″ (8)",
        "17 real clusters, 40″: not served (9)",
        "here, flagged",
        "the model serves",
    ]
    assert legends_cover_nothing(band)
    field = measured_light_figure(3 * far**2, far, served=served | {"distance": (15.0, 40.0)})
    assert legend_of(field)[0] == "17 real clusters, 40″ (4)"
    assert field.axes[0].get_xlim()[1] > 40


def test_literature_is_drawn_for_what_is_known():
    literature = {"mass_to_light_v": np.array([2.0, np.nan]), "distance": np.array([7.1, 8.0])}
    estimates = {
        "mass_to_light_v": np.array([[1.5, 1.0], [1.8, 1.2], [2.2, 1.6]]),
        "distance": np.array([6.9, 12.0]),
        "age": np.array([12.0, 11.0]),
    }
    figure = literature_figure(estimates, literature, [1e4, 2e4], [True, False])
    assert len(figure.axes) == 4
    assert everything_inside(figure)
    assert legends_cover_nothing(figure)
    texts = [one.get_text() for one in figure.legends[0].get_texts()]
    # The second cluster's M/L is unknown: it is in the other column alone.
    assert texts == ["pi-DOC, 2021", "here", "here, flagged"]
    residuals = [axes.get_ylabel() for axes in figure.axes[2:]]
    assert residuals == [r"residual / (M$_\odot$/L$_\odot$)", "residual / kpc"]


def test_error_bars_beside_the_literature_are_whole_but_for_one_that_is_very_long():
    literature = {"distance": np.array([30.0, 40.0])}
    for high, top in ((60.0, 62.4), (600.0, 1.6 * 1.08 * 41.0)):
        estimates = {"distance": np.array([[25.0, 30.0], [31.0, 41.0], [35.0, high]])}
        figure = literature_figure(estimates, literature, [1e4, 2e4], with_published=False)
        assert figure.axes[0].get_ylim()[1] == pytest.approx(top)


def test_a_measured_cluster_is_drawn_with_and_without_errors():
    rows, columns = np.mgrid[:40, :40] - 20.0
    log_map = -np.log10(1 + (rows**2 + columns**2) / 25)
    light = 10**log_map
    light[:3] = np.nan
    whole = measured_figure(light, log_map, np.full((40, 40), 0.1), 0.5, "a cluster")
    bare = measured_figure(light, log_map, None, 0.5)
    assert len(whole.axes) == len(bare.axes) + 1
    profile = whole.axes[3].lines[0].get_ydata()
    known = profile[np.isfinite(profile)]
    assert (np.diff(known) < 0).all()
    assert whole.axes[0].get_title(loc="left") == "a cluster"


def test_a_measured_cluster_s_ratio_is_drawn_below_its_mass():
    rows, columns = np.mgrid[:40, :40] - 20.0
    flux = torch.tensor(100 / (1 + (rows**2 + columns**2) / 25), dtype=torch.float32)
    log_map = torch.log10(flux)[None, None] - 2
    fields = {
        "flux": flux[None, None],
        "noise": torch.tensor([[1e-3]]),
        "pixel_scale": torch.tensor([0.5]),
    }
    observation, data = Observation(fields, ("a",)), DataSettings(mass_smoothing=0)
    found = mass_profiles(
        observation,
        MapPosterior(log_map, torch.full_like(log_map, 0.1)),
        smoothed_light(observation, {"distance": np.array([20.0])}, data),
    )
    scale = np.full((40, 40), 0.1)
    given = (flux.numpy(), log_map[0, 0].numpy(), scale, 0.5, "a")
    plain, figure = measured_figure(*given), measured_figure(*given, profiles=found)
    above, below = figure.axes[-2:]
    curve = plain.axes[3].lines[0].get_xydata()
    np.testing.assert_allclose(above.lines[0].get_xydata(), curve, rtol=1e-5)
    ratio = below.lines[0].get_ydata()
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert below.get_ylim()[1] / below.get_ylim()[0] >= 10
