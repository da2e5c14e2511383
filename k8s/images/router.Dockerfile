# The merging router, and no more than it imports: no torch, no Kubeflow, no MLflow. tests/k8s checks the paths and the pins,
# tests/serving that the lock is enough. From the root of the repository:
#   docker build -f k8s/images/router.Dockerfile -t mtmh-router:0.1.0 .
FROM python:3.11.14-slim-bookworm

# What changes least comes first. A user with a name: where a pod says no group, the container's group is the one of its user here,
# else root's.
RUN groupadd --gid 10001 mtmh && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home mtmh

WORKDIR /opt/mtmh
COPY requirements-router.txt ./
RUN python -m pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-router.txt

# The project last: a change of it alone takes seconds.
COPY feature_repo/feature_store.cluster.yaml /etc/mtmh/feature_store.cluster.yaml
COPY README.md pyproject.toml ./
COPY feature_repo feature_repo
COPY mtmh mtmh
COPY mtmh_cli mtmh_cli
COPY serving serving
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation .

# The file system is read-only on a cluster: no bytecode, and a home that can be written.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 DO_NOT_TRACK=true
WORKDIR /tmp
USER 10001:10001
EXPOSE 8080 8081
CMD ["mtmh", "route", "--config", "/etc/mtmh/router/router.yaml"]
