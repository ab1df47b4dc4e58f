"""What ``evaluate`` draws of models that predict maps of mass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from melotte.report.field_luminosities import luminosity_figure
from melotte.report.map_figures import (
    age_figure,
    distance_figure,
    mass_figure,
    pixel_figure,
    profile_figure,
)
from melotte.report.map_gallery import map_gallery

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from melotte.systems.globular_clusters.judging import MapJudge

CAPTIONS = {
    "pixels": "Pixels of the predicted and the true map; residuals by prediction and by truth "
    "(Chardin & Bianchini 2021, Fig. 5).",
    "masses": "Mass of the field of view and M/L (Fig. 6).",
    "profiles": "Profiles of three clusters and errors of all in 25 rings (Fig. 7); bands are the "
    "pixels' errors, as if all of a ring were wrong together.",
    "ages": "True and predicted ages (Fig. 8).",
    "distances": "Predicted distances by true distance (Fig. 9).",
    "luminosities": "Light of the field of view of these mocks (dots), and of the paper's 17 "
    "clusters (squares): filled within what 99 % of the old mocks of their distance have, open "
    "outside of it, grey where there are too few such mocks to tell (Fig. 10).",
    "gallery": "Six clusters from the least to the most massive.",
}


def map_figures(judge: MapJudge) -> dict[str, Figure]:
    """Figures by name; those whose quantities are known.

    Parameters
    ----------
    judge : MapJudge
        After the last mock.
    """
    scores = judge.scores
    known = scores.arrays()
    examples = judge.examples()
    scale = float(np.median([one.pixel_scale for one in examples])) if examples else 1.0
    found = {"pixels": pixel_figure(scores), "masses": mass_figure(scores)}
    found["profiles"] = profile_figure(examples, known, scale)
    if "predicted age" in known:
        found["ages"] = age_figure(scores)
    if "predicted distance" in known:
        found["distances"] = distance_figure(scores)
    found["luminosities"] = luminosity_figure(
        known["light"], known["true age"], known["true distance"]
    )
    found["gallery"] = map_gallery(examples)
    return found
