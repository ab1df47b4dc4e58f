"""How well binaries, blue stragglers and masses are found, and wrong fits, on known lists.

Draws clusters over a range of ages, extinctions, distances and sizes, measures them with the model
and classifies their stars under its posterior. Prints completeness and purity of each class, the
error of masses and mass ratios, and the time a cluster takes; then how often the predictive check
refuses mocks measured by the model, and lists that no isochrone fits.

    python benchmarks/open_cluster_stars.py [-n 60] [--seed 1] [--quick]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import melotte
from melotte.engine.inference import infer_posterior
from melotte.systems.base import Observation
from melotte.systems.open_cluster.known_stars import known_list
from melotte.systems.open_cluster.preparation import pack_lists
from melotte.systems.open_cluster.stars import BINARY_RATIO, classify_stars

BINARY, STRAGGLER, OFF = 1, 2, 3


def measure(model: melotte.Model, n: int, seed: int) -> tuple[list, float]:
    """Truth and classification of ``n`` clusters, and the seconds a cluster took."""
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    system = model.system
    grid = system.simulator(torch.device("cpu")).grid
    pairs, seconds = [], 0.0
    for _ in range(n):
        theta = np.array(
            [rng.uniform(7.5, 9.7), rng.uniform(0, 2), 10 ** rng.uniform(-0.7, 0.4), 0.0]
        )
        truth = known_list(
            grid,
            theta,
            int(10 ** rng.uniform(1.7, 2.7)),
            generator,
            settings=system.data,
            stragglers=3,
            reddening_scatter=rng.choice([0.0, 0.03, 0.1]),
        )
        samples = posterior_of(model, truth.stars, 32)
        start = time.perf_counter()
        found = classify_stars(truth.stars, samples, "EDR3", system.data, grid)
        seconds += time.perf_counter() - start
        pairs.append((theta, truth, found))
    return pairs, seconds / n


def posterior_of(model: melotte.Model, list_stars: np.ndarray, n: int) -> np.ndarray:
    """Samples (n, 4) of the model's posterior for a list."""
    stars = torch.from_numpy(list_stars.astype(np.float32))
    observation = Observation(pack_lists([stars], [len(stars)], [False]))
    posterior, _ = infer_posterior(model, observation)
    return posterior.sample(n, torch.Generator().manual_seed(1))[0].numpy()


def rates(found: np.ndarray, wanted: np.ndarray, counted: np.ndarray) -> str:
    """Completeness over ``wanted`` and purity (``counted`` are right) of what was found."""
    complete = (found & wanted).sum() / max(wanted.sum(), 1)
    pure = (found & counted).sum() / max(found.sum(), 1)
    return f"completeness {complete:.3f} of {wanted.sum()}, purity {pure:.3f} of {found.sum()}"


def show(pairs: list, seconds: float) -> None:
    """Print the table."""

    def joined(function) -> np.ndarray:
        return np.concatenate([function(*pair) for pair in pairs])

    def column(name: str) -> np.ndarray:
        return joined(lambda _, truth, found: getattr(found, name))

    def true(name: str) -> np.ndarray:
        return joined(lambda _, truth, found: getattr(truth, name))

    kind = column("kind")
    ratio, straggler, field = true("ratio"), true("straggler"), true("field")
    old = joined(lambda theta, truth, _: np.full(len(truth.mass), theta[0] > 8.6))
    single = (ratio == 0) & ~straggler & ~field
    main = joined(lambda theta, truth, _: truth.mass < 0.8 * np.max(truth.mass[~truth.straggler]))
    print(f"{len(pairs)} clusters, {len(kind)} stars, {seconds:.3f} s a cluster")
    binary = kind == BINARY
    print("binaries, q > 0.7: ", rates(binary, ratio > 0.7, ratio >= 0.5))
    print(
        f"  of main-sequence primaries below 0.8 of the turn-off: "
        f"{rates(binary & main, (ratio > 0.7) & main, ratio >= 0.5)}"
    )
    print(f"  binaries found among single stars: {binary[single].mean():.4f}")
    print("blue stragglers, older than log age 8.6: ", end="")
    print(rates((kind == STRAGGLER) & old, straggler & old, straggler))
    print(f"  among other members: {(kind == STRAGGLER)[~straggler & ~field].mean():.5f}")
    print("field stars, off the sequences: ", rates(kind == OFF, field, field))
    print(f"  among single stars: {(kind == OFF)[single].mean():.4f}")
    good = single & main & (kind == 0)
    error = column("mass")[good] / true("mass")[good] - 1
    print(f"masses of single dwarfs: median error {np.median(error):+.4f}, ", end="")
    within = np.quantile(np.abs(error), [0.68, 0.95])
    print(f"68 % within {within[0]:.4f}, 95 % within {within[1]:.4f}")
    chosen = binary & (ratio > BINARY_RATIO) & main
    difference = column("mass_ratio")[chosen] - ratio[chosen]
    pull = difference / column("mass_ratio_error")[chosen]
    print(f"mass ratios: median error {np.median(difference):+.3f}, ", end="")
    print(f"68 % within {np.quantile(np.abs(difference), 0.68):.3f}, ", end="")
    print(f"{np.mean(np.abs(pull) < 1):.2f} within one error")


