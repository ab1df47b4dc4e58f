"""Clusters in images: published | faithful | ours, on the same test mocks in unseen fields.

Paper II (Bialopetravičius & Narbutis 2020): errors, 95 % bounds, class, coverage by visibility,
shapes of posteriors, equal clusters with other stars or fields, speed. Paper I (Bialopetravičius
et al. 2019): the bank of 10,000 clusters in bins, nodes of 200 equal clusters, groups that can be
told apart. Both: the same clusters shifted, turned, through another PSF.

Mocks are those of the faithful preset's data, in its test area. Ours reads the same pictures and
is told the set-up; it was trained on wider ranges, so that a second reading, "ranges told", leaves
out samples outside the mocks'. Paper I's clusters have no extinction, which ours is told exactly.
``--ours-same`` is our network trained on the paper's mocks and nothing else, as the faithful one is
(``m31-paper1-mocks.yaml``).
Paper I's photon noise is that of the counts in one second, an exposure of 1 s to ours; its mocks
are also made with the noise of the real exposures.

    python benchmarks/image_systems.py --paper 2 --faithful MODEL --ours MODEL
        [--faithful-scaled MODEL] [-n 5000] [--seed 1] [--json out.json] [--figures FOLDER]
    python benchmarks/image_systems.py --paper 1 --faithful MODEL --ours MODEL [-n 10000]
        [--noise second exposures] [--per-node 200] [--psf F336W.fits F475W.fits F814W.fits]
    python benchmarks/image_systems.py --paper 1 --ours MODEL --beside docs/models/m31-paper1.json

A model is a file or the name of a shipped one; "untrained" builds the preset's network as it
begins, for trying this script and for its speed. ``--beside`` shows methods of an earlier run on
the same bank of Paper I, whose networks need not be at hand.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import image_systems_drawings as drawings
import image_systems_paper1 as paper1
import image_systems_paper2 as paper2
import image_systems_tables as tables
import torch
from image_systems_measures import measured
from image_systems_methods import LIMITED, Method, read_all, seconds_per_image
from image_systems_mocks import TestGround
from image_systems_robustness import robustness
from image_systems_stored import add_stored, stored_run

import melotte
from melotte.engine.json_values import plain_json
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model
from melotte.engine.random import Stream, seeded_globally
from melotte.systems.cluster_images.judging import PUBLISHED_BOUNDS
from melotte.systems.registry import build_system, load_preset

PRESETS = {1: ("m31-paper1", "m31"), 2: ("m83-paper2", "m83")}
UNTRAINED = "untrained"
SMALL = ("data.fields.tiles=2", "data.fields.held_out_tiles=2", "data.fields.size=160")
NOISES = ("second", "exposures")
DEFAULT_N = {1: 10_000, 2: 5_000}
SPEED_BATCH = 64


def model_of(given: str, preset: str, device: str) -> Model:
    """A model by file or name, or an untrained one of a preset."""
    if given != UNTRAINED:
        return melotte.load(given, device=device)
    settings = load_preset(
        preset, [*SMALL, *(["data.setups=2"] if preset in ("m31", "m83") else [])]
    )
    system = build_system(settings)
    constants = system.constants(mock_batch(system, 64, 1, Stream.CONSTANTS, 0))
    with seeded_globally(1, Stream.INITIAL_WEIGHTS):
        network = system.network(constants).eval()
    return Model(system, settings.model_dump(mode="json"), constants, network.to(device))


def methods_of(options: argparse.Namespace) -> tuple[list[Method], TestGround]:
    """What is compared, and the mocks."""
    faithful_preset, our_preset = PRESETS[options.paper]
    models: dict[str, Model] = {}
    if options.faithful:
        models["faithful"] = model_of(options.faithful, faithful_preset, options.device)
    if options.faithful_scaled:
        models["faithful-scaled"] = model_of(
            options.faithful_scaled, faithful_preset, options.device
        )
    if options.ours:
        models["ours"] = model_of(options.ours, our_preset, options.device)
    if options.ours_same:
        models["ours-same"] = melotte.load(options.ours_same, device=options.device)
    preset: dict[str, Any] = load_preset(faithful_preset).model_dump(mode="json")
    if "faithful" in models:
        preset = models["faithful"].preset
    ground = TestGround(preset, options.seed, options.tiles, options.device)
    parameters = ground.parameters
    told = {} if "extinction_v" in ground.names else {"extinction_v": 0.0}
    return [
        Method(
            key,
            TITLES[key],
            model,
            parameters,
            told if "extinction_v" in {one.name for one in model.system.parameters} else {},
            ground.ranges() if key == "ours" else {},
            options.precision,
        )
        for key, model in models.items()
    ], ground


TITLES = {
    "faithful": "faithful",
    "faithful-scaled": "faithful, scaled training",
    "ours": "ours, median",
    "ours" + LIMITED: "ours, median, ranges told",
    "ours-same": "ours, these mocks alone",
}


def compare(
    methods: Sequence[Method],
    batches: Any,
    seed: int,
    published: dict[str, float],
    heading: str,
    stored: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Any, Any]:
    """Read mocks with every method, measure and print, beside what an earlier run found."""
    begun = time.perf_counter()
    truth, readings = read_all(methods, batches, seed)
    found = measured(truth, readings, methods[0].parameters)
    add_stored(found, stored or {})
    n, n_empty = int(truth.is_cluster.sum()), int((~truth.is_cluster).sum())
    empty = f" and {n_empty} empty fields" if n_empty else ""
    print(f"\n== {heading}: {n} clusters{empty}, {time.perf_counter() - begun:.0f} s")
    tables.show_errors(found, methods[0].parameters, TITLES, published)
    return found, truth, readings


def paper_two(
    methods: Sequence[Method], ground: TestGround, options: argparse.Namespace
) -> dict[str, Any]:
    """All measurements of Paper II."""
    parameters = ground.parameters
    plain, truth, readings = compare(
        methods, paper2.mocks(ground, options.n), options.seed, PUBLISHED_BOUNDS, "Test mocks"
    )
    tables.show_bounds(plain, parameters, TITLES)
    tables.show_coverage(plain, parameters, TITLES)
    tables.show_classes(plain, TITLES)
    same = paper2.same_noise_classes(ground, methods, truth, readings, options.n)
    print("\nEmpty fields recorded with the same photon noise as clusters", end="")
    tables.show_classes(same, TITLES)
    tables.show_shapes(plain, TITLES)
    scaled_ground = ground.through(calibration_scatter=paper2.CALIBRATION)
    scaled, *_ = compare(
        methods,
        scaled_ground.clusters(options.n),
        options.seed,
        {},
        f"Fields' flux scaled by {100 * paper2.CALIBRATION:.0f} % in each band",
    )
    print(f"published: bounds {paper2.PUBLISHED_SCALED}")
    drawn, scatter = paper2.stochastic(ground, methods, options.draws)
    tables.show_stochastic(scatter, parameters, TITLES)
    if options.figures:
        found = drawings.test_figures(truth, readings, plain, parameters, TITLES, PUBLISHED_BOUNDS)
        found |= drawings.stochastic_figures(drawn, parameters)
        drawings.save(found, options.figures)
    return {"test": plain, "class_same_noise": same, "scaled_fields": scaled, "stochastic": scatter}


def paper_one(
    methods: Sequence[Method], ground: TestGround, options: argparse.Namespace
) -> dict[str, Any]:
    """All measurements of Paper I."""
    parameters = ground.parameters
    document: dict[str, Any] = {}
    stored = stored_run(options.beside, 1, options.n, options.seed) if options.beside else {}
    kinds = {
        "second": ("noise of one second, as published", ground),
        "exposures": ("noise of the exposures", ground.through(noise="exposure")),
    }
    drawn: dict[str, Any] = {}
    for name, one in (kinds[kind] for kind in options.noise):
        earlier = stored.get(name, {"test": {}, "boxes": {}})
        found, truth, readings = compare(
            methods,
            paper1.bank(one, options.n),
            options.seed,
            {},
            f"Bank, {name}",
            earlier["test"],
        )
        tables.show_coverage(found, parameters, TITLES)
        boxes = dict(earlier["boxes"]) | {
            key: paper1.boxes(truth, reading, parameters) for key, reading in readings.items()
        }
        tables.show_boxes(boxes, TITLES)
        document[name] = {"test": found, "boxes": boxes}
        drawn = drawn or {"truth": truth, "readings": readings, "stored": earlier["boxes"]}
    print(f"published: sigma of ages {paper1.PUBLISHED['std']['log_age']} dex")
    nodes = paper1.node_estimates(ground, methods, options.per_node, 2 if options.quick else 1)
    groups = {key: paper1.groups(one) for key, one in nodes.items()}
    tables.show_groups(groups, TITLES)
    document["groups"] = groups
    document["nodes"] = {key: paper1.node_table(one) for key, one in nodes.items()}
    if options.figures:
        figures = drawings.bank_figures(
            drawn["truth"], drawn["readings"], nodes, parameters, TITLES, drawn["stored"]
        )
        drawings.save(figures, options.figures)
    return document


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--paper", type=int, choices=(1, 2), default=2)
    parser.add_argument("--faithful", help="the paper's network: a model file")
    parser.add_argument("--faithful-scaled", help="trained with fields' flux scaled by 20 %%")
    parser.add_argument("--ours", help="melotte's: a model file or a shipped model's name")
    parser.add_argument(
        "--ours-same", help="our network trained on the paper's mocks alone: a model file"
    )
    parser.add_argument("-n", type=int, help="test clusters; 10,000 (Paper I) or 5,000 (Paper II)")
    parser.add_argument("--seed", type=int, default=1, help="of mocks and samples")
    parser.add_argument(
        "--tiles", type=int, help="test fields to cut from; the preset's by default"
    )
    parser.add_argument(
        "--draws", type=int, default=100, help="equal clusters of Paper II's Fig. 9"
    )
    parser.add_argument(
        "--noise", nargs="+", choices=NOISES, default=NOISES, help="photon noise of Paper I's bank"
    )
    parser.add_argument("--per-node", type=int, default=200, help="equal clusters of Paper I")
    parser.add_argument("--robustness", type=int, default=2000, help="clusters seen otherwise")
    parser.add_argument("--psf", type=Path, nargs="*", default=[], help="PSF files, one a band")
    parser.add_argument(
        "--catalogue", type=Path, help="result table whose mass function is drawn, with --figures"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="cpu", help="of networks and mocks; speed is the CPU's")
    parser.add_argument(
        "--beside",
        type=Path,
        help="JSON of an earlier run on the same mocks of Paper I, whose methods are shown too",
    )
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--figures", type=Path, help="folder for the papers' figures")
    parser.add_argument("--quick", action="store_true", help="few mocks, untrained where not given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        options.faithful = options.faithful or UNTRAINED
        options.ours = options.ours or UNTRAINED
        options.n = options.n or 40
        options.draws, options.per_node, options.robustness = 3, 3, 10
    if not (options.faithful or options.ours or options.ours_same):
        options.ours = PRESETS[options.paper][1]
    options.n = options.n or DEFAULT_N[options.paper]
    methods, ground = methods_of(options)
    names = ", ".join(f"{m.key}: {m.model.name}" for m in methods)
    print(f"Paper {options.paper}; {names}; seed {options.seed}, 1 thread, {options.precision}")
    if UNTRAINED in (options.faithful, options.ours):
        print("untrained networks: only the times mean anything")
    begun = time.perf_counter()
    measure = paper_one if options.paper == 1 else paper_two
    document: dict[str, Any] = {"paper": options.paper, "n": options.n, "seed": options.seed}
    document |= measure(methods, ground, options)
    if options.robustness:
        found = robustness(ground, methods, options.robustness, options.psf)
        tables.show_robustness(found, TITLES)
        document["robustness"] = found
    if options.device == "cpu":
        observation = next(ground.clusters(SPEED_BATCH)).observation
        document["speed"] = seconds_per_image(methods, observation, 1 if options.quick else 7)
        tables.show_speed(document["speed"], SPEED_BATCH)
    if options.paper == 2:
        tables.show_goals(document["test"], document.get("speed", {}))
    if options.figures:
        drawings.save(drawings.gallery_figures(ground), options.figures)
        drawings.save(drawings.bank_colours(ground, 5 * options.n), options.figures)
        if options.catalogue:
            drawings.save(drawings.catalogue_figures(options.catalogue), options.figures)
    document["wall_seconds"] = time.perf_counter() - begun
    print(f"{document['wall_seconds']:.0f} s in all", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(plain_json(document, "report", nulls=True), indent=1))


if __name__ == "__main__":
    main()
