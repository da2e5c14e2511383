"""The studies of settings: their rules on invented figures, and all of them over a tiny world,
sharing their trials.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from benchmarks import result
from benchmarks.result import spread
from benchmarks.studies import ablation, cold, grids, prerank, quality, sweep, weights
from benchmarks.studies.ablation import difference, judge_part, table, verdict
from benchmarks.studies.grids import STUDIES, Part, Setting
from benchmarks.studies.study import Trials, config_of, on_validation, try_all
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world
from mtmh.errors import UserError
from mtmh.retrieval.retriever import Pool
from pipelines.trial import Figures

UP, DOWN, OPEN = (
    spread([0.01, 0.02, 0.03]),
    spread([-0.01, -0.02, -0.03]),
    spread([-0.01, 0.02, 0.03]),
)


def run(recall: float, relevance: float = 0.3, cold: float | None = None) -> Figures:
    row = {
        "recall_at_20": recall / 5,
        "recall_at_500": recall,
        "l1_relevance": 0.5,
        "l2_relevance": relevance,
    }
    return {
        model: {**row, "cold_recall_at_500": cold}
        for model in ("engagement_head", "relevance_head", "merged")
    }


def trials(name: str, runs: dict[Setting, list[Figures]], base: Setting = ()) -> Trials:
    return Trials(STUDIES[name], "synthetic", base, runs)


@pytest.mark.parametrize(
    ("recall", "relevance", "expected"),
    [
        (UP, UP, "pays"),
        (UP, OPEN, "pays"),
        (OPEN, UP, "pays"),
        (DOWN, OPEN, "does not pay"),
        (OPEN, DOWN, "does not pay"),
        (DOWN, DOWN, "does not pay"),
        (OPEN, OPEN, "undecided: within the spread"),
        (UP, DOWN, "undecided: recall up, L2 down"),
        (DOWN, UP, "undecided: recall down, L2 up"),
        (spread([0.0, 0.1, 0.2]), OPEN, "undecided: within the spread"),
    ],
)
def test_a_part_pays_when_every_seed_says_so_and_nothing_is_paid_for_it(
    recall: dict, relevance: dict, expected: str
) -> None:
    assert verdict(recall, relevance) == expected


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by far more than the part does."""
    part = Part(("on",), ("off",))
    runs = {part.on: [run(0.31), run(0.42), run(0.53)], part.off: [run(0.30), run(0.40), run(0.50)]}
    gain = difference(trials("ablation", runs), part)["merged"]
    assert gain["recall_at_500"] == {"mean": 0.02, "min": 0.01, "max": 0.03}
    assert gain["l2_relevance"] == {"mean": 0, "min": 0, "max": 0}
    assert "cold_recall_at_500" not in gain  # the data could not give it


@pytest.mark.parametrize("default", ["true", "false"])
def test_a_part_is_with_less_without_whichever_is_the_default(default: str) -> None:
    part = Part(("train.logq=true",), ("train.logq=false",), never="a reason")
    runs = {part.on: [run(0.4, cold=0.1)], part.off: [run(0.3, cold=0.2)]}
    judged = judge_part(trials("ablation", runs, (f"train.logq={default}",)), part)
    state = "on" if default == "true" else "off"
    assert (judged["default"], judged["verdict"]) == (state, "pays")
    assert judged["other"]["merged"]["recall_at_500"]["mean"] == (0.3 if state == "on" else 0.4)
    lines = table({"logQ": judged})
    assert f"logQ (default: {state}): pays; never a default: a reason" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == [
        "engagement_head",
        "relevance_head",
        "merged",
    ]
    assert "R@500 +10.00 [+10.00, +10.00]" in lines[-1]
    assert "R cold -10.00" in lines[-1]


def test_every_part_can_be_set_and_changes_something() -> None:
    for part in (*grids.PARTS.values(), *grids.WEIGHTS.values()):
        on, off = (config_of("synthetic", side) for side in (part.on, part.off))
        assert on != off
        assert config_of("synthetic") in (on, off)


def test_every_setting_of_every_study_can_be_set() -> None:
    for study in STUDIES.values():
        for setting in study.settings:
            config_of("synthetic", setting)


def w_r(runs: list[list[Figures]]) -> Trials:
    settings = [grids.swept("w_r", value) for value in grids.SWEPT["w_r"][0]]
    return trials("sweep", dict(zip(settings, runs, strict=True)))


