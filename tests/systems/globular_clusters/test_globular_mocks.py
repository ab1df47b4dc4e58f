"""Mocks of the globular clusters: truths, conservation, distances, areas."""

import math

import h5py
import pytest
import torch
from small_library import SMALL, write_run

from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream, keyed_generator
from melotte.errors import MelotteValueError
from melotte.io.star_snapshots import SOLAR_MAGNITUDE_V
from melotte.sky.cluster_libraries import ClusterLibrary
from melotte.systems.globular_clusters import scenes as scenes_module
from melotte.systems.globular_clusters.library_stars import load_stars, truths_of
from melotte.systems.globular_clusters.observing import turned
from melotte.systems.registry import build_system, load_preset

# Everything falls on the map, and nothing but the cluster.
WIDE = ["data.pixel_scale=8.0", "data.psf_fwhm=16.0", "data.distance=[80, 160]", "data.offset=0"]
CLEAN = [
    "data.noise=none",
    "data.label_spread=0",
    "data.dispersion_share=0",
    "data.missing_band_share=0",
    "data.extinction.mean=0",
    "data.dark_mass.share=0",
]


def system_of(library, *settings):
    named = f"data.library={library}"
    return build_system(load_preset("globular", [*SMALL, named, *settings]))


def column(system, batch_theta, name):
    return batch_theta[:, [one.name for one in system.parameters].index(name)]


def test_truths_are_those_of_the_stars(library):
    system = system_of(library, *WIDE, *CLEAN, "data.log_age=[9.9, 10.15]")
    scenes = system.draw(12, keyed_generator(1, 0))
    with ClusterLibrary(library) as read:
        runs = sorted(read.runs, key=lambda one: one.name)
        for row, number in enumerate(scenes.run.tolist()):
            snapshot = read.snapshot(runs[number], 2)
            truth = truths_of(snapshot) | {
                "log_mass_fov": math.log10(snapshot.mass.sum()),
                "mass_to_light_v": snapshot.mass.sum() / snapshot.light_v.sum(),
            }
            dead = (snapshot.kind == 11) | (snapshot.kind == 14)
            assert truth["remnant_fraction"] == pytest.approx(
                snapshot.mass[dead].sum() / snapshot.mass.sum()
            )
            assert truth["log_age"] == pytest.approx(math.log10(12e9))
            for name, value in truth.items():
                found = float(column(system, scenes.theta, name)[row])
                assert found == pytest.approx(value, rel=1e-4), name
            assert float(scenes.mass[row].sum()) == pytest.approx(snapshot.mass.sum(), rel=1e-5)


def test_light_is_kept_and_falls_with_the_square_of_the_distance(library):
    near, far = (
        system_of(library, *WIDE[:2], *CLEAN, "data.offset=0", f"data.distance={distance}")
        for distance in (80, 160)
    )
    batches = []
    for system in (near, far):
        generator = keyed_generator(2, 0)
        scenes = system.draw(6, generator)
        light = 10 ** (scenes.log_light_fov - 0.4 * SOLAR_MAGNITUDE_V)
        # Moffat's wings leave the map.
        ratio = scenes.light[:, 0].sum((1, 2)) / light
        assert (ratio > 0.9).all()
        assert (ratio < 1.001).all()
        batches.append(system.observe(scenes, generator))
    first, second = (one.observation.data["flux"].sum((2, 3)) for one in batches)
    torch.testing.assert_close(first / second, torch.full_like(first, 4.0), rtol=0.06, atol=0)
    # B - V of every star is 0.7.
    torch.testing.assert_close(
        first[:, 0] / first[:, 1], torch.full((6,), 10**0.28), rtol=2e-3, atol=0
    )


