"""What three and five bands tell of age and extinction by fluxes in annuli alone.

Networks of images learn new bands slowly. This asks the same question of the photometry that they
are given beside the pictures, fluxes in eight annuli a band, and the camera: a perceptron with the
head of m83 is fitted to the same mocks once with three and once with five bands, many passes over
a bank that is drawn once. What a picture adds, stars seen one by one, is left out for both.

    python benchmarks/image_bands_photometry.py [--mocks 150000] [-n 3000] [--seed 1]
        [--json out.json]
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from image_bands import PRESET, THREE, in_bands, measured, overrides_of, seen_by, show
from torch import Tensor, nn

from melotte.engine.json_values import plain_json
from melotte.engine.mocks import concatenate, mock_batch
from melotte.engine.model_files import Model
from melotte.engine.random import Stream, keyed_generator, seeded_globally
from melotte.engine.validation import weighted_loss
from melotte.networks.heads import build_head
from melotte.networks.mlp import perceptron
from melotte.systems.base import Batch, Observation
from melotte.systems.registry import build_system, load_preset

BATCH, VIEWS = 256, 2
"""Mocks drawn at once, and of each cluster."""
INPUTS = ("context", "photometry")
"""What is read of a network's input."""
HIDDEN, FEATURES = 256, 128
FIT_BATCH, PASSES, LEARNING_RATE = 512, 30, 1e-3
N_VALIDATION = 4096
SHUFFLE = 210
"""Key of the stream that orders the passes."""


class PhotometryNetwork(nn.Module):
    """Posterior, class and visibility from photometry and camera, without the picture."""

    def __init__(self, n_inputs: int, n_parameters: int, head: Mapping[str, Any]) -> None:
        super().__init__()
        self.features = nn.Sequential(perceptron(n_inputs, HIDDEN, FEATURES), nn.GELU())
        self.head = build_head("autoregressive", FEATURES, n_parameters, **head)
        self.presence = perceptron(FEATURES, 64, 1)
        self.visibility = build_head("autoregressive", FEATURES, 1, components=4, hidden=64)

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """As :class:`melotte.systems.cluster_images.network.ClusterImageNetwork`."""
        features = self.features(torch.cat([inputs[name] for name in INPUTS], 1))
        return {
            "posterior": self.head(features),
            "embedding": features,
            "class": self.presence(features)[:, 0],
            "visibility": self.visibility(features),
        }


def models_of(
    band_sets: Sequence[Sequence[str]], overrides: Sequence[str] = (), n_constants: int = 1024
) -> list[Model]:
    """Untrained models, the last of all bands; constants from the same mocks, in their bands."""
    models: list[Model] = []
    every = band_sets[-1]
    presets = [load_preset(PRESET, (*overrides_of(bands, 1), *overrides)) for bands in band_sets]
    systems = [build_system(preset) for preset in presets]
    batch = mock_batch(systems[-1], n_constants, 1, Stream.CONSTANTS, 0)
    for bands, preset, system in zip(band_sets, presets, systems, strict=True):
        constants = system.constants(in_bands(batch, [every.index(band) for band in bands]))
        n_inputs = sum(len(constants[f"{name}_mean"]) for name in INPUTS)
        with seeded_globally(1, Stream.INITIAL_WEIGHTS):
            network = PhotometryNetwork(
                n_inputs, len(system.parameters), preset.model["head_settings"]
            )
        models.append(Model(system, preset.model_dump(mode="json"), constants, network.eval()))
    return models


def banks(models: Sequence[Model], n: int, seed: int, *keys: int) -> list[Batch]:
    """The same mocks as each model's network reads them, without the pictures."""
    found: list[list[Batch]] = [[] for _ in models]
    every = models[-1].preset["data"]["bands"]
    begun = told = time.perf_counter()
    for number in range(-(-n // BATCH)):
        batch = mock_batch(models[-1].system, BATCH, seed, *keys, number, views=VIEWS)
        for model, parts in zip(models, found, strict=True):
            parts.append(_prepared(model, seen_by(model, batch, every)))
        if time.perf_counter() - told > 30:
            told = time.perf_counter()
            done = BATCH * (number + 1)
            print(f"{done}/{n} mocks, {told - begun:.0f} s", file=sys.stderr, flush=True)
    return [concatenate(parts) for parts in found]


def _prepared(model: Model, batch: Batch) -> Batch:
    inputs = model.system.prepare(batch.observation, model.constants)
    kept = {name: inputs[name] for name in INPUTS}
    return replace(batch, observation=Observation(kept))


def loss_of(model: Model, rows: Batch) -> Tensor:
    """Mean loss, as in the training of a network of images."""
    return weighted_loss(model.system.loss(model.network(rows.observation.data), rows), rows.weight)


def fit(model: Model, rows: Batch, validation: Batch, passes: int, seed: int) -> float:
    """Fit a model's network in place and give the least validation loss, of the weights kept."""
    network = model.network.train()
    steps = passes * (len(rows) // FIT_BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    least, kept = float("inf"), copy.deepcopy(network.state_dict())
    for number in range(passes):
        order = torch.randperm(len(rows), generator=keyed_generator(seed, SHUFFLE, number))
        for chosen in order[: len(rows) // FIT_BATCH * FIT_BATCH].split(FIT_BATCH):
            optimiser.zero_grad()
            loss_of(model, rows.select(chosen)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            loss = float(loss_of(model, validation))
        network.train()
        if loss < least:
            least, kept = loss, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    network.eval()
    return least


def main() -> None:
    """Draw the bank, fit both, and judge them on the same clusters."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mocks", type=int, default=150_000, help="to fit to")
    parser.add_argument("-n", type=int, default=3000, help="test clusters")
    parser.add_argument("--seed", type=int, default=1, help="of all")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    every = load_preset(PRESET).data["bands"]
    models = models_of((THREE, every))
    begun = time.perf_counter()
    rows = banks(models, options.mocks, options.seed)
    validation = banks(models, N_VALIDATION, options.seed, Stream.VALIDATION)
    print(f"{len(rows[0])} mocks, {time.perf_counter() - begun:.0f} s")
    losses = []
    for model, own, held in zip(models, rows, validation, strict=True):
        begun = time.perf_counter()
        losses.append(fit(model, own, held, PASSES, options.seed))
        seconds = time.perf_counter() - begun
        print(f"{len(model.preset['data']['bands'])} bands: validation loss {losses[-1]:.3f}, "
              f"{seconds:.0f} s")  # fmt: skip
    found = measured(models, options.n, options.seed)
    found |= {"mocks": len(rows[0]), "validation_loss": losses}
    print(f"photometry alone, {options.n} clusters, seed {options.seed}, CPU, 1 thread")
    show(found)
    if options.json:
        options.json.write_text(json.dumps(plain_json(found, "report", nulls=True), indent=1))


if __name__ == "__main__":
    main()