def test_changes_are_in_percent_of_the_reference_at_the_same_seed() -> None:
    changes = sweep.changes(
        w_r([[run(0.2 * scale), run(0.4 * scale)] for scale in (0.5, 0.9, 1, 1.1, 2)]), "w_r"
    )
    assert changes[0.0]["recall_at_500"] == {"mean": -50, "min": -50, "max": -50}
    assert changes[0.5]["recall_at_500"]["mean"] == 0
    lines = sweep.table({"w_r": changes})
    assert "paper -2.99, -19.87" in lines[1]
    assert [line for line in lines if line.endswith("(reference)")] == [lines[3]]
    assert "recall@500 +100.00 [+100.00, +100.00]" in lines[5]


def test_relevance_rises_only_where_every_step_of_w_r_raises_it() -> None:
    relevances = zip((0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.25, 0.5), strict=True)
    assert sweep.relevance_rises(w_r([[run(0.4, r) for r in seeds] for seeds in relevances])) == [
        True,
        False,
    ]


def test_data_that_cannot_give_the_metric_are_refused() -> None:
    def blind(source: str, setting: Setting, seed: int) -> Figures:
        return {"merged": {"l2_relevance": None, "cold_recall_at_500": 0.1}}

    with pytest.raises(UserError, match="data has no L2 topics: there is no relevance to compare"):
        try_all(STUDIES["ablation"], "data", 1, (), blind)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere; name the data sets with --data FOLDER"):
        cold.main([str(tmp_path / "nowhere")])


@dataclass
class Studied:
    """What the studies left over a tiny world, each with two seeds but prerank with one."""

    results: dict[str, dict] = field(default_factory=dict)
    trained: dict[str, int] = field(default_factory=dict)  # models, when that study was done
    swept: dict = field(default_factory=dict)  # read back, after a sweep of w_r alone
    picture_bytes: int = 0
    served: dict = field(default_factory=dict)  # figures of the merge that serves


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Studied:
    folder, left = tmp_path_factory.mktemp("tiny-studies"), Studied()
    for name, table_ in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table_, folder / "tiny" / f"{name}.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(result, "FOLDER", folder / "results")
        patch.setattr(sweep, "FOLDER", folder / "results")
        parts = {name: grids.PARTS[name] for name in ("logQ", "cold items by content")}
        patch.setattr(ablation, "PARTS", parts)
        patch.setitem(STUDIES, "ablation", grids.sides(parts))
        both = {"both": grids.WEIGHTS["both"]}
        patch.setattr(weights, "WEIGHTS", both)
        patch.setitem(STUDIES, "weights", grids.sides(both))
        patch.setitem(grids.SWEPT, "w_r", ((0.0, 0.5), 0.5))
        patch.setitem(grids.SWEPT, "tau_p", ((0.1,), 0.1))
        patch.setitem(grids.SWEPT, "tau_q", ((0.05,), 0.05))
        for study, seeds in ((ablation, 2), (sweep, 2), (cold, 2), (prerank, 1), (weights, 1)):
            study.main(["tiny"], seeds=seeds)
            name = study.__name__.rpartition(".")[2]
            left.results[name] = json.loads((folder / "results" / f"{name}_tiny.json").read_text())
            left.trained[name] = len(list(folder.glob("runs/.scratch/trials/tiny/*/train/*")))
        left.picture_bytes = (folder / "results" / "sweep.png").stat().st_size
        sweep.main(["tiny"], seeds=2, sweep=["w_r"])
        left.swept = sweep.written()
        left.served = on_validation("tiny", ("prerank.use=true",), 0)["merged"]
    return left


def test_the_studies_share_their_trials(studied: Studied) -> None:
    assert studied.trained["ablation"] == 2 * 2  # with and without logQ; cold items are not trained
    assert studied.trained["sweep"] == 2 * 2 + 2  # w_r 0
    assert studied.trained["cold"] == 2 * 2 + 2 + 2 * 2  # ids alone; dropout


def test_an_ablation_says_what_is_the_default(studied: Studied) -> None:
    details = studied.results["ablation"]["details"]
    assert details["parts"]["cold items by content"]["default"] == "on"
    assert details["seeds"] == 2


def test_weights_are_judged_as_parts_are(studied: Studied) -> None:
    both = studied.results["weights"]["details"]["parts"]["both"]
    assert both["default"] == "off"
    assert set(both["gain"]) == {"engagement_head", "relevance_head", "merged"}
    assert any(figure["mean"] for figure in both["gain"]["merged"].values())


