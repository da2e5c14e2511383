"""The stage evaluate: whoever recomputes its figures from the files gets the same ones."""

import json
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.checkerboard import (
    ITEMS,
    OLD,
    SUBJECT,
    USERS,
    Stages,
    retrieval_settings,
    write_stages,
    write_version,
)

from mtmh.config import EvaluationSettings, GateSettings
from mtmh.data.prepared import Prepared
from mtmh.evaluation import evaluate as stage
from mtmh.evaluation.evaluate import evaluate
from mtmh.evaluation.gate import judge

Make = Callable[[str], Path]
SAMPLE = 25
FRESH_HOURS = (
    11.5  # T1 is 12 hours long: what was first engaged with in its first half hour is not fresh
)
HEADS_OF = {
    "mtmh": ["engagement", "relevance"],
    "mtsh": ["relevance"],
    "engagement": ["engagement"],
}


@pytest.fixture(scope="module")
def evaluated(world: Stages, version: Make, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Objective -> directory of the stage evaluate, without a champion."""
    root = tmp_path_factory.mktemp("evaluations")

    @cache
    def get(objective: str) -> Path:
        out = root / objective
        out.mkdir()
        settings = EvaluationSettings(sample_users=SAMPLE, fresh_hours=FRESH_HOURS)
        evaluate(
            world.prepared,
            world.content,
            version(objective),
            None,
            out,
            retrieval_settings(),
            settings,
            0,
        )
        return out

    return get


def read(evaluation: Path) -> dict[str, Any]:
    return json.loads((evaluation / "evaluation.json").read_text())


def log(world: Stages) -> dict[str, dict[str, list[str]]]:
    """Items of each user before and after the split, in time order."""
    found: dict[str, dict[str, list[str]]] = {"train": defaultdict(list), "test": defaultdict(list)}
    for row in pq.read_table(world.prepared / "interactions.parquet").to_pylist():
        found[row["period"]][row["user_id"]].append(row["item_id"])
    return found


def fresh_items(world: Stages) -> set[str]:
    """By plain Python: first engaged with less than FRESH_HOURS before the split, and not
    after it.
    """
    split = datetime.fromisoformat(
        json.loads((world.prepared / "prepared.json").read_text())["split_time"]
    )
    first: dict[str, datetime] = {}
    for row in pq.read_table(world.prepared / "interactions.parquet").to_pylist():
        first.setdefault(row["item_id"], row["timestamp"])
    hours = {name: (split - time).total_seconds() / 3600 for name, time in first.items()}
    return {name for name, age in hours.items() if 0 <= age < FRESH_HOURS}


def recomputed(rows: list[dict], world: Stages, users: set[str]) -> dict[str, float]:
    """One model's figures as anyone would compute them from candidates.parquet and the data."""
    events = log(world)
    content = np.load(world.content / "content.npy").astype(np.float64)
    lists = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["rank"]):
        lists[row["user_id"]].append(row)
    engaged = {name for names in events["train"].values() for name in names}
    recall: dict[int, list[float]] = defaultdict(list)
    fresh = fresh_items(world)
    cold_recall, fresh_recall, distances = [], [], []
    for user in users:
        offered = [row["item_id"] for row in lists[user]]
        assert [row["rank"] for row in lists[user]] == list(range(1, len(offered) + 1))
        targets = set(events["test"][user]) - set(events["train"][user])
        for k in (5, 20, 100, 500):
            recall[k].append(len(targets & set(offered[:k])) / len(targets))
        if cold := targets - engaged:
            cold_recall.append(len(cold & set(offered[:500])) / len(cold))
        if young := targets & fresh:
            fresh_recall.append(len(young & set(offered[:500])) / len(young))
        known = [vector for name in offered if (vector := content[int(name[1:])]).any()]
        if len(known) >= 2:
            distances.append(np.mean([1 - a @ b for a, b in combinations(known, 2)]))
    same = [SUBJECT[int(row["item_id"][1:])] == SUBJECT[int(row["trigger_id"][1:])] for row in rows]
    return {
        **{f"recall_at_{k}": float(np.mean(values)) for k, values in recall.items()},
        "l1_relevance": 1.0,
        "l2_relevance": sum(same) / len(rows),
        "coverage": len({row["item_id"] for row in rows}) / ITEMS,
        "intra_list_diversity": float(np.mean(distances)),
        "cold_share": sum(row["item_id"] not in engaged for row in rows) / len(rows),
        "cold_recall_at_500": float(np.mean(cold_recall)),
        "fresh_share": sum(row["item_id"] in fresh for row in rows) / len(rows),
        "fresh_recall_at_500": float(np.mean(fresh_recall)),
    }


