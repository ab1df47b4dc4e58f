"""What each posterior head costs: samples, table quantiles, densities, a training step.

All heads are measured in one run, untrained, on the same features, so that their ratios hold
where absolute times depend on what else the machine does. Features and head, no network before.

    python benchmarks/heads.py [--parameters 4] [--objects 100] [--quick] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from melotte.networks.heads import HEADS, build_head

SETTINGS: dict[str, dict[str, Any]] = {"grid": {"bins": [20, 10, 14, 5]}}
LEVELS = torch.tensor([0.16, 0.5, 0.84])
TRAINING_BATCH = 256


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of some work, after a first round that does not count."""
    work()
    runs = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        runs.append(time.perf_counter() - start)
    return sorted(runs)[repeats // 2]


def measure(kind: str, n_parameters: int, n_features: int, n: int, repeats: int) -> dict[str, Any]:
    """Milliseconds an object, or a step, of one head."""
    torch.manual_seed(0)
    settings = dict(SETTINGS.get(kind, {}))
    if kind == "grid":
        settings["bins"] = settings["bins"][:n_parameters]
    head = build_head(kind, n_features, n_parameters, **settings)
    features, u = torch.randn(n, n_features), torch.rand(n, n_parameters)
    more, labels = torch.randn(TRAINING_BATCH, n_features), torch.rand(TRAINING_BATCH, n_parameters)
    every = torch.ones(TRAINING_BATCH, n_parameters, dtype=torch.bool)
    first_unknown = every.clone()
    first_unknown[:, 0] = False

    def step(known: torch.Tensor) -> None:
        head.zero_grad()
        (-head(more).log_prob_known(labels, known).mean()).backward()

    with torch.no_grad():
        each = {
            "sample_200_ms": seconds(lambda: head(features).sample(200), repeats),
            "sample_500_ms": seconds(lambda: head(features).sample(500), repeats),
            "sample_1000_ms": seconds(lambda: head(features).sample(1000), repeats),
            "quantiles_ms": seconds(lambda: head(features).quantile(LEVELS), repeats),
            "log_prob_ms": seconds(lambda: head(features).log_prob(u), repeats),
        }
    found: dict[str, Any] = {name: 1e3 * value / n for name, value in each.items()}
    found["step_ms"] = 1e3 * seconds(lambda: step(every), repeats)
    found["step_first_unknown_ms"] = 1e3 * seconds(lambda: step(first_unknown), repeats)
    found["weights"] = sum(weight.numel() for weight in head.parameters())
    return found


def main() -> None:
    """Measure, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=4, choices=(1, 2, 3, 4))
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="3 repeats of 30 objects")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    n, repeats = (30, 3) if arguments.quick else (arguments.objects, arguments.repeats)

    print(
        f"cpu, {arguments.threads} thread(s), torch {torch.__version__}, seed 0; "
        f"{n} objects, {arguments.parameters} parameters, {arguments.features} features, "
        f"median of {repeats}; ms an object, steps: ms a batch of {TRAINING_BATCH}"
    )
    measured = {
        kind: measure(kind, arguments.parameters, arguments.features, n, repeats) for kind in HEADS
    }
    columns = list(next(iter(measured.values())))
    print("head".ljust(16) + "".join(name.removesuffix("_ms").rjust(20) for name in columns))
    for kind, row in measured.items():
        cells = [
            f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()
        ]
        print(kind.ljust(16) + "".join(cell.rjust(20) for cell in cells))
    flow = measured["flow"]["quantiles_ms"]
    ratios = (f"{kind} {row['quantiles_ms'] / flow:.3f}" for kind, row in measured.items())
    print(f"table quantiles, times the flow's: {', '.join(ratios)}")
    print(f"flow, 1,000 objects of 500 samples: {measured['flow']['sample_500_ms']:.2f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
