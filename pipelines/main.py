"""The pipeline: from an interaction log to a gated two-head retriever."""

from collections.abc import Callable
from functools import wraps
from operator import eq
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask

from components.champion import champion
from components.content import content
from components.deploy import deploy
from components.evaluate import evaluate
from components.features import features
from components.finish import finish
from components.gate import gate
from components.histories import histories
from components.identify import identify
from components.index import index
from components.package import package
from components.pairs import pairs
from components.prepare import prepare
from components.preranker import preranker
from components.register import register
from components.report import report
from components.train import train
from mtmh.config import ClusterSettings
from pipelines.kubeflow import equip, keep_state, reach_hub, reach_serving, states_folder

NAME = "mtmh"
DESCRIPTION = "From an interaction log to a gated two-head retriever"
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
    "histories",
    "package",
    "deploy",
)
ON_A_CLUSTER = ("identify", "finish")  # two steps more
NEVER_CACHED = (
    "identify",
    "champion",
    "gate",
    "report",
    "register",
    "histories",
    "package",
    "deploy",
    "finish",
)


# fmt: off
def define(cluster: ClusterSettings | None = None) -> dsl.base_component.BaseComponent:
    """Return the pipeline; `cluster` adds what only a cluster has (GPU, memory, a volume). Settings
    travel as one JSON text a section: a change of one leaves the other stages' cache alone."""
    def mtmh(
        source: str, seed: int, config: str, data_settings: str, pair_settings: str,
        content_settings: str, train_settings: str, prerank_settings: str, retrieval_settings: str,
        evaluation_settings: str, gate_settings: str, model_name: str, tracking_uri: str,
        scratch: str, store: str, artifacts: str = "", runs: str = "", run_id: str = "",
        champion_link: str = "", shared_tables: str = "", fingerprint: str = "",
        code_version: str = "",
    ) -> None:
        # On a cluster the run itself says which data and code it has: a clone is a run of its own.
        if cluster is not None:
            identity = identify(source=source, settings=data_settings, seed=seed).outputs
            fingerprint, code_version = identity["fingerprint"], identity["code_version"]
            run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        # The log, checked and split in time, and vectors of what the items are about.
        seeded = {"seed": seed, "code_version": code_version}
        prepared = prepare(
            source=source, fingerprint=fingerprint, settings=data_settings, **seeded).output
        items = content(prepared=prepared, settings=content_settings, scratch=scratch, **seeded)
        data = {"prepared": prepared, "content": items.output}
        # What the feature store knows at the split, and the pairs to train on.
        statistics = features(prepared=prepared, settings=data_settings, code_version=code_version)
        tables = {**data, "features": statistics.output}
        pairs_task = pairs(**data, settings=pair_settings, code_version=code_version)
        training = {**tables, "pairs": pairs_task.output}
        # Both heads and the preranker; with an index a head they are one version, the retriever.
        train_task = train(**training, settings=train_settings, scratch=scratch, **seeded)
        preranker_task = preranker(**tables, settings=prerank_settings, **seeded)
        models = {"model": train_task.output, "preranker": preranker_task.output}
        index_task = index(**tables, **models, settings=retrieval_settings, **seeded)
        # Measured beside the version that serves now, and judged.
        registry = {"model_name": model_name, "tracking_uri": tracking_uri}
        champion_task = champion(**registry).after(index_task)
        result = evaluate(
            **data, **seeded, retriever=index_task.output, champion=champion_task.output,
            retrieval=retrieval_settings, evaluation=evaluation_settings).outputs["result"]
        gate_task = gate(prepared=prepared, result=result, settings=gate_settings, seed=seed)
        passed, verdict = gate_task.outputs["Output"], gate_task.outputs["verdict"]
        # Stored, passed or not: as a run directory, and as a version of the registered model.
        run = report(
            **training, **models, **seeded, retriever=index_task.output, result=result, runs=runs,
            verdict=verdict, config=config, source=source, run_id=run_id).outputs["run"]
        version = register(run=run, run_id=run_id, artifacts=artifacts, **registry).output
        # Only what passed is packaged and served, with the users' histories as of now.
        with dsl.If(eq(passed, True), name="passed"):
            history = histories(
                prepared=prepared, features=statistics.output, version=version,
                model_name=model_name, shared_tables=shared_tables)
            packaged = package(run=run, histories=history.output, version=version, **registry)
            deploy(**registry,
                run=run, package=packaged.output, approved=passed, version=version, store=store,
                champion_link=champion_link, namespace=cluster.namespace if cluster else "",
                canary=cluster.canary if cluster else 0.0)

    return dsl.pipeline(name=NAME, description=DESCRIPTION)(_arranged(mtmh, cluster))
# fmt: on


def _arranged(mtmh: Callable[..., None], cluster: ClusterSettings | None) -> Callable[..., None]:
    """`mtmh`, with the arrangement of its steps; on a cluster the step `finish` ends it."""

    @wraps(mtmh)
    def arranged(*parameters: Any) -> None:
        if cluster is None:
            mtmh(*parameters)
        else:
            # Whatever becomes of the others, the last step says how the run ended.
            run_id, states = dsl.PIPELINE_JOB_ID_PLACEHOLDER, states_folder(cluster)
            with dsl.ExitHandler(finish(run_id=run_id, states=states), name="run"):
                mtmh(*parameters)
        _arrange(Pipeline.get_default_pipeline().tasks, cluster)

    return arranged


def _arrange(tasks: dict[str, PipelineTask], cluster: ClusterSettings | None) -> None:
    """What is never cached, and in which order or where the steps run."""
    # What somebody else may have changed since, and what belongs to this run alone.
    for name in tasks.keys() & set(NEVER_CACHED):
        tasks[name].set_caching_options(False)
    # On this machine one step runs at a time: then always in the same order.
    if cluster is None:
        tasks["pairs"].after(tasks["features"])
        tasks["preranker"].after(tasks["train"])
        return
    # On a cluster every step gets its line of the table, and the volume that they share.
    reach_hub(tasks["content"], cluster)
    reach_serving(tasks["histories"], tasks["deploy"], cluster)
    for task in tasks.values():
        equip(task, cluster)
    for name in tasks.keys() - {"finish"}:
        keep_state(tasks[name], cluster)
