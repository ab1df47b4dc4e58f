"""The Gaia archive query that gives the columns which melotte reads."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from melotte.errors import MelotteValueError, did_you_mean
from melotte.io.gaia_releases import release_name

LARGEST_RADIUS = 30.0
"""Radius of the largest cone that is asked for, deg."""

_TABLES = {
    "DR2": "gaiadr2.gaia_source",
    "EDR3": "gaiaedr3.gaia_source",
    "DR3": "gaiadr3.gaia_source",
}

_COLUMNS = (
    "source_id",
    "designation",
    "ra",
    "dec",
    "parallax",
    "parallax_error",
    "pmra",
    "pmra_error",
    "pmdec",
    "pmdec_error",
    "phot_g_mean_mag",
    "phot_bp_mean_mag",
    "phot_rp_mean_mag",
    "bp_rp",
    "phot_g_mean_flux_over_error",
    "phot_bp_mean_flux_over_error",
    "phot_rp_mean_flux_over_error",
)


@dataclass(frozen=True)
class ClusterPosition:
    """Where a well-known open cluster is.

    Parameters
    ----------
    name : str
    ra, dec : float, deg, ICRS
    radius : float, deg
        A cone that holds the bulk of the members.
    aliases : tuple of str
    """

    name: str
    ra: float
    dec: float
    radius: float
    aliases: tuple[str, ...] = ()


CLUSTERS: tuple[ClusterPosition, ...] = (
    ClusterPosition("Hyades", 66.75, 15.87, 10.0, ("Melotte 25", "Collinder 50")),
    ClusterPosition("Pleiades", 56.75, 24.12, 3.0, ("M45", "Melotte 22", "Seven Sisters")),
    ClusterPosition("NGC 2632", 130.10, 19.67, 2.5, ("Praesepe", "M44", "Beehive")),
    ClusterPosition("Melotte 111", 186.0, 25.7, 6.0, ("Coma Berenices", "Coma Ber", "Coma Star")),
    ClusterPosition(
        "Melotte 20", 51.6, 48.98, 4.5, ("Alpha Persei", "Alpha Per", "Collinder 39", "Perseus OB3")
    ),
    ClusterPosition("Blanco 1", 1.03, -29.83, 2.5, ("Zeta Sculptoris",)),
    ClusterPosition("IC 2391", 130.13, -53.0, 2.0, ("Omicron Velorum", "Caldwell 85")),
    ClusterPosition("IC 2602", 160.74, -64.4, 3.0, ("Theta Carinae", "Southern Pleiades")),
    ClusterPosition("IC 4665", 266.55, 5.65, 1.5, ("Collinder 349",)),
    ClusterPosition("IC 4756", 279.65, 5.45, 1.5, ("Collinder 386",)),
    ClusterPosition("IC 4651", 261.2, -49.93, 0.6, ("Melotte 169",)),
    ClusterPosition("NGC 188", 11.83, 85.25, 0.7, ("Melotte 2", "Caldwell 1")),
    ClusterPosition("NGC 752", 29.2, 37.8, 1.5, ("Melotte 12", "Caldwell 28")),
    ClusterPosition("NGC 869", 34.75, 57.14, 0.4, ("h Persei", "h Per")),
    ClusterPosition("NGC 884", 35.58, 57.14, 0.4, ("chi Persei", "chi Per")),
    ClusterPosition("NGC 1039", 40.52, 42.75, 1.2, ("M34",)),
    ClusterPosition("NGC 1817", 78.13, 16.69, 0.5),
    ClusterPosition("NGC 1912", 82.17, 35.82, 0.7, ("M38",)),
    ClusterPosition("NGC 1960", 84.08, 34.13, 0.5, ("M36",)),
    ClusterPosition("NGC 2099", 88.07, 32.55, 0.5, ("M37",)),
    ClusterPosition("NGC 2158", 91.86, 24.1, 0.2),
    ClusterPosition("NGC 2168", 92.27, 24.34, 0.8, ("M35",)),
    ClusterPosition("NGC 2243", 97.39, -31.28, 0.2, ("Melotte 46",)),
    ClusterPosition("NGC 2264", 100.25, 9.88, 0.8, ("Christmas Tree",)),
    ClusterPosition("NGC 2287", 101.5, -20.73, 1.0, ("M41",)),
    ClusterPosition("NGC 2323", 105.7, -8.36, 0.7, ("M50",)),
    ClusterPosition("NGC 2360", 109.45, -15.63, 0.5, ("Caldwell 58", "Melotte 64")),
    ClusterPosition("NGC 2420", 114.6, 21.57, 0.3, ("Melotte 69",)),
    ClusterPosition("NGC 2422", 114.15, -14.48, 0.8, ("M47",)),
    ClusterPosition("NGC 2437", 115.44, -14.84, 0.6, ("M46",)),
    ClusterPosition("NGC 2447", 116.14, -23.85, 0.6, ("M93",)),
    ClusterPosition("NGC 2477", 118.05, -38.54, 0.5, ("Melotte 78", "Caldwell 71")),
    ClusterPosition("NGC 2506", 120.01, -10.77, 0.3, ("Melotte 80", "Caldwell 54")),
    ClusterPosition("NGC 2516", 119.52, -60.8, 1.5, ("Caldwell 96", "Melotte 82")),
    ClusterPosition("NGC 2547", 122.53, -49.2, 1.0, ("Collinder 177",)),
    ClusterPosition("NGC 2548", 123.41, -5.73, 1.0, ("M48",)),
    ClusterPosition("NGC 2682", 132.85, 11.81, 0.7, ("M67",)),
    ClusterPosition("NGC 3532", 166.42, -58.7, 1.5, ("Wishing Well", "Caldwell 91")),
    ClusterPosition("NGC 3766", 174.06, -61.62, 0.4, ("Pearl Cluster", "Caldwell 97")),
    ClusterPosition("NGC 4755", 193.41, -60.37, 0.3, ("Jewel Box", "kappa Crucis")),
    ClusterPosition("NGC 6231", 253.54, -41.82, 0.5, ("Caldwell 76",)),
    ClusterPosition("NGC 6405", 265.07, -32.24, 1.0, ("M6", "Butterfly")),
    ClusterPosition("NGC 6475", 268.45, -34.8, 2.0, ("M7", "Ptolemy")),
    ClusterPosition("NGC 6494", 269.24, -18.99, 0.8, ("M23",)),
    ClusterPosition("NGC 6633", 276.85, 6.6, 1.0, ("Collinder 380",)),
    ClusterPosition("NGC 6705", 282.77, -6.27, 0.3, ("M11", "Wild Duck")),
    ClusterPosition("NGC 6791", 290.22, 37.77, 0.25, ("Berkeley 46",)),
    ClusterPosition("NGC 6811", 294.34, 46.38, 0.6, ("Melotte 222",)),
    ClusterPosition("NGC 6819", 295.33, 40.19, 0.3, ("Collinder 403", "Foxhead")),
    ClusterPosition("NGC 7092", 322.89, 48.25, 2.0, ("M39",)),
    ClusterPosition("NGC 7654", 351.2, 61.59, 0.4, ("M52",)),
    ClusterPosition("NGC 7789", 359.33, 56.72, 0.6, ("Caroline's Rose", "Melotte 245")),
    ClusterPosition("Berkeley 39", 116.7, -4.67, 0.25),
    ClusterPosition("Collinder 69", 83.79, 9.81, 2.0, ("Lambda Orionis",)),
    ClusterPosition("Trumpler 14", 160.98, -59.55, 0.15),
    ClusterPosition("Trumpler 16", 161.25, -59.7, 0.2),
    ClusterPosition("Trumpler 20", 189.88, -60.64, 0.3),
    ClusterPosition("Ruprecht 147", 289.09, -16.33, 1.5, ("NGC 6774",)),
    ClusterPosition("Stock 2", 33.86, 59.52, 2.0),
)
"""Well-known open clusters.

