"""What a run shows on Kubeflow's own page."""

import json
from pathlib import Path

import numpy as np
from helpers.small_run import model_figures
from kfp import dsl

from components.gate import gate
from components.kubeflow_page import figures, verdict_table
from mtmh.config import GateSettings


def test_the_heads_the_served_merge_and_the_champion_are_shown() -> None:
    champion = {"version": "3", **model_figures(True)["merged_alpha_30"]}
    shown = dict(figures({"models": model_figures(True), "champion": champion}, 50))
    assert shown["merged_alpha_50.recall_at_500"] == 0.4024
    assert shown["champion.recall_at_500"] == 0.3991
    assert {name.partition(".")[0] for name in shown} == {
        "engagement_head",
        "relevance_head",
        "merged_alpha_50",
        "champion",
    }


def test_what_the_data_cannot_measure_is_left_out() -> None:
    shown = dict(figures({"models": model_figures(False)}, 50))
    assert "merged_alpha_50.coverage" in shown
    assert "merged_alpha_50.l2_relevance" not in shown
    assert not any(name.startswith("champion") for name in shown)


def test_the_verdict_is_a_table_with_a_row_a_rule() -> None:
    rule = {"rule": "coverage", "metric": "coverage", "value": 0.25, "bound": 0.3}
    why = "covers a | quarter"
    failed = {**rule, "interval": None, "passed": False, "why": why}
    free = {**failed, "value": None, "bound": None, "passed": True, "why": "No champion."}
    table = verdict_table({"passed": False, "rules": [failed, free], "champion": None})
    assert table.startswith("The version **did not pass** the gate.")
    assert r"| **FAIL** | coverage | coverage | 0.25 | 0.3 | covers a \| quarter |" in table
    assert "| ok | coverage | coverage |  |  | No champion. |" in table


def test_the_step_gate_leaves_the_table_beside_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "prepared.json").write_text(json.dumps({"fingerprint": "data-1"}))
    (tmp_path / "evaluation.json").write_text(json.dumps({"models": model_figures(True)}))
    lists = np.arange(30).reshape(3, 10) % 20
    challenger = {
        "challenger_items": lists,
        "challenger_recall": np.full(3, 0.5),
        "challenger_retrieved": np.full(3, 10),
        "challenger_l2_matches": np.full(3, 5),
    }
    np.savez(tmp_path / "users.npz", n_items=np.array(20), **challenger)
    table = dsl.Markdown(name="table", uri=str(tmp_path / "table"))
    passed = gate.python_func(
        prepared=dsl.Dataset(name="prepared", uri=str(tmp_path)),
        result=dsl.Dataset(name="result", uri=str(tmp_path)),
        settings=GateSettings().model_dump_json(),
        seed=0,
        verdict=dsl.Artifact(name="verdict", uri=str(tmp_path / "verdict")),
        table=table,
    )
    assert passed
    verdict = json.loads((tmp_path / "verdict" / "verdict.json").read_text())
    assert Path(table.path).read_text() == verdict_table(verdict)
