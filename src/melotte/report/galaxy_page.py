"""What a page says of measured galaxy clusters: masses beside others, members, phase space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.errors import MelotteError
from melotte.io.tables import read_table
from melotte.report.classical_masses import ClassicalMass, classical_masses
from melotte.report.cluster_galaxies import N_MEMBERS, ClusterGalaxies
from melotte.report.galaxy_cluster_diagrams import PHASE_SPACE_CAPTION, phase_space_figure
from melotte.report.literature import LiteratureValue
from melotte.report.mass_diagrams import ClusterMasses, masses_figure
from melotte.report.membership_boundary import MembershipBoundary
from melotte.report.page import PageFigure, PageTable, Section
from melotte.systems.base import Observation

MASS = "log_m200c"
MOST_CLUSTERS = 40
"""Clusters whose masses are drawn beside others."""
MOST_DIAGRAMS = 12
"""Clusters whose phase space is drawn."""
GALAXY_TABLE, LITERATURE = "galaxy_table", "literature"
"""Entries of a result's header: the file of its galaxies, and literature values by id."""
MASSES_CAPTION = (
    "Medians and 68 % intervals over the range of the prior (grey beyond it), with the values of "
    "the table that they were compared with, where there was one, and M–σ estimates by the "
    "relations of Ho et al. 2019, where the table of galaxies is at hand (bars: their scatter)."
)


def listed_literature(
    values: Mapping[str, list[LiteratureValue]],
) -> dict[str, list[dict[str, Any]]]:
    """Literature values as a result's header keeps them."""
    return {name: [asdict(one) for one in several] for name, several in values.items()}


def galaxy_sections(table: Any, folder: Path) -> list[Section]:
    """Sections on the galaxy clusters of a result table.

    Parameters
    ----------
    table : astropy Table
        That ``infer`` wrote, ``log_m200c`` in it.
    folder : Path
        Where the result lies; its table of galaxies is looked for beside it.

    Returns
    -------
    list of Section
    """
    about: Mapping[str, Any] = table.meta.get("melotte", {})
    header: Mapping[str, Any] = about.get("header", {})
    name = header.get(GALAXY_TABLE)
    clusters = stored_galaxies(folder / str(name), table, header) if name else {}
    sections = [_masses_section(table, header, clusters)]
    if N_MEMBERS in table.colnames:
        sections.append(_members_section(table))
    if clusters:
        figures = [
            PageFigure(
                phase_space_figure(one),
                PHASE_SPACE_CAPTION if k == 0 else f"Phase space of {one.name}.",
                f"phase space of {one.name}",
            )
            for k, one in enumerate(list(clusters.values())[:MOST_DIAGRAMS])
        ]
        several = len(clusters) > MOST_DIAGRAMS
        text = [f"The first {MOST_DIAGRAMS} of {len(clusters)} clusters."] if several else []
        sections.append(Section("Phase space", text, None, figures))
    return sections


def stored_galaxies(
    path: Path, result: Any, header: Mapping[str, Any]
) -> dict[str, ClusterGalaxies]:
    """Clusters of a table of galaxies that ``infer`` wrote; none where it cannot be read.

    Parameters
    ----------
    path : Path
    result : astropy Table
        Its ids order the clusters.
    header : mapping
        Of the result, with the reader's ``conventions``.
    """
    wanted = ("id", "radius_mpc_h", "velocity", "member_probability", "velocity_boundary")
    try:
        stored = read_table(path, wanted)
    except MelotteError:
        return {}
    conventions = dict(header.get("conventions", {}))
    radius, velocity, member, boundary = (stored.numbers(name) for name in wanted[1:])
    names = np.asarray(stored.text("id")).astype(str)
    has_redshift = "redshift" in result.colnames
    found = {}
    for row, name in enumerate(np.asarray(result["id"]).astype(str)):
        mine = np.flatnonzero(names == name)
        if not len(mine) or name in found:
            continue
        redshift = float(result["redshift"][row]) if has_redshift else np.nan
        at = mine[np.argsort(radius[mine], kind="stable")]
        found[name] = ClusterGalaxies(
            name=name,
            row=row,
            observation=Observation({"redshift": torch.tensor([np.nan_to_num(redshift)])}),
            conventions=conventions,
            velocity=velocity[mine],
            radius=radius[mine],
            aperture=_first_number(conventions, "aperture", float(radius[mine].max())),
            velocity_cut=_first_number(
                conventions, "velocity_cut", float(np.abs(velocity[mine]).max())
            ),
            redshift=redshift,
            membership=member[mine] if np.isfinite(member[mine]).all() else None,
            boundary=MembershipBoundary(radius[at], boundary[at])
            if np.isfinite(boundary[at]).all()
            else None,
        )
    return found


