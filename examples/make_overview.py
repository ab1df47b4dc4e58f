"""Make the README's picture: a mock cluster, its isochrones, its posterior, and many more ages.

python examples/make_overview.py [docs/images/overview.png]
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

import melotte
from melotte.api import infer_observations
from melotte.engine.mocks import concatenate, draw_mocks
from melotte.report.cluster_diagrams import draw_diagram

N_MOCKS = 2000
SEED = 33


def main(path: str) -> None:
    """Draw and save the picture."""
    model = melotte.load("open-cluster", device="cpu")
    batch = concatenate(draw_mocks(model.system, N_MOCKS, SEED))
    ids = tuple(f"mock-{i}" for i in range(len(batch)))
    observation = replace(batch.observation, ids=ids)
    result = infer_observations(model, [observation], samples=1500, seed=1)
    truth = batch.theta.numpy()
    stars = batch.observation.data["stars"]
    release = batch.observation.data["release"].numpy()
    counts = stars.counts.numpy()
    # A rich, intermediate-age, moderately reddened cluster shows turn-off and giants at once.
    wanted = np.abs(truth[:, 0] - 9.0) + np.abs(truth[:, 1] - 1.0) + np.abs(truth[:, 2] - 1.5)
    wanted = np.where((counts > 250) & (release < 0.5) & (result.flags == 0), wanted, np.inf)
    chosen = int(np.argmin(wanted))
    samples = result.samples[chosen]

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    diagram, joint, ages = figure.subplots(1, 3)
    draw_diagram(diagram, stars[chosen].numpy(), samples)
    diagram.set_title("a mock Gaia cluster and its posterior's isochrones", fontsize=10)

    joint.hist2d(samples[:, 0], samples[:, 1], bins=40, cmap="Blues")
    joint.plot(*truth[chosen, :2], marker="*", ms=16, color="#c8472b", mec="white")
    joint.set_xlabel("log10(age / yr)")
    joint.set_ylabel("A_V / mag")
    joint.set_title("age and extinction: posterior, and truth (star)", fontsize=10)

    middle = result.quantiles[:, 1, 0]
    drawn = ages.hexbin(truth[:, 0], middle, gridsize=45, mincnt=1, bins="log", cmap="viridis")
    figure.colorbar(drawn, ax=ages, label="clusters")
    ages.plot([6, 10.2], [6, 10.2], color="#c8472b", lw=1)
    ages.set_xlabel("true log10(age / yr)")
    ages.set_ylabel("posterior median")
    ages.set_title(f"{N_MOCKS} mock clusters of 10 to 10,000 members", fontsize=10)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/images/overview.png")