def test_the_map_is_the_mass_smoothed(library):
    system = system_of(library, *WIDE, *CLEAN, "data.mass_floor=1e-12")
    generator = keyed_generator(3, 0)
    scenes = system.draw(4, generator)
    batch = system.observe(scenes, generator)
    target = batch.targets["log_mass_map"]
    assert target.shape == (4, 1, 48, 48)
    torch.testing.assert_close(
        (10**target).sum((1, 2, 3)), scenes.mass.sum((1, 2)), rtol=1e-4, atol=0
    )
    assert float(scenes.mass.amax()) > 2 * float((10**target).amax())


def test_the_floor_of_the_map(library):
    system = system_of(library, *CLEAN, "data.distance=5", "data.mass_floor=0.1")
    generator = keyed_generator(3, 0)
    target = system.observe(system.draw(4, generator), generator).targets["log_mass_map"]
    assert float(target.min()) == pytest.approx(-1)


@pytest.mark.parametrize("orientation", ["random", "quarter_turns"])
def test_the_same_generator_gives_the_same_mocks(library, orientation):
    system = system_of(library, f"data.orientation={orientation}")
    one, two = (mock_batch(system, 8, 5, 3, views=2) for _ in range(2))
    for name, value in one.observation.data.items():
        assert torch.equal(value.nan_to_num(-1), two.observation.data[name].nan_to_num(-1)), name
    assert torch.equal(one.theta.nan_to_num(-1), two.theta.nan_to_num(-1))
    other = mock_batch(system, 8, 5, 4, views=2)
    assert not torch.equal(one.observation.data["noise"], other.observation.data["noise"])


def test_labels_scatter_in_training_alone(library):
    seen = {}
    for area in ("training", "test"):
        exact, spread = (
            system_of(library, f"data.label_spread={factor}").in_area(area) for factor in (0, 1)
        )
        # The scatter is drawn last, and the batch small enough to be drawn at once.
        pair = [one.draw(60, keyed_generator(1, 1)).theta for one in (exact, spread)]
        seen[area] = pair[1] - pair[0]
    assert not bool(seen["test"].nan_to_num(0).any())
    system = system_of(library)
    assert not bool(column(system, seen["training"], "distance").any())
    for name, size in (("log_age", 0.01), ("log_mass_fov", 0.01), ("remnant_fraction", 0.003)):
        found = column(system, seen["training"], name)
        found = found[found.isfinite()]
        assert float(found.std()) == pytest.approx(size, rel=0.3)


def test_many_scenes_are_drawn_a_few_at_a_time(library, monkeypatch):
    monkeypatch.setattr(scenes_module, "AT_ONCE", 3)
    system = system_of(library)
    generator = keyed_generator(1, 1)
    scenes = system.draw(8, generator)
    again = keyed_generator(1, 1)
    first = system.draw(3, again)
    second = system.draw(3, again)
    assert len(scenes) == 8
    assert torch.equal(scenes.light[:3], first.light)
    assert torch.equal(scenes.mass[3:6], second.mass)
    assert torch.equal(scenes.pointing.centre[3:6], second.pointing.centre)
    assert scenes.run.shape == scenes.log_light_fov.shape == (8,)


def test_views_share_a_cluster_and_differ_in_orientation_and_noise(library):
    system = system_of(library, "data.missing_band_share=0")
    batch = mock_batch(system, 16, 5, 3, views=8)
    theta = batch.theta.nan_to_num(-1).view(2, 8, -1)
    assert torch.equal(theta, theta[:, :1].expand(-1, 8, -1))
    masses = (10 ** batch.targets["log_mass_map"]).sum((1, 2, 3)).view(2, 8)
    torch.testing.assert_close(masses, masses[:, :1].expand(-1, 8), rtol=1e-4, atol=0)
    maps = batch.targets["log_mass_map"][:8]
    assert len({tuple(one.flatten().tolist()) for one in maps}) > 3
    assert len(set(batch.observation.data["noise"][:8, 0].tolist())) == 8