def refusals(model: melotte.Model, n: int, seed: int) -> None:
    """Print how often the predictive check refuses right and wrong fits."""
    from melotte.engine.mocks import concatenate, draw_mocks
    from melotte.systems.open_cluster.predictive import check_list

    system = model.system
    simulator = system.simulator(torch.device("cpu"))
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    seconds = []

    def check(name: str, stars: np.ndarray, samples: np.ndarray, release: str = "EDR3") -> None:
        start = time.perf_counter()
        result = check_list(simulator, stars, samples, release, generator)
        seconds.append(time.perf_counter() - start)
        found.setdefault(name, []).append(result.p)

    mocks = concatenate(draw_mocks(system, 4 * n, seed))
    posterior, _ = infer_posterior(model, mocks.observation)
    samples = posterior.sample(300, generator).numpy()
    for i in range(len(mocks)):
        release = "DR2" if mocks.observation.data["release"][i] > 0.5 else "EDR3"
        check("mocks", mocks.observation.data["stars"][i].numpy(), samples[i], release)
    for _ in range(n):
        theta = np.array(
            [rng.uniform(8, 9.5), rng.uniform(0.2, 1.2), 10 ** rng.uniform(-0.4, 0.3), 0.0]
        )
        size = int(10 ** rng.uniform(1.9, 2.5))

        def stars_of(values: np.ndarray, n_stars: int) -> np.ndarray:
            return known_list(
                simulator.grid, values, n_stars, generator, settings=system.data
            ).stars

        stars = stars_of(theta, size)
        samples = posterior_of(model, stars, 300)
        check("posterior with A_V 0.4 too high", stars, samples + np.array([0, 0.4, 0, 0]))
        check("posterior 25 % too far", stars, samples * np.array([1, 1, 1.25, 1]))
        older = -0.5 if theta[0] > 9 else 0.5
        wrong_age = samples + np.array([older, 0, 0, 0])
        wrong_age[:, 0] = wrong_age[:, 0].clip(6, 10.2)
        check("posterior 0.5 dex off in age", stars, wrong_age)
        for name, change in (
            ("half behind 1.5 mag more dust", np.array([0, 1.5, 0, 0])),
            ("half at twice the distance", np.array([0, 0, theta[2], 0])),
        ):
            half = stars_of(theta, size // 2), stars_of(theta + change, size // 2)
            both = np.concatenate(half)
            check(f"{name}, measured anew", both, posterior_of(model, both, 300))
    print(f"predictive check, {np.mean(seconds):.3f} s a cluster; shares of p below 0.005, 0.05:")
    for name, values in found.items():
        p = np.array(values)
        print(f"  {name} ({len(p)}): {np.mean(p < 0.005):.3f}, {np.mean(p < 0.05):.3f}")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60, help="clusters")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default="open-cluster")
    parser.add_argument("--quick", action="store_true", help="8 clusters")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = melotte.load(arguments.model, device="cpu")
    n = 8 if arguments.quick else arguments.n
    show(*measure(model, n, arguments.seed))
    refusals(model, n, arguments.seed)


if __name__ == "__main__":
    main()
