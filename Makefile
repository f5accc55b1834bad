# Every target sets up what it needs: `make demo` and `make test` work on a fresh machine with Python >= 3.11.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
KITCHEN := examples/kitchen

.PHONY: help setup demo test lint wheel bench bench-gpu clean
.DEFAULT_GOAL := help

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Python compiles a module when it is first imported, and most of what is installed never is.
export PIP_NO_COMPILE := 1

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

# Every method has a process of its own; nothing else should run on the machine meanwhile. What needs ../shared/data is last.
define speed
	$(1) -m benchmarks.embedding_op --shape all --new 100 10000 --json benchmarks/results/embedding_op_$(2).json
	$(1) -m benchmarks.bandwidth --shape all --json benchmarks/results/bandwidth_$(2).json
	$(1) -m benchmarks.loss --batch $(3) --bank $(4) --json benchmarks/results/loss_$(2).json
	$(1) -m benchmarks.memory --shape all --new 100 1000 --json benchmarks/results/memory_$(2).json
	$(1) -m benchmarks.scaling --json benchmarks/results/scaling_$(2).json
	$(1) -m benchmarks.train_step --model minilm --json benchmarks/results/train_step_minilm_$(2).json
	$(1) -m benchmarks.train_step --model minilm --negatives 1 --json benchmarks/results/train_step_minilm_negatives_$(2).json
	$(1) -m benchmarks.train_step --model minilm-250k --json benchmarks/results/train_step_250k_$(2).json
endef

bench: $(VENV)/.ready  ## All benchmarks of speed, on the CPU
	$(call speed,$(BIN)/python,cpu,1024 4096 8192,10000 100000 1000000)

# .venv holds torch for the CPU, so this uses an environment of yours: first torch for the GPU, then `pip install '.[dev]'`.
bench-gpu:  ## Tests of the kernels and all benchmarks of speed, on the GPU of PYTHON's torch
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(PYTHON) -m pytest tests/kernels
	$(call speed,$(PYTHON),gpu,4096 16384 65536,100000 1000000 10000000)

clean:  ## Remove what the other targets made
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
