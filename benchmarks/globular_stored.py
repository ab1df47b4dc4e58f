"""Methods that an earlier run of globular.py judged on the same mocks, from its JSON file.

A network of a paper takes hours to train and is not shipped; its numbers are. Mocks come from the
library and a seed alone, so that they are those of today's methods where both are the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SAME_NOISE = 2e-3
"""Greatest difference of the noise of single stars, of which the file has four digits."""


def stored_run(path: Path, n_maps: int, seed: int) -> dict[str, Any]:
    """The sets of an earlier run: as it was written, or in a card of docs/models.

    Raises
    ------
    SystemExit
        When it was of other mocks.
    """
    document: dict[str, Any] = json.loads(path.read_text())
    wanted = {"maps": n_maps, "seed": seed}
    given = {key: document.get(key) for key in wanted}
    if given != wanted:
        raise SystemExit(f"--beside {path}: of {given}; wanted {wanted}")
    return document["sets"]


def add_stored(
    found: dict[str, dict[str, Any]], noise: Mapping[str, float], stored: Mapping[str, Any]
) -> str | None:
    """Add the methods of an earlier run to those of today, and today's ratios to its baseline.

    Errors of ratios are those of both errors in quadrature: which runs both find difficult is not
    in the file.

    Parameters
    ----------
    found : dict of str to dict
        Today's methods; stored ones of the same name are left out.
    noise : mapping
        Of single stars, of today's mocks.
    stored : mapping
        A set of an earlier run.

    Returns
    -------
    str or None
        The method that ratios are to.

    Raises
    ------
    SystemExit
        When the noise of single stars differs: the library has other clusters.
    """
    for name, value in stored["sampling_noise_floor"].items():
        if not math.isclose(value, noise[name], rel_tol=SAME_NOISE):
            raise SystemExit(
                f"--beside: of other clusters; their {name} by single stars is {value:.4g}, here "
                f"it is {noise[name]:.4g}"
            )
    today, earlier = list(found), stored["methods"]
    baseline = next((key for key, rows in earlier.items() if "over_baseline" not in rows), None)
    for key, rows in earlier.items():
        found.setdefault(key, dict(rows))
    if baseline is None or baseline in today:
        return baseline
    for key in today:
        found[key]["over_baseline"] = _ratios(found[key], earlier[baseline])
    return baseline


def _ratios(rows: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    ratios = {}
    for name, error in rows["errors"].items():
        if name in baseline["errors"]:
            ratio = rows[name] / baseline[name]
            relative = math.hypot(error / rows[name], baseline["errors"][name] / baseline[name])
            ratios[name] = (ratio, ratio * relative)
    return ratios
