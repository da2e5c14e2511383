"""A trial's figures are those that a run tells of the same model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.checkerboard import Stages, retrieval_settings

from mtmh.config import EvaluationSettings
from mtmh.evaluation.evaluate import evaluate, evaluate_heads


@pytest.mark.parametrize(("objective", "alpha"), [("mtmh", 50), ("mtmh", 20), ("engagement", 50)])
def test_heads_and_merge_measure_as_in_a_run(
    world: Stages, version: Callable[[str], Path], tmp_path: Path, objective: str, alpha: int
) -> None:
    settings = retrieval_settings(alpha=alpha)
    found = evaluate_heads(
        world.prepared,
        world.content,
        version(objective),
        settings,
        EvaluationSettings().fresh_hours,
    )
    asked = (
        world.prepared,
        world.content,
        version(objective),
        None,
        tmp_path,
        settings,
        EvaluationSettings(),
        0,
    )
    evaluate(*asked)
    models = json.loads((tmp_path / "evaluation.json").read_text())["models"]
    names = {f"{head}_head" for head in ("engagement", "relevance") if f"{head}_head" in models}
    assert found == {
        **{name: models[name] for name in names},
        "merged": models[f"merged_alpha_{alpha}"],
    }
