"""Galaxies about clusters: both kinds of tables, centring, cuts, units, and the real Coma."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM
from astropy.table import Table

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.galaxy_lists import GalaxyList, GalaxySelection, RejectedGroup, packed
from melotte.io.galaxy_members import read_galaxies
from melotte.io.projected_distances import SPEED_OF_LIGHT, comoving_distance

COSMOLOGY = FlatLambdaCDM(H0=67.77, Om0=0.307115, Tcmb0=0)
RA, DEC, Z = 150.0, 32.0, 0.08


def sky_table(
    ra: float = RA, dec: float = DEC, z: float = Z, n: int = 200, n_field: int = 0, seed: int = 1
) -> Table:
    """A relaxed cluster of 800 km/s within about 1 Mpc/h, and an even field around it."""
    rng = np.random.default_rng(seed)
    scale = float(COSMOLOGY.comoving_distance(z).value) * 0.6777
    r = 0.4 * rng.exponential(size=n) / scale
    angle = rng.uniform(0, 2 * np.pi, n)
    velocity = rng.normal(0, 800, n)
    field = np.radians(rng.uniform(-3, 3, (n_field, 2)))
    x = np.concatenate([r * np.cos(angle), field[:, 0]])
    y = np.concatenate([r * np.sin(angle), field[:, 1]])
    velocity = np.concatenate([velocity, rng.uniform(-15000, 15000, n_field)])
    return Table(
        {
            "ra": ra + np.degrees(x) / np.cos(np.radians(dec)),
            "dec": dec + np.degrees(y),
            "z": z + (1 + z) * velocity / SPEED_OF_LIGHT,
        }
    )


def only(groups) -> GalaxyList:
    assert len(groups) == 1
    assert isinstance(groups[0], GalaxyList), groups[0]
    return groups[0]


def cluster_table(**changes) -> Table:
    row = {"cluster_id": ["A"], "ra": [RA], "dec": [DEC], "z": [Z]} | changes
    return Table(row)


@pytest.mark.parametrize("z", [0.005, 0.1, 0.6, 1.5])
def test_distance_agrees_with_astropy(z):
    expected = float(COSMOLOGY.comoving_distance(z).value) * 0.6777
    assert comoving_distance(z, 0.307115) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("lengths", ["comoving", "physical"])
def test_radius_and_velocity_of_a_planted_galaxy(lengths):
    angle = 0.1
    table = Table({"ra": [RA, RA], "dec": [DEC + angle, DEC - angle], "z": [Z + 0.001, Z - 0.001]})
    selection = GalaxySelection(lengths=lengths, velocity_centre="given")
    found = only(read_galaxies(table, cluster_table(), selection=selection))
    per_radian = float(COSMOLOGY.comoving_distance(Z).value) * 0.6777
    per_radian /= 1 + Z if lengths == "physical" else 1
    np.testing.assert_allclose(found.radius, np.radians(angle) * per_radian, rtol=1e-6)
    expected = SPEED_OF_LIGHT * 0.001 / (1 + Z)
    np.testing.assert_allclose(found.velocity, [expected, -expected], rtol=1e-6)
    assert found.redshift == Z


def test_angles_across_the_meridian_and_near_the_pole():
    table = Table({"ra": [359.99, 0.01], "dec": [0.0, 0.0], "z": [Z, Z]})
    found = only(read_galaxies(table, cluster_table(ra=[0.0], dec=[0.0])))
    np.testing.assert_allclose(found.radius[0], found.radius[1], rtol=1e-9)
    polar = Table({"ra": [0.0, 180.0], "dec": [89.95, 89.95], "z": [Z, Z]})
    found = only(read_galaxies(polar, cluster_table(ra=[0.0], dec=[89.95])))
    per_radian = float(COSMOLOGY.comoving_distance(Z).value) * 0.6777
    np.testing.assert_allclose(
        found.radius, [0, np.radians(0.1) * per_radian], rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("as_velocity", [False, True])
def test_redshift_is_told_from_velocity_by_value(as_velocity):
    table = sky_table()
    expected = only(read_galaxies(table, cluster_table()))
    if as_velocity:
        table["z"] = table["z"] * SPEED_OF_LIGHT
    np.testing.assert_allclose(
        only(read_galaxies(table, cluster_table())).velocity, expected.velocity, atol=1e-6
    )


def test_a_stated_unit_of_speed_counts_also_for_small_values():
    table = sky_table()
    table["z"] = (table["z"] * SPEED_OF_LIGHT * 1e3) * u.m / u.s
    expected = only(read_galaxies(sky_table(), cluster_table())).velocity
    np.testing.assert_allclose(
        only(read_galaxies(table, cluster_table())).velocity, expected, atol=1e-6
    )
    table["z"].unit = u.kg
    with pytest.raises(MelotteValueError, match=r"column 'z' \(redshift\) is in 'kg'"):
        read_galaxies(table, cluster_table())


def test_redshift_errors_become_velocities_in_the_clusters_frame():
    table = sky_table()
    table["z_err"] = 1e-4
    found = only(read_galaxies(table, cluster_table()))
    expected = SPEED_OF_LIGHT * 1e-4 / (1 + found.redshift)
    np.testing.assert_allclose(found.velocity_error, expected, rtol=1e-12)
    table["z_err"] = 1e-4 * SPEED_OF_LIGHT
    again = only(read_galaxies(table, cluster_table()))
    np.testing.assert_allclose(again.velocity_error, expected, rtol=1e-12)


@pytest.mark.parametrize("how", ["median", "biweight"])
def test_a_wrong_redshift_of_the_cluster_is_put_right(how):
    table = sky_table(n=400)
    selection = GalaxySelection(velocity_centre=how)
    wrong = cluster_table(z=[Z + 0.004])
    found = only(read_galaxies(table, wrong, selection=selection))
    right = only(read_galaxies(table, cluster_table(), selection=selection))
    assert found.redshift == pytest.approx(right.redshift, abs=1e-5)
    assert found.redshift == pytest.approx(Z, abs=4 * 1.25 * 800 / 20 / SPEED_OF_LIGHT * 1.1)
    assert found.velocity_shift == pytest.approx(-SPEED_OF_LIGHT * 0.004 / 1.084, abs=150)
    kept = only(read_galaxies(table, wrong, selection=GalaxySelection(velocity_centre="given")))
    assert kept.redshift == Z + 0.004


def test_centre_is_found_among_field_galaxies_without_a_cluster_table():
    table = sky_table(n=150, n_field=800, seed=4)
    found = only(read_galaxies(table))
    offset = np.hypot((found.centre[0] - RA) * np.cos(np.radians(DEC)), found.centre[1] - DEC)
    per_degree = np.radians(1) * comoving_distance(Z, 0.307115)
    assert offset * per_degree < 0.15
    assert found.redshift == pytest.approx(Z, abs=0.001)
    assert found.n_galaxies >= 140


def test_every_cluster_of_a_table_takes_its_own_galaxies_from_one_survey():
    one, two = sky_table(seed=1), sky_table(ra=RA + 8, z=0.12, seed=2)
    survey = Table({name: np.concatenate([one[name], two[name]]) for name in one.colnames})
    clusters = Table(
        {"cluster_id": ["A", "B", "C"], "ra": [RA, RA + 8, 10], "dec": [DEC] * 3, "z": [Z, 0.12, Z]}
    )
    first, second, third = read_galaxies(survey, clusters)
    assert isinstance(third, RejectedGroup)
    assert isinstance(first, GalaxyList)
    assert isinstance(second, GalaxyList)
    alone = only(read_galaxies(one, cluster_table()))
    np.testing.assert_allclose(first.velocity, alone.velocity, atol=1e-9)
    assert second.redshift == pytest.approx(0.12, abs=0.001)


def test_groups_by_a_column_whatever_the_order_of_rows():
    table = sky_table(n=60)
    table["cluster_id"] = np.where(np.arange(60) % 2, "odd", "even")
    even, odd = read_galaxies(table)
    assert (even.id, odd.id) == ("even", "odd")
    for group, rows in ((even, slice(0, None, 2)), (odd, slice(1, None, 2))):
        assert isinstance(group, GalaxyList)
        apart = only(read_galaxies(table[rows]))
        np.testing.assert_allclose(np.sort(group.velocity), np.sort(apart.velocity), atol=1e-6)
    values, offsets = packed([even, odd])
    np.testing.assert_array_equal(values[offsets[1] :, 0], odd.velocity)
    regrouped = read_galaxies(table, group_by="cluster_id")
    assert [group.id for group in regrouped] == ["even", "odd"]


def test_bad_rows_are_counted_by_reason():
    table = sky_table(n=40)
    table["p_mem"] = 0.9
    table["p_mem"][5] = 0.2
    table["z"][:3] = [np.nan, -3.0, 25.0]
    table["dec"][3] = np.nan
    table["ra"][9], table["dec"][9], table["z"][9] = (table[name][8] for name in ("ra", "dec", "z"))
    selection = GalaxySelection(min_probability=0.5, redshift_kind="z", aperture=20)
    found = only(read_galaxies(table, cluster_table(), column=None, selection=selection))
    counted = dict(found.n_dropped)
    counted.pop("beyond the velocity cut", None)
    assert counted == {}
    table["cluster_id"] = "A"
    found = only(read_galaxies(table, cluster_table(), selection=selection))
    assert found.n_dropped["redshift missing"] == 1
    assert found.n_dropped["redshift outside [-0.01, 10]"] == 2
    assert found.n_dropped["position missing"] == 1
    assert found.n_dropped["membership below 0.5"] == 1
    assert found.n_dropped["listed twice"] == 1
    assert found.n_galaxies + sum(found.n_dropped.values()) == 40


def test_cuts_of_aperture_velocity_and_magnitude():
    table = sky_table(n=300)
    table["rmag"] = np.linspace(14, 20, 300)
    table["cluster_id"] = "A"
    selection = GalaxySelection(aperture=0.5, velocity_cut=900, magnitude_limit=18)
    found = only(read_galaxies(table, cluster_table(), selection=selection))
    assert found.radius.max() < 0.5
    assert np.abs(found.velocity).max() < 900
    assert found.magnitude.max() <= 18
    assert found.n_galaxies + sum(found.n_dropped.values()) == 300
    with pytest.raises(MelotteValueError, match="no column for magnitude"):
        read_galaxies(sky_table(), selection=selection)


def test_names_of_archives_and_of_users():
    table = sky_table()
    expected = only(read_galaxies(table, cluster_table())).velocity
    sdss = Table({"RAJ2000": table["ra"], "DEJ2000": table["dec"], "zsp": table["z"]})
    np.testing.assert_array_equal(only(read_galaxies(sdss, cluster_table())).velocity, expected)
    mine = Table({"a": table["ra"], "b": table["dec"], "c": table["z"]})
    mapping = {"ra": "a", "dec": "b", "z": "c"}
    found = only(read_galaxies(mine, cluster_table(), column=mapping))
    np.testing.assert_array_equal(found.velocity, expected)
    with pytest.raises(MelotteValueError, match=r"no column for ra \(nor for dec and redshift\)"):
        read_galaxies(mine)
    with pytest.raises(MelotteValueError, match="unknown NAME 'colour'"):
        read_galaxies(mine, column={"colour": "a"})


def test_projected_tables_of_rcausticmass(tmp_path):
    path = tmp_path / "sample.txt"
    path.write_text(
        "CID dproj vlos zclus\n7 0.5 100.5 0.10\n7 1.0 -300 0.10\n7 1.5 200 0.10\n8 0.2 1 0.2\n"
    )
    selection = GalaxySelection(velocity_centre="given", h=0.7)
    first, second = read_galaxies(path, selection=selection)
    assert isinstance(first, GalaxyList)
    np.testing.assert_allclose(first.radius, np.array([0.5, 1.0, 1.5]) * 0.7 * 1.1)
    np.testing.assert_allclose(first.velocity, [100.5, -300, 200])
    assert (first.id, first.redshift, second.id) == ("7", 0.10, "8")
    comoving = GalaxySelection(
        velocity_centre="given", radius_lengths="comoving", radius_unit="kpc/h", aperture=1
    )
    again = read_galaxies(path, selection=comoving)[0]
    assert isinstance(again, GalaxyList)
    np.testing.assert_allclose(again.radius, [0.5e-3, 1e-3, 1.5e-3])
    centred = read_galaxies(path, selection=GalaxySelection(h=0.7))[0]
    assert isinstance(centred, GalaxyList)
    assert np.median(centred.velocity) == pytest.approx(0, abs=1e-6)
    assert centred.velocity_shift == pytest.approx(100.5, abs=1e-6)


def test_files_of_causticsnupy(tmp_path):
    table = sky_table(n=30)
    lines = [f"{a:.8f} {d:.8f} {z * SPEED_OF_LIGHT:.5f}" for a, d, z in table.iterrows()]
    path = tmp_path / "caustic.dat"
    path.write_text("\n".join([f"30 {RA} {DEC} {Z * SPEED_OF_LIGHT}", *lines]))
    expected = only(read_galaxies(table, cluster_table()))
    found = only(read_galaxies(path))
    np.testing.assert_allclose(found.velocity, expected.velocity, atol=1e-3)
    np.testing.assert_allclose(found.radius, expected.radius, atol=1e-5)
    assert found.centre == pytest.approx((RA, DEC))
    path.write_text("\n".join(["30", *lines]))
    assert only(read_galaxies(path)).redshift == pytest.approx(found.redshift, abs=3e-4)
    path.write_text("\n".join(["31", *lines]))
    with pytest.raises(MelotteFileError, match="first line says 31 galaxies and 30 lines follow"):
        read_galaxies(path)
    path.write_text("\n".join(lines))
    with pytest.raises(MelotteFileError, match="neither 'N' nor 'N ra dec cz'"):
        read_galaxies(path)


def test_errors_are_one_clear_line(tmp_path):
    path = tmp_path / "broken.txt"
    path.write_text("CID dproj vlos zclus\n1 0.5 fast 0.1\n")
    with pytest.raises(MelotteValueError, match=r"row 1, column 'vlos': 'fast' is not a number"):
        read_galaxies(path)
    path.write_text("CID dproj vlos zclus\n1 0.5\n")
    with pytest.raises(MelotteFileError, match="line 2 holds 2 values but there are 4"):
        read_galaxies(path)
    path.write_text("CID dproj vlos zclus\n")
    with pytest.raises(MelotteFileError, match="no rows"):
        read_galaxies(path)
    path.write_text("dproj vlos\n0.5 100\n")
    with pytest.raises(MelotteValueError, match="needs the cluster's redshift"):
        read_galaxies(path)
    with pytest.raises(MelotteFileError, match="does not exist"):
        read_galaxies(tmp_path / "absent.csv")
    with pytest.raises(MelotteValueError, match="listed more than once"):
        read_galaxies(sky_table(), Table({"cluster_id": ["A", "A"], "z": [0.1, 0.2]}))
    with pytest.raises(MelotteValueError, match="aperture 0 is outside"):
        GalaxySelection(aperture=0.0)
    with pytest.raises(MelotteValueError, match="lengths 'proper' is not one of"):
        GalaxySelection(lengths="proper")  # pyright: ignore[reportArgumentType]


def test_a_cluster_without_galaxies_is_rejected_alone():
    table = sky_table(n=40)
    table["cluster_id"] = ["A"] * 39 + ["B"]
    table["z"][39] = np.nan
    first, second = read_galaxies(table)
    assert isinstance(first, GalaxyList)
    assert isinstance(second, RejectedGroup)
    assert second.reason == "no usable galaxy (1 with redshift missing)"
    far = only_rejected(read_galaxies(sky_table(), cluster_table(ra=[RA + 90])))
    assert "none near it" in far.reason


def only_rejected(groups) -> RejectedGroup:
    assert len(groups) == 1
    assert isinstance(groups[0], RejectedGroup)
    return groups[0]


def test_the_same_name_in_several_files_stays_apart(tmp_path):
    table = sky_table(n=20)
    table["cluster_id"] = "A"
    for name in ("left", "right"):
        table.write(tmp_path / f"{name}.csv")
    groups = read_galaxies([tmp_path / "left.csv", tmp_path / "right.csv"])
    assert [group.id for group in groups] == ["left/A", "right/A"]


def test_real_coma(shared_data):
    path = shared_data / "galaxycluster" / "rcausticmass_coma_sample.txt"
    found = only(read_galaxies(path))
    assert found.n_galaxies + sum(found.n_dropped.values()) == 1743
    assert found.n_galaxies == 688
    assert found.redshift == pytest.approx(0.0238, abs=1e-4)
    assert 850 < found.velocity.std() < 1000
    assert np.median(found.velocity) == pytest.approx(0, abs=0.5)
