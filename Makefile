# Two commands do everything on a fresh machine: `make run` and `make test`. Each sets itself up first.
PYTHON ?= python3
DATA ?= synthetic
ARGS ?=
# torch's CPU build, from its own index alone: it has names that PyPI has too, and a pip that looks in both may take either.
TORCH := torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
TRITON := .triton
# MTMH_TRITON names a place where it is installed already.
TRITON_READY := $(if $(MTMH_TRITON),,$(TRITON)/.ready)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TRITON_PIP := $(TRITON)/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help run serve monitor test lint types docs k8s-check ui bench faults servers clean

help:  ## What can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## */make \1|/' | column -t -s '|'

run: $(VENV)/.ready  ## Run the whole pipeline; DATA=folder for your own data, ARGS="--seed 1" for more options of `mtmh run`
	@$(BIN)/mtmh run --data $(DATA) $(ARGS)

serve: $(VENV)/.ready $(TRITON_READY)  ## Serve the champion of the latest run; runs the pipeline first where there is none
	@ls runs/serving/*/champion > /dev/null 2>&1 || $(BIN)/mtmh run --data $(DATA)
	@exec $(BIN)/mtmh serve $(ARGS)

monitor: $(VENV)/.ready  ## Monitor an experiment of simulated users and serve the dashboard; runs the pipeline and simulates where that is missing
	@test -e runs/latest || $(BIN)/mtmh run --data synthetic
	@test -e runs/watched/experiment.json || $(BIN)/mtmh simulate
	@exec $(BIN)/mtmh monitor $(ARGS)

test: $(VENV)/.ready $(TRITON_READY) servers lint types  ## Check style and types, then run all tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready  ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.ready  ## Check types
	@$(BIN)/mypy

k8s-check: $(VENV)/.ready servers  ## Render the cluster's files and check them strictly
	@$(BIN)/python -m k8s.check

docs: $(VENV)/.ready  ## Make the site of README and docs/ in runs/site
	@$(BIN)/mkdocs build --quiet && echo "runs/site/index.html"

ui: $(VENV)/.ready  ## Open the tracking pages of all runs
	@$(BIN)/mtmh ui

bench: $(VENV)/.ready  ## Run a benchmark, NAME=training for one; results go to benchmarks/results
	@$(BIN)/mtmh bench $(NAME)

faults: $(VENV)/.ready $(TRITON_READY) servers  ## Make faults under load and see that nothing breaks (minutes)
	@$(BIN)/python -m pytest -m slow tests/faults $(ARGS)

# What the tests start or call, command:package of Debian: Redis, Chromium for the pages, kubectl to render k8s/, Prometheus.
SERVERS := redis-server:redis-server chromium:chromium chromedriver:chromium-driver kubectl:kubernetes-client promtool:prometheus
servers:
	@for each in $(SERVERS); do command -v $${each%:*} > /dev/null || missing="$$missing $${each#*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing > /dev/null; \
	else echo "not installed:$$missing; the tests that need them will be skipped and say so"; fi

$(VENV)/.ready: pyproject.toml requirements.txt requirements-dev.txt
	@echo "setting up $(VENV) (about two minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -q --no-deps --retries 1 --index-url $(TORCH_INDEX) $(TORCH) || { \
		echo "$(TORCH_INDEX) gives no $(TORCH): taking PyPI's build, which is for GPUs and large"; $(PIP) $(TORCH); }
	@$(PIP) --no-deps --require-hashes --requirement requirements.txt --requirement requirements-dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The real Triton server, and the environment that its Python backend runs in (numpy 2 cannot be in it).
$(TRITON)/.ready: serving/triton/server.txt serving/triton/backend.txt
	@echo "setting up $(TRITON) (half a minute)"
	@rm -rf $(TRITON)
	@$(PYTHON) -m venv $(TRITON)/venv
	@$(TRITON_PIP) --target $(TRITON)/server --no-compile --requirement serving/triton/server.txt
	@version=$$($(TRITON)/venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
		cd $(TRITON)/server/pytriton/tritonserver && \
		cp python_backend_stubs/$$version/triton_python_backend_stub backends/python
	@$(TRITON_PIP) --requirement serving/triton/backend.txt
	@touch $@

clean:  ## Remove environments, caches and runs
	rm -rf $(VENV) $(TRITON) runs .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
