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
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# uv reads pip's mirror from the environment alone. Neither compiles bytecode of all that they install: see IMPORTED.
UV_INSTALL := $(BIN)/uv pip install --quiet --no-deps $(if $(PIP_INDEX_URL),--default-index $(PIP_INDEX_URL))
UV := $(UV_INSTALL) --python $(BIN)/python
# Other Pythons that Triton's images have; what runs in them is tested under each that can be had.
BACKEND_PYTHONS := $(if $(MTMH_TRITON),,$(patsubst %,$(TRITON)/python%/.ready,3.10 3.12))
TRITON_PIP := $(TRITON)/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
# Without bytecode each of a run's fifteen processes compiles what it imports: twice the CPU in all.
unexport PYTHONDONTWRITEBYTECODE
# Most of what a run imports: importing it once writes its bytecode, a tenth of what a compiler of everything would write.
IMPORTED := kfp.local mlflow.store.tracking.sqlalchemy_store transformers.models.bert.modeling_bert feature_repo.store \
	implicit.nearest_neighbours mtmh.training.train mtmh.training.preranker mtmh.evaluation.evaluate mtmh.report.report
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help run serve monitor test lint types docs k8s-check ui bench cluster-test faults servers clean

help:  ## What can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## */make \1|/' | column -t -s '|'

run: $(VENV)/.run-ready  ## Run the whole pipeline; DATA=folder for your own data, ARGS="--seed 1" for more options of `mtmh run`
	@$(BIN)/mtmh run --data $(DATA) $(ARGS)

serve: $(VENV)/.run-ready $(TRITON_READY)  ## Serve the champion of the latest run; runs the pipeline first where there is none
	@ls runs/serving/*/champion > /dev/null 2>&1 || $(BIN)/mtmh run --data $(DATA)
	@exec $(BIN)/mtmh serve $(ARGS)

monitor: $(VENV)/.ready  ## Monitor an experiment of simulated users and serve the dashboard; runs the pipeline and simulates where that is missing
	@test -e runs/latest || $(BIN)/mtmh run --data synthetic
	@test -e runs/watched/experiment.json || $(BIN)/mtmh simulate
	@exec $(BIN)/mtmh monitor $(ARGS)

test: $(VENV)/.ready $(TRITON_READY) $(BACKEND_PYTHONS) servers lint types  ## Check style and types, then run all tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready  ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.ready  ## Check types
	@$(BIN)/mypy

k8s-check: $(VENV)/.ready servers  ## Render the cluster's files and check them strictly
	@$(BIN)/python -m k8s.check

docs: $(VENV)/.ready  ## Make the site of README and docs/ in runs/site
	@$(BIN)/mkdocs build --quiet && echo "runs/site/index.html"

ui: $(VENV)/.run-ready  ## Open the tracking pages of all runs
	@$(BIN)/mtmh ui

bench: $(VENV)/.ready  ## Run a benchmark, NAME=training for one; results go to benchmarks/results
	@$(BIN)/mtmh bench $(NAME)

faults: $(VENV)/.ready $(TRITON_READY) servers  ## Make faults under load and see that nothing breaks (minutes)
	@$(BIN)/python -m pytest -m slow tests/faults $(ARGS)

cluster-test: $(VENV)/.ready  ## On the cluster of KUBECONFIG, whose nodes have the images: from `kubectl apply` to a served answer
	@MTMH_TEST_KUBECONFIG=$${MTMH_TEST_KUBECONFIG:-$${KUBECONFIG:-$$HOME/.kube/config}} \
		$(BIN)/python -m pytest -m "not slow" tests/cluster -x -rA -s --no-header $(ARGS)

# What the tests start or call, command:package of Debian: Redis, Chromium for the pages, kubectl to render k8s/, Prometheus.
SERVERS := redis-server:redis-server chromium:chromium chromedriver:chromium-driver kubectl:kubernetes-client promtool:prometheus
servers:
	@for each in $(SERVERS); do command -v $${each%:*} > /dev/null || missing="$$missing $${each#*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing > /dev/null; \
	else echo "not installed:$$missing; the tests that need them will be skipped and say so"; fi

# What a run and serving need. torch by pip, before uv: uv would look into other indexes too and take the build for CUDA; as no
# lock names torch, it leaves alone what is there.
$(VENV)/.run-ready: pyproject.toml requirements-uv.txt requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("mtmh needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV): torch, then what a run needs, 2 GB (about a minute and a half)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes --requirement requirements-uv.txt || { \
		echo "uv, which installs the rest, cannot be had: is a package index in reach? Behind a mirror set PIP_INDEX_URL."; exit 1; }
	@$(PIP) --quiet --no-deps --retries 1 --index-url $(TORCH_INDEX) $(TORCH) || { \
		echo "$(TORCH_INDEX) gives no $(TORCH): taking pip's own, which from PyPI is for GPUs and large"; $(PIP) $(TORCH); }
	@rm -rf $(VENV)/lib/python*/site-packages/torch/test  # its own tests, 0.1 GB
	@$(UV) --require-hashes --requirement requirements.txt
	@$(UV) --no-build-isolation --editable .
	@$(BIN)/python -W ignore -c 'import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]' $(IMPORTED)
	@touch $@

# The rest: monitoring, checks, tests.
$(VENV)/.ready: $(VENV)/.run-ready requirements-monitoring.txt requirements-dev.txt
	@echo "adding to $(VENV) what monitoring, checks and tests need, 0.7 GB (half a minute)"
	@$(UV) --require-hashes --requirement requirements-monitoring.txt --requirement requirements-dev.txt
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

# The same server with the backend of another Python: pyenv's, one on the PATH, or one that uv downloads.
$(TRITON)/python%/.ready: $(TRITON)/.ready
	@rm -rf $(@D) && mkdir $(@D)
	@PATH="$$(printf '%s:' $(HOME)/.pyenv/versions/$*.*/bin)$$PATH" $(BIN)/uv venv --quiet --no-project --python $* $(@D)/venv 2> /dev/null && \
		$(UV_INSTALL) --python $(@D)/venv/bin/python --require-hashes --requirement serving/triton/backend.txt && \
		cp -rl $(TRITON)/server $(@D)/server && cd $(@D)/server/pytriton/tritonserver && \
		cp --remove-destination python_backend_stubs/$*/triton_python_backend_stub backends/python && touch $(CURDIR)/$@ || \
		echo "Python $* cannot be had here: the tests of Triton's backend under it will be skipped and say so"

clean:  ## Remove environments, caches and runs
	rm -rf $(VENV) $(TRITON) runs .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
