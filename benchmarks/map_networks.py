"""What the networks of maps cost: milliseconds a map, in prediction and in training.

Untrained networks on random maps of 160 x 160 pixels: pi-DOC's two, ours (a map with errors and the
features of a posterior, with the posterior's quantiles beside), and the perceptual loss with its
gradient, whose weights do not matter here and are drawn at random. Wall time is the median of the
repeats; processor time the least, which is what a core of one's own would need where others share
it. On a CPU with one thread by default.

    python benchmarks/map_networks.py [--device cuda] [--batch 64] [--quick] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from melotte.networks.encoder_decoder import EncoderDecoder
from melotte.networks.heads import build_head
from melotte.networks.map_network import MapNetwork
from melotte.networks.map_posteriors import map_log_likelihood
from melotte.networks.perceptual import PerceptualLoss
from melotte.networks.pooling_cnn import PoolingCNN
from melotte.networks.vgg16_weights import LAYERS

SIZE, N_CHANNELS, N_CONDITIONS, N_FEATURES, N_PARAMETERS = 160, 2, 8, 128, 6
LEVELS = torch.tensor([0.16, 0.5, 0.84])


def timed(work: Callable[[], object], repeats: int, device: str) -> tuple[float, float]:
    """Median wall time and least processor time of some work, s, after a first round."""

    def once() -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - wall, time.process_time() - processor

    once()
    runs = [once() for _ in range(repeats)]
    return sorted(wall for wall, _ in runs)[repeats // 2], min(used for _, used in runs)


def reduced(device: str, precision: str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where that is asked for."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


def random_vgg16() -> dict[str, tuple[Tensor, Tensor]]:
    """Weights of the right shapes."""
    return {
        layer: (torch.randn(n_out, n_in, 3, 3) / (9 * n_in) ** 0.5, torch.zeros(n_out))
        for layer, (n_in, n_out) in LAYERS.items()
    }


def main() -> None:
    """Measure, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--perceptual-batch", type=int, default=32)
    parser.add_argument("--maps-at-once", type=int, help="of the perceptual loss")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="3 repeats, batches of 16 and 4")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    device, repeats, batch, few = given.device, given.repeats, given.batch, given.perceptual_batch
    if given.quick:
        repeats, batch, few = 3, 16, 4

    maps = torch.randn(batch, N_CHANNELS, SIZE, SIZE, device=device)
    conditions = torch.randn(batch, N_CONDITIONS, device=device)
    first, target = maps[:, :1], torch.randn(batch, 1, SIZE, SIZE, device=device)
    labels = torch.rand(batch, N_PARAMETERS, device=device)
    known = torch.ones_like(labels, dtype=torch.bool)
    ours = MapNetwork(N_CHANNELS, N_CONDITIONS, N_FEATURES).to(device)
    head = build_head("autoregressive", N_FEATURES, N_PARAMETERS).to(device)
    pidoc = EncoderDecoder().to(device)
    cnn = PoolingCNN((SIZE, SIZE), (0.0, 0.0), (1.0, 1.0)).to(device)
    perceptual = PerceptualLoss(random_vgg16(), maps_at_once=given.maps_at_once).to(device)
    rows: list[dict[str, Any]] = []

    def row(name: str, n: int, precision: str, work: Callable[[], object]) -> None:
        with reduced(device, precision):
            wall, processor = timed(work, repeats, device)
        rows.append(
            {
                "work": name,
                "maps": n,
                "precision": precision,
                "wall_ms": 1e3 * wall / n,
                "processor_ms": 1e3 * processor / n,
            }
        )
        print(
            f"{name:48s}{n:6d}{precision:>6s}{rows[-1]['wall_ms']:12.2f}"
            f"{rows[-1]['processor_ms']:12.2f}",
            flush=True,
        )

    def predict(n: int, quantiles: bool) -> Callable[[], object]:
        def work() -> object:
            with torch.inference_mode():
                found, features = ours(maps[:n], conditions[:n])
                return head(features).quantile(LEVELS) if quantiles else found

        return work

    def infer(network: nn.Module, n: int) -> Callable[[], object]:
        def work() -> object:
            with torch.inference_mode():
                return network(first[:n])

        return work

    def step(network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], object]:
        def work() -> None:
            network.zero_grad()
            loss().backward()

        return work

    def our_loss() -> Tensor:
        found, features = ours(maps, conditions)
        density = head(features).log_prob_known(labels, known)
        return -(map_log_likelihood(found, target) + density).mean()

    def perceptual_loss() -> Tensor:
        predicted = first[:few].clone().requires_grad_()
        return perceptual(predicted, target[:few]).sum()

    print(
        f"{device}, {given.threads} thread(s), torch {torch.__version__}, seed 0; maps of {SIZE} x "
        f"{SIZE}, median wall and least processor time of {repeats}, ms a map\n"
        f"{'':48s}{'maps':>6s}{'':6s}{'wall':>12s}{'processor':>12s}"
    )
    for network in (ours, pidoc, cnn):
        network.eval()
    for n in (1, batch):
        row("ours: map, scale, features", n, "fp32", predict(n, quantiles=False))
        row("ours, with a posterior's quantiles", n, "fp32", predict(n, quantiles=True))
        row("pi-DOC's map", n, "fp32", infer(pidoc, n))
        row("pi-DOC's age and distance", n, "fp32", infer(cnn, n))
    for network in (ours, pidoc, cnn):
        network.train()
    for precision in ("fp32", "bf16"):
        row("ours, loss and gradient", batch, precision, step(ours, our_loss))
        plain = step(pidoc, lambda: (pidoc(first) - target).square().mean())
        row("pi-DOC's map, squared loss and gradient", batch, precision, plain)
        row("perceptual loss and gradient", few, precision, lambda: perceptual_loss().backward())
    weights = {
        name: sum(weight.numel() for weight in network.parameters())
        for name, network in (("ours", ours), ("pi-DOC's map", pidoc), ("its CNN", cnn))
    }
    print("weights: " + ", ".join(f"{name} {number:,}" for name, number in weights.items()))
    if given.json:
        text = json.dumps({"device": device, "rows": rows, "weights": weights}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
