"""Step evaluate: the paper's protocol over heads, merges, baselines and champion."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    prepared: dsl.Input[dsl.Dataset],
    content: dsl.Input[dsl.Dataset],
    retriever: dsl.Input[dsl.Model],
    champion: str,
    retrieval: str,
    evaluation: str,
    seed: int,
    code_version: str,
    result: dsl.Output[dsl.Dataset],
    figures: dsl.Output[dsl.Metrics],
) -> None:
    """Evaluate all test users (paper section 6); `champion` is a location as the step champion
    returns it. `figures` are for Kubeflow's page.
    """
    from pathlib import Path

    from components.step import running

    out = Path(result.path)
    with running("evaluate", out):
        import json

        from components import kubeflow_page
        from components.registry import fetch
        from mtmh.config import EvaluationSettings, RetrievalSettings
        from mtmh.evaluation.evaluate import evaluate

        retrieval_settings = RetrievalSettings.model_validate_json(retrieval)
        evaluate(
            Path(prepared.path),
            Path(content.path),
            Path(retriever.path),
            fetch(champion) if champion else None,
            out,
            retrieval_settings,
            EvaluationSettings.model_validate_json(evaluation),
            seed,
        )
        evaluation_read = json.loads((out / "evaluation.json").read_text())
        for name, value in kubeflow_page.figures(evaluation_read, retrieval_settings.alpha):
            figures.log_metric(name, value)
