"""The gate: may this version replace the champion? Floors first, then the comparison with it.

Every rule says what was measured, what it had to reach, and why it passed or failed, in one
sentence for people.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from mtmh.clock import measured
from mtmh.config import GateSettings
from mtmh.evaluation.bootstrap import (
    Interval,
    coverage_difference,
    mean_difference,
    ratio_difference,
)

BASELINES = ("popularity", "itemknn", "content")
NAMES = {"recall_at_500": "Recall@500", "l2_relevance": "L2 relevance", "coverage": "Coverage"}
SHORT = {"recall_at_500": "recall", "l2_relevance": "relevance", "coverage": "coverage"}

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Rule:
    """One line of the verdict; `value` is None when the data has nothing to measure it on."""

    rule: str
    metric: str
    value: float | None
    bound: float | None
    interval: tuple[float, float] | None
    passed: bool
    why: str


class ModelFigures(TypedDict):
    """The three figures of a model that the gate compares, fractions; relevance
    is None where no item has a topic.
    """

    recall_at_500: float
    l2_relevance: float | None
    coverage: float


@dataclass(frozen=True)
class Champion:
    """The version that serves now; `fingerprint` = that of the data it was
    trained on (None: taken for the same data).
    """

    version: str
    fingerprint: str | None


def judge(prepared: Path, evaluation: Path, out: Path, settings: GateSettings, seed: int) -> bool:
    """Write `out/verdict.json` {"passed", "rules", "champion"} and return whether
    the challenger passed.

    `prepared` holds prepared.json (the data's fingerprint), `evaluation` holds evaluation.json and
    users.npz, whose "challenger" is the merged retrieval at the serving alpha. See `floor_rules`
    and `champion_rules`.
    """
    with measured("gate", out):
        report = json.loads((evaluation / "evaluation.json").read_text())
        fingerprint = json.loads((prepared / "prepared.json").read_text())["fingerprint"]
        has_topics = any(model["l2_relevance"] is not None for model in report["models"].values())
        with np.load(evaluation / "users.npz") as users:
            rules = floor_rules(
                report["models"], figures(users, "challenger", has_topics), settings
            )
            champion = None
            if "champion_recall" in users:
                identity = report.get("champion") or {}
                version = str(identity.get("version", "unnamed"))
                champion = Champion(version, identity.get("fingerprint"))
            # Without a champion to compare with, or a difference from it, the floors decide.
            if champion is None:
                why = "There is no champion yet to compare with."
                if report.get("other_data"):
                    why = (
                        "The champion is of other data (it knows none of the items): not compared."
                    )
                rules.append(Rule("champion", "all", None, None, None, True, why))
            elif np.array_equal(users["challenger_items"], users["champion_items"]):
                why = (
                    f"Every list is that of champion {champion.version}: nothing changed, and "
                    f"nothing changes."
                )
                rules.append(Rule("champion", "all", None, None, None, True, why))
            else:
                differences = compare(users, has_topics, settings, seed)
                newer_data = champion.fingerprint not in (None, fingerprint)
                rules += champion_rules(differences, champion, newer_data, settings.confidence)
        # One failed rule is enough to block.
        verdict = {
            "passed": all(rule.passed for rule in rules),
            "rules": [asdict(rule) for rule in rules],
            "champion": champion.version if champion else None,
        }
        (out / "verdict.json").write_text(json.dumps(verdict, indent=2, allow_nan=False))
    for rule in rules:
        print(f"gate: {'ok  ' if rule.passed else 'FAIL'} {rule.rule}: {rule.why}", flush=True)
    return bool(verdict["passed"])


def figures(users: Arrays, name: str, has_topics: bool) -> ModelFigures:
    """Recall@500, L2 relevance and coverage of `name` ("challenger" or
    "champion") from the arrays of users.npz.
    """
    items = users[f"{name}_items"]
    lists_with = np.bincount(items[items >= 0], minlength=1)
    # Sums of integers first, so that a ratio does not depend on the order of the users.
    retrieved = int(users[f"{name}_retrieved"].sum(dtype=np.int64))
    matches = int(users[f"{name}_l2_matches"].sum(dtype=np.int64))
    return {
        "recall_at_500": float(users[f"{name}_recall"].mean(dtype=np.float64)),
        "l2_relevance": matches / max(retrieved, 1) if has_topics else None,
        "coverage": int(np.count_nonzero(lists_with)) / int(users["n_items"]),
    }


def floor_rules(
    models: Mapping[str, Mapping[str, Any]],
    merged: ModelFigures,
    settings: GateSettings,
) -> list[Rule]:
    """Floors of the merged retrieval, whoever is champion.

    Recall@500 against the best of popularity, ItemKNN and content; L2 relevance against the
    engagement head (what the second head is there for; not measured without that head); coverage
    against a set share of the catalog.
    """
    # Recall must reach that of the strongest baseline, whichever it is on this data.
    recalls = {name: models[name]["recall_at_500"] for name in BASELINES if name in models}
    recalls = {name: recall for name, recall in recalls.items() if recall is not None}
    if not recalls:
        raise ValueError(
            f"evaluation.json has none of the baselines {', '.join(BASELINES)}: nothing to hold "
            f"recall to"
        )
    best = max(recalls, key=lambda name: recalls[name])
    floor = _scaled(settings.baseline_recall_ratio, f"the best baseline, {best}", recalls[best])
    bound = recalls[best] * settings.baseline_recall_ratio
    recall_rule = _floor("recall_floor", "recall_at_500", merged["recall_at_500"], bound, floor)
    # Relevance has no floor where the data has no topics, or the model no head to compare with.
    rule, metric = "relevance_floor", "l2_relevance"
    relevance, ratio = merged["l2_relevance"], settings.relevance_ratio
    engagement = models.get("engagement_head", {}).get("l2_relevance")
    if relevance is None:
        relevance_rule = _not_measured(rule, metric, "no item has an L2 topic")
    elif engagement is None:
        why = "this model has no engagement head to compare with"
        relevance_rule = _not_measured(rule, metric, why)
    else:
        floor = _scaled(ratio, "the engagement head alone", engagement)
        relevance_rule = _floor(rule, metric, relevance, engagement * ratio, floor)
    floor, bound = "the set minimum", settings.min_coverage
    coverage_rule = _floor("coverage_floor", "coverage", merged["coverage"], bound, floor)
    return [recall_rule, relevance_rule, coverage_rule]


def compare(
    users: Arrays,
    has_topics: bool,
    settings: GateSettings,
    seed: int,
) -> dict[str, Interval | None]:
    """Differences challenger - champion per metric, by the paired bootstrap; None = not measured.

    Bonferroni: each interval has confidence 1 - (1 - confidence) / comparisons, so that all hold
    together with `confidence`. Two equal models then differ significantly in either direction in at
    most 1 - confidence of the runs: noise promotes in at most half of these and blocks in at most
    the other half.
    """
    comparisons = 3 if has_topics else 2
    confidence = 1 - (1 - settings.confidence) / comparisons
    resampling = (confidence, settings.bootstrap, seed)
    recalls = users["challenger_recall"], users["champion_recall"]
    items = users["challenger_items"], users["champion_items"]
    challenger = users["challenger_l2_matches"], users["challenger_retrieved"]
    champion = users["champion_l2_matches"], users["champion_retrieved"]
    n_items = int(users["n_items"])
    relevance = ratio_difference(challenger, champion, *resampling) if has_topics else None
    return {
        "recall_at_500": mean_difference(recalls[0], recalls[1], *resampling),
        "l2_relevance": relevance,
        "coverage": coverage_difference(items[0], items[1], n_items, *resampling),
    }


def champion_rules(
    differences: Mapping[str, Interval | None],
    champion: Champion,
    newer_data: bool,
    confidence: float,
) -> list[Rule]:
    """Not worse anywhere, and better somewhere unless the data is newer.

    "Not worse" blocks only a significant loss (the whole interval below 0). On the very same data a
    challenger must also be significantly better in at least one metric, otherwise noise would
    promote every other retraining; newer data is reason enough by itself.
    """
    rules = [_not_worse(metric, difference, champion) for metric, difference in differences.items()]
    intervals = {
        metric: interval for metric, interval in differences.items() if interval is not None
    }
    better = [metric for metric, interval in intervals.items() if interval.is_gain]
    # The metric that is furthest from a loss stands for all in the verdict.
    most = max(intervals, key=lambda metric: intervals[metric].low)
    limits = (intervals[most].low, intervals[most].high)
    if better:
        names = " and ".join(NAMES[metric] for metric in better)
        why = f"Significantly better than champion {champion.version} in {names}."
    elif newer_data:
        why = (
            f"No metric is significantly better than that of champion {champion.version}, but the "
            "data has changed since it was trained: fresh data is reason enough."
        )
    else:
        why = (
            f"Trained on the very same data as champion {champion.version} and significantly "
            f"better in no metric ({confidence:.0%} confidence over all {len(intervals)}): "
            "replacing it would be following noise."
        )
    passed = bool(better) or newer_data
    gain = intervals[most].estimate
    return [*rules, Rule("better_somewhere", most, gain, 0.0, limits, passed, why)]


def _floor(rule: str, metric: str, value: float, bound: float, floor: str) -> Rule:
    passed = value >= bound
    where = "at or above" if passed else "below"
    why = (
        f"{NAMES[metric]} of the merge is {_percent(value)}, {where} the required "
        f"{_percent(bound)} ({floor})."
    )
    return Rule(rule, metric, value, bound, None, passed, why)


def _not_worse(metric: str, difference: Interval | None, champion: Champion) -> Rule:
    rule = f"{SHORT[metric]}_not_worse"
    if difference is None:
        return _not_measured(rule, metric, "no item has an L2 topic")
    # Only a loss that noise does not explain blocks.
    result = "significantly better" if difference.is_gain else "no significant difference"
    result = "a significant loss" if difference.is_loss else result
    why = (
        f"{NAMES[metric]} differs from champion {champion.version} by "
        f"{_points(difference.estimate)} points "
        f"(interval {_points(difference.low)} to {_points(difference.high)}): {result}."
    )
    limits = (difference.low, difference.high)
    return Rule(rule, metric, difference.estimate, 0.0, limits, not difference.is_loss, why)


def _not_measured(rule: str, metric: str, reason: str) -> Rule:
    why = f"Not measured: {reason}, so relevance neither passes nor blocks."
    return Rule(rule, metric, None, None, None, True, why)


def _scaled(ratio: float, what: str, value: float) -> str:
    return what if ratio == 1 else f"{ratio:g} times {what}, which has {_percent(value)}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"
