"""Globular clusters' maps: published | faithful | ours | floor, on the same mocks.

Three sets: pi-DOC's own test mocks (Chardin & Bianchini 2021, Table 1: test family, 15, 30, 60 and
80 kpc, seeing 1 arcsec, no noise), the same clusters with a survey's noise, sky and field stars,
and mocks of our own settings (test family). Every method reads the same drawing of every cluster:
faithful networks its light in V, smoothed by 4 pixels, ours V and B as they are, with V alone and
with dispersions beside. Ours knows no map without noise: in the first set it reads the same
drawings under the darkest sky and with the longest exposure that it was trained for. Errors are in
bins of the prediction (Eq. 2), with errors by bootstrap over runs; the floor is what the chance of
single stars leaves (melotte.systems.globular_clusters.sampling_noise).

    python benchmarks/globular.py --library FILE [--faithful [LABEL=]MODEL ...] --ours MODEL
        [--maps 5000] [--seed 1] [--sets pidoc ours] [--json OUT] [--figures FOLDER]

Several --faithful, trained with other losses for example, stand side by side; ratios are to the
first. --beside shows the methods of an earlier run on the same mocks, whose networks are not
needed, and gives ratios to its baseline. A model is a file or the name of a shipped one;
"untrained" builds the preset's network as it begins, for trying this script and for its speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import globular_methods as methods
import globular_mocks as mocks
import globular_stored as stored
import globular_tables as tables
import torch

import melotte
from melotte.engine.json_values import plain_json
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model
from melotte.engine.random import Stream, seeded_globally
from melotte.errors import MelotteValueError
from melotte.systems.registry import build_system, load_preset

UNTRAINED = "untrained"
FAITHFUL, OURS = "globular-pidoc", "globular"
SETS = ("pidoc", "pidoc-survey", "ours")


def model_of(given: str, preset: str, library: Sequence[str], overrides: Sequence[str]) -> Model:
    """A model by file or name, or an untrained one of a preset."""
    if given != UNTRAINED:
        return melotte.load(given, device="cpu")
    files = ", ".join(library)
    settings = load_preset(preset, [f"data.library=[{files}]", *overrides])
    system = build_system(settings)
    constants = system.constants(mock_batch(system, 32, 1, Stream.CONSTANTS, 0))
    with seeded_globally(1, Stream.INITIAL_WEIGHTS):
        network = system.network(constants).eval()
    return Model(system, settings.model_dump(mode="json"), constants, network)


def labelled(given: Sequence[str], default: str) -> dict[str, str]:
    """Models by label, from LABEL=MODEL or MODEL.

    Raises
    ------
    SystemExit
        When two have one label.
    """
    found: dict[str, str] = {}
    for number, text in enumerate(given):
        label, equals, model = text.partition("=")
        if not equals:
            label, model = default if number == 0 else f"{default} {number + 1}", text
        if label in found:
            raise SystemExit(f"two models are called {label!r}; give LABEL=MODEL")
        found[label] = model
    return found


def compare(
    listed: Sequence[methods.Method],
    mock_set: mocks.MockSet,
    baseline: str | None,
    options: argparse.Namespace,
) -> dict[str, Any] | None:
    """Read mocks of a set with every method, measure and print; None without a snapshot for it."""
    begun = time.perf_counter()
    try:
        ground = mocks.TestGround(mock_set, options.seed)
    except MelotteValueError as error:
        print(f"\n== {mock_set.title}: left out, {error}")
        return None
    scores, _ = methods.read_all(listed, ground, options.maps)
    found = methods.measured(scores, baseline)
    noise = methods.floor_of(ground, options.floor).as_json()
    n_runs = next(iter(found.values()))["n_runs"]
    if options.beside:
        baseline = stored.add_stored(found, noise, options.beside[mock_set.key])
    seconds = time.perf_counter() - begun
    print(f"\n== {mock_set.title}: {options.maps} maps of {n_runs} runs, {seconds:.0f} s")
    tables.show_errors(found, noise, mock_set.key.startswith("pidoc"))
    print(
        f"M/L by stars fainter than M_V = 3 would be known to "
        f"{noise['mass_to_light_without_giants_percent_error']:.1f} %"
    )
    if baseline is not None:
        tables.show_ratios(found, baseline)
    tables.show_coverage(found)
    if options.figures:
        draw(scores, options.figures / mock_set.key)
    return {"methods": found, "sampling_noise_floor": noise}


def draw(scores: Any, folder: Path) -> None:
    """Figures 5, 6, 8 and 9 of every method."""
    from melotte.report.map_figures import age_figure, distance_figure, mass_figure, pixel_figure
    from melotte.report.style import save

    folder.mkdir(parents=True, exist_ok=True)
    for key, one in scores.items():
        stem = "".join(letter if letter.isalnum() else "_" for letter in key)
        for name, make in (
            ("pixels", pixel_figure),
            ("masses", mass_figure),
            ("ages", age_figure),
            ("distances", distance_figure),
        ):
            save(make(one), folder / f"{stem}_{name}.png")


def flags(
    listed: Sequence[methods.Method], sets: dict[str, mocks.MockSet], options: argparse.Namespace
) -> dict[str, Any]:
    """Cases inside and outside of each method's training, on the mocks that it was trained on."""
    found: dict[str, Any] = {}
    of_model: dict[int, list[methods.Method]] = {}
    for method in listed:
        if not method.key.endswith("V alone"):
            of_model.setdefault(id(method.model), []).append(method)
    for same in of_model.values():
        of = "pidoc" if len(same[0].data.bands) == 1 else "ours"
        if of not in sets:
            continue
        edge = methods.training_edge(same[0], sets[of].data.library, options.seed)
        found |= {method.key: {} for method in same}
        for case in methods.CASES:
            rows = methods.flagged(same, sets[of], case, options.cases, options.seed, edge)
            for method, row in zip(same, rows, strict=True):
                found[method.key][case] = row
    if found:
        tables.show_flags(found)
    return found


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", nargs="+", help="of 'melotte simulate clusters'")
    parser.add_argument(
        "--faithful", action="append", default=[], help="[LABEL=]MODEL; may be repeated"
    )
    parser.add_argument(
        "--ours", action="append", default=[], help="[LABEL=]MODEL; may be repeated"
    )
    parser.add_argument("--maps", type=int, default=5000, help="of each set")
    parser.add_argument("--seed", type=int, default=1, help="of mocks and samples")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--pidoc-family", default="pidoc-test", help="test runs of Table 1's kind")
    parser.add_argument("--floor", type=int, default=400, help="clusters for the sampling noise")
    parser.add_argument("--cases", type=int, default=1000, help="mocks of each case; 0 for none")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        help="a.b=value, of untrained networks",
    )
    parser.add_argument(
        "--beside", type=Path, help="JSON of an earlier run on the same mocks, shown and compared"
    )
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--figures", type=Path, help="folder for the paper's figures")
    parser.add_argument("--quick", action="store_true", help="few mocks, untrained where not given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.library:
        message = "needs --library FILE, of 'melotte simulate clusters'"
        if not options.quick:
            parser.error(message)
        print(f"left out: {message}")
        return
    if options.quick:
        options.faithful = options.faithful or [UNTRAINED]
        options.ours = options.ours or [UNTRAINED]
        options.maps, options.floor, options.cases = 16, 16, 8
    if options.beside:
        options.beside = stored.stored_run(options.beside, options.maps, options.seed)
        if absent := set(options.sets) - set(options.beside):
            parser.error(f"--beside has no set {', '.join(sorted(absent))}; choose --sets")
    if not (options.faithful or options.ours):
        parser.error("give --faithful or --ours")
    begun = time.perf_counter()
    document: dict[str, Any] = {"maps": options.maps, "seed": options.seed}
    faithful = labelled(options.faithful, "faithful")
    ours = labelled(options.ours, "ours")
    models = {
        label: model_of(
            given, FAITHFUL if label in faithful else OURS, options.library, options.overrides
        )
        for label, given in (faithful | ours).items()
    }
    listed = methods.methods_of(models)
    first: Any = next(iter(models[label] for label in (*ours, *faithful))).system
    library = tuple(options.library)
    base = first.data.model_copy(update={"library": library})
    if not ours:
        both = load_preset(OURS, [f"data.library=[{', '.join(library)}]"])
        own: Any = build_system(both)
        base = own.data
    with_dispersions = any("dispersion" in method.channels for method in listed)
    sets = {one.key: one for one in mocks.mock_sets(base, options.pidoc_family, with_dispersions)}
    print(f"{', '.join(one.key for one in listed)}; seed {options.seed}, 1 thread")
    if UNTRAINED in (*faithful.values(), *ours.values()):
        print("untrained networks: only the times mean anything")
    baseline = next(iter(faithful), None)
    document["sets"] = {key: compare(listed, sets[key], baseline, options) for key in options.sets}
    if options.cases:
        document["flags"] = flags(listed, sets, options)
    usable = next((key for key in options.sets if document["sets"][key] is not None), None)
    if usable is not None:
        ground = mocks.TestGround(sets[usable], options.seed)
        repeats = 1 if options.quick else 7
        document["seconds"] = {
            size: methods.seconds_per_map(listed, ground, size, repeats) for size in (1, 64)
        }
        tables.show_speed(document["seconds"])
    document["wall_seconds"] = time.perf_counter() - begun
    print(f"{document['wall_seconds']:.0f} s in all", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(plain_json(document, "report", nulls=True), indent=1))


if __name__ == "__main__":
    main()
