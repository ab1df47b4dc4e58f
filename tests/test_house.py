"""The house's own laws: quick import, one version, a light and portable checkout."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import melotte

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "melotte"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEAVY = (
    "torch",
    "numpy",
    "scipy",
    "h5py",
    "astropy",
    "matplotlib",
    "pandas",
    "pyarrow",
    "pytorch_lightning",
    "pydantic",
    "typer",
    "rich",
    "zuko",
)
LARGEST_FILE = 8 * 1024 * 1024
TEXT = {
    ".py", ".md", ".rst", ".toml", ".yaml", ".yml", ".cff", ".txt", ".html", ".cfg", ".json",
    ".csv", ".ecsv", ".vot", "",
}  # fmt: skip
MACHINE_PATH = re.compile(r"(?<![\w.~/<-])/(?:home|root|work|Users|mnt|srv|opt)/[\w.-]+")


def tracked_files() -> list[Path]:
    """Files under version control; in an unpacked archive, all that are no build products."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout to know which files are tracked")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    program = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def documented_nodes(path: Path) -> list[tuple[str, ast.AST]]:
    """The public things of a module that must have a docstring, with their names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[tuple[str, ast.AST]] = [("module", tree)]
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            nodes.append((node.name, node))
    return nodes


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = modules_after("import melotte")
    assert "melotte" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))


def test_the_heavy_modules_would_be_seen() -> None:
    assert "numpy" in modules_after("import numpy")


def test_the_command_line_parses_without_the_science() -> None:
    loaded = modules_after("import melotte.cli")
    assert loaded.isdisjoint({"torch", "astropy", "matplotlib", "pandas", "pytorch_lightning"})


@pytest.mark.parametrize("name", [name for name in melotte.__all__ if name != "__version__"])
def test_every_public_name_loads_and_keeps_its_name(name: str) -> None:
    assert getattr(melotte, name).__name__ == name
    assert name in dir(melotte)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'weigh'"):
        melotte.weigh  # noqa: B018 - the access is what is tested


def test_version_is_one_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = PROJECT["project"]["version"]
    assert melotte.__version__ == version
    assert str(citation["version"]) == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_citation_has_what_the_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["project"]["license"]


def test_no_tracked_file_is_large() -> None:
    large = {
        path.relative_to(ROOT).as_posix(): path.stat().st_size
        for path in tracked_files()
        if path.stat().st_size > LARGEST_FILE
    }
    assert not large


def test_no_tracked_text_names_a_machine_path() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked_files()
        if path.suffix in TEXT and path != Path(__file__)
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        )
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "machine_bound"),
    [
        ('open("/home/anna/members.csv")', True),
        ("see /root/project/data", True),
        ("#!/usr/bin/env bash", False),
        ("2>/dev/null", False),
        ("docs/work/plan.md", False),
        ("https://example.org/home/page", False),
    ],
)
def test_the_machine_path_pattern_tells_them_apart(line: str, machine_bound: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) == machine_bound


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_everything_public_has_a_docstring(path: Path) -> None:
    bare = [name for name, node in documented_nodes(path) if not ast.get_docstring(node)]
    assert not bare


def test_every_room_stands_in_the_import_contract() -> None:
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name.strip(" ()") for layer in layers for name in re.split(r"[|:]", layer)}
    rooms = {
        f"melotte.{path.stem}"
        for path in PACKAGE.iterdir()
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.stem != "__init__")
    }
    rooms.discard("melotte.systems")
    rooms |= {
        f"melotte.systems.{path.stem}"
        for path in (PACKAGE / "systems").iterdir()
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.stem != "__init__")
    }
    assert rooms <= named, f"not in the contract: {sorted(rooms - named)}"


def code_blocks(name: str, language: str = "") -> list[str]:
    """Code blocks of a page in one language; ``""`` for plain ones."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_readme_example_names_exist_and_is_short() -> None:
    (example,) = code_blocks("README.md", "python")
    tree = ast.parse(example)
    assert len([line for line in example.splitlines() if line.strip()]) <= 5
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "melotte"
    }
    assert used
    assert used <= set(melotte.__all__)


def test_readme_and_quickstart_name_only_commands_that_exist() -> None:
    from melotte.cli import app

    commands = {
        (command.name or command.callback.__name__).replace("_", "-")
        for command in app.registered_commands
        if command.callback is not None
    }
    text = "".join(code_blocks("README.md") + code_blocks("docs/quickstart.md"))
    named = set(re.findall(r"^(?:\.venv/bin/)?melotte ([a-z]+)", text, flags=re.MULTILINE))
    assert named
    assert named <= commands


def test_links_of_the_front_page_lead_somewhere() -> None:
    text = "".join(
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")
    )
    targets = set(re.findall(r"\]\(([^)#:]+)\)", text))
    missing = {target for target in targets if not (ROOT / target).is_file()}
    assert not missing


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    )
    named = set(re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"demo", "test"} <= named <= targets
