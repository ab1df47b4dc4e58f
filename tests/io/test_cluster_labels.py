import numpy as np
import pytest
from astropy.table import Table

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.cluster_labels import ClusterLabels, read_labels, source_scatter


def table(name="labels.csv", **columns):
    made = Table(columns)
    made.meta["name"] = name
    return made


def test_a_wide_table_of_known_catalogues():
    labels = read_labels(
        table(
            Cluster=["NGC_1", "NGC_2"],
            AgeNN=[8.1, 9.0],
            AVNN=[0.3, np.nan],
            DistPc=[1500.0, 800.0],
            C24_dMod50=[11.0, 10.0],
        )
    )
    assert labels.ids == ("NGC_1", "NGC_2")
    assert labels.sources == ("CG20", "Cavallo 2024")
    assert labels.values[0, 0] == pytest.approx([8.1, 0.3, 1.5, np.nan], nan_ok=True)
    assert np.isnan(labels.values[1, 0, 1])
    # m - M = 5 log10(d / 10 pc): 10 is one kiloparsec.
    assert labels.values[1, 1, 2] == pytest.approx(1.0)


BARE = {"Name": ["x"], "logAge50": [8.0], "AV50": [1.0]}


@pytest.mark.parametrize(
    ("distances", "source", "found"),
    [
        ({"dist50": [2000.0]}, "Hunt 2023", [8.0, 1.0, 2.0, np.nan]),
        ({"dMod50": [10.0], "[Fe/H]50": [0.1]}, "Cavallo 2024", [8.0, 1.0, 1.0, 0.1]),
    ],
)
def test_names_that_two_catalogues_share_go_by_the_distances(distances, source, found):
    labels = read_labels(table(**BARE, **distances))
    assert labels.sources == (source,)
    assert labels.values[0, 0] == pytest.approx(found, nan_ok=True)


def test_shared_names_without_or_with_both_distances_are_nobodys():
    with pytest.raises(MelotteValueError, match="no column of a known catalogue"):
        read_labels(table(**BARE))
    with pytest.raises(MelotteValueError, match="'logAge50' may be of Hunt 2023 or Cavallo 2024"):
        read_labels(table(**BARE, dist50=[2000.0], dMod50=[10.0]))
    both = read_labels(table(**BARE, dist50=[2000.0], C24_logAge50=[9.0]))
    assert both.sources == ("Hunt 2023", "Cavallo 2024")
    assert both.values[0, :, 0].tolist() == [8.0, 9.0]


def test_units_of_columns_are_read(tmp_path):
    made = table(id=["a"], source=["m"], log_age=[8.0], distance=[1500.0], extinction_v=[300.0])
    made["distance"].unit, made["extinction_v"].unit = "pc", "mmag"
    path = tmp_path / "labels.ecsv"
    made.write(path)
    assert read_labels(path).values[0, 0] == pytest.approx([8.0, 0.3, 1.5, np.nan], nan_ok=True)
    wide = table(id=["a"], DistPc=[1.5])
    wide["DistPc"].unit = "kpc"
    assert read_labels(wide).values[0, 0, 2] == pytest.approx(1.5)
    for name, unit, said in (
        ("distance", "mas", "'distance' is in 'mas'; a unit that converts to kpc"),
        ("log_age", "Gyr", r"'log_age' is in 'Gyr'; log_age is log10\(age/yr\)"),
    ):
        wrong = table(id=["a"], source=["m"], log_age=[8.0], distance=[1.5])
        wrong[name].unit = unit
        with pytest.raises(MelotteValueError, match=said):
            read_labels(wrong)


def test_sources_are_compared_without_case_and_a_wide_table_may_have_such_a_column():
    long = read_labels(table(id=["a", "b"], source=["cg20", "CG 20"], log_age=[8.0, 9.0]))
    assert long.sources == ("cg20",)
    assert long.of(("CG20",)).values[:, 0, 0].tolist() == [8.0, 9.0]
    wide = read_labels(table(id=["a"], AgeNN=[8.0], DistPc=[900.0], Source=["GaiaDR2"]))
    assert wide.sources == ("CG20",)
    assert wide.values[0, 0, 2] == pytest.approx(0.9)


