"""Methods that weigh galaxy clusters, on mocks made under other assumptions.

The essay's main criticism (Abbas 2019, section 5) of networks trained on one catalogue. Methods
learn as in ``galaxy_clusters.py`` (the same folder, so that what was trained there is not trained
again); then the test mocks change in one assumption at a time. Printed are the median error and
the standard deviation of eps = log10(predicted/true), dex; how often the 68 % interval holds the
truth, and the share that the domain check flags, for models that have them.

    python benchmarks/galaxy_cluster_generalisation.py [--methods cnn2d,ours] [-n 1000]
        [--seed 1] [--folder RUNS] [--json out.json] [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from galaxy_cluster_catalogues import TEST_RANGE, Catalogue, catalogues_of, mock_catalogue
from galaxy_cluster_methods import METHODS, ModelWeigher, Weigher, first
from galaxy_clusters import Budget, remembered

from melotte import api
from melotte.baselines.mass_errors import error_statistics
from melotte.engine.json_values import plain_json
from melotte.flags import Flag
from melotte.systems.galaxy_cluster.settings import DataSettings

USUAL = (
    "msigma,msigma-clean,fast2d,boosting,boosting-richness,cnn1d,cnn2d,ours,ours-richness,"
    "ours-unlimited,ours-unlimited-richness"
)
SLOW_TEST = 200
SHIFTED = 100
"""Catalogue numbers of the changed mocks begin here: none is that of a training catalogue."""

ASSUMPTIONS: dict[str, dict[str, Any]] = {
    "as trained": {},
    "galaxies above 10^9.0 Msun": {"log_stellar_mass_limit": 9.0},
    "galaxies above 10^10.0 Msun": {"log_stellar_mass_limit": 10.0},
    "clusters of 10^13.5 to 10^14": {"prior": {"log_m200c": (13.5, 14.0), "mass_function": True}},
    "clusters of 10^13.3 to 10^13.5": {"prior": {"log_m200c": (13.3, 13.5), "mass_function": True}},
    "centre off by 0.1 Mpc/h an axis": {"centring_error": 0.1},
    "centre off by 0.3 Mpc/h an axis": {"centring_error": 0.3},
    "velocities about the galaxies' median": {"velocity_centre": "galaxies"},
    "redshift 0.05": {"redshift": 0.05},
    "redshift 0.3": {"redshift": 0.3},
    "velocity bias 0.9": {"velocity_bias": 0.9},
    "velocity bias 1.1": {"velocity_bias": 1.1},
    "no subgroups": {"subgroup_rate": 0.0},
    "2.5 subgroups a cluster": {"subgroup_rate": 2.5},
    "half of the interlopers": {"interloper_density": 0.5},
    "twice the interlopers": {"interloper_density": 2.0},
    "60 % complete, untold": {"completeness": 0.6},
    "centre half as complete, untold": {"completeness": 0.75, "completeness_gradient": 0.67},
    "fibres 55 arcsec apart": {"fibre_separation": 55.0},
    "redshift errors of 150 km/s": {"redshift_error": 150.0},
    "a third more galaxies": {"richness": {"mean_at_1e14": 37.0}},
    "matter density 0.25": {"cosmology": {"omega_m": 0.25}},
}
"""Changes of the settings of the mocks; those of Ho et al. 2019 are the rest."""


def changed_catalogue(change: dict[str, Any], n: int, seed: int) -> Catalogue:
    """Test clusters whose mocks differ in one assumption, and that look complete to methods."""
    usual = {"prior": {"log_m200c": TEST_RANGE, "mass_function": True}}
    data = DataSettings.model_validate({**usual, **change})
    number = SHIFTED + list(ASSUMPTIONS.values()).index(change)
    catalogue = mock_catalogue(data, n, seed, number)
    return catalogue.told_completeness(np.ones(n))


def judged(weigher: Weigher, catalogue: Catalogue) -> dict[str, Any]:
    """Errors, coverage and flags on one catalogue."""
    row: dict[str, Any] = {}
    if isinstance(weigher, ModelWeigher):
        result = api.infer_observations(
            weigher.model, [catalogue.batch.observation], progress=False
        )
        row["flagged"] = float((result.flags & int(Flag.OUT_OF_DOMAIN) > 0).mean())
    if isinstance(weigher, ModelWeigher) and not weigher.point:
        quantiles = weigher.quantiles(catalogue)
        predicted, true = quantiles[:, 2], catalogue.log_mass
        row["coverage_68"] = float(((true > quantiles[:, 1]) & (true < quantiles[:, 3])).mean())
    else:
        predicted = weigher.weigh(catalogue)
    found = error_statistics(predicted, catalogue.log_mass)
    return row | {"median": found.median, "std": found.std, "n": found.n}


def show(rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    """One table a method."""
    for name, entries in rows.items():
        print(
            f"\n{METHODS[name].title}\n"
            f"{'':40s}{'median':>8s}{'std':>7s}{'in 68%':>8s}{'flagged':>9s}"
        )
        for change, row in entries.items():
            cells = f"{change:40s}{row['median']:8.3f}{row['std']:7.3f}"
            cells += f"{row['coverage_68']:8.2f}" if "coverage_68" in row else " " * 8
            cells += f"{row['flagged']:9.3f}" if "flagged" in row else ""
            print(cells)


def main() -> None:
    """Learn or load every method, test it on every change."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", default=USUAL, help=f"of {','.join(METHODS)}")
    parser.add_argument("-n", type=int, default=1000, help="test clusters of each change")
    parser.add_argument("--seed", type=int, default=1, help="of mocks and trainings")
    parser.add_argument("--folder", type=Path, help="where rows and models are kept")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--quick", action="store_true", help="400 clusters, no networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = Budget(400, 300) if options.quick else Budget()
    n = 100 if options.quick else options.n
    names = options.methods.split(",")
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")
    if options.quick:
        names = [name for name in names if not (METHODS[name].slow or METHODS[name].network)]
    kind = f"galaxy-clusters-{budget.n_train}-{budget.n_test}-{options.seed}"
    folder = (options.folder or Path("runs")) / kind
    folder.mkdir(parents=True, exist_ok=True)
    catalogues = catalogues_of("published", budget.n_train, budget.n_test, options.seed)
    changed = {
        change: changed_catalogue(settings, n, options.seed)
        for change, settings in ASSUMPTIONS.items()
    }
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        method = METHODS[name]

        def make(name: str = name) -> dict[str, Any]:
            weigher = METHODS[name].fit(catalogues, options.seed, folder).weigher
            slow = METHODS[name].slow
            return {
                change: judged(weigher, first(one, SLOW_TEST) if slow else one)
                for change, one in changed.items()
            }

        if method.pure:
            print(f"{name}: learns from true members only, left out", file=sys.stderr)
            continue
        rows[name] = remembered(folder, f"generalisation-{name}-{n}", make)
        rows[name].pop("wall_seconds", None)
    print(f"{n} clusters a change, 10^14 to 10^15 Msun/h, seed {options.seed}, CPU, 1 thread")
    show(rows)
    if options.json:
        document = {"seed": options.seed, "n": n, "rows": rows}
        options.json.write_text(json.dumps(plain_json(document, "report"), indent=1))


if __name__ == "__main__":
    main()
