"""The gate: hand cases for every rule, and simulations of what noise and real effects do."""

import json
from pathlib import Path

import numpy as np
import pytest

from mtmh.config import GateSettings
from mtmh.evaluation.gate import Champion, champion_rules, compare, judge

SETTINGS = GateSettings(bootstrap=200, min_coverage=0.3)


def one_side(
    rng: np.random.Generator, ease: np.ndarray, relevance: float = 0.4, tail: float = 0.0
) -> dict:
    """Figures of one model over the users: 6 targets each, 8 items from a skewed catalog of 400."""
    users = len(ease)
    popularity = np.arange(1, 401.0) ** (-0.9 + tail)
    draws = np.log(popularity) + rng.gumbel(size=(users, 400))
    return {
        "recall": (rng.binomial(6, ease) / 6).astype(np.float32),
        "l2_matches": rng.binomial(8, relevance, users).astype(np.int32),
        "retrieved": np.full(users, 8, np.int32),
        "items": np.argpartition(-draws, 8, axis=1)[:, :8].astype(np.int32),
    }


def users_npz(**sides: dict) -> dict:
    arrays = {f"{name}_{key}": value for name, side in sides.items() for key, value in side.items()}
    return {"n_items": np.int64(400), **arrays}


def decide(users: dict, newer_data: bool = False) -> dict[str, bool]:
    differences = compare(users, True, SETTINGS, seed=0)
    rules = champion_rules(differences, Champion("1", "same"), newer_data, SETTINGS.confidence)
    return {rule.rule: rule.passed for rule in rules}


def simulate(times: int, **effect: float) -> list[dict[str, bool]]:
    """The gate's decisions over `times` worlds, in each of which the challenger differs by `effect`
    only.
    """
    rng = np.random.default_rng(11)
    decisions = []
    lift = effect.pop("recall", 0.0)
    for _ in range(times):
        ease = rng.beta(2, 4, 300)
        challenger = one_side(rng, np.clip(ease + lift, 0, 1), **effect)
        decisions.append(decide(users_npz(challenger=challenger, champion=one_side(rng, ease))))
    return decisions


def test_noise_neither_promotes_nor_blocks() -> None:
    """Nominal: 2.5 % each way for all three metrics together; bound = that and three standard
    errors.
    """
    decisions = simulate(300)
    promoted = sum(decision["better_somewhere"] for decision in decisions)
    blocked = sum(
        not all(decision[f"{m}_not_worse"] for m in ("recall", "relevance", "coverage"))
        for decision in decisions
    )
    most = 300 * (0.025 + 3 * (0.025 * 0.975 / 300) ** 0.5)
    assert promoted <= most
    assert blocked <= most


@pytest.mark.parametrize(
    ("effect", "rule"),
    [({"recall": 0.06}, "recall"), ({"relevance": 0.46}, "relevance"), ({"tail": 0.5}, "coverage")],
)
def test_a_planted_gain_promotes_and_blocks_nothing(effect: dict[str, float], rule: str) -> None:
    decisions = simulate(20, **effect)
    assert sum(decision["better_somewhere"] for decision in decisions) >= 18
    assert all(decision[f"{rule}_not_worse"] for decision in decisions)


@pytest.mark.parametrize(
    ("effect", "rule"),
    [
        ({"recall": -0.06}, "recall"),
        ({"relevance": 0.34}, "relevance"),
        ({"tail": -0.5}, "coverage"),
    ],
)
def test_a_planted_loss_blocks_by_its_own_rule(effect: dict[str, float], rule: str) -> None:
    decisions = simulate(20, **effect)
    assert sum(not decision[f"{rule}_not_worse"] for decision in decisions) >= 18


class Bench:
    """A folder with what the gate reads, and the verdict it wrote."""

    def __init__(self, root: Path) -> None:
        self.root, self.prepared, self.evaluation = root, root / "prepared", root / "evaluation"
        self.prepared.mkdir()
        self.evaluation.mkdir()
        self.report: dict = {
            "models": {
                "popularity": {"recall_at_500": 0.10, "l2_relevance": 0.1},
                "itemknn": {"recall_at_500": 0.20, "l2_relevance": 0.2},
                "content": {"recall_at_500": 0.05, "l2_relevance": 0.6},
                "engagement_head": {"recall_at_500": 0.3, "l2_relevance": 0.3},
            }
        }
        rng = np.random.default_rng(0)
        self.sides = {"challenger": one_side(rng, np.full(300, 0.4))}
        (self.prepared / "prepared.json").write_text(json.dumps({"fingerprint": "data-1"}))

    def add_champion(self, fingerprint: str | None, lift: float) -> None:
        rng = np.random.default_rng(1)
        self.sides["champion"] = one_side(rng, np.full(300, 0.4 - lift))
        self.report["champion"] = {"version": "7", "fingerprint": fingerprint}

    def judge(self, settings: GateSettings = SETTINGS) -> tuple[bool, dict[str, dict]]:
        (self.evaluation / "evaluation.json").write_text(json.dumps(self.report))
        np.savez(self.evaluation / "users.npz", **users_npz(**self.sides))
        passed = judge(self.prepared, self.evaluation, self.root / "gate", settings, seed=0)
        self.verdict = json.loads((self.root / "gate" / "verdict.json").read_text())
        assert self.verdict["passed"] is passed
        return passed, {rule["rule"]: rule for rule in self.verdict["rules"]}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_a_champion_the_floors_decide(bench: Bench) -> None:
    passed, rules = bench.judge()
    assert passed
    assert bench.verdict["champion"] is None
    assert list(rules) == ["recall_floor", "relevance_floor", "coverage_floor", "champion"]
    recall = rules["recall_floor"]
    assert recall["value"] == pytest.approx(float(bench.sides["challenger"]["recall"].mean()))
    assert recall["bound"] == 0.20
    assert "itemknn" in recall["why"]
    assert "20.00 %" in recall["why"]
    assert (
        rules["coverage_floor"]["value"] == len(np.unique(bench.sides["challenger"]["items"])) / 400
    )
    assert rules["relevance_floor"]["value"] == bench.sides["challenger"]["l2_matches"].sum() / (
        300 * 8
    )
    assert (bench.root / "gate" / "step.json").is_file()


