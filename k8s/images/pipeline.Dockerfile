# The whole project: the image that every step of the pipeline runs in (components/__init__.py), and the command line.
# tests/k8s checks the paths and the pins. From the root of the repository:
#   docker build -f k8s/images/pipeline.Dockerfile -t mtmh-python:0.1.0 .
#   for a cluster, by the name that it is pushed under: -t $MTMH_IMAGE --build-arg IMAGE=$MTMH_IMAGE
#   with GPUs for training: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
FROM python:3.11.14-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# What changes least comes first. `implicit` links OpenMP's library and brings none. A user with a name: where a pod says no group
# (Kubeflow's steps), the container's group is the one of its user here, else root's.
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 mtmh && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home mtmh

# torch from its own index alone, where it has no hash that we could pin, and without its tests; all else by the hashes of the locks.
WORKDIR /opt/mtmh
RUN python -m pip install --no-cache-dir --index-url "$TORCH_INDEX" torch==2.13.0 \
    && rm -r "$(python -c 'from importlib.util import find_spec; print(*find_spec("torch").submodule_search_locations)')/test"
COPY requirements.txt requirements-monitoring.txt ./
RUN python -m pip install --no-cache-dir --no-deps --require-hashes \
    --requirement requirements.txt --requirement requirements-monitoring.txt

# The project last: a change of it alone takes seconds.
COPY feature_repo/feature_store.cluster.yaml /etc/mtmh/feature_store.cluster.yaml
COPY README.md pyproject.toml ./
COPY components components
COPY feature_repo feature_repo
COPY monitoring monitoring
COPY mtmh mtmh
COPY mtmh_cli mtmh_cli
COPY pipelines pipelines
COPY serving serving
COPY simulation simulation
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation .

# The file system is read-only on a cluster: caches and bytecode go where it can be written, or nowhere. What Numba compiles is for
# one kind of CPU, so it is no part of the image: a step keeps it on the volume (pipelines/kubeflow.py).
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /tmp
USER 10001:10001
# Its own name: what is compiled or submitted inside asks for this very image again.
ARG IMAGE=
ENV MTMH_IMAGE=$IMAGE
CMD ["mtmh", "--help"]
