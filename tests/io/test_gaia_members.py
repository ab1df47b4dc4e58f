"""Members of clusters: grouping, cleaning, units, releases, and real catalogues."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from melotte.errors import MelotteValueError
from melotte.io.gaia_members import ClusterMembers, RejectedCluster, read_members
from melotte.io.gaia_releases import release_name

SPELLINGS = {
    "g": ("phot_g_mean_mag", "Gmag", "G_mag"),
    "bp_rp": ("bp_rp", "BP-RP", "BPRP"),
    "parallax": ("parallax", "Plx", "PLX"),
    "parallax_error": ("parallax_error", "e_Plx"),
    "g_error": ("phot_g_mean_mag_error", "e_Gmag"),
    "membership": ("Pmemb", "Proba", "probability", "membership"),
    "source_id": ("source_id", "Source"),
    "pmra": ("pmra", "pmRA"),
    "ruwe": ("ruwe", "RUWE"),
}
FIELDS = tuple(SPELLINGS)


def stars(n: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "g": rng.uniform(8, 18, n).round(3),
        "bp_rp": rng.uniform(0, 3, n).round(3),
        "parallax": rng.uniform(0.5, 8, n).round(4),
        "parallax_error": rng.uniform(0.01, 0.1, n).round(4),
        "g_error": rng.uniform(0.001, 0.01, n).round(4),
        "membership": rng.uniform(0, 1, n).round(2),
        "source_id": 2**62 + np.arange(n, dtype=np.int64),
        "pmra": rng.normal(0, 5, n).round(3),
        "ruwe": rng.uniform(0.9, 1.4, n).round(3),
    }


def save(path, columns: dict[str, object]):
    Table(columns).write(path, overwrite=True)
    return path


def only(clusters) -> ClusterMembers:
    assert len(clusters) == 1
    assert isinstance(clusters[0], ClusterMembers)
    return clusters[0]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10**6),
    picks=st.tuples(*(st.sampled_from(SPELLINGS[name]) for name in FIELDS)),
    order=st.permutations(range(len(FIELDS) + 2)),
    upper=st.lists(st.booleans(), min_size=len(FIELDS), max_size=len(FIELDS)),
    suffix=st.sampled_from([".csv", ".ecsv", ".fits", ".parquet"]),
)
def test_spelling_order_and_format_do_not_matter(
    tmp_path_factory, seed, picks, order, upper, suffix
):
    truth = stars(seed=seed)
    named = [
        (name.upper() if up else name, truth[field])
        for field, name, up in zip(FIELDS, picks, upper, strict=True)
    ]
    named += [("notes", np.array(["x"] * 6)), ("BP_over_RP", np.full(6, 99.0))]
    path = tmp_path_factory.mktemp("m") / f"ngc_1{suffix}"
    cluster = only(read_members(save(path, dict(named[i] for i in order))))
    assert cluster.id == "ngc_1"
    assert cluster.n_dropped == {}
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(cluster, field), truth[field], err_msg=field)


def test_named_columns(tmp_path):
    truth = stars()
    path = save(
        tmp_path / "m.csv", {"m": truth["g"], "col": truth["bp_rp"], "w": truth["parallax"]}
    )
    cluster = only(read_members(path, column={"g": "m", "bp_rp": "col", "parallax": "w"}))
    np.testing.assert_array_equal(cluster.g, truth["g"])
    assert np.isnan(cluster.parallax_error).all()
    assert np.isnan(cluster.bp_rp_error).all()
    assert (cluster.source_id == -1).all()


def test_colour_from_bands_fills_gaps(tmp_path):
    path = save(
        tmp_path / "m.csv",
        {
            "Gmag": [14.0, 15.0],
            "BPmag": [14.5, 15.75],
            "RPmag": [13.5, 14.25],
            "BP-RP": [1.25, np.nan],
            "e_BPmag": [0.003, 0.03],
            "e_RPmag": [0.004, 0.04],
            "Plx": [1.0, 1.0],
        },
    )
    cluster = only(read_members(path))
    np.testing.assert_allclose(cluster.bp_rp, [1.25, 1.5])
    np.testing.assert_allclose(cluster.bp_rp_error, [0.005, 0.05])


def test_magnitude_error_from_flux_is_vizier_s(tmp_path):
    """VizieR's e_Gmag: 1.0857 times the relative flux error, plus 2.7553202 mmag in quadrature."""
    base = {"phot_g_mean_mag": [14.0], "bp_rp": [1.0], "parallax": [1.0]}
    expected = np.hypot(1.0857362 / 500.0, 0.0027553202)
    ratio = save(tmp_path / "a.csv", {**base, "phot_g_mean_flux_over_error": [500.0]})
    pair = save(
        tmp_path / "b.csv", {**base, "phot_g_mean_flux": [1e4], "phot_g_mean_flux_error": [20.0]}
    )
    for path in (ratio, pair):
        np.testing.assert_allclose(only(read_members(path)).g_error, [expected], rtol=1e-6)
    older = only(read_members(ratio, release="DR2"))
    np.testing.assert_allclose(older.g_error, [np.hypot(1.0857362 / 500, 0.0018)], rtol=1e-6)


