"""Ship a trained model: store it with half-precision weights and judge what is stored.

    python build_data/ship_model.py runs/open-cluster.safetensors open-cluster
    python build_data/ship_model.py runs/globular.safetensors globular -n 5000 data.library=test.h5

Writes ``src/melotte/weights/NAME.safetensors`` and ``docs/models/NAME.json``, the evaluation of
the shipped file itself on 10,000 mocks of a seed that no training used. Libraries of evolved
clusters that a model was trained on are files of its maker: what is shipped does not name them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import melotte
from melotte.engine.model_files import save_model

LARGEST = 8 * 1024 * 1024
SEED = 2026


def main() -> None:
    """Convert, check the size, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("name")
    parser.add_argument("overrides", nargs="*", help="data settings of the mocks")
    parser.add_argument("-n", type=int, default=10_000, help="mocks to judge it on")
    arguments = parser.parse_intermixed_args()
    root = Path(__file__).resolve().parent.parent
    target = root / "src" / "melotte" / "weights" / f"{arguments.name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    model = melotte.load(arguments.model, device="cpu")
    model.preset["name"] = arguments.name
    model.preset["data"].pop("library", None)
    save_model(target, model, half=True)
    if target.stat().st_size > LARGEST:
        raise SystemExit(f"{target}: {target.stat().st_size} bytes, at most {LARGEST} are shipped")
    shipped = melotte.load(target, device="cpu")
    found = melotte.evaluate(shipped, n=arguments.n, seed=SEED, overrides=arguments.overrides)
    # Where the maker's files lie concerns nobody.
    named = [f"{one.partition('=')[0]}={Path(one).name}" for one in arguments.overrides]
    extra = {**found.extra, "settings": named} if named else found.extra
    evaluation = replace(found, extra=extra)
    shipped.metrics = evaluation.as_json()
    shipped.calibration = evaluation.calibration.as_json()
    save_model(target, shipped, half=True)
    metrics = root / "docs" / "models" / f"{arguments.name}.json"
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps(evaluation.as_json(), indent=1, allow_nan=False) + "\n")
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB; {metrics}")


if __name__ == "__main__":
    main()
