# The whole project: the router's image, and the one that every step of the pipeline runs in (components/__init__.py).
# Not built here: no Docker engine was at hand; tests/k8s checks the paths and the pins. From the root of the repository:
#   docker build -f k8s/images/router.Dockerfile -t mtmh-python:0.1.0 .
#   for a cluster, by the name that it is pushed under: -t $MTMH_IMAGE --build-arg IMAGE=$MTMH_IMAGE
#   with GPUs for training: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
FROM python:3.11.14-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# torch from its own index alone, where it has no hash that we could pin; all else by the hashes of the locks.
WORKDIR /opt/mtmh
RUN python -m pip install --no-cache-dir --index-url "$TORCH_INDEX" torch==2.13.0
COPY requirements.txt requirements-monitoring.txt ./
RUN python -m pip install --no-cache-dir --no-deps --require-hashes \
    --requirement requirements.txt --requirement requirements-monitoring.txt
COPY README.md pyproject.toml ./
COPY mtmh mtmh
COPY mtmh_cli mtmh_cli
COPY simulation simulation
COPY components components
COPY feature_repo feature_repo
COPY pipelines pipelines
COPY serving serving
COPY monitoring monitoring
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation .
COPY feature_repo/feature_store.cluster.yaml /etc/mtmh/feature_store.cluster.yaml

# A user with a name: where a pod says no group (Kubeflow's steps), the container's group is the one of its user here, else root's.
RUN groupadd --gid 10001 mtmh && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home mtmh

# The file system is read-only on a cluster: caches and bytecode go where it can be written, or nowhere. What Numba compiles is
# in the image; where it cannot write there, or the CPU is of another kind than the builder's, it goes to /tmp instead.
RUN install --directory --owner 10001 --group 10001 /var/cache/mtmh/numba
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/var/cache/mtmh/numba PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /tmp
USER 10001:10001
# A small run of the pipeline compiles all that a step needs, and shows that the image works.
RUN mtmh run --set data.synthetic.users=300 --set data.synthetic.items=300 --runs /tmp/first && rm -r /tmp/first
# Its own name: what is compiled or submitted inside asks for this very image again.
ARG IMAGE=
ENV MTMH_IMAGE=$IMAGE
EXPOSE 8080 8081
CMD ["mtmh", "route", "--config", "/etc/mtmh/router/router.yaml"]