@pytest.mark.parametrize(
    ("settings", "broken"),
    [
        ({"baseline_recall_ratio": 2.5}, "recall_floor"),
        ({"relevance_ratio": 1.6}, "relevance_floor"),
        ({"min_coverage": 0.999}, "coverage_floor"),
    ],
)
def test_each_floor_fails_alone_and_says_why(
    bench: Bench, settings: dict[str, float], broken: str
) -> None:
    passed, rules = bench.judge(SETTINGS.model_copy(update=settings))
    assert not passed
    assert [name for name, rule in rules.items() if not rule["passed"]] == [broken]
    assert "below the required" in rules[broken]["why"]


def test_a_value_equal_to_its_bound_passes(bench: Bench) -> None:
    bench.report["models"]["itemknn"]["recall_at_500"] = float(
        bench.sides["challenger"]["recall"].mean(dtype="f8")
    )
    assert bench.judge()[0]


def test_data_without_topics_is_not_blocked_by_relevance(bench: Bench) -> None:
    for figures in bench.report["models"].values():
        figures["l2_relevance"] = None
    bench.add_champion("data-1", lift=0.1)
    bench.sides["challenger"]["l2_matches"] = np.zeros(300, np.int32)
    passed, rules = bench.judge()
    assert passed
    for name in ("relevance_floor", "relevance_not_worse"):
        assert rules[name]["value"] is None
        assert rules[name]["why"].startswith("Not measured")


def test_a_model_without_an_engagement_head_has_no_relevance_floor(bench: Bench) -> None:
    del bench.report["models"]["engagement_head"]
    bench.report["models"]["relevance_head"] = {"recall_at_500": 0.3, "l2_relevance": 0.3}
    passed, rules = bench.judge()
    assert passed
    assert rules["relevance_floor"]["value"] is None
    assert rules["relevance_floor"]["why"].startswith(
        "Not measured: this model has no engagement head"
    )
    bench.add_champion("data-1", lift=0.1)
    assert bench.judge()[1]["relevance_not_worse"]["value"] is not None


def test_the_same_data_must_bring_a_gain(bench: Bench) -> None:
    bench.add_champion("data-1", lift=0.0)
    passed, rules = bench.judge()
    assert not passed
    assert [name for name, rule in rules.items() if not rule["passed"]] == ["better_somewhere"]
    assert "noise" in rules["better_somewhere"]["why"]
    assert bench.verdict["champion"] == "7"


def test_the_champion_itself_passes_again(bench: Bench) -> None:
    """A rerun of an unchanged pipeline is no failure."""
    bench.add_champion("data-1", lift=0.0)
    bench.sides["champion"] = bench.sides["challenger"]
    passed, rules = bench.judge()
    assert passed
    assert "nothing changed" in rules["champion"]["why"]


def test_an_unknown_fingerprint_counts_as_the_same_data(bench: Bench) -> None:
    bench.add_champion(None, lift=0.0)
    assert not bench.judge()[0]


def test_newer_data_is_reason_enough_but_no_excuse_for_a_loss(bench: Bench) -> None:
    bench.add_champion("data-0", lift=0.0)
    passed, rules = bench.judge()
    assert passed
    assert "fresh data is reason enough" in rules["better_somewhere"]["why"]
    bench.add_champion("data-0", lift=-0.1)
    passed, rules = bench.judge()
    assert not passed
    assert not rules["recall_not_worse"]["passed"]
    assert rules["recall_not_worse"]["interval"][1] < 0
    assert "significant loss" in rules["recall_not_worse"]["why"]


def test_a_gain_on_the_same_data_passes_and_shows_its_interval(bench: Bench) -> None:
    bench.add_champion("data-1", lift=0.1)
    passed, rules = bench.judge()
    assert passed
    rule = rules["recall_not_worse"]
    low, high = rule["interval"]
    assert 0 < low < rule["value"] < high
    assert f"{100 * rule['value']:+.2f}" in rule["why"]
    assert rules["better_somewhere"]["why"].startswith(
        "Significantly better than champion 7 in Recall@500"
    )


def test_no_baseline_at_all_is_an_error(bench: Bench) -> None:
    for name in ("popularity", "itemknn", "content"):
        del bench.report["models"][name]
    with pytest.raises(ValueError, match="none of the baselines"):
        bench.judge()


def test_a_champion_of_other_data_is_not_compared(bench: Bench) -> None:
    bench.report["other_data"] = True
    passed, rules = bench.judge()
    assert passed
    assert rules["champion"]["why"].startswith("The champion is of other data")
