"""Methods that an earlier run of image_systems.py judged on the same mocks, from its JSON file.

A network of a paper takes hours to train and is not shipped; its numbers are. Mocks come from a
seed alone, so that they are those of today's methods where paper, number and seed are the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from melotte.parameters import Parameter
from melotte.report.cluster_image_grids import BinnedErrors

Boxes = Mapping[str, Mapping[str, Mapping[str, Any]]]


def stored_run(path: Path, paper: int, n: int, seed: int) -> dict[str, Any]:
    """The document of an earlier run: as it was written, or in a card of docs/models.

    Raises
    ------
    SystemExit
        When it was of other mocks.
    """
    document: dict[str, Any] = json.loads(path.read_text())
    document = document.get("paper1_mocks", document)
    document = document.get("results", document)
    wanted = {"paper": paper, "n": n, "seed": seed}
    given = {key: document.get(key) for key in wanted}
    if given != wanted:
        raise SystemExit(f"--beside {path}: of {given}; wanted {wanted}")
    return document


def add_stored(found: dict[str, dict[str, Any]], stored: Mapping[str, Any]) -> None:
    """Add the methods of an earlier run to those of today, and what the ratios are then.

    Errors of ratios to a stored method are those of the two bounds in quadrature: which clusters
    both find difficult is not in the file.
    """
    today = list(found)
    for key, rows in stored.items():
        found.setdefault(key, dict(rows))
    if "faithful" in found and "faithful" not in today:
        for key in today:
            found[key]["bounds_over_faithful"] = _ratios(found[key], found["faithful"])


def _ratios(rows: Mapping[str, Any], faithful: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    ratios = {}
    for name, of_name in rows["errors"].items():
        ours, theirs = of_name["point"], faithful["errors"][name]["point"]
        ratio = ours["p95_abs"] / theirs["p95_abs"]
        relative = math.hypot(*(one["p95_error"] / one["p95_abs"] for one in (ours, theirs)))
        ratios[name] = {"ratio": ratio, "error": ratio * relative}
    return ratios


def binned(boxes: Boxes, parameters: Sequence[Parameter]) -> list[list[BinnedErrors]]:
    """Boxes of errors as the figure takes them; what lies beyond the whiskers is not stored."""
    return [
        [_errors(boxes[wrong.name][against.name]) for against in parameters] for wrong in parameters
    ]


def _errors(stored: Mapping[str, Any]) -> BinnedErrors:
    centres = np.asarray(stored["centres"], float)
    return BinnedErrors(
        centres,
        np.asarray(stored["n"]),
        np.asarray(stored["quantiles_2_25_50_75_98"], float),
        np.asarray(stored["std"], float),
        tuple(np.empty(0) for _ in centres),
    )
