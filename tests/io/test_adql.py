"""The archive query asks for what the reader reads, and nothing a user types reaches it."""

from __future__ import annotations

import csv
import inspect
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melotte.errors import MelotteValueError
from melotte.io.adql import CLUSTERS, cluster_position, cone_query
from melotte.io.gaia_columns import recognise

KNOWN_QUERIES = {cone_query(cluster.name) for cluster in CLUSTERS}


@pytest.mark.parametrize("release", ["DR2", "EDR3", "DR3"])
def test_the_columns_asked_for_are_the_columns_read(release):
    query = cone_query("M67", release=release)
    selected = re.search(r"SELECT (.*)\n", query)
    assert selected
    found = recognise(selected[1].split(", "))
    assert {
        "g",
        "bp",
        "rp",
        "bp_rp",
        "parallax",
        "parallax_error",
        "g_snr",
        "bp_snr",
        "rp_snr",
        "source_id",
        "designation",
        "ra",
        "dec",
        "pmra",
        "pmdec",
    } <= set(found)
    assert f"FROM gaia{release.lower()}.gaia_source" in query
    assert ("ruwe" in found) == (release != "DR2")


def test_query_of_a_position():
    query = cone_query(
        ra=132.85,
        dec=-11.8,
        radius=0.5,
        g_limit=17,
        proper_motion=(-11, -2.9, 1.5),
        parallax=(1, 2),
    )
    assert "CIRCLE('ICRS', 132.850000, -11.800000, 0.500000)" in query
    assert "phot_g_mean_mag <= 17.0000" in query
    assert "POWER(pmra - (-11.000000), 2) + POWER(pmdec - (-2.900000), 2) <= 2.250000" in query
    assert "parallax BETWEEN 1.000000 AND 2.000000" in query


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("M67", "NGC 2682"),
        ("Messier 067", "NGC 2682"),
        ("ngc_2682", "NGC 2682"),
        ("praesepe", "NGC 2632"),
        ("Mel 22", "Pleiades"),
        ("Cr 69", "Collinder 69"),
        ("melotte_20", "Melotte 20"),
        ("alpha per", "Melotte 20"),
        ("h Persei", "NGC 869"),
    ],
)
def test_aliases(name, official):
    assert cluster_position(name).name == official


def test_every_name_leads_to_its_own_cluster():
    for cluster in CLUSTERS:
        for name in (cluster.name, *cluster.aliases):
            assert cluster_position(name) is cluster


def test_unknown_names_get_near_ones_and_advice():
    with pytest.raises(MelotteValueError, match=r"did you mean 'Pleiades'.*--ra, --dec"):
        cluster_position("Pleyades")
    with pytest.raises(MelotteValueError, match="--ra, --dec and --radius"):
        cluster_position("Gaia 1")


def test_centres_agree_with_cantat_gaudin_2020(shared_data):
    """Within 0.15 deg, but for the Hyades, which are 10 deg wide."""
    path = shared_data / "opencluster" / "labels_cantat_gaudin_2020.csv"
    with path.open() as lines:
        catalogue = list(csv.DictReader(lines))
    compared = 0
    for row in catalogue:
        try:
            mine = cluster_position(row["Cluster"])
        except MelotteValueError:
            continue
        east = (mine.ra - float(row["RA_ICRS"]) + 180) % 360 - 180
        apart = math.hypot(
            east * math.cos(math.radians(mine.dec)), mine.dec - float(row["DE_ICRS"])
        )
        assert apart < (1.5 if mine.name == "Hyades" else 0.15), mine.name
        assert mine.radius > 1.4 * float(row["r50"]), mine.name
        compared += 1
    assert compared > 35


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "either --cluster NAME or"),
        ({"name": "M67", "ra": 1.0}, "either --cluster NAME or"),
        ({"ra": 10.0}, "all of --ra, --dec and --radius"),
        ({"ra": 10.0, "dec": 5.0}, "all of --ra, --dec and --radius"),
        ({"ra": 360.0, "dec": 5.0, "radius": 1.0}, r"--ra 360.0 is outside \[0, 360\)"),
        ({"ra": math.nan, "dec": 5.0, "radius": 1.0}, "--ra nan is outside"),
        ({"ra": 1.0, "dec": -91.0, "radius": 1.0}, r"--dec -91.0 is outside \[-90, 90\]"),
        ({"ra": 1.0, "dec": 1.0, "radius": 0.0}, "--radius must be above 0"),
        ({"ra": 1.0, "dec": 1.0, "radius": 99.0}, r"--radius 99.0 is outside \[0, 30\]"),
        ({"name": "M67", "g_limit": math.inf}, "--g-limit inf is outside"),
        ({"name": "M67", "parallax": (2.0, 1.0)}, r"window \[2.0, 1.0\] mas is empty"),
        ({"name": "M67", "proper_motion": (0.0, 0.0, -1.0)}, "proper-motion window -1.0"),
        ({"name": "M67", "release": "DR3 --"}, "allowed: DR2, EDR3, DR3"),
    ],
)
def test_values_outside_what_is_allowed(options, expected):
    with pytest.raises(MelotteValueError, match=expected):
        cone_query(**options)


NAMES = st.sampled_from([word for c in CLUSTERS for word in (c.name, *c.aliases)])
TAILS = st.sampled_from(["", " ", "'", "; DROP TABLE x", "' OR 1=1 --", "\n", ")", "/**/"])


@given(st.text(max_size=60) | st.tuples(NAMES, TAILS).map("".join))
def test_no_typed_text_reaches_the_query(text):
    """A name is looked up, never inserted: what comes back is a known query or an error."""
    try:
        query = cone_query(text)
    except MelotteValueError:
        query = None
    assert query is None or query in KNOWN_QUERIES


def test_every_option_is_validated_by_name_or_number():
    kinds = [p.annotation for p in inspect.signature(cone_query).parameters.values()]
    assert [kind for kind in kinds if "str" in kind] == ["str | None", "str"]
