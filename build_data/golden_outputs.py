"""Pin what shipped models answer: a few mocks of each, with the answer of today.

    python build_data/golden_outputs.py [NAME ...]

Writes ``tests/golden/NAME.safetensors``. ``tests/engine/test_golden_outputs.py`` compares with it
what the model answers later. Run it after a model was shipped anew, or when an answer is meant to
change; what a mock would look like today does not matter, for the inputs are stored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import melotte
from melotte import api
from melotte.api.models import with_other_mocks
from melotte.demo import demo_system
from melotte.engine.mocks import draw_mocks
from melotte.engine.results import InferenceResult
from melotte.ragged import Ragged

N_MOCKS = 3
SEED = 4242
OVERRIDES = {"globular": ("data.size=64",)}
"""Smaller maps make smaller files."""
FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden"


def answers(result: InferenceResult) -> dict[str, torch.Tensor]:
    """What is pinned of a result: quantiles, flags and every column of numbers."""
    found = {
        "quantiles": torch.from_numpy(result.quantiles),
        "flags": torch.from_numpy(result.flags),
    }
    for name, column in result.columns.items():
        values = np.asarray(column.values)
        if values.dtype.kind in "fiu":
            found[f"column.{name}"] = torch.from_numpy(values.astype(np.float64))
    return found


def main() -> None:
    """Write a file a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="shipped models; all of them by default")
    chosen = parser.parse_args().names or list(api.shipped_models())
    FOLDER.mkdir(exist_ok=True)
    for name in chosen:
        model = melotte.load(name, device="cpu")
        system: Any = demo_system(with_other_mocks(model, OVERRIDES.get(name, ())))
        (batch,) = draw_mocks(system, N_MOCKS, SEED, N_MOCKS)
        observation = batch.observation
        tensors: dict[str, torch.Tensor] = {}
        for field, value in observation.data.items():
            if isinstance(value, Ragged):
                tensors[f"data.{field}.values"] = value.values
                tensors[f"data.{field}.offsets"] = value.offsets
            else:
                tensors[f"data.{field}"] = value
        if observation.flags is not None:
            tensors["observation_flags"] = observation.flags
        result = api.infer_observations(model, [observation], progress=False)
        header: dict[str, Any] = {"mocks": N_MOCKS, "seed": SEED, "header": observation.header}
        metadata = {"melotte": melotte.__version__, "mocks": json.dumps(header)}
        everything = tensors | {f"answer.{key}": one for key, one in answers(result).items()}
        path = FOLDER / f"{name}.safetensors"
        save_file(
            {key: one.clone().contiguous() for key, one in everything.items()}, path, metadata
        )
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
