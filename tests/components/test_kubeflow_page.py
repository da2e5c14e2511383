"""What a run shows on Kubeflow's own page."""

from helpers.small_run import model_figures

from components.kubeflow_page import figures, verdict_table


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
