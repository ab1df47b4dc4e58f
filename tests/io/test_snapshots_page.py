"""The page on simulated clusters lists exactly the formats, options and names of the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from melotte.io.snapshot_files import FORMATS
from melotte.io.snapshot_tables import NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "inputs-snapshots.md").read_text(encoding="utf-8")


def test_formats_are_those_of_the_code() -> None:
    table = PAGE.partition("## Options")[0]
    assert set(re.findall(r"^\| `([\w+-]+)` \|", table, re.M)) == set(FORMATS)


def test_options_are_those_of_the_readers() -> None:
    table = PAGE.partition("## Options")[2].partition("## Columns")[0]
    listed: dict[str, set[str]] = {name: set() for name in FORMATS}
    for names, formats in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", table, re.M):
        chosen = set(FORMATS) if formats == "all" else set(re.findall(r"`([^`]+)`", formats))
        for format in chosen:
            listed[format] |= set(re.findall(r"`(\w+)`", names))
    for name, reader in FORMATS.items():
        module = importlib.import_module(f"melotte.io.{reader.module}")
        assert listed[name] == set(module.OPTIONS)


def test_names_of_columns_are_those_of_the_code() -> None:
    table = PAGE.partition("## Columns of tables")[2].partition("```")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|[^|]*\| (`[^|]*) \|$", table, re.M)
    for names, aliases in rows:
        known = re.findall(r"`(\w+)`", names)
        assert tuple(re.findall(r"`([^`]+)`", aliases)) == NAMES[known[0]]
    assert {name for names, _ in rows for name in re.findall(r"`(\w+)`", names)} == set(NAMES)
