"""Snapshots of star clusters: projection, radii, light."""

from __future__ import annotations

import numpy as np
import pytest

from melotte.errors import MelotteValueError
from melotte.io.star_snapshots import SOLAR_MAGNITUDE_V, StarSnapshot


def plummer_radii(n: int) -> np.ndarray:
    """Radii of a Plummer sphere of scale 1 pc at even fractions of its mass."""
    fraction = (np.arange(n) + 0.5) / n
    return 1 / np.sqrt(fraction ** (-2 / 3) - 1)


@pytest.fixture(scope="module")
def sphere() -> StarSnapshot:
    n = 20_000
    return StarSnapshot.of(
        np.ones(n),
        np.ones(n),
        time=12_000.0,
        radius=plummer_radii(n),
        radial_velocity=np.full(n, 3.0),
        tangential_velocity=np.full(n, 4.0),
        magnitude_v=np.full(n, SOLAR_MAGNITUDE_V),
    )


def test_plummer_half_mass_and_half_light_radii(sphere: StarSnapshot) -> None:
    # Plummer 1911: half of the mass within a (2^(2/3) - 1)^(-1/2); half in projection within a.
    assert sphere.half_mass_radius == pytest.approx((2 ** (2 / 3) - 1) ** -0.5, rel=1e-3)
    assert sphere.half_light_radius == pytest.approx(1.0, rel=1e-3)
    assert sphere.total_light_v == pytest.approx(len(sphere))


def test_half_light_radius_is_the_mean_view_and_follows_the_light(sphere: StarSnapshot) -> None:
    seen = sphere.projected(np.random.default_rng(1))
    assert seen.position is not None
    on_sky = np.hypot(seen.position[:, 0], seen.position[:, 1])
    assert np.median(on_sky) == pytest.approx(sphere.half_light_radius, rel=0.03)
    inner = sphere.distance_from_centre < 0.5
    magnitudes = np.where(inner, SOLAR_MAGNITUDE_V, np.inf)
    lit = StarSnapshot.of(sphere.mass, sphere.kind, radius=sphere.radius, magnitude_v=magnitudes)
    assert lit.half_light_radius < 0.5
    assert lit.half_mass_radius == sphere.half_mass_radius


def test_projection_of_radii_keeps_them_and_is_isotropic(sphere: StarSnapshot) -> None:
    seen = sphere.projected(np.random.default_rng(2))
    assert seen.position is not None
    assert seen.velocity is not None
    np.testing.assert_allclose(seen.distance_from_centre, sphere.distance_from_centre)
    outwards = seen.position / seen.distance_from_centre[:, None]
    np.testing.assert_allclose((seen.velocity * outwards).sum(1), 3.0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(seen.velocity, axis=1), 5.0)
    # Mean square of a direction's component is 1/3, its scatter (4/45)^(1/2) a star.
    error = 4 * np.sqrt(4 / 45 / len(seen))
    np.testing.assert_allclose((outwards**2).mean(0), 1 / 3, atol=error)
    np.testing.assert_allclose(outwards.mean(0), 0, atol=4 * np.sqrt(1 / 3 / len(seen)))
    across = seen.velocity - 3.0 * outwards
    np.testing.assert_allclose((across**2).mean(0), 16 / 3, atol=16 * error)


def test_radii_undo_a_projection(sphere: StarSnapshot) -> None:
    assert sphere.spherical() is sphere
    back = sphere.projected(np.random.default_rng(4)).spherical()
    assert back.position is None
    assert back.velocity is None
    for name in ("radius", "radial_velocity", "tangential_velocity"):
        np.testing.assert_allclose(getattr(back, name), getattr(sphere, name), atol=1e-10)
    # As does a turn of the whole cluster.
    turned = sphere.projected(np.random.default_rng(4)).projected(np.random.default_rng(5))
    np.testing.assert_allclose(turned.spherical().radial_velocity, 3.0, atol=1e-10)


def test_radii_of_places_alone_and_of_a_star_at_the_centre() -> None:
    still = StarSnapshot.of([1.0], [1], position=[[3.0, 0.0, 4.0]]).spherical()
    assert still.radius == pytest.approx([5.0])
    assert still.radial_velocity is None
    centre = StarSnapshot.of(
        [1.0], [1], position=np.zeros((1, 3)), velocity=[[0.0, -2.0, 0.0]]
    ).spherical()
    assert centre.radius == pytest.approx([0.0])
    assert centre.radial_velocity == pytest.approx([2.0])
    assert centre.tangential_velocity == pytest.approx([0.0])


def test_orbits_of_binaries_are_no_motion_in_the_cluster() -> None:
    mass = np.array([2.0, 0.5, 1.0, 0.0, 0.0])
    motion = np.array([[100.0, 0, 0], [-400.0, 0, 0], [0, 5.0, 0], [6.0, 0, 0], [0, 0, 6.0]])
    place = np.array([[10.1, 0, 0], [9.6, 0, 0], [0, 0, 2.0], [1.0, 0, 0], [3.0, 0, 0]])
    motion[:2] += [1.0, 2.0, 0.0]
    found = StarSnapshot.of(
        mass, [1, 1, 1, 15, 15], position=place, velocity=motion, system=[0, 0, 1, 2, 2]
    ).spherical()
    np.testing.assert_allclose(found.radius, [10, 10, 2, 2, 2])
    np.testing.assert_allclose(found.radial_velocity, [1, 1, 0, 3, 3], atol=1e-12)
    np.testing.assert_allclose(found.tangential_velocity, [2, 2, 5, 3, 3])


