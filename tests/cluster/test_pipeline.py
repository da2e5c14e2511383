"""From a compiled pipeline to a served answer, on a real cluster: `make cluster-test`.

Kubeflow itself is not needed: the steps run one after the other as the pods that it would make of
them, under the pipeline's account, with their artifacts in an S3-compatible bucket
(tests/helpers/cluster/kubeflow.py).
"""

import pytest
from helpers.cluster.kubeflow import Kubeflow, Run
from helpers.cluster.load import an_item, load
from helpers.cluster.site import Site

from pipelines import main

pytestmark = [pytest.mark.cluster]


def test_a_run_reaches_a_served_answer(site: Site, run: Run) -> None:
    steps = run()
    assert "version 1 is the champion" in steps["deploy"].log
    site.wait("routers", 60, lambda: site.available("router"))
    answer = site.ask("/v1/retrieve", {"triggers": [an_item(site)], "k": 10})
    assert (answer["model_version"], len(answer["candidates"])) == ("1", 10)


def test_a_second_version_comes_while_requests_go_on(site: Site, run: Run) -> None:
    with load(site) as answers:
        steps = run("seed=1")
    assert "version 2 is the champion" in steps["deploy"].log
    assert set(answers.versions) == {"1", "2"}
    assert (answers.failures, answers.degraded, answers.mixed()) == ({}, 0, {})


def test_a_rollback_while_requests_go_on_and_forward_again(site: Site) -> None:
    """By the CronJob that an operator starts a Job of; MLflow's alias goes along."""
    with load(site) as answers:
        log = site.run_job("rollback", "back")
        assert "version 1 is the champion" in log
        log = site.run_job("rollback", "forward", MTMH_DO="rollback --version 2")
        assert "version 2 is the champion" in log
    assert set(answers.versions) == {"1", "2"}
    assert (answers.failures, answers.degraded, answers.mixed()) == ({}, 0, {})


def test_the_same_run_again_is_made_of_the_cache(site: Site, run: Run) -> None:
    """Nothing is trained, and the same retriever is the same version. It is measured beside the
    champion, which is another one by now."""
    steps = run("seed=1")
    made = {name for name, step in steps.items() if not step.cached}
    assert made == {*main.NEVER_CACHED, "evaluate"}
    assert "version 2 is the champion" in steps["deploy"].log


def test_a_version_that_the_gate_rejects_never_serves(site: Site, run: Run) -> None:
    steps = run("seed=2", "gate.min_coverage=1.0", "retrieval.pool=20")
    assert "deploy" not in steps
    answer = site.ask("/v1/retrieve", {"triggers": [an_item(site)], "k": 10})
    assert answer["model_version"] == "2"


def test_a_training_whose_pod_is_gone_goes_on_from_its_checkpoint(
    site: Site, kubeflow: Kubeflow, run: Run
) -> None:
    removed: list[str] = []

    def remove_once(step: str, pod: str) -> None:
        if step != "train" or removed:
            return
        removed.append(pod)
        saved = "ls /mnt/mtmh/scratch/checkpoints/*/*.pt || true"
        site.wait("checkpoint", 120, lambda: site.kubectl("exec", pod, "--", "sh", "-c", saved))
        site.core.delete_namespaced_pod(pod, site.namespace, grace_period_seconds=0)

    kubeflow.on_pod = remove_once
    steps = run("seed=3", "train.epochs=100", "train.batch_size=32")
    kubeflow.on_pod = None
    assert (len(removed), steps["train"].attempts) == (1, 2)
    assert "train: goes on from step" in steps["train"].log
