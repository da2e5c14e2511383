"""The overlay in a namespace of its own on the cluster of MTMH_TEST_KUBECONFIG, and pipelines there.

The cluster is kind on a laptop, or any other whose nodes have the images (MTMH_IMAGE,
MTMH_TRITON_IMAGE, MTMH_S3_IMAGE). Nothing is ever done to a cluster that the variable does not name.
"""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster.kubeflow import ACCOUNT, Kubeflow, Run, Step
from helpers.cluster.site import Site

from mtmh.config import load_config
from pipelines import main
from pipelines.arguments import layers, on_cluster
from pipelines.kubeflow import compile_pipeline

KUBECONFIG = "MTMH_TEST_KUBECONFIG"
# Small enough for minutes in all: the chain is what is tried here, not the method.
SMALL = (
    "data.synthetic.users=300",
    "data.synthetic.items=300",
    "cluster.volume_claim=mtmh",
    "cluster.local_images=true",
)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The overlay in a namespace of its own, everything up; MTMH_KEEP leaves it there."""
    if not os.environ.get(KUBECONFIG):
        pytest.skip(f"{KUBECONFIG} names no cluster to try this on (CONTRIBUTING.md)")
    os.environ["KUBECONFIG"] = os.environ[KUBECONFIG]
    site = Site(f"mtmh-{uuid.uuid4().hex[:6]}")
    site.set_up()
    for server in ("redis", "s3", "mlflow", "triton"):
        site.wait(server, 300, lambda server=server: site.available(server))
    site.wait("routers up", 120, lambda: site.started("router"))
    yield site
    print("\n".join(f"{seconds:7.1f} s  {what}" for what, seconds in site.seconds.items()))
    if report := os.environ.get("MTMH_CLUSTER_REPORT"):
        Path(report).write_text(json.dumps(site.seconds, indent=1) + "\n")
    if not os.environ.get("MTMH_KEEP"):
        site.tear_down()


@pytest.fixture(scope="session")
def kubeflow(site: Site) -> Kubeflow:
    return Kubeflow(site.core, site.namespace, ACCOUNT, "http://s3:9000")


@pytest.fixture
def run(site: Site, kubeflow: Kubeflow, tmp_path: Path) -> Run:
    """Runs the main pipeline, compiled with these settings; seconds of each step are kept."""

    def run(*settings: str) -> dict[str, Step]:
        chosen = [*SMALL, f"cluster.namespace={site.namespace}", *settings]
        config = load_config(*layers("synthetic", "laptop", None), settings=chosen)
        compiled = tmp_path / "pipeline.yaml"
        compile_pipeline(main.define(config.cluster), compiled)
        arguments = on_cluster(config, "http://mlflow:5000", "synthetic") | {"source": "synthetic"}
        steps = kubeflow.run(compiled, arguments)
        for name, step in steps.items():
            site.seconds[f"step {name} {' '.join(settings)}"] = round(step.seconds, 1)
        return steps

    return run
