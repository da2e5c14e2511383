"""The pipeline: from an interaction log to a gated two-head retriever."""

from operator import eq

from kfp import dsl
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask

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
from pipelines.kubeflow import mount_on, place_on, reach_serving

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


def define(cluster: ClusterSettings | None = None) -> dsl.base_component.BaseComponent:
    """Return the pipeline; `cluster` adds what a local run has no use for (GPU, memory, tolerations, a volume).

    The settings of a stage travel as one JSON text a section, so that a change of one leaves the others' cache alone.
    """

    # fmt: off
    @dsl.pipeline(name=NAME, description="From an interaction log to a gated two-head retriever")
    def mtmh(
        source: str, fingerprint: str, seed: int, code_version: str, config: str,
        data_settings: str, pair_settings: str, content_settings: str, train_settings: str, prerank_settings: str,
        retrieval_settings: str, evaluation_settings: str, gate_settings: str,
        model_name: str, tracking_uri: str, artifacts: str = "", scratch: str = "/tmp/mtmh",
        runs: str = "", run_id: str = "", place: str = "/srv/mtmh/champion", store: str = "/srv/mtmh/serving",
    ) -> None:
        # The log, checked and split in time; vectors of what items are about; what the feature store knows; pairs.
        prepare_task = prepare(
            source=source, fingerprint=fingerprint, settings=data_settings, seed=seed, code_version=code_version)
        prepared = prepare_task.outputs["prepared"]
        content_task = content(
            prepared=prepared, settings=content_settings, seed=seed, scratch=scratch, code_version=code_version)
        vectors = content_task.outputs["content"]
        features_task = features(prepared=prepared, content=vectors, settings=data_settings, code_version=code_version)
        statistics = features_task.outputs["features"]
        pairs_task = pairs(prepared=prepared, content=vectors, settings=pair_settings, code_version=code_version)
        training_pairs = pairs_task.outputs["pairs"]

        # Both heads and the preranker; with an index a head they are one version, the retriever.
        train_task = train(
            prepared=prepared, features=statistics, content=vectors, pairs=training_pairs,
            settings=train_settings, seed=seed, scratch=scratch, code_version=code_version)
        model = train_task.outputs["model"]
        preranker_task = preranker(
            prepared=prepared, features=statistics, content=vectors,
            settings=prerank_settings, seed=seed, code_version=code_version)
        user_model = preranker_task.outputs["preranker"]
        index_task = index(
            prepared=prepared, features=statistics, content=vectors, model=model, preranker=user_model,
            settings=retrieval_settings, seed=seed, code_version=code_version)
        retriever = index_task.outputs["retriever"]

        # Measured beside the version that serves now, and judged.
        champion_task = champion(model_name=model_name, tracking_uri=tracking_uri).after(index_task)
        evaluate_task = evaluate(
            prepared=prepared, content=vectors, retriever=retriever, champion=champion_task.output,
            retrieval=retrieval_settings, evaluation=evaluation_settings, seed=seed, code_version=code_version)
        result = evaluate_task.outputs["result"]
        gate_task = gate(prepared=prepared, result=result, settings=gate_settings, seed=seed)
        passed = gate_task.outputs["Output"]

        # Kept, passed or not: as a run directory, and as a version of the registered model.
        report_task = report(
            prepared=prepared, content=vectors, features=statistics, pairs=training_pairs, model=model,
            preranker=user_model, retriever=retriever, result=result, verdict=gate_task.outputs["verdict"],
            config=config, source=source, seed=seed, code_version=code_version, runs=runs, run_id=run_id)
        run = report_task.outputs["run"]
        register_task = register(run=run, model_name=model_name, tracking_uri=tracking_uri, artifacts=artifacts)
        version = register_task.output

        # Only what passed is packaged and served.
        with dsl.If(eq(passed, True), name="passed"):
            package_task = package(
                run=run, features=statistics, version=version, model_name=model_name, tracking_uri=tracking_uri)
            deploy(
                run=run, package=package_task.outputs["package"], approved=passed, version=version,
                place=place, store=store, namespace=cluster.namespace if cluster else "")
        _arrange(Pipeline.get_default_pipeline().tasks, cluster)
    # fmt: on

    return mtmh


def _arrange(tasks: dict[str, PipelineTask], cluster: ClusterSettings | None) -> None:
    """What is never cached, and in which order or where the steps run."""
    for name in NEVER_CACHED:
        tasks[name].set_caching_options(False)
    if cluster is None:  # one at a time here anyway: then always in the same order
        tasks["pairs"].after(tasks["features"])
        tasks["preranker"].after(tasks["train"])
        return
    place_on(tasks["train"], cluster)
    reach_serving(tasks["features"], tasks["deploy"], cluster)
    for task in tasks.values():
        mount_on(task, cluster)
