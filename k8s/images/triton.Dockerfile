# Triton with what the Python backend of our models imports. Not built here: no Docker engine was at hand; tests/k8s checks
# the paths and the pins. From the root of the repository:
#   docker build -f k8s/images/triton.Dockerfile -t mtmh-triton:24.10-cpu .
#   docker build -f k8s/images/triton.Dockerfile -t mtmh-triton:24.10-gpu . --build-arg FAISS=faiss-gpu-cu12==1.14.1.post1
FROM nvcr.io/nvidia/tritonserver:24.10-py3

ARG FAISS=faiss-cpu==1.15.1

# Into the system's Python 3.10: it is the one that this image's backend was built for, and nothing else runs in it.
COPY serving/triton/backend.txt /tmp/backend.txt
RUN grep -v '^faiss-cpu==' /tmp/backend.txt > /tmp/rest.txt \
    && python3 -m pip install --no-cache-dir --requirement /tmp/rest.txt "$FAISS" \
    && python3 -c "import faiss, numpy; assert numpy.__version__ < '2'; print(faiss.__version__, numpy.__version__)" \
    && rm /tmp/backend.txt /tmp/rest.txt

COPY --chmod=755 k8s/images/triton.sh /usr/local/bin/triton.sh

# The file system is read-only on a cluster: no bytecode, and a home that can be written.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000 8001 8002
ENTRYPOINT ["/usr/local/bin/triton.sh"]
CMD ["/srv/mtmh/store/models"]