def test_rotation_is_rigid_proper_and_even_over_the_sphere() -> None:
    position = np.vstack([np.eye(3), [[1.0, 1.0, 0.0]]])
    box = StarSnapshot.of(np.ones(4), np.zeros(4), position=position, velocity=2 * position)
    generator = np.random.default_rng(3)
    turned = [box.projected(generator) for _ in range(3000)]
    for one in turned[:5]:
        assert one.position is not None
        assert one.velocity is not None
        np.testing.assert_allclose(one.position @ one.position.T, position @ position.T, atol=1e-12)
        np.testing.assert_allclose(one.velocity, 2 * one.position)
        assert np.linalg.det(one.position[:3]) == pytest.approx(1.0)
    z = np.array([one.position[2] for one in turned if one.position is not None])
    np.testing.assert_allclose((z**2).mean(0), 1 / 3, atol=4 * np.sqrt(4 / 45 / 3000))


def test_stars_of_a_system_stay_together() -> None:
    pair = StarSnapshot.of(
        np.ones(4),
        np.ones(4),
        radius=[2.0, 2.0, 2.0, 2.0],
        radial_velocity=[1.0, 1.0, 1.0, 1.0],
        tangential_velocity=[1.0, 1.0, 1.0, 1.0],
        system=[7, 3, 7, 9],
    ).projected(np.random.default_rng(4))
    assert pair.position is not None
    assert pair.velocity is not None
    np.testing.assert_array_equal(pair.position[0], pair.position[2])
    np.testing.assert_array_equal(pair.velocity[0], pair.velocity[2])
    assert not np.allclose(pair.position[0], pair.position[1])


def test_same_generator_same_view(sphere: StarSnapshot) -> None:
    one, two = (sphere.projected(np.random.default_rng(5)).position for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_lagrangian_radii_weigh_by_mass() -> None:
    cluster = StarSnapshot.of([1.0, 1.0, 8.0], [1, 1, 14], radius=[3.0, 2.0, 1.0])
    np.testing.assert_array_equal(cluster.lagrangian_radii([0.1, 0.8, 0.9, 1.0]), [1, 1, 2, 3])
    assert cluster.total_mass == 10.0
    with pytest.raises(MelotteValueError, match="fractions above 0 and up to 1"):
        cluster.lagrangian_radii([0.0])


def test_selection_takes_every_column_alike(sphere: StarSnapshot) -> None:
    chosen = sphere.select(sphere.distance_from_centre < 1.0)
    assert len(chosen) == pytest.approx(len(sphere) / 2**1.5, abs=2)
    assert chosen.time == sphere.time
    np.testing.assert_array_equal(chosen.ids, np.flatnonzero(sphere.distance_from_centre < 1.0))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"position": np.zeros((2, 3))}, "positions or radii of its stars; got both"),
        ({"radius": [1.0, np.nan]}, "star 2 .* radius nan; allowed: finite"),
        ({"radius": [1.0, -2.0]}, "star 2 .* radius -2.0; allowed: 0 or more"),
        ({"mass": [-1.0, 1.0]}, "star 1 .* mass -1.0; allowed: 0 or more Msun"),
        ({"kind": [1, 16]}, "star 2 .* kind 16; allowed: stellar types 0 to 15"),
        ({"radial_velocity": [1.0, 1.0]}, "needs both of radial_velocity"),
        ({"time": 1e6}, "time of a snapshot is 1e[+]06; 0 to 30,000 Myr is allowed"),
        ({"time": -1.0}, "time of a snapshot is -1; 0 to 30,000 Myr is allowed"),
        ({"metallicity": -9.0}, "metallicity of a snapshot is -9; -6 to 1 is allowed"),
        ({"luminosity": [1.0]}, r"luminosity of a snapshot of 2 stars has shape \(1,\)"),
    ],
)
def test_what_no_cluster_can_be_is_refused(changed: dict, message: str) -> None:
    given = {"mass": [1.0, 1.0], "kind": [1, 1], "radius": [1.0, 2.0], **changed}
    with pytest.raises(MelotteValueError, match=message):
        StarSnapshot.of(**given)


def test_light_of_unknown_magnitudes_is_refused() -> None:
    cluster = StarSnapshot.of([1.0, 1.0], [1, 13], radius=[1.0, 1.0], magnitude_v=[4.0, np.nan])
    with pytest.raises(MelotteValueError, match="1 of 2 stars are unknown"):
        _ = cluster.total_light_v


def test_stars_without_places_have_masses_but_no_radii() -> None:
    cluster = StarSnapshot.of([1.0, 2.0], [1, 1])
    assert cluster.total_mass == 3.0
    with pytest.raises(MelotteValueError, match="the places of its stars are unknown"):
        _ = cluster.half_mass_radius
    with pytest.raises(MelotteValueError, match="the places of its stars are unknown"):
        cluster.projected(np.random.default_rng(0))
