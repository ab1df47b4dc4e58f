# What people do with melotte: make demo, make test; for developers lint, docs, bench.
# PYTHON picks the interpreter (3.11 to 3.13); PIP_OPTIONS is handed to every pip install;
# no single test may run longer than TEST_SECONDS.

PYTHON ?= python3
PIP_OPTIONS ?=
WORKERS ?= 2
TEST_SECONDS ?= 180

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(PIP_OPTIONS) --constraint constraints.txt
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.installed-runtime
DEVELOPMENT := $(VENV)/.installed-development

# One thread a process: two test workers share two cores without fighting over them.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    environment, install, mocks of every system measured, one HTML report"
	@echo "make test    the whole default test suite"
	@echo "make lint    style, types and the one-way imports"
	@echo "make format  rewrite the code in the house style"
	@echo "make docs    the documentation, in docs/_build/html"
	@echo "make bench   the benchmarks that need no data, on a small budget"
	@echo "make clean   remove the environment and everything built"

demo: $(RUNTIME)
	$(BIN)/melotte demo -o melotte-demo

test: $(DEVELOPMENT)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --timeout $(TEST_SECONDS)

lint: $(DEVELOPMENT)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DEVELOPMENT)
	rm -rf docs/api
	$(BIN)/python -m sphinx -W --keep-going -E -q -b html docs docs/_build/html
	@echo "docs: docs/_build/html/index.html"

bench: $(DEVELOPMENT)
	$(BIN)/python benchmarks/run_all.py

clean:
	rm -rf $(VENV) build dist docs/_build docs/api melotte-demo

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "melotte needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is" \
		"$$($(PYTHON) --version 2>&1); name another with make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make environments: install its venv module" \
		"(on Debian and Ubuntu the package python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and pinned, so that no other requirement chooses its build.
$(RUNTIME): pyproject.toml constraints.txt | $(MADE)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable .
	@touch $@

$(DEVELOPMENT): pyproject.toml constraints.txt | $(RUNTIME)
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@
