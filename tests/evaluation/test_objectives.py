"""Every objective through the rest of the chain: evaluated, judged, put together, shown."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.checkerboard import Stages, retrieval_settings

from mtmh.config import Config, EvaluationSettings, GateSettings
from mtmh.evaluation import run_directory
from mtmh.evaluation.evaluate import evaluate
from mtmh.evaluation.gate import judge
from mtmh.report import report

HEADS_OF = {
    "stmh": ["engagement", "relevance"],
    "mtsh": ["relevance"],
    "engagement": ["engagement"],
}


@pytest.mark.parametrize("objective", list(HEADS_OF))
def test_an_objective_goes_all_the_way(
    world: Stages,
    trained: Callable[[str], Path],
    version: Callable[[str], Path],
    tmp_path: Path,
    objective: str,
) -> None:
    retrieval, gate = (
        retrieval_settings(),
        GateSettings(bootstrap=100, min_coverage=0, baseline_recall_ratio=0),
    )
    evaluation, verdict = tmp_path / "evaluation", tmp_path / "gate"
    evaluation.mkdir()
    champion = version("engagement")
    settings = EvaluationSettings(sample_users=20)
    evaluate(
        world.prepared,
        world.content,
        version(objective),
        champion,
        evaluation,
        retrieval,
        settings,
        0,
    )
    judge(world.prepared, evaluation, verdict, gate, seed=0)
    built = version(objective)
    ranker = built.with_name(f"{built.name}-preranker")
    made = {"model": trained(objective), "preranker": ranker, "retriever": built}
    stages = replace(world, **made, result=evaluation, verdict=verdict)
    run = tmp_path / "run"
    run_directory.write(run, stages, Config(retrieval=retrieval), "code", 0, "checkerboard")
    report.write(run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert [f"{head}_head" for head in HEADS_OF[objective]] == [
        n for n in metrics["models"] if n.endswith("_head")
    ]
    floor = next(rule for rule in metrics["gate"]["rules"] if rule["rule"] == "relevance_floor")
    assert (floor["value"] is None) is (objective == "mtsh")
    assert floor["passed"]
    page = (run / "report.html").read_text()
    assert ("head alone: there is nothing to merge" in page) is (len(HEADS_OF[objective]) == 1)