def test_the_sample_can_be_recomputed_from_candidates(evaluated: Make, world: Stages) -> None:
    table = pq.read_table(evaluated("mtmh") / "candidates.parquet")
    assert table.column_names == [
        "model",
        "user_id",
        "rank",
        "item_id",
        "trigger_id",
        "head",
        "score",
    ]
    by_model = defaultdict(list)
    for row in table.to_pylist():
        by_model[row["model"]].append(row)
    sample = read(evaluated("mtmh"))["sample"]
    assert set(by_model) == set(sample)
    assert 0 < len(fresh_items(world)) < OLD
    users = {row["user_id"] for row in table.to_pylist()}
    assert len(users) == SAMPLE
    for model, figures in sample.items():
        expected = recomputed(by_model[model], world, users)
        assert figures.keys() == expected.keys()
        for metric, value in figures.items():
            tolerance = 1e-6 if metric == "intra_list_diversity" else 1e-12  # vectors are float32
            assert value == pytest.approx(expected[metric], abs=tolerance), (model, metric)


def test_fresh_is_what_was_first_there_shortly_before_the_split() -> None:
    """Born 25, 24, 1 and 0 hours before the split, an hour after it, and never."""
    hour = np.timedelta64(1, "h")
    split = np.datetime64("2024-03-02T12:00", "us")
    born = split - np.array([25, 24, 1, 0, -1, 0]) * hour
    born[5] = np.datetime64("NaT")
    created = pa.array(born, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    topics = pa.nulls(len(born), pa.list_(pa.string()))
    data = Prepared(
        path=Path(),
        info={"split_time": f"{split}+00:00"},
        user=np.zeros(4, np.int32),
        item=np.array([0, 1, 4, 5], np.int32),
        timestamp=split + np.array([-20, -19, 2, 3]) * hour,
        is_train=np.array([True, True, False, False]),
        n_users=1,
        n_items=len(born),
        items=pa.table({"created_at": created, "l1_topics": topics, "l2_topics": topics}),
    )
    kinds = stage.Test.of(
        data, np.zeros((len(born), 2), np.float32), 50, fresh_hours=24.0
    ).item_groups
    assert kinds["fresh"].tolist() == [False, False, True, False, False, False]
    assert kinds["cold"].tolist() == [False, False, True, True, True, True]


def test_lists_keep_the_protocol(evaluated: Make, world: Stages) -> None:
    """Nothing engaged with in T1, no item twice, triggers among the last ones, scores falling,
    heads told.
    """
    events, settings = log(world), retrieval_settings()
    lists = defaultdict(list)
    for row in pq.read_table(evaluated("mtmh") / "candidates.parquet").to_pylist():
        lists[row["model"], row["user_id"]].append(row)
    for (model, user), rows in lists.items():
        items = [row["item_id"] for row in rows]
        assert len(items) == len(set(items)) <= settings.pool
        assert not set(items) & set(events["train"][user])
        last = (
            events["train"][user]
            if model == "itemknn"
            else events["train"][user][-settings.triggers :]
        )
        assert {row["trigger_id"] for row in rows} <= set(last)
        heads = {row["head"] for row in rows}
        if "merged" not in model:
            scores = [row["score"] for row in rows]
            assert scores == sorted(scores, reverse=True)
            assert heads == ({model.removesuffix("_head")} if model.endswith("_head") else {None})
        if model == "merged_alpha_50":
            assert heads == {"engagement", "relevance"}


def test_models_are_told_for_all_users_and_the_gate_gets_the_served_merge(
    evaluated: Make, world: Stages
) -> None:
    models = read(evaluated("mtmh"))["models"]
    assert list(models) == [
        "popularity",
        "itemknn",
        "content",
        "engagement_head",
        "relevance_head",
    ] + [f"merged_alpha_{alpha}" for alpha in (0, 30, 50, 70, 100)]
    assert models["merged_alpha_100"] == models["engagement_head"]
    assert models["merged_alpha_0"] == models["relevance_head"]
    assert models["relevance_head"]["l2_relevance"] > models["engagement_head"]["l2_relevance"]
    assert models["engagement_head"]["recall_at_500"] > models["popularity"]["recall_at_500"]
    with np.load(evaluated("mtmh") / "users.npz") as users:
        assert users["n_items"] == ITEMS
        assert set(users) == {"n_items"} | {
            f"challenger_{n}" for n in ("recall", "l2_matches", "retrieved", "items")
        }
        assert users["challenger_items"].shape == (USERS, retrieval_settings().pool)
        served = models["merged_alpha_50"]
        assert users["challenger_recall"].mean() == pytest.approx(served["recall_at_500"], rel=1e-6)
        share = users["challenger_l2_matches"].sum() / users["challenger_retrieved"].sum()
        assert share == pytest.approx(served["l2_relevance"])


@pytest.mark.parametrize("objective", ["mtsh", "engagement"])
def test_a_single_head_serves_alone_whatever_alpha_says(evaluated: Make, objective: str) -> None:
    result = read(evaluated(objective))
    head = f"{HEADS_OF[objective][0]}_head"
    for table in (result["models"], result["sample"]):
        assert [name for name in table if name.endswith("_head")] == [head]
        for alpha in (0, 30, 50, 70, 100):
            assert table[f"merged_alpha_{alpha}"] == table[head]


def test_a_version_ties_with_itself(world: Stages, version: Make, tmp_path: Path) -> None:
    settings = EvaluationSettings(sample_users=SAMPLE)
    champion = version("mtmh")
    evaluate(
        world.prepared,
        world.content,
        champion,
        champion,
        tmp_path,
        retrieval_settings(),
        settings,
        0,
    )
    with np.load(tmp_path / "users.npz") as users:
        for name in ("recall", "l2_matches", "retrieved", "items"):
            np.testing.assert_array_equal(users[f"champion_{name}"], users[f"challenger_{name}"])
    told = read(tmp_path)["champion"]
    assert (
        told["fingerprint"]
        == json.loads((world.prepared / "prepared.json").read_text())["fingerprint"]
    )
    assert len(told["version"]) == 12


GONE, NEW = ("i03", "i08"), ("i00", "i07", "i11")  # since the champion was trained


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Objective -> a champion of the time before NEW were there."""
    root = tmp_path_factory.mktemp("before")
    stages = write_stages(root, gone=(0, 7, 11))

    def get(objective: str) -> Path:
        return write_version(stages, root / objective, objective)

    return get


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stages, Path]:
    """Stages and version of a catalog that GONE have left."""
    root = tmp_path_factory.mktemp("today")
    stages = write_stages(root, gone=(3, 8))
    return stages, write_version(stages, root / "mtmh", "mtmh")


@pytest.mark.parametrize("objective", ["mtmh", "engagement"])
def test_a_champion_of_another_catalog_is_judged_by_what_it_knows(
    before: Make, today: tuple[Stages, Path], tmp_path: Path, objective: str
) -> None:
    """It does not offer what it does not know, nor what is gone, and that leaves no hole in its
    lists.
    """
    stages, challenger = today
    settings = EvaluationSettings(sample_users=SAMPLE)
    champion = before(objective)
    evaluate(
        stages.prepared,
        stages.content,
        challenger,
        champion,
        tmp_path,
        retrieval_settings(),
        settings,
        0,
    )
    names = np.array(pq.read_table(stages.prepared / "items.parquet")["item_id"].to_pylist())
    assert not set(names) & set(GONE)
    with np.load(tmp_path / "users.npz") as users:
        items, length = users["champion_items"], users["champion_retrieved"]
        assert set(NEW) <= set(names[users["challenger_items"]].ravel().tolist())
        assert users["champion_recall"].mean() > 0.5  # the habits are the same
    offered = [names[row[:n]].tolist() for row, n in zip(items, length, strict=True)]
    assert all(
        (row[n:] == -1).all() and (row[:n] >= 0).all() for row, n in zip(items, length, strict=True)
    )
    seen = log(stages)["train"]
    for user, own in enumerate(offered):
        assert len(own) == retrieval_settings().pool
        assert not set(own) & {*NEW, *seen[f"u{user:02d}"]}


def test_a_champion_of_other_data_is_not_compared(
    today: tuple[Stages, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stages, challenger = today
    champion = tmp_path_factory.mktemp("other") / "version"
    write_version(write_stages(champion.parent, gone=(0, 7, 11)), champion, "mtmh")
    items = pq.read_table(champion / "items.parquet")
    other = pa.array([f"other {item_id}" for item_id in items["item_id"].to_pylist()])
    pq.write_table(items.set_column(0, "item_id", other), champion / "items.parquet")
    settings = EvaluationSettings(sample_users=SAMPLE)
    evaluate(
        stages.prepared,
        stages.content,
        challenger,
        champion,
        tmp_path,
        retrieval_settings(),
        settings,
        0,
    )
    assert read(tmp_path)["other_data"] is True
    with np.load(tmp_path / "users.npz") as users:
        assert "champion_recall" not in users
    assert judge(
        stages.prepared,
        tmp_path,
        tmp_path / "gate",
        GateSettings(baseline_recall_ratio=0.0),
        seed=0,
    )