def _masses_section(
    table: Any, header: Mapping[str, Any], clusters: Mapping[str, ClusterGalaxies]
) -> Section:
    stored = header.get(LITERATURE) or {}
    entries = []
    for row in range(min(len(table), MOST_CLUSTERS)):
        name = str(table["id"][row])
        quantiles = [float(table[f"{MASS}_{level}"][row]) for level in (16, 50, 84)]
        if not np.isfinite(quantiles).all():
            continue
        literature = [_literature_value(one) for one in stored.get(name, [])]
        classical: list[ClassicalMass] = []
        if name in clusters:
            classical = classical_masses(clusters[name])
        low, middle, high = quantiles
        entries.append(ClusterMasses(name, low, middle, high, tuple(literature), tuple(classical)))
    text = []
    if len(table) > MOST_CLUSTERS:
        text.append(f"The first {MOST_CLUSTERS} of {len(table)} clusters.")
    if not entries:
        return Section("Masses", [*text, "No cluster was measured."])
    low, high = _prior_range(table)
    provenance = table.meta.get("melotte", {}).get("provenance", {})
    drawn = masses_figure(entries, low, high, str(provenance.get("model", "melotte")))
    figure = PageFigure(drawn, MASSES_CAPTION, "masses of clusters")
    return Section("Masses", text, None, [figure])


def _literature_value(stored: Mapping[str, Any]) -> LiteratureValue:
    """A value as a result's header keeps it: null where an error is unknown."""
    value, lower, upper = (
        np.nan if stored[name] is None else float(stored[name])
        for name in ("value", "lower", "upper")
    )
    return LiteratureValue(value, lower, upper, str(stored["reference"]))


def _members_section(table: Any) -> Section:
    members: NDArray[np.float64] = np.asarray(table[N_MEMBERS], dtype=float)
    n = np.asarray(table["n_galaxies"], dtype=float) if "n_galaxies" in table.colnames else None
    rows = []
    for i in range(min(len(table), MOST_CLUSTERS)):
        known = np.isfinite(members[i])
        total = "–" if n is None or not np.isfinite(n[i]) else f"{n[i]:.0f}"
        rows.append([str(table["id"][i]), total, f"{members[i]:.1f}" if known else "–"])
    text = [
        "Members are the sum of the galaxies' probabilities of being bound to the cluster within "
        "1.3 R200c; the others in the cylinder are interlopers.",
    ]
    return Section("Members", text, PageTable(["id", "galaxies", "members"], rows))


def _prior_range(table: Any) -> tuple[float, float]:
    """Range of the mass, as the model's preset says; of the values where it does not."""
    about = table.meta.get("melotte", {}).get("provenance", {}).get("preset", {})
    data = about.get("data", {})
    for settings in (data, data.get("mocks", {})):
        limits = settings.get("prior", {}).get(MASS)
        if limits:
            return float(limits[0]), float(limits[1])
    values = [np.asarray(table[f"{MASS}_{level}"], dtype=float) for level in (16, 84)]
    return float(np.nanmin(values)), float(np.nanmax(values))


def _first_number(conventions: Mapping[str, Any], name: str, otherwise: float) -> float:
    """Number at the beginning of a text such as ``"1.6 Mpc/h"``."""
    try:
        return float(str(conventions[name]).split()[0])
    except (KeyError, ValueError, IndexError):
        return otherwise