def test_unusable_rows_are_counted_by_reason(tmp_path):
    good = {"g": 14.0, "bp_rp": 1.0, "plx": 1.0, "prob": 0.9, "id": 1}
    rows = [
        good,
        {**good, "id": 2, "g": np.nan},
        {**good, "id": 3, "bp_rp": np.nan, "plx": np.nan},
        {**good, "id": 4, "plx": np.inf},
        {**good, "id": 5, "g": 99.0},
        {**good, "id": 6, "bp_rp": -99.0},
        {**good, "id": 7, "plx": -999.0},
        {**good, "id": 8, "prob": 0.4},
        {**good, "id": 9, "prob": np.nan},
        good,
        {**good, "id": 10, "prob": 0.5},
    ]
    path = tmp_path / "m.csv"
    save(path, {name: [row[name] for row in rows] for name in good})
    cluster = only(read_members(path, column={"source_id": "id"}, min_probability=0.5))
    assert cluster.source_id.tolist() == [1, 10]
    assert cluster.n_dropped == {
        "G missing": 1,
        "BP-RP missing": 1,
        "parallax missing": 1,
        "G outside [0, 25] mag": 1,
        "BP-RP outside [-10, 10] mag": 1,
        "parallax outside [-50, 1000] mas": 1,
        "membership below 0.5": 1,
        "membership missing": 1,
        "listed twice": 1,
    }
    assert cluster.n_stars + sum(cluster.n_dropped.values()) == len(rows)


def test_errors_that_are_no_errors_become_unknown(tmp_path):
    path = save(
        tmp_path / "m.csv",
        {"g": [14.0] * 4, "bp_rp": [1.0] * 4, "plx": [1.0] * 4, "e_plx": [0.1, 0.0, -1.0, np.inf]},
    )
    np.testing.assert_array_equal(
        only(read_members(path)).parallax_error, [0.1, np.nan, np.nan, np.nan]
    )


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".vot", ".parquet"])
def test_units_of_the_file_count(tmp_path, suffix):
    table = Table({"Gmag": [14.0], "BP-RP": [1.0], "Plx": [0.0025], "Pmemb": [75.0]})
    table["Plx"].unit = "arcsec"
    if suffix != ".vot":
        table["Pmemb"].unit = "%"
    path = tmp_path / f"m{suffix}"
    table.write(path, format="votable" if suffix == ".vot" else None)
    cluster = only(read_members(path))
    np.testing.assert_allclose(cluster.parallax, [2.5])
    np.testing.assert_allclose(cluster.membership, [0.75])


def test_per_cent_without_a_unit_is_told_by_its_size(tmp_path):
    base = {"Gmag": [14.0, 15.0], "BP-RP": [1.0, 1.0], "Plx": [1.0, 1.0]}
    path = save(tmp_path / "m.csv", {**base, "Pmemb": [97.0, 0.5]})
    np.testing.assert_allclose(only(read_members(path)).membership, [0.97, 0.005])
    path = save(tmp_path / "m.csv", {**base, "Pmemb": [1.0001, 0.5]})
    np.testing.assert_allclose(only(read_members(path)).membership, [1.0, 0.5])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(labels=st.lists(st.sampled_from(["b", "a", "NGC 2", "é"]), min_size=1, max_size=30))
def test_grouping_partitions_the_rows(tmp_path_factory, labels):
    n = len(labels)
    truth = stars(n)
    path = tmp_path_factory.mktemp("m") / "m.parquet"
    save(path, {"k": labels, **{name: truth[name] for name in ("g", "bp_rp", "parallax")}})
    clusters = read_members(path, group_by="k")
    assert [cluster.id for cluster in clusters] == list(dict.fromkeys(labels))
    for cluster in clusters:
        chosen = np.array(labels) == cluster.id
        np.testing.assert_array_equal(cluster.g, truth["g"][chosen])


def test_whole_number_groups_and_any_case(tmp_path):
    truth = stars(4)
    columns = {name: truth[name] for name in ("g", "bp_rp", "parallax")}
    for kind in (np.int16, float):
        path = save(tmp_path / "m.fits", {"Id": np.array([7, 7, 3, 7], dtype=kind), **columns})
        clusters = read_members(path, group_by="id")
        assert [(c.id, c.n_stars) for c in clusters] == [("7", 3), ("3", 1)]