def test_a_missing_value_erases_none_and_rows_without_a_name_are_left_out():
    labels = read_labels(
        table(
            id=["a", "b", ""],
            source=["m", "m", "m"],
            distance=[1.5, np.nan, 3.0],
            distance_pc=[np.nan, 2000.0, 3000.0],
        )
    )
    assert labels.ids == ("a", "b")
    assert labels.values[:, 0, 2] == pytest.approx([1.5, 2.0])
    given = {"One": {"distance": "kpc", "distance_modulus": "mod"}}
    wide = read_labels(table(id=["a"], kpc=[1.5], mod=[np.nan]), given)
    assert wide.values[0, 0, 2] == pytest.approx(1.5)


def test_a_long_table_and_a_cluster_listed_twice():
    labels = read_labels(
        table(
            id=["a", "a", "b", "a"],
            source=["mine", "theirs", "mine", "mine"],
            log_age=[8.0, 8.2, 9.0, 5.0],
            distance_pc=[np.nan, 100.0, -5.0, 300.0],
        )
    )
    assert labels.ids == ("a", "b")
    assert labels.sources == ("mine", "theirs")
    assert labels.values[0, 0, 0] == 8.0
    assert labels.values[0, 0, 2] == pytest.approx(0.3)
    assert labels.values[0, 1, 2] == pytest.approx(0.1)
    assert np.isnan(labels.values[1, 0, 2])


def test_columns_can_be_named():
    given = {"Ours": {"log_age": "t", "distance": "d"}}
    labels = read_labels(table(who=["x"], t=[8.5], d=[2.0]), given, id_column="who")
    assert labels.sources == ("Ours",)
    assert labels.values[0, 0] == pytest.approx([8.5, np.nan, 2.0, np.nan], nan_ok=True)
    assert np.isnan(labels.of(("CG20", "Ours")).values[0, 0]).all()
    assert labels.of(("CG20", "Ours")).values[0, 1, 0] == 8.5


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        ({"id": ["a"], "x": [1.0]}, None, "no column of a known catalogue"),
        ({"x": [1.0]}, None, "names the cluster"),
        ({"id": ["a"], "x": [1.0]}, {"A": {"age": "x"}}, "'age' is not a quantity; allowed"),
        ({"id": ["a"], "x": [1.0]}, {"A": {"log_age": "y"}}, "no column 'y' for log_age of A"),
    ],
)
def test_what_cannot_be_labels_is_one_line(columns, given, message):
    with pytest.raises(MelotteValueError, match=message) as caught:
        read_labels(table(**columns), given)
    assert "\n" not in str(caught.value)


def test_a_table_without_a_value_is_refused():
    with pytest.raises(MelotteFileError, match=r"every label is missing"):
        read_labels(table(id=["a"], AgeNN=[np.nan]))


def test_scatter_of_sources_is_recovered_from_their_differences():
    rng = np.random.default_rng(5)
    n, planted = 4000, np.array([0.1, 0.2, 0.4])
    truth = rng.uniform(7, 9, n)
    values = np.full((n, 4, 4), np.nan)
    values[:, :3, 0] = truth[:, None] + rng.normal(size=(n, 3)) * planted
    distance = rng.uniform(1, 3, n)
    values[:, :3, 2] = distance[:, None] * (1 + 0.1 * planted * rng.normal(size=(n, 3)))
    found = source_scatter(
        ClusterLabels(tuple(map(str, range(n))), ("a", "b", "c", "silent"), values)
    )
    assert found[:3, 0] == pytest.approx(planted, abs=0.03)
    assert found[:3, 2] == pytest.approx(0.1 * planted, abs=0.003)
    assert np.isnan(found[3]).all()
    assert np.isnan(found[:, 1]).all()


def test_two_catalogues_share_the_scatter_of_their_difference():
    rng = np.random.default_rng(6)
    n = 4000
    values = np.full((n, 3, 4), np.nan)
    values[:, :2, 0] = rng.uniform(7, 9, n)[:, None] + 0.2 * rng.normal(size=(n, 2))
    found = source_scatter(ClusterLabels(tuple(map(str, range(n))), ("a", "b", "silent"), values))
    assert found[:2, 0] == pytest.approx([0.2, 0.2], abs=0.01)
    assert found[0, 0] == pytest.approx(found[1, 0], rel=1e-3)
    assert np.isnan(found[2]).all()
