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
) -> None:
    """Evaluate all test users (paper section 6); `champion` is a location as the step champion
    returns it.
    """
    from pathlib import Path

    from components.step import running

    out = Path(result.path)
    with running("evaluate", out):
        from components.registry import fetch
        from mtmh.config import EvaluationSettings, RetrievalSettings
        from mtmh.evaluation.evaluate import evaluate

        evaluate(
            Path(prepared.path),
            Path(content.path),
            Path(retriever.path),
            fetch(champion) if champion else None,
            out,
            RetrievalSettings.model_validate_json(retrieval),
            EvaluationSettings.model_validate_json(evaluation),
            seed,
        )