def test_cluster_column_groups_by_itself_but_star_names_do_not(tmp_path):
    truth = stars(6)
    columns = {name: truth[name] for name in ("g", "bp_rp", "parallax")}
    by_cluster = save(tmp_path / "m.csv", {"Cluster": ["x", "y"] * 3, **columns})
    assert [c.id for c in read_members(by_cluster)] == ["x", "y"]
    by_star = save(tmp_path / "pal.csv", {"Name": [f"star{i}" for i in range(6)], **columns})
    assert [c.id for c in read_members(by_star)] == ["pal"]
    assert len(read_members(by_star, group_by="Name")) == 6
    assert len(read_members(by_star, column={"cluster": "Name"})) == 6


def test_clusters_without_usable_stars_are_rows_not_errors(tmp_path):
    path = save(
        tmp_path / "m.csv",
        {
            "cluster": ["a", "b", "b", ""],
            "g": [14.0, np.nan, 99.0, 14.0],
            "bp_rp": [1.0] * 4,
            "plx": [1.0] * 4,
        },
    )
    good, empty, nameless = read_members(path)
    assert isinstance(good, ClusterMembers)
    assert isinstance(empty, RejectedCluster)
    assert empty.reason == "no usable star (1 with G missing, 1 with G outside [0, 25] mag)"
    assert isinstance(nameless, RejectedCluster)
    assert "no value in column cluster" in nameless.reason


@pytest.mark.parametrize("kind", [Table, QTable])
def test_astropy_tables_are_read_like_files(tmp_path, kind):
    table = Table({"cluster": ["a", "b"], "Gmag": [14.0, 15.0], "BP-RP": [0.5, 1.0]})
    table["Plx"] = MaskedColumn([0.001, 0.002], mask=[False, True], unit="arcsec")
    table.meta["origin"] = "gaiadr3"
    first, second = read_members(kind(table))
    assert isinstance(first, ClusterMembers)
    assert (first.id, first.g[0], first.parallax[0], first.release) == ("a", 14.0, 1.0, "DR3")
    assert isinstance(second, RejectedCluster)
    assert second.reason == "no usable star (1 with parallax missing)"
    plain = Table({"Gmag": [14.0], "BP-RP": [0.5], "Plx": [1.0]}, meta={"name": "m67"})
    assert [c.id for c in read_members([plain, plain])] == ["m67", "m67 #2"]


def test_several_files_keep_distinct_ids(tmp_path):
    truth = stars()
    columns = {name: truth[name] for name in ("g", "bp_rp", "parallax")}
    (tmp_path / "other").mkdir()
    one = save(tmp_path / "m67.csv", columns)
    two = save(tmp_path / "ngc188.fits", columns)
    assert [c.id for c in read_members([one, two])] == ["m67", "ngc188"]
    same = save(tmp_path / "other" / "m67.csv", columns)
    ids = [c.id for c in read_members([one, same])]
    assert ids == [f"{tmp_path.name}/m67", "other/m67"]
    left = save(tmp_path / "left.csv", {"cluster": ["a"] * 6, **columns})
    right = save(tmp_path / "right.csv", {"cluster": ["a"] * 6, **columns})
    assert [c.id for c in read_members([left, right])] == ["left/a", "right/a"]


@pytest.mark.parametrize(
    ("extra", "meta", "name", "release"),
    [
        ({"designation": ["Gaia DR3 1"]}, {}, "m.csv", "DR3"),
        ({"designation": ["Gaia DR2 1"]}, {"table": "gaiadr3.gaia_source"}, "m.ecsv", "DR2"),
        ({}, {"query": "SELECT FROM gaiaedr3.gaia_source"}, "m.ecsv", "EDR3"),
        ({}, {"catalogue": "I/345/gaia2"}, "m.ecsv", "DR2"),
        ({}, {"note": "DR2 matched to DR3"}, "m.ecsv", None),
        ({"a_g_val": [0.1]}, {}, "m.csv", "DR2"),
        ({"GaiaDR2": [12345]}, {}, "m.csv", "DR2"),
        ({"nu_eff_used_in_astrometry": [1.5]}, {}, "m.csv", "EDR3"),
        ({}, {}, "members_gaia_dr3.csv", "DR3"),
        ({}, {}, "m67_EDR3.csv", "EDR3"),
        ({}, {}, "cadre23.csv", None),
        ({}, {}, "m.csv", None),
    ],
)
def test_release_is_read_from_the_file(tmp_path, extra, meta, name, release):
    table = Table({"phot_g_mean_mag": [14.0], "bp_rp": [1.0], "parallax": [1.0], **extra})
    table.meta.update(meta)
    table.write(tmp_path / name)
    assert only(read_members(tmp_path / name)).release == release
    assert only(read_members(tmp_path / name, release="gaiadr2")).release == "DR2"