def test_a_sweep_is_drawn_and_its_reference_is_the_default(studied: Studied) -> None:
    merged = studied.results["sweep"]["details"]["merged"]
    assert merged["train.w_r=0.5"]["recall_at_500"]["mean"] == pytest.approx(
        studied.results["ablation"]["value"], abs=1e-4
    )
    assert studied.picture_bytes > 10_000
    ((label, changes),) = studied.swept.items()
    assert label.startswith("tiny (at w_r 0.5: recall ")
    assert list(changes) == ["w_r"]


def test_what_is_no_setting_of_the_sweep_is_refused() -> None:
    with pytest.raises(UserError, match="--sweep tau: write some of w_r, tau_p, tau_q"):
        sweep.main(["tiny"], sweep=["w_r", "tau"])


def test_the_best_way_to_place_cold_items_stands_beside_ids_alone(studied: Studied) -> None:
    outcome = studied.results["cold"]
    variants = outcome["details"]["variants"]
    recall = {name: row["merged"]["cold_recall_at_500"]["mean"] for name, row in variants.items()}
    assert set(variants) == set(grids.COLD)
    assert outcome["baseline"] == recall[grids.IDS_ALONE]
    assert outcome["value"] == max(recall.values())


def test_the_last_ranking_is_the_one_that_serves(studied: Studied) -> None:
    lists = studied.results["prerank"]["details"]["lists"]
    assert {name.partition(": ")[0] for name in lists} == {
        "nearest trigger",
        "mixture",
        "preranker alone",
        "mixture x preranker",
    }
    assert lists["mixture x preranker: merged"]["recall_at_20"]["mean"] == pytest.approx(
        studied.served["recall_at_20"], abs=1e-5
    )


def test_a_joint_list_holds_an_item_once_by_its_best_score() -> None:
    def pool(items: list[int], scores: list[float], head: int) -> Pool:
        row = np.array([items], np.int32)
        return Pool(row, np.array([scores]), row, np.where(row >= 0, head, -1).astype(np.int8))

    engagement, relevance = (
        pool([1, 2, 3], [0.9, 0.5, 0.4], 0),
        pool([2, 4, -1], [0.6, 0.1, -np.inf], 1),
    )
    joint = prerank.joint(engagement, relevance, 4)
    assert joint.item.tolist() == [[1, 2, 3, 4]]
    assert joint.channel.tolist() == [[0, 1, 0, 1]]
    assert prerank.lost(pool([2, 4], [0.6, 0.1], 1), prerank.joint(engagement, relevance, 3)) == 0.5


def models(merged: float, relevance: float) -> Figures:
    """As in metrics.json, with what the run took."""
    rows: Figures = {
        name: {"recall_at_500": 0.2, "l2_relevance": 0.1}
        for name in ("popularity", "itemknn", "content")
    }
    rows["engagement_head"] = {"recall_at_500": 0.25, "l2_relevance": 0.3}
    rows["relevance_head"] = {"recall_at_500": 0.2, "l2_relevance": relevance}
    for alpha, l2 in {0: 0.6, 30: 0.55, 50: 0.5, 70: 0.4, 100: 0.3}.items():
        rows[f"merged_alpha_{alpha}"] = {
            "recall_at_500": merged,
            "l2_relevance": l2,
            "cold_recall_at_500": None,
        }
    return {**rows, quality.PIPELINE: {"seconds": 61.4, "peak_memory_mb": 700}}


def test_the_order_of_the_paper() -> None:
    assert list(quality.order_holds(models(0.3, 0.6)).values()) == [True] * 4
    assert list(quality.order_holds(models(0.22, 0.4)).values()) == [False, False, False, True]


def test_quality_tells_every_model_and_at_how_many_seeds_the_order_holds() -> None:
    runs = {
        (): [models(0.3, 0.6), models(0.22, 0.6)],
        ("retrieval.cold=model",): [models(0.1, 0.6)] * 2,
    }
    outcome = quality.judge(trials("quality", runs))
    assert (outcome.value, outcome.baseline) == (0.26, 0.2)
    assert outcome.details["seconds"] == [61, 61]
    assert outcome.details["peak_memory_mb"] == [700, 700]
    assert quality.PIPELINE not in outcome.details["models"]
    assert outcome.details["models"]["merged_alpha_50"]["recall_at_500"] == {
        "mean": 0.26,
        "min": 0.22,
        "max": 0.3,
    }
    assert "cold_recall_at_500" not in outcome.details["models"]["merged_alpha_50"]
    (without,) = outcome.details["without"].values()
    assert without["merged_alpha_50"]["recall_at_500"]["mean"] == 0.1
    assert "  FAILS at 1 of 2 seeds: recall: merged >= engagement head" in outcome.lines
    assert "  holds at 2 of 2 seeds: L2 falls as alpha rises" in outcome.lines
