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