Centres lie within 0.15 deg of Cantat-Gaudin et al. 2020, A&A 640, A1 (Hyades: 1.3 deg).
"""


def cluster_position(name: str) -> ClusterPosition:
    """Where a well-known cluster is.

    Parameters
    ----------
    name : str
        A name or alias, in any case, with or without blanks or underscores; ``M67``,
        ``Messier 67`` and ``ngc2682`` are one cluster.

    Raises
    ------
    MelotteValueError
        When the name is not in :data:`CLUSTERS`; the message suggests near names.
    """
    known = {_key(word): c for c in CLUSTERS for word in (c.name, *c.aliases)}
    cluster = known.get(_key(name))
    if cluster is None:
        words = [word for c in CLUSTERS for word in (c.name, *c.aliases)]
        shown = name if len(name) <= 40 else name[:37] + "..."
        raise MelotteValueError(
            f"cluster {shown!r} is not among the {len(CLUSTERS)} that melotte knows the position of"
            f"{did_you_mean(name, words)}; give --ra, --dec and --radius in degrees instead"
        )
    return cluster


def _key(name: str) -> str:
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    match = re.fullmatch(r"(messier|m|ngc|ic|mel|melotte|cr|collinder|tr|trumpler)0*(\d+)", key)
    if not match:
        return key
    short = {"messier": "m", "mel": "melotte", "cr": "collinder", "tr": "trumpler"}
    return short.get(match[1], match[1]) + match[2]


def cone_query(
    name: str | None = None,
    *,
    ra: float | None = None,
    dec: float | None = None,
    radius: float | None = None,
    release: str = "DR3",
    g_limit: float = 18.0,
    proper_motion: tuple[float, float, float] | None = None,
    parallax: tuple[float, float] | None = None,
) -> str:
    """The ADQL that asks the Gaia archive for the stars of a cone with all that melotte reads.

    The stars of a cone are not the members of the cluster: choose the members afterwards, or
    narrow the windows of proper motion and parallax.

    Parameters
    ----------
    name : str, optional
        A well-known cluster (see :func:`cluster_position`); otherwise give ``ra`` and ``dec``.
    ra : float, deg, 0 <= ra < 360
    dec : float, deg, -90 to 90
    radius : float, deg, 0 to 30, optional
        By default the cluster's own; needed where ``ra`` and ``dec`` are given.
    release : str
        ``"DR2"``, ``"EDR3"`` or ``"DR3"``, also spelled ``"gaiadr3"``.
    g_limit : float, mag, 0 to 25
        Stars at least this bright.
    proper_motion : tuple (pmra, pmdec, radius), mas/yr, optional
        A disc of proper motions.
    parallax : tuple (low, high), mas, optional

    Returns
    -------
    str
        ADQL 2.0, ending with a newline.

    Raises
    ------
    MelotteValueError
        When a value is outside what is allowed, the name is unknown, or neither or both of name
        and position are given.
    """
    release = release_name(release)
    if (name is None) == (ra is None and dec is None):
        raise MelotteValueError("give either --cluster NAME or --ra and --dec, not both or neither")
    title = "a cone"
    if name is not None:
        cluster = cluster_position(name)
        title = cluster.name
        ra, dec, radius = cluster.ra, cluster.dec, cluster.radius if radius is None else radius
    if ra is None or dec is None or radius is None:
        raise MelotteValueError("a position needs all of --ra, --dec and --radius, in degrees")
    if not (math.isfinite(ra) and 0.0 <= ra < 360.0):
        raise MelotteValueError(f"--ra {ra} is outside [0, 360) deg")
    _within("--dec", dec, -90.0, 90.0, "deg")
    _within("--radius", radius, 0.0, LARGEST_RADIUS, "deg")
    if radius == 0.0:
        raise MelotteValueError("--radius must be above 0 deg")
    _within("--g-limit", g_limit, 0.0, 25.0, "mag")
    columns = [*_COLUMNS] if release == "DR2" else [*_COLUMNS, "ruwe"]
    conditions = [
        f"1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', {ra:.6f}, {dec:.6f}, {radius:.6f}))",
        f"phot_g_mean_mag <= {g_limit:.4f}",
        "parallax IS NOT NULL",
        "bp_rp IS NOT NULL",
    ]
    if proper_motion is not None:
        conditions.append(_proper_motion_condition(proper_motion))
    if parallax is not None:
        conditions.append(_parallax_condition(parallax))
    return (
        f"-- Gaia {release}, stars around {title}: choose the cluster's members among them\n"
        f"SELECT {', '.join(columns)}\nFROM {_TABLES[release]}\nWHERE "
        + "\n  AND ".join(conditions)
        + "\n"
    )


def _proper_motion_condition(window: tuple[float, float, float]) -> str:
    pmra, pmdec, radius = window
    _within("proper motion in right ascension", pmra, -11000.0, 11000.0, "mas/yr")
    _within("proper motion in declination", pmdec, -11000.0, 11000.0, "mas/yr")
    _within("radius of the proper-motion window", radius, 0.0, 11000.0, "mas/yr")
    return f"POWER(pmra - ({pmra:.6f}), 2) + POWER(pmdec - ({pmdec:.6f}), 2) <= {radius**2:.6f}"


def _parallax_condition(window: tuple[float, float]) -> str:
    low, high = window
    _within("lower parallax", low, -50.0, 1000.0, "mas")
    _within("upper parallax", high, -50.0, 1000.0, "mas")
    if low >= high:
        raise MelotteValueError(f"the parallax window [{low}, {high}] mas is empty")
    return f"parallax BETWEEN {low:.6f} AND {high:.6f}"


def _within(what: str, value: float, low: float, high: float, unit: str) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise MelotteValueError(f"{what} {value} is outside [{low:g}, {high:g}] {unit}")
