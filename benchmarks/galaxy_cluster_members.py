"""Which galaxies are members: the shipped models' probabilities against classical cuts, on mocks.

Mocks are those that a shipped model learned from, of a seed that no training used. Printed are, for
the network and for each cut, the share of members kept (completeness) and of kept galaxies that
are members (purity); how often galaxies of each probability are members; and the area under the
receiver's curve.

    python benchmarks/galaxy_cluster_members.py [-n 1000] [--seed 5] [--model galaxy-cluster]
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from galaxy_cluster_catalogues import mock_catalogue, survey_settings

import melotte
from melotte.baselines.interloper_removal import Removal, members_after
from melotte.engine.evaluation import roc_auc
from melotte.engine.json_values import plain_json
from melotte.ragged import Ragged
from melotte.systems.galaxy_cluster.membership import member_probabilities

CUTS: dict[str, Removal] = {
    "3 sigma clipping": "three_sigma",
    "shifting gapper": "shifting_gapper",
    "Clean": "clean",
}
EDGES = np.linspace(0, 1, 11)
MOCKS = 900
"""Catalogue number."""


def main() -> None:
    """Judge memberships; print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=1000, help="clusters, flat in log mass")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--model", default="galaxy-cluster")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="200 clusters")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n = 200 if options.quick else options.n
    catalogue = mock_catalogue(survey_settings(), n, options.seed, MOCKS)
    truth = catalogue.batch.observation.data["is_member"]
    assert isinstance(truth, Ragged)
    member = truth.values[:, 0].numpy() > 0.5
    model = melotte.load(options.model, device="cpu")
    chance = member_probabilities(model, catalogue.batch.observation).numpy()
    rows: dict[str, Any] = {}

    def judge(name: str, kept: np.ndarray) -> None:
        rows[name] = {
            "completeness": float(kept[member].mean()),
            "purity": float(member[kept].mean()),
        }

    judge(f"{model.name}, above 0.5", chance > 0.5)
    for title, removal in CUTS.items():
        kept = members_after(
            removal,
            catalogue.velocity,
            catalogue.radius,
            catalogue.offsets,
            catalogue.numbers("redshift"),
        )
        judge(title, np.asarray(kept, bool))
    print(
        f"{n} clusters, seed {options.seed}, {len(member)} galaxies, members {member.mean():.3f}\n"
        f"{'':28s}{'completeness':>14s}{'purity':>9s}"
    )
    for name, row in rows.items():
        print(f"{name:28s}{row['completeness']:14.3f}{row['purity']:9.3f}")
    area = roc_auc(chance, member)
    print(f"area under the curve {area:.4f}\nprobability   galaxies   said   true")
    reliability = []
    for low, high in pairwise(EDGES):
        inside = (chance >= low) & (chance < high)
        if inside.any():
            said, true = float(chance[inside].mean()), float(member[inside].mean())
            reliability.append([int(inside.sum()), said, true])
            print(f"{low:.1f} to {high:.1f}{inside.sum():12d}{said:8.3f}{true:7.3f}")
    if options.json:
        document = {
            "n": n,
            "seed": options.seed,
            "model": model.name,
            "rows": rows,
            "area": area,
            "reliability": reliability,
        }
        options.json.write_text(json.dumps(plain_json(document, "members"), indent=1))


if __name__ == "__main__":
    main()
