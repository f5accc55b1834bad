# Every target sets up what it needs: `make demo` and `make test` work on a fresh machine with Python >= 3.11.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
KITCHEN := examples/kitchen

.PHONY: help setup demo test lint wheel clean
.DEFAULT_GOAL := help

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# torch comes first and pinned: left to the resolver, Linux machines get several GB of CUDA packages.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

setup: $(VENV)/.ready  ## Build .venv with contrastok and its tools

demo: $(VENV)/.ready  ## Teach MiniLM 72 kitchen words and report where they landed
	$(BIN)/contrastok gen-pairs --terms $(KITCHEN)/terms.jsonl --corpus $(KITCHEN)/corpus --out $(DEMO)/pairs --overwrite
	$(BIN)/contrastok train --terms $(KITCHEN)/terms.jsonl --pairs $(DEMO)/pairs --out $(DEMO)/model --overwrite
	$(BIN)/contrastok report --model $(DEMO)/model --out $(DEMO)/report.html --json $(DEMO)/report.json --overwrite
	@echo "Open $(CURDIR)/$(DEMO)/report.html"

# One thread for each worker: most models of the tests are too small for more.
test: $(VENV)/.ready  ## Run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/.ready  ## ruff, and mypy against the built wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	.ci/typecheck

wheel: $(VENV)/.ready  ## Build the wheel, install it elsewhere and import it from another folder
	.ci/wheel

clean:  ## Remove what the other targets made
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
