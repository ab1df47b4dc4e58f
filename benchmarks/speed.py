"""How fast melotte is here: import, mocks, training steps, inference.

Mocks and training steps need only a preset: its batch size, views and precision, and the optimiser
that trains. ``mocks_share_of_step`` is the time of making a batch over that of a step on it, one
after the other. Inference is measured with the shipped model of the
same name, where there is one, and counts everything from member list to quantiles and flags.

    python benchmarks/speed.py [--preset open-cluster] [--seconds 20] [--quick] [--json out.json]
    python benchmarks/speed.py --preset m83 training.precision=32
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from melotte import api
from melotte.engine.inference import infer_batches
from melotte.engine.mocks import draw_mocks, mock_batch
from melotte.systems.registry import build_system, load_preset


def rate(work: Callable[[int], int], seconds: float) -> float:
    """Units of work a second; ``work(k)`` does the k-th piece and says how many units it was."""
    work(0)
    start, units, piece = time.perf_counter(), 0, 1
    while time.perf_counter() - start < seconds:
        units += work(piece)
        piece += 1
    return units / (time.perf_counter() - start)


def import_seconds(repeats: int = 5) -> float:
    """Median wall time of ``import melotte`` in fresh interpreters."""
    program = (
        "import time; start = time.perf_counter(); import melotte; "
        "print(time.perf_counter() - start)"
    )
    runs = [
        float(
            subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(repeats)
    ]
    return sorted(runs)[repeats // 2]


def main() -> None:
    """Measure, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", help="settings of the preset, KEY=VALUE")
    parser.add_argument("--preset", default="open-cluster")
    parser.add_argument("--seconds", type=float, default=20.0, help="budget of each rate")
    parser.add_argument("--quick", action="store_true", help="3 seconds for each rate")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds = 3.0 if arguments.quick else arguments.seconds

    preset = load_preset(arguments.preset, arguments.settings)
    system, size = build_system(preset), preset.training.batch_size
    views, reduced = preset.training.views, preset.training.precision == "bf16"
    device = api.torch_device(arguments.device)
    (first,) = draw_mocks(system, size, seed=0, batch_size=size, device=device, views=views)
    constants = system.constants(first)
    network = system.network(constants).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)

    def make_mocks(piece: int) -> int:
        return len(mock_batch(system, size, 1, piece, views=views, device=device))

    def train_step(_: int) -> int:
        optimiser.zero_grad()
        inputs = system.prepare(first.observation, constants)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=reduced):
            outputs = network(inputs)
        terms = system.loss(outputs, first)
        torch.stack([term.mean() for term in terms.values()]).sum().backward()
        optimiser.step()
        return len(first)

    # Tables that are made when they are first needed are not part of a long training's mocks.
    for piece in range(8):
        make_mocks(1000 + piece)
    mocks, steps = rate(make_mocks, seconds), rate(train_step, seconds)
    measured: dict[str, float | int | str | None] = {
        "preset": " ".join((arguments.preset, *arguments.settings)),
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch_size": size,
        "weights": sum(parameter.numel() for parameter in network.parameters()),
        "import_seconds": import_seconds(),
        "views": views,
        "precision": "bf16" if reduced else "32",
        "mocks_per_second": mocks,
        "training_mocks_per_second": steps,
        "mocks_share_of_step": steps / mocks,
        "inference_seconds_per_object": None,
    }
    if arguments.preset in api.shipped_models():
        model = api.load(arguments.preset, device)
        speed = rate(lambda _: len(infer_batches(model, [first.observation])), seconds)
        measured["inference_seconds_per_object"] = 1 / speed
    for name, value in measured.items():
        print(f"{name:30s} {value:.4g}" if isinstance(value, float) else f"{name:30s} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
