# Triton with what the Python backend of our models imports. Not built here over NVIDIA's image: no registry was at hand;
# tests/k8s checks the paths and the pins. 26.09 has the mends of NVIDIA's bulletins of 2025 and 2026 (SECURITY.md), and
# Python 3.12; the backend's code runs from 3.10 on. From the root of the repository:
#   docker build -f k8s/images/triton.Dockerfile -t mtmh-triton:26.09-cpu .
#   docker build -f k8s/images/triton.Dockerfile -t mtmh-triton:26.09-gpu . --build-arg BACKEND=backend-gpu.txt
FROM nvcr.io/nvidia/tritonserver:26.09-py3

ARG BACKEND=backend.txt

# Into the system's Python, which this image's backend was built for: nothing else runs in it.
COPY serving/triton/backend.txt serving/triton/backend-gpu.txt /tmp/
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --no-deps --require-hashes --requirement "/tmp/$BACKEND" \
    && python3 -c "import faiss, numpy; assert numpy.__version__ < '2'; print(faiss.__version__, numpy.__version__)" \
    && rm /tmp/backend.txt /tmp/backend-gpu.txt

# A user with a name: where a pod says no group, the container's group is the one of its user here, else root's.
RUN groupadd --gid 10001 mtmh && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home mtmh

COPY --chmod=755 k8s/images/triton.sh /usr/local/bin/triton.sh

# The file system is read-only on a cluster: no bytecode, and a home that can be written.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000 8001 8002
ENTRYPOINT ["/usr/local/bin/triton.sh"]
CMD ["/srv/mtmh/store/models"]