def test_release_names():
    assert [release_name(t) for t in ("gaiadr3", "Gaia EDR3", "dr2", "GDR3")] == [
        "DR3",
        "EDR3",
        "DR2",
        "DR3",
    ]
    for wrong in ("DR1", "", "dr33", "DR3; DROP"):
        with pytest.raises(MelotteValueError, match="allowed: DR2, EDR3, DR3"):
            release_name(wrong)


def test_designations_serve_as_source_identifiers(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(f"source_id,g,bp_rp,plx\nGaia DR3 {2**62 + 1},14,1,1\n,15,1,1\n")
    assert only(read_members(path)).source_id.tolist() == [2**62 + 1, -1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"group_by": "clster"},
            "--group-by clster: .* has no such column.*did you mean 'cluster'",
        ),
        ({"min_probability": 1.5}, r"outside \[0, 1\]"),
        ({"min_probability": float("nan")}, r"outside \[0, 1\]"),
        ({"min_probability": 0.5}, "no column of membership probabilities"),
        ({"release": "DR9"}, "release 'DR9' is unknown"),
        ({"column": {"g": "nope"}}, "--column g=nope"),
        ({"column": {"magnitude": "g"}}, "unknown NAME 'magnitude'"),
    ],
)
def test_wrong_options(tmp_path, options, expected):
    path = tmp_path / "m.csv"
    path.write_text("cluster,g,bp_rp,plx\na,14,1,1\n")
    with pytest.raises(MelotteValueError, match=expected):
        read_members(path, **options)


def test_no_table():
    with pytest.raises(MelotteValueError, match="a dict is no table"):
        read_members([{"g": [1.0]}])


def test_no_files():
    with pytest.raises(MelotteValueError, match="no input file"):
        read_members([])


def test_text_among_numbers(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("g,bp_rp,plx\n14,1,1\n15,blue,1\n")
    with pytest.raises(MelotteValueError, match="row 2, column 'bp_rp': 'blue' is not a number"):
        read_members(path)


def test_real_edr3_members(shared_data):
    """Almeida et al. 2022: 1,031 clusters; every row is a member or counted as dropped."""
    path = shared_data / "opencluster" / "members_gaia_edr3.parquet"
    clusters = read_members(path)
    assert len(clusters) == 1031
    assert all(isinstance(c, ClusterMembers) and c.release == "EDR3" for c in clusters)
    members = [c for c in clusters if isinstance(c, ClusterMembers)]
    raw = parquet.read_table(path, columns=["Cluster", "Source", "Gmag"]).to_pydict()
    n_rows = len(raw["Source"])
    repeats = n_rows - len(set(zip(raw["Cluster"], raw["Source"], strict=True)))
    assert sum(c.n_stars for c in members) == n_rows - repeats
    assert sum(sum(c.n_dropped.values()) for c in members) == repeats
    pleiades = next(c for c in members if c.id == "Melotte_22")
    pairs = zip(raw["Cluster"], raw["Gmag"], strict=True)
    assert pleiades.g.tolist() == [g for cluster, g in pairs if cluster == "Melotte_22"]
    assert 7.2 < np.median(pleiades.parallax) < 7.5


def test_errors_from_fluxes_have_the_floor_of_published_errors(shared_data, tmp_path):
    """A star of endless signal gets the smallest error that the published members have."""
    path = shared_data / "opencluster" / "members_gaia_edr3.parquet"
    bright = {f"phot_{band}_mean_flux_over_error": [1e9] for band in ("g", "bp", "rp")}
    table = {"Gmag": [9.0], "BP-RP": [1.0], "Plx": [1.0], **bright}
    star = only(read_members(save(tmp_path / "m.csv", table)))
    raw = parquet.read_table(path, columns=["e_Gmag", "e_BPmag", "e_RPmag"]).to_pydict()
    np.testing.assert_allclose(star.g_error, [min(raw["e_Gmag"])], atol=1e-5)
    colour = np.hypot(min(raw["e_BPmag"]), min(raw["e_RPmag"]))
    np.testing.assert_allclose(star.bp_rp_error, [colour], atol=1e-5)


def test_real_dr2_members(shared_data):
    """Liu & Pang 2019: grouped by their number; colour made from the two bands."""
    path = shared_data / "opencluster" / "members_gaia_dr2.parquet"
    clusters = read_members(path, group_by="id")
    raw = parquet.read_table(path, columns=["id"]).to_pydict()
    assert len(clusters) == len(set(raw["id"]))
    members = [c for c in clusters if isinstance(c, ClusterMembers)]
    assert {c.release for c in members} == {"DR2"}
    assert max(c.n_stars + sum(c.n_dropped.values()) for c in members) == 6808
    assert np.isnan(members[0].g_error).all()
