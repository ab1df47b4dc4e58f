"""A shipped galaxy-cluster model under a flat prior and under the halo mass function.

Mocks follow the halo mass function over the model's whole range, with its own survey, redshifts and
cylinders, of a seed that no training used: light clusters are many, and of those that look heavy
many are light. Printed are the bias and the root mean square of the posterior median, and how
often intervals hold the truth, under both priors, for all and by the posterior median.

    python benchmarks/galaxy_cluster_prior.py [-n 3000] [--seed 7] [--models galaxy-cluster,...]
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from galaxy_cluster_catalogues import mock_catalogue
from numpy.typing import NDArray

import melotte
from melotte.api import infer_observations
from melotte.engine.json_values import plain_json
from melotte.systems.galaxy_cluster.settings import DataSettings
from melotte.systems.registry import load_preset

PRIORS = (None, "mass-function")
MOCKS = 901
"""Catalogue number."""
EDGES = (13.5, 14.0, 14.5, 15.5)
LEAST = 30


def statistics(quantiles: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Bias, root mean square and coverage of 68 % intervals."""
    low, middle, high = quantiles.T
    error = middle - truth
    return {
        "n": len(truth),
        "bias": float(error.mean()),
        "rms": float(np.sqrt((error**2).mean())),
        "coverage_68": float(((truth > low) & (truth < high)).mean()),
    }


def main() -> None:
    """Draw, weigh twice, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--models", default="galaxy-cluster,galaxy-cluster-richness")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="300 clusters")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n = 300 if options.quick else options.n
    document: dict[str, Any] = {"n": n, "seed": options.seed}
    print(f"{n} clusters of the halo mass function, seed {options.seed}")
    print(f"{'':46s}{'n':>6s}{'bias':>8s}{'rms':>8s}{'in 68%':>8s}")
    for name in options.models.split(","):
        model = melotte.load(name, device="cpu")
        data = load_preset(name).data
        natural = {**data, "prior": {**data.get("prior", {}), "mass_function": True}}
        catalogue = mock_catalogue(DataSettings.model_validate(natural), n, options.seed, MOCKS)
        truth = catalogue.log_mass
        for prior in PRIORS:
            result = infer_observations(
                model, [catalogue.batch.observation], prior=prior, progress=False
            )
            quantiles = result.quantiles[:, :, 0]
            rows = {"all": statistics(quantiles, truth)}
            for low, high in pairwise(EDGES):
                inside = (quantiles[:, 1] >= low) & (quantiles[:, 1] < high)
                if inside.sum() >= LEAST:
                    rows[f"median {low} to {high}"] = statistics(quantiles[inside], truth[inside])
            document[f"{name}, {prior or 'flat'}"] = rows
            for part, row in rows.items():
                label = f"{name}, {prior or 'flat'}" if part == "all" else f"    {part}"
                print(
                    f"{label:46s}{row['n']:6d}{row['bias']:8.3f}{row['rms']:8.3f}"
                    f"{row['coverage_68']:8.3f}"
                )
    if options.json:
        options.json.write_text(json.dumps(plain_json(document, "prior"), indent=1))


if __name__ == "__main__":
    main()
