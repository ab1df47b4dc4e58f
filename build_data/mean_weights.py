"""The mean of two trainings' weights, where the second went on from the first.

    python build_data/mean_weights.py FIRST SECOND --share 0.7 -o MEAN

A training that goes on with other mocks forgets some of what the first had learned; between the two
are models that know most of both (Wortsman et al. 2022, CVPR, 7959). ``share`` is that of the
second, to be chosen on validation mocks. The domain check is fitted anew and the model judged on
fresh mocks of the second's settings, as at the end of its training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import melotte
from melotte.engine.finishing import finish_model
from melotte.engine.model_files import save_model
from melotte.engine.settings import TrainingSettings


def main() -> None:
    """Check that the two belong together, average, judge, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    share = arguments.share
    if not 0 <= share <= 1:
        parser.error(f"--share {share}: 0 to 1 is allowed")
    first = melotte.load(arguments.first, device="cpu")
    model = melotte.load(arguments.second, device="cpu")
    if first.constants != model.constants or first.system.name != model.system.name:
        parser.error("one did not go on from the other: their inputs are scaled differently")
    begun = first.network.state_dict()
    weights = model.network.state_dict()
    for key, value in weights.items():
        if value.is_floating_point():
            weights[key] = begun[key].lerp(value, share)
    model.network.load_state_dict(weights)
    model.provenance["mean_of_weights"] = {"share": share, "first": dict(first.provenance)}
    finish_model(model, TrainingSettings.parse(model.preset["training"], "training"))
    save_model(arguments.output, model)
    print(f"model: {arguments.output}")


if __name__ == "__main__":
    main()
