"""What a run shows on Kubeflow's own page: a few figures, and the gate's verdict as a table."""

from collections.abc import Iterator
from typing import Any

METRICS = ("recall_at_100", "recall_at_500", "l2_relevance", "coverage")


def figures(evaluation: dict[str, Any], alpha: int) -> Iterator[tuple[str, float]]:
    """The figures that a run is judged by, as `model.metric` with the names of metrics.json. The
    models are the heads, their merge at the served `alpha`, and the champion where there is one.
    """
    models = {**evaluation["models"], "champion": evaluation.get("champion", {})}
    for model in ("engagement_head", "relevance_head", f"merged_alpha_{alpha}", "champion"):
        for metric in METRICS:
            # Null: the data has nothing to measure it on.
            if (value := models.get(model, {}).get(metric)) is not None:
                yield f"{model}.{metric}", float(value)


def verdict_table(verdict: dict[str, Any]) -> str:
    """The gate's verdict in Markdown, a row a rule."""
    rows = ["| | rule | metric | value | bound | |", "|---|---|---|---|---|---|"]
    for rule in verdict["rules"]:
        value, bound = (
            "" if rule[key] is None else f"{rule[key]:.4g}" for key in ("value", "bound")
        )
        words = [rule["rule"], rule["metric"], value, bound, rule["why"].replace("|", "\\|")]
        rows.append(f"| {'ok' if rule['passed'] else '**FAIL**'} | {' | '.join(words)} |")
    outcome = "passed" if verdict["passed"] else "did not pass"
    return "\n".join([f"The version **{outcome}** the gate.", "", *rows, ""])