def test_all_eight_orientations_of_a_square():
    square = torch.arange(9.0).view(1, 3, 3).expand(8, 3, 3)
    found = turned(square, torch.arange(8))
    assert len({tuple(one.flatten().tolist()) for one in found}) == 8
    assert torch.equal(found[0], square[0])


def test_orientations_that_are_fixed_are_four_a_snapshot(library):
    plain = [*WIDE, *CLEAN, "data.log_age=[9.9, 10.15]", "data.distance=100"]
    seen = []
    for orientation in ("quarter_turns", "random"):
        system = system_of(library, *plain, f"data.orientation={orientation}")
        scenes = system.draw(60, keyed_generator(4, 0))
        views = {tuple(one.flatten().tolist()) for one in scenes.mass[scenes.run == scenes.run[0]]}
        seen.append(len(views))
    assert seen[0] <= 4
    assert seen[1] > 8


def test_groups_are_runs_and_areas_share_none(library):
    system = system_of(library)
    assert system.shared_groups
    runs = {
        area: set(system.in_area(area).draw(30, keyed_generator(1, 1)).run.tolist())
        for area in ("training", "validation", "test")
    }
    # In the order of their names: pidoc-training, test, training (3), validation.
    assert runs == {"training": {2, 3, 4}, "validation": {5}, "test": {1}}
    batch = mock_batch(system, 8, 1, Stream.MOCKS, 7)
    assert set(batch.group.tolist()) == {1}


AREAS = ("training", "validation", "test")


@pytest.fixture(scope="module")
def one_family(tmp_path_factory):
    """Libraries of 30 runs, and of the same and 30 more."""
    files = []
    for count in (30, 60):
        path = tmp_path_factory.mktemp("family") / f"{count}.h5"
        with h5py.File(path, "w") as file:
            for number in range(count):
                write_run(file, f"training-{number:03d}", "training", number % 10, 300)
        files.append(path)
    return files


def test_one_family_is_split_by_runs_whatever_else_the_library_holds(one_family):
    chosen = []
    for path in one_family:
        data = system_of(path).data
        chosen.append({area: set(load_stars(data, area).run.tolist()) for area in AREAS})
    few, many = chosen
    assert sum(len(one) for one in many.values()) == 60
    assert set.union(*many.values()) == set(range(60))
    for area, runs in few.items():
        assert runs == {one for one in many[area] if one < 30}
    assert len(many["training"]) > 40


def test_single_snapshots_are_kept_where_the_settings_say_so(one_family):
    data = system_of(one_family[0], "data.split=snapshot").data
    stars = [load_stars(data, area) for area in AREAS]
    keys = [set(one.key.tolist()) for one in stars]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 90
    assert set(stars[1].run.tolist()) & set(stars[0].run.tolist())


def test_distances_and_seeings_of_a_list(library):
    system = system_of(
        library,
        "data.distances=[10, 50]",
        "data.test_distances=[30]",
        "data.psf_fwhms=[0.5, 1.5]",
        "data.test_psf_fwhms=[1.0]",
    )
    pointing = system.draw(30, keyed_generator(1, 1)).pointing
    assert set(pointing.distance.tolist()) == {10.0, 50.0}
    assert set(pointing.psf_fwhm.tolist()) == {0.5, 1.5}
    pointing = system.in_area("test").draw(5, keyed_generator(1, 1)).pointing
    assert set(pointing.distance.tolist()) == {30.0}
    assert set(pointing.psf_fwhm.tolist()) == {1.0}
    assert pointing.centre.abs().max() <= 5


