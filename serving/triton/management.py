"""Triton's management interface: loading, configuring, tracing, shared memory; closed to all but
who has the secret.

Without it any local process, and any web page by a plain POST, could load a model with code of its
own. Inference, health and metadata stay open. The secret travels in a header of each call.
"""

KEY = "mtmh-management"
MANAGEMENT = ("model-repository", "model-config", "shared-memory", "statistics", "trace", "logging")


def restriction(secret: str) -> str:
    """Value of --http-restricted-api and --grpc-restricted-protocol."""
    return f"{','.join(MANAGEMENT)}:{KEY}={secret}"


def headers(secret: str | None) -> dict[str, str]:
    """Metadata of a gRPC call to the management interface; none where the server was not given a
    secret.
    """
    return {} if secret is None else {f"triton-grpc-protocol-{KEY}": secret}
