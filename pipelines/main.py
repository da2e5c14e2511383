"""The pipeline: from an interaction log to a gated two-head retriever."""

from operator import eq
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_task import PipelineTask as Task

from components.champion import champion
from components.content import content
from components.deploy import deploy
from components.evaluate import evaluate
from components.features import features
from components.gate import gate
from components.index import index
from components.package import package
from components.pairs import pairs
from components.prepare import prepare
from components.preranker import preranker
from components.register import register
from components.report import report
from components.train import train
from mtmh.config import ClusterSettings

NAME = "mtmh"
STEPS = (
    "prepare",
    "content",
    "features",
    "pairs",
    "train",
    "preranker",
    "index",
    "champion",
    "evaluate",
    "gate",
    "report",
    "register",
    "package",
    "deploy",
)
NEVER_CACHED = ("champion", "gate", "report", "register", "package", "deploy")
ARTIFACTS = {
    "prepare": "prepared",
    "content": "content",
    "features": "features",
    "pairs": "pairs",
    "train": "model",
    "preranker": "preranker",
    "index": "retriever",
    "evaluate": "result",
    "gate": "verdict",
}


def define(cluster: ClusterSettings | None = None) -> dsl.base_component.BaseComponent:
    """Return the pipeline; `cluster` adds what a local run has no use for (GPU, memory, tolerations, a volume).

    The settings of a stage travel as one JSON text a section, so that a change of one leaves the others' cache alone.
    """

    @dsl.pipeline(name=NAME, description="From an interaction log to a gated two-head retriever")
    def mtmh(
        source: str,
        fingerprint: str,
        seed: int,
        code_version: str,
        config: str,
        data_settings: str,
        pair_settings: str,
        content_settings: str,
        train_settings: str,
        prerank_settings: str,
        retrieval_settings: str,
        evaluation_settings: str,
        gate_settings: str,
        model_name: str,
        tracking_uri: str,
        artifacts: str = "",
        scratch: str = "/tmp/mtmh",
        runs: str = "",
        run_id: str = "",
        place: str = "/srv/mtmh/champion",
        store: str = "/srv/mtmh/serving",
    ) -> None:
        version = {"code_version": code_version}
        seeded = {**version, "seed": seed}
        first = prepare(source=source, fingerprint=fingerprint, settings=data_settings, **seeded)
        tasks = _inputs(first, data_settings, content_settings, pair_settings, scratch, version, seed)
        tasks |= _retriever(tasks, train_settings, prerank_settings, retrieval_settings, scratch, seeded)
        now = champion(model_name=model_name, tracking_uri=tracking_uri).after(tasks["index"])
        tasks |= {"champion": now} | _judged(tasks, now, retrieval_settings, evaluation_settings, gate_settings, seeded)
        told = {"config": config, "source": source, "runs": runs, "run_id": run_id, **seeded}
        written = report(**_artifacts(tasks), **told)
        run = written.outputs["run"]
        kept = register(run=run, model_name=model_name, tracking_uri=tracking_uri, artifacts=artifacts)
        passed = tasks["gate"].outputs["Output"]
        kept_as = {"model_name": model_name, "tracking_uri": tracking_uri, "version": kept.output}
        namespace = cluster.namespace if cluster else ""
        with dsl.If(eq(passed, True), name="passed"):
            packed = package(run=run, features=tasks["features"].outputs["features"], **kept_as)
            ready = {"package": packed.outputs["package"], "approved": passed, "version": kept.output}
            last = deploy(run=run, place=place, store=store, namespace=namespace, **ready)
        tasks |= {"report": written, "register": kept, "package": packed, "deploy": last}
        _arrange(tasks, cluster)

    return mtmh


def _arrange(tasks: dict[str, Task], cluster: ClusterSettings | None) -> None:
    """What is never cached, in which order, and where the steps run."""
    for name in NEVER_CACHED:
        tasks[name].set_caching_options(False)
    if cluster is None:
        tasks["pairs"].after(tasks["features"])  # one at a time here anyway: then always in the same order
        tasks["preranker"].after(tasks["train"])
        return
    from pipelines.cluster import mount_on, place_on, reach_serving

    place_on(tasks["train"], cluster)
    reach_serving(tasks, cluster)
    for task in tasks.values():
        mount_on(task, cluster)


def _inputs(
    first: Task, data: str, content_: str, pair: str, scratch: str, version: dict[str, str], seed: int
) -> dict[str, Task]:
    """What the model is trained on."""
    prepared = first.outputs["prepared"]
    encoded = content(prepared=prepared, settings=content_, seed=seed, scratch=scratch, **version)
    items = {"prepared": prepared, "content": encoded.outputs["content"]}
    store = features(**items, settings=data, **version)
    mined = pairs(**items, settings=pair, **version)
    return {"prepare": first, "content": encoded, "features": store, "pairs": mined}


def _retriever(
    tasks: dict[str, Task], train_: str, prerank: str, retrieval: str, scratch: str, seeded: dict[str, Any]
) -> dict[str, Task]:
    """Model, preranker and index: one version."""
    inputs = _artifacts(tasks)
    fit = train(**inputs, settings=train_, scratch=scratch, **seeded)
    inputs.pop("pairs")
    second = preranker(**inputs, settings=prerank, **seeded)
    trained = {"model": fit.outputs["model"], "preranker": second.outputs["preranker"]}
    built = index(**inputs, **trained, settings=retrieval, **seeded)
    return {"train": fit, "preranker": second, "index": built}


def _judged(
    tasks: dict[str, Task], now: Task, retrieval: str, evaluation: str, gate_: str, seeded: dict[str, Any]
) -> dict[str, Task]:
    """Evaluation beside the champion `now`, and the verdict."""
    known = _artifacts(tasks)
    read = {name: known[name] for name in ("prepared", "content", "retriever")}
    measured = evaluate(**read, champion=now.output, retrieval=retrieval, evaluation=evaluation, **seeded)
    result = measured.outputs["result"]
    judged = gate(prepared=read["prepared"], result=result, settings=gate_, seed=seeded["seed"])
    return {"evaluate": measured, "gate": judged}


def _artifacts(tasks: dict[str, Task]) -> dict[str, Any]:
    """The artifact of each task so far, by its name."""
    return {ARTIFACTS[name]: task.outputs[ARTIFACTS[name]] for name, task in tasks.items() if name in ARTIFACTS}