def test_nearer_training_clusters_count_as_at_the_near_end(library):
    settings = ["data.distance=[6, 100]", "data.nearer_factor=3"]
    system = system_of(library, *settings, "data.distance_share=1", "data.label_spread=0")
    scenes = system.draw(60, keyed_generator(1, 1))
    true, label = scenes.pointing.distance, scenes.theta[:, 0]
    assert 2 <= float(true.min()) < 4
    assert float(true.max()) <= 100
    torch.testing.assert_close(label, true.clamp(min=6))
    fields = mock_batch(system, 30, 1, 0).observation.data
    assert float(fields["distance_told"].min()) < 5
    for area in ("validation", "test"):
        served = system.in_area(area).draw(60, keyed_generator(1, 1))
        assert float(served.pointing.distance.min()) >= 6
    low, high = system.parameters[0].low, system.parameters[0].high
    assert (low, high) == pytest.approx((6, 100), rel=2e-3)


def test_noise_is_that_of_empty_sky(library):
    system = system_of(
        library,
        "data.distance=[9000, 10000]",
        "data.sky.field_star_share=0",
        "data.sky.level_error=0",
    )
    data = mock_batch(system, 16, 1, 0).observation.data
    scatter = data["flux"].flatten(2).std(2)
    known = data["noise"].isfinite()
    assert known[:, 0].all()
    torch.testing.assert_close(scatter[known], data["noise"][known], rtol=0.08, atol=0)


def test_bright_stars_saturate(library):
    system = system_of(library, "data.distance=3.0", "data.sky.saturation=18.0")
    data = mock_batch(system, 24, 1, 0).observation.data
    unknown = data["flux"][:, 0].isnan().flatten(1)
    assert bool(unknown.any(1).any())
    assert float(unknown.float().mean()) < 0.2


@pytest.mark.parametrize(
    "kinematics",
    [
        "{star_share: 0, exposure: [1.0e+12, 1.0e+12], least_signal: 0}",
        "{star_share: 1, star_limit: [99, 99], star_error: [0.01, 0.01], observed_share: [1, 1]}",
    ],
)
def test_dispersions_are_those_of_the_stars(library, kinematics):
    settings = [*WIDE, "data.dispersion_share=0.5", "data.orientation=random"]
    # So few stars at such a distance give no spectrum worth its name, and are too faint.
    poor = system_of(library, *settings)
    assert not bool(poor.draw(9, keyed_generator(1, 0)).dispersion.isfinite().any())
    system = system_of(library, *settings, f"data.kinematics={kinematics}")
    scenes = system.draw(40, keyed_generator(1, 0))
    seen = scenes.dispersion.isfinite().flatten(1).any(1)
    assert 10 < int(seen.sum()) < 30
    assert scenes.dispersion.shape == (40, 3, 3)
    # Velocities scatter by 3 along the radius and have a mean square of 16 across it, half of
    # which is seen from the side; most stars' light falls in the middle bin.
    middle = scenes.dispersion[seen, 1, 1]
    expected = math.sqrt(3**2 / 3 + 4**2 / 3)
    assert float(middle.square().mean().sqrt()) == pytest.approx(expected, rel=0.15)
    data = mock_batch(system, 24, 1, 0).observation.data
    assert set(data) >= {"dispersion", "dispersion_error"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["data.library=null"], "melotte simulate clusters"),
        (["data.log_age=[10.1, 10.15]"], "no snapshot for the area 'training'"),
        (["data.least_stars=100000"], "100000 stars or more"),
    ],
)
def test_a_library_that_does_not_serve_is_refused(library, settings, complaint):
    system = system_of(library, *settings)
    with pytest.raises(MelotteValueError, match=complaint):
        system.draw(2, keyed_generator(1, 1))


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("data.bands=[B]", r"\[V, B\]"),
        ("data.size=50", "16"),
        ("data.distance=[5, 2]", "must be above 0 and not fall"),
        ("data.nearer_factor=0.5", "greater than or equal to 1"),
        ("data.distance_error=[0, 0.1]", "distance_error: .* must be above 0"),
        ("data.families={training: [a], test: [a]}", "different families"),
        ("model.blocks=[1]", "one a stage"),
    ],
)
def test_settings_that_are_refused(library, setting, complaint):
    with pytest.raises(MelotteValueError, match=complaint):
        system_of(library, setting)
