"""Whatever is wrong with a file or a setting, the command line says so in one line and stops.

Every case builds its files in an empty folder and returns the arguments. The promise, checked for
all: exit code 2, exactly one line on stderr, which starts with ``melotte: error:`` and names the
culprit, and not one file written, changed or left behind.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from pyarrow import parquet

from melotte.api import shipped_models

MODEL = "open-cluster"
GOOD = "g,bp_rp,parallax\n" + "".join(
    f"{12 + 0.1 * i:.2f},{0.4 + 0.02 * i:.2f},2.{i:02d}\n" for i in range(40)
)
Build = Callable[[Path], list[str]]


def stars(n: int = 400) -> Table:
    return Table({"g": np.linspace(10, 18, n), "bp_rp": np.ones(n), "parallax": np.ones(n)})


def good(folder: Path, name: str = "good.csv") -> str:
    path = folder / name
    path.write_text(GOOD)
    return str(path)


def saved(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def whole(folder: Path, name: str, table: Table | None = None) -> Path:
    path = folder / name
    (stars() if table is None else table).write(
        path, format="votable" if name.endswith(".vot") else None
    )
    return path


def infer(folder: Path, *words: str, model: str = MODEL) -> list[str]:
    return ["infer", model, *words, "-o", str(folder / "result.ecsv")]


def table_of(name: str, content: bytes | str) -> Build:
    return lambda folder: infer(folder, saved(folder, name, content))


def cut_table(name: str, fraction: float) -> Build:
    def build(folder: Path) -> list[str]:
        path = whole(folder, name)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * fraction)])
        return infer(folder, str(path))

    return build


def table_with(name: str, **columns: object) -> Build:
    return lambda folder: infer(folder, str(whole(folder, name, Table(columns))))


def with_unit(folder: Path) -> list[str]:
    table = stars()
    table["parallax"].unit = "km / s"
    return infer(folder, str(whole(folder, "t.fits", table)))


def image(folder: Path) -> list[str]:
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(folder / "image.fits")
    return infer(folder, str(folder / "image.fits"))


def array_column(folder: Path) -> list[str]:
    table = stars()
    table["g"] = np.ones((len(table), 3))
    return infer(folder, str(whole(folder, "t.fits", table)))


def twice_named_parquet(folder: Path) -> list[str]:
    names = ["g", "g", "bp_rp", "parallax"]
    path = folder / "t.parquet"
    parquet.write_table(pa.Table.from_arrays([pa.array([1.0])] * 4, names=names), path)
    return infer(folder, str(path))


ECSV = "# %ECSV 1.0\n# ---\n# datatype:\n"
VOTABLE = "<?xml version='1.0'?><VOTABLE version='1.4'><RESOURCE>{}</RESOURCE></VOTABLE>"

TABLES: dict[str, tuple[Build, tuple[str, ...]]] = {
    "absent file": (lambda f: infer(f, str(f / "absent.csv")), ("absent.csv", "does not exist")),
    "folder": (lambda f: infer(f, str(f)), ("is a folder",)),
    "second of two absent": (lambda f: infer(f, good(f), str(f / "two.csv")), ("two.csv",)),
    "empty": (table_of("t.csv", ""), ("t.csv", "is empty")),
    "blank": (table_of("t.csv", " \n \n"), ("is empty",)),
    "prose": (table_of("t.txt", "the stars are bright tonight\n"), ("no comma, tab",)),
    "prose with commas": (table_of("t.txt", "Dear all,\nhere, at last,\n"), ("t.txt",)),
    "comments only": (table_of("t.csv", "# g,bp_rp,parallax\n"), ("comments only",)),
    "no header": (table_of("t.csv", "14,1,1\n15,1,1\n"), ("line of column names",)),
    "no rows": (table_of("t.csv", "g,bp_rp,parallax\n"), ("no rows",)),
    "other columns": (table_of("t.csv", "x,y\n1,2\n"), ("no column for g", "--column", "x, y")),
    "no colour": (table_of("t.csv", "g,plx\n14,1\n"), ("no column for bp_rp",)),
    "one band only": (table_of("t.csv", "g,bp,plx\n14,15,1\n"), ("no column for bp_rp",)),
    "no parallax": (
        table_of("t.csv", "g,bp_rp,paralax\n14,1,1\n"),
        ("no column for parallax", "did you mean 'paralax'"),
    ),
    "text for a number": (
        table_of("t.csv", "g,bp_rp,parallax\n14,1,1\n15,red,1\n"),
        ("row 2", "bp_rp", "'red'"),
    ),
    "comma as decimal sign": (table_of("t.csv", 'g;bp_rp;plx\n"14,1";1;1\n'), ("row 1", "14,1")),
    "ragged row": (
        table_of("t.csv", "g,bp_rp,parallax\n14,1,1\n15,1\n"),
        ("line 3", "2 values", "3 column names"),
    ),
    "names twice": (table_of("t.csv", "g,g,bp_rp,plx\n1,1,1,1\n"), ("more than one g",)),
    "names alike": (table_of("t.csv", "Gmag,gmag,bp_rp,plx\n1,1,1,1\n"), ("Gmag, gmag",)),
    "latin-1": (table_of("t.csv", "g,größe\n1,1\n".encode("latin-1")), ("not UTF-8",)),
    "utf-16": (table_of("t.csv", GOOD.encode("utf-16")), ("UTF-16",)),
    "html": (table_of("t.csv", "<!DOCTYPE html><html>404</html>"), ("web page",)),
    "json": (table_of("t.csv", '{"g": [1], "bp_rp": [1]}'), ("JSON",)),
    "binary garbage": (table_of("t.csv", bytes(range(256)) * 9), ("is binary",)),
    "garbage named FITS": (table_of("t.fits", b"\0\1\2" * 999), ("no FITS file",)),
    "text named FITS": (table_of("t.fits", GOOD), ("no FITS file",)),
    "text named parquet": (table_of("t.parquet", GOOD), ("no parquet file",)),
    "zip": (table_of("t.xlsx", b"PK\x03\x04" + b"\0" * 99), ("zip or spreadsheet",)),
    "cut gzip": (table_of("t.csv.gz", gzip.compress(GOOD.encode())[:-9]), ("gzip stream",)),
    "cut FITS": (cut_table("t.fits", 0.6), ("truncated",)),
    "cut FITS header": (cut_table("t.fits", 0.05), ("t.fits",)),
    "cut parquet": (cut_table("t.parquet", 0.6), ("truncated",)),
    "cut VOTable": (cut_table("t.vot", 0.6), ("truncated",)),
    "FITS image": (image, ("without a table",)),
    "array column": (array_column, ("'g' holds arrays",)),
    "unit of another kind": (with_unit, ("parallax", "km", "mas")),
    "parquet names twice": (twice_named_parquet, ("more than one g",)),
    "VOTable without table": (table_of("t.vot", VOTABLE.format("")), ("without a table",)),
    "failed query": (
        table_of("t.vot", VOTABLE.format("<INFO name='QUERY_STATUS' value='ERROR'>no</INFO>")),
        ("archive said: no",),
    ),
    "other XML": (table_of("t.vot", "<?xml version='1.0'?><kml/>"), ("XML without a VOTABLE",)),
    "ECSV of bad YAML": (table_of("t.ecsv", ECSV + "# - {name: g\ng\n1\n"), ("ECSV header",)),
    "ECSV without datatype": (table_of("t.ecsv", "# %ECSV 1.0\ng\n1\n"), ("ECSV header",)),
    "ECSV of other names": (
        table_of("t.ecsv", ECSV + "# - {name: g, datatype: float64}\nx\n1\n"),
        ("ECSV header describes",),
    ),
    "text magnitudes in FITS": (
        table_with("t.fits", g=["a", "b"], bp_rp=[1.0, 1.0], parallax=[1.0, 1.0]),
        ("row 1", "column 'g'", "'a'"),
    ),
}

OPTIONS: dict[str, tuple[Build, tuple[str, ...]]] = {
    "column without =": (lambda f: infer(f, good(f), "--column", "g"), ("NAME=theirs",)),
    "column without theirs": (lambda f: infer(f, good(f), "--column", "g="), ("NAME=theirs",)),
    "column of unknown name": (
        lambda f: infer(f, good(f), "--column", "paralax=x"),
        ("unknown NAME 'paralax'", "parallax"),
    ),
    "column to an absent one": (
        lambda f: infer(f, good(f), "--column", "parallax=paralax"),
        ("paralax", "did you mean 'parallax'"),
    ),
    "column twice": (
        lambda f: infer(f, good(f), "--column", "g=g", "--column", "Gmag=bp_rp"),
        ("twice",),
    ),
    "group-by absent": (lambda f: infer(f, good(f), "--group-by", "cluster"), ("--group-by",)),
    "unknown release": (lambda f: infer(f, good(f), "--release", "DR9"), ("DR9", "DR2, EDR3")),
    "probability above 1": (
        lambda f: infer(f, good(f), "--min-probability", "1.5"),
        ("probability",),
    ),
    "probability without column": (
        lambda f: infer(f, good(f), "--min-probability", "0.5"),
        ("membership",),
    ),
    "probability as text": (
        lambda f: infer(f, good(f), "--min-probability", "high"),
        ("--min-probability",),
    ),
    "negative samples": (lambda f: infer(f, good(f), "--samples", "-1"), ("--samples",)),
    "samples as text": (lambda f: infer(f, good(f), "--samples", "many"), ("--samples",)),
    "negative seed": (lambda f: infer(f, good(f), "--seed", "-3"), ("--seed",)),
    "unknown device": (lambda f: infer(f, good(f), "--device", "abacus"), ("abacus",)),
    "unknown option": (lambda f: infer(f, good(f), "--colour", "red"), ("--colour",)),
    "no input": (lambda f: infer(f), ("INPUTS",)),
    "no output": (lambda f: ["infer", MODEL, good(f)], ("output",)),
    "unknown output suffix": (
        lambda f: ["infer", MODEL, good(f), "-o", str(f / "result.docx")],
        (".docx", ".ecsv"),
    ),
    "output without suffix": (
        lambda f: ["infer", MODEL, good(f), "-o", str(f / "result")],
        (".ecsv",),
    ),
    "output in an absent folder": (
        lambda f: ["infer", MODEL, good(f), "-o", str(f / "absent" / "result.ecsv")],
        ("absent",),
    ),
    "output below a file": (
        lambda f: ["infer", MODEL, good(f), "-o", str(Path(good(f)) / "result.ecsv")],
        ("good.csv",),
    ),
    "output is a folder": (
        lambda f: ((f / "d.ecsv").mkdir(), ["infer", MODEL, good(f), "-o", str(f / "d.ecsv")])[1],
        ("d.ecsv",),
    ),
    "samples file in an absent folder": (
        lambda f: infer(f, good(f), "--samples", "9", "--samples-file", str(f / "no" / "s.h5")),
        ("no",),
    ),
    "absent prior": (lambda f: infer(f, good(f), "--prior", str(f / "p.yaml")), ("p.yaml",)),
    "prior of an unknown parameter": (
        lambda f: infer(f, good(f), "--prior", saved(f, "p.yaml", "colour: {mean: 1, sd: 1}\n")),
        ("colour",),
    ),
    "prior of negative width": (
        lambda f: infer(f, good(f), "--prior", saved(f, "p.yaml", "log_age: {mean: 9, sd: -1}\n")),
        ("log_age", "sd"),
    ),
    "prior that is no mapping": (
        lambda f: infer(f, good(f), "--prior", saved(f, "p.yaml", "- 1\n")),
        ("p.yaml",),
    ),
    "comparison of other columns": (
        lambda f: infer(f, good(f), "--compare", good(f, "literature.csv")),
        ("literature.csv",),
    ),
    "absent comparison": (lambda f: infer(f, good(f), "--compare", str(f / "l.csv")), ("l.csv",)),
}


def model_file(change: Callable[[dict, dict], None] | None = None) -> Build:
    """A copy of the shipped model with its tensors or metadata changed."""

    def build(folder: Path) -> list[str]:
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        shipped = shipped_models()[MODEL]
        tensors = load_file(shipped)
        with safe_open(shipped, "pt") as opened:
            metadata = json.loads(opened.metadata()["melotte"])
        if change is not None:
            change(tensors, metadata)
        path = folder / "changed.safetensors"
        save_file(tensors, path, {"melotte": json.dumps(metadata)})
        return infer(folder, good(folder), model=str(path))

    return build


def model_bytes(name: str, content: bytes) -> Build:
    return lambda folder: infer(folder, good(folder), model=saved(folder, name, content))


def cut_model(folder: Path) -> list[str]:
    content = shipped_models()[MODEL].read_bytes()
    path = saved(folder, "cut.safetensors", content[: len(content) // 2])
    return infer(folder, good(folder), model=path)


def foreign_model(folder: Path) -> list[str]:
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(3)}, folder / "foreign.safetensors")
    return infer(folder, good(folder), model=str(folder / "foreign.safetensors"))


def first_network_tensor(tensors: dict) -> str:
    return next(name for name in sorted(tensors) if name.startswith("network."))


def drop_tensor(tensors: dict, metadata: dict) -> None:
    del metadata
    del tensors[first_network_tensor(tensors)]


def add_tensor(tensors: dict, metadata: dict) -> None:
    del metadata
    tensors["network.of_someone_else"] = tensors[first_network_tensor(tensors)].clone()


def reshape_tensor(tensors: dict, metadata: dict) -> None:
    del metadata
    name = first_network_tensor(tensors)
    tensors[name] = tensors[name].flatten()[:1].clone()


def future_version(tensors: dict, metadata: dict) -> None:
    del tensors
    metadata["format_version"] = 999


def other_system(tensors: dict, metadata: dict) -> None:
    del tensors
    metadata["preset"]["system"] = "black-hole"


def lost_constants(tensors: dict, metadata: dict) -> None:
    del tensors
    del metadata["constants"]


MODELS: dict[str, tuple[Build, tuple[str, ...]]] = {
    "unknown model": (lambda f: infer(f, good(f), model="open-clutser"), ("open-clutser",)),
    "absent model": (
        lambda f: infer(f, good(f), model=str(f / "absent.safetensors")),
        ("absent.safetensors",),
    ),
    "empty model": (model_bytes("m.safetensors", b""), ("m.safetensors",)),
    "text as model": (model_bytes("m.safetensors", GOOD.encode()), ("m.safetensors",)),
    "garbage as model": (model_bytes("m.safetensors", b"\xff" * 4096), ("m.safetensors",)),
    "huge header": (model_bytes("m.safetensors", b"\0\0\0\0\0\0\0\x7f{}"), ("m.safetensors",)),
    "pickle as model": (model_bytes("m.safetensors", b"\x80\x04K\x01."), ("m.safetensors",)),
    "table as model": (lambda f: infer(f, good(f), model=good(f, "t.csv")), ("t.csv",)),
    "folder as model": (
        lambda f: ((f / "m.safetensors").mkdir(), infer(f, good(f), model=f"{f}/m.safetensors"))[1],
        ("m.safetensors",),
    ),
    "cut model": (cut_model, ("cut.safetensors",)),
    "foreign safetensors": (foreign_model, ("foreign.safetensors",)),
    "future model": (model_file(future_version), ("changed.safetensors", "999")),
    "model of another system": (model_file(other_system), ("black-hole",)),
    "model without constants": (model_file(lost_constants), ("constants",)),
    "model that lacks a tensor": (model_file(drop_tensor), ("changed.safetensors",)),
    "model with a foreign tensor": (model_file(add_tensor), ("of_someone_else",)),
    "model with a reshaped tensor": (model_file(reshape_tensor), ("changed.safetensors",)),
}


def preset(content: str) -> Build:
    return lambda f: ["train", saved(f, "p.yaml", content), "-o", str(f / "m.safetensors")]


def train(*words: str) -> Build:
    return lambda f: ["train", MODEL, *words, "-o", str(f / "m.safetensors")]


def simulate(*words: str, name: str = "bank.h5") -> Build:
    return lambda f: ["simulate", MODEL, *words, "-o", str(f / name)]


def foreign_bank(folder: Path) -> list[str]:
    with h5py.File(folder / "foreign.h5", "w") as bank:
        bank["x"] = np.ones(3)
    return ["evaluate", MODEL, "--bank", str(folder / "foreign.h5")]


SETTINGS: dict[str, tuple[Build, tuple[str, ...]]] = {
    "unknown preset": (
        lambda f: ["train", "open-clutser", "-o", str(f / "m.safetensors")],
        ("open-clutser", "open-cluster"),
    ),
    "absent preset file": (lambda f: ["train", str(f / "absent.yaml")], ("absent.yaml",)),
    "preset of bad YAML": (preset("name: [\n"), ("p.yaml", "YAML")),
    "preset that is a list": (preset("- 1\n"), ("p.yaml",)),
    "preset without system": (preset("name: x\n"), ("system", "missing")),
    "preset of an unknown system": (preset("name: x\nsystem: y\n"), ("'y'", "open-cluster")),
    "preset with an unknown section": (
        preset("name: x\nsystem: open-cluster\ndatta: {}\n"),
        ("datta",),
    ),
    "unknown key": (train("training.batchsize=4"), ("training.batchsize",)),
    "unknown key of data": (train("data.memberz=4"), ("data.memberz",)),
    "unknown section": (train("trainning.batch_size=4"), ("trainning",)),
    "text for a number in a preset": (train("training.batch_size=many"), ("batch_size", "many")),
    "negative batch": (train("training.batch_size=-4"), ("batch_size", "-4")),
    "empty prior range": (train("data.prior.log_age=[9,8]"), ("log_age",)),
    "override without =": (train("training.batch_size"), ("section.key=value",)),
    "override without section": (train("batch_size=4"), ("section.key=value",)),
    "bad time limit": (train("--max-time", "soon"), ("soon",)),
    "model written to an odd suffix": (
        lambda f: ["train", MODEL, "-o", str(f / "m.pkl")],
        (".safetensors",),
    ),
    "no mocks": (simulate("-n", "0"), ("-n",)),
    "negative number of mocks": (simulate("-n", "-5"), ("-n",)),
    "number of mocks as text": (simulate("-n", "ten"), ("-n",)),
    "negative seed of a bank": (simulate("-n", "4", "--seed", "-1"), ("--seed",)),
    "task above number of tasks": (simulate("-n", "4", "--task", "3", "--of", "2"), ("3", "2")),
    "task zero": (simulate("-n", "4", "--task", "0", "--of", "2"), ("--task",)),
    "more tasks than mocks": (simulate("-n", "2", "--task", "1", "--of", "9"), ("9",)),
    "bank in an absent folder": (simulate("-n", "4", name="absent/bank.h5"), ("absent",)),
    "bank that is text": (
        lambda f: ["evaluate", MODEL, "--bank", saved(f, "bank.h5", "text")],
        ("bank.h5",),
    ),
    "absent bank": (lambda f: ["evaluate", MODEL, "--bank", str(f / "absent.h5")], ("absent.h5",)),
    "foreign bank": (foreign_bank, ("foreign.h5",)),
    "evaluation of no mocks": (lambda f: ["evaluate", MODEL, "-n", "0"], ("-n",)),
    "query of an unknown cluster": (
        lambda f: ["adql", "--cluster", "Pleyades"],
        ("Pleyades", "Pleiades", "--ra"),
    ),
    "query of nothing": (lambda f: ["adql"], ("--cluster",)),
    "query without a radius": (lambda f: ["adql", "--ra", "1", "--dec", "2"], ("--radius",)),
    "query off the sky": (
        lambda f: ["adql", "--ra", "1", "--dec", "95", "--radius", "1"],
        ("--dec", "95", "90"),
    ),
    "query with a typed-in clause": (
        lambda f: ["adql", "--cluster", "M67' OR 1=1 --"],
        ("M67' OR 1=1",),
    ),
    "unknown command": (lambda f: ["infre"], ("infre",)),
    "report of an absent table": (
        lambda f: ["report", str(f / "absent.ecsv"), "-o", str(f / "r.html")],
        ("absent.ecsv",),
    ),
    "report of a table of stars": (
        lambda f: ["report", good(f), "-o", str(f / "r.html")],
        ("good.csv",),
    ),
    "check of an absent file": (lambda f: ["check", str(f / "absent.csv")], ("absent.csv",)),
    "check of garbage": (
        lambda f: ["check", saved(f, "t.dat", bytes(range(256)) * 9)],
        ("t.dat",),
    ),
    "check of other columns": (lambda f: ["check", saved(f, "t.csv", "x,y\n1,2\n")], ("t.csv",)),
}

CASES = {**TABLES, **OPTIONS, **MODELS, **SETTINGS}


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_there_are_many_cases_of_distinct_names():
    assert len(CASES) == sum(map(len, (TABLES, OPTIONS, MODELS, SETTINGS)))
    assert len(CASES) >= 50


@pytest.mark.parametrize("case", CASES)
def test_one_line_exit_2_and_nothing_written(case, tmp_path, monkeypatch, capfd):
    from melotte.cli import main

    needs_model = case not in SETTINGS or case in (
        "bank that is text",
        "absent bank",
        "foreign bank",
    )
    if needs_model and MODEL not in shipped_models():
        pytest.skip(f"needs the shipped model {MODEL}")
    build, expected = CASES[case]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "work"
    folder.mkdir()
    argv = build(folder)
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(argv)
    heard = capfd.readouterr()
    lines = [line for line in heard.err.splitlines() if line.strip()]
    assert left.value.code == 2, heard.err
    assert len(lines) == 1, heard.err
    assert lines[0].startswith("melotte: error: ")
    assert "Traceback" not in heard.out
    for words in expected:
        assert words in lines[0]
    assert contents(tmp_path) == before


@pytest.mark.skipif(
    sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0),
    reason="the superuser may write and read everywhere",
)
@pytest.mark.parametrize("kind", ["output", "input"])
def test_forbidden_places(kind, tmp_path, capfd):
    from melotte.cli import main

    if MODEL not in shipped_models():
        pytest.skip(f"needs the shipped model {MODEL}")
    source = Path(good(tmp_path))
    closed = tmp_path / "closed"
    closed.mkdir()
    output = closed / "result.ecsv" if kind == "output" else tmp_path / "result.ecsv"
    (closed if kind == "output" else source).chmod(0o500 if kind == "output" else 0)
    with pytest.raises(SystemExit) as left:
        main(["infer", MODEL, str(source), "-o", str(output)])
    assert left.value.code == 2
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
    closed.chmod(0o700)
    assert not output.exists()


def test_a_process_of_its_own_behaves_alike(tmp_path):
    """The same promise where nothing of pytest stands between the program and its streams."""
    words = ["adql", "--cluster", "Pleyades"]
    done = subprocess.run(
        [sys.executable, "-c", "from melotte.cli import main; main()", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("melotte: error: cluster 'Pleyades'")
    assert list(tmp_path.iterdir()) == []
