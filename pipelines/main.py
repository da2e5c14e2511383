"""The pipeline: from an interaction log to a gated two-head retriever."""

from operator import eq

from kfp import dsl

from components.champion import champion
from components.content import content
from components.deploy import deploy
from components.evaluate import evaluate
from components.features import features
from components.gate import gate
from components.index import index
from components.pairs import pairs
from components.prepare import prepare
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
    "index",
    "champion",
    "evaluate",
    "gate",
    "report",
    "register",
    "deploy",
)


def define(cluster: ClusterSettings | None = None) -> dsl.base_component.BaseComponent:
    """Return the pipeline; `cluster` adds what a local run has no use for (GPU, memory, tolerations of train).

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
    ) -> None:
        version = {"code_version": code_version}
        data = prepare(source=source, fingerprint=fingerprint, settings=data_settings, seed=seed, **version)
        prepared = data.outputs["prepared"]
        encode = content(prepared=prepared, settings=content_settings, scratch=scratch, **version)
        items = {"prepared": prepared, "content": encode.outputs["content"]}
        store = features(**items, settings=data_settings, **version).outputs["features"]
        mined = pairs(**items, settings=pair_settings, **version).outputs["pairs"]
        inputs = {**items, "features": store, "pairs": mined}
        fit = train(**inputs, settings=train_settings, seed=seed, scratch=scratch, **version)
        if cluster is not None:
            from pipelines.cluster import place_on

            place_on(fit, cluster)
        model = fit.outputs["model"]
        built = index(**items, features=store, model=model, settings=retrieval_settings, seed=seed, **version)
        retriever = built.outputs["retriever"]
        serving = champion(model_name=model_name, tracking_uri=tracking_uri).after(built)
        result = evaluate(
            **items,
            retriever=retriever,
            champion=serving.output,
            retrieval=retrieval_settings,
            evaluation=evaluation_settings,
            seed=seed,
            **version,
        ).outputs["result"]
        judged = gate(prepared=prepared, result=result, settings=gate_settings, seed=seed)
        passed = judged.outputs["Output"]
        stages = {**inputs, "model": model, "retriever": retriever, "result": result}
        written = report(
            **stages,
            verdict=judged.outputs["verdict"],
            config=config,
            source=source,
            seed=seed,
            runs=runs,
            run_id=run_id,
            **version,
        )
        run = written.outputs["run"]
        kept = register(run=run, model_name=model_name, tracking_uri=tracking_uri, artifacts=artifacts)
        with dsl.If(eq(passed, True), name="passed"):
            last = deploy(run=run, approved=passed, version=kept.output, place=place)
            last.set_caching_options(False)
        for task in (serving, judged, written, kept):
            task.set_caching_options(False)

    return mtmh
