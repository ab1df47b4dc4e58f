"""The documentation of the flags is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from linear_gaussian import PARAMETERS

from melotte.engine.prior_files import read_prior_file
from melotte.flags import Flag
from melotte.parameters import Parameter, Prior

TEXT = (Path(__file__).parents[2] / "docs" / "flags.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("flag", list(Flag))
def test_every_flag_is_listed_with_its_value_and_explained(flag):
    bit = int(flag).bit_length() - 1
    assert re.search(rf"^\| {bit} \| {int(flag)} \| `{flag.name}` \|", TEXT, re.MULTILINE)
    assert f"**`{flag.name}`**" in TEXT


def test_no_flag_is_listed_that_does_not_exist():
    listed = re.findall(r"^\| \d+ \| \d+ \| `(\w+)` \|", TEXT, re.MULTILINE)
    assert set(listed) == set(Flag.__members__)


def test_the_prior_example_is_valid(tmp_path):
    example = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0]
    path = tmp_path / "prior.yaml"
    path.write_text(example)
    known = [*PARAMETERS, Parameter("metallicity", -1, 0.5)]
    prior = read_prior_file(path, Prior(known))
    assert prior.common["metallicity"].high == 0.2
    assert prior.objects["NGC 188"]["distance"].sd == 0.05
    assert set(yaml.safe_load(example)) == {"metallicity", "objects"}


def test_the_example_of_tables_and_names_is_valid(tmp_path):
    example = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1]
    path = tmp_path / "prior.yaml"
    path.write_text(example)
    known = Prior([Parameter("log_m200c", 13.5, 15.5)])
    prior = read_prior_file(path, known, {"mass-function": {"log_m200c": list}})
    assert str(prior.common["log_m200c"]) == "mass-function"
    assert prior.objects["A 2029"]["log_m200c"].support == (14.0, 15.5)


def test_python_examples_compile():
    for example in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        compile(example, "flags.md", "exec")
