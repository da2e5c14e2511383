"""A small watched place and the version that served it: 120 items of four topics, 120 users, two
arms, four days.

Items of a topic have vectors around that topic's own; all topics are shown and liked alike. What
`shifted` days have instead is of the first topic alone.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from mtmh.data.files import write_parquet
from mtmh.experiment.arms import assign_all, read_arms
from mtmh.exposures.compact import write_batch
from mtmh.exposures.records import ENGAGEMENTS, EXPOSURES
from mtmh.exposures.tables import REJECTED, LogTables
from mtmh.heads import HEADS

FIRST, DAYS, USERS, ITEMS, TOPICS, K = date(2025, 3, 2), 4, 120, 120, 4, 8
ARMS: list[dict[str, Any]] = [
    {"name": "engagement-only", "alpha": 100},
    {"name": "mtmh", "alpha": 50},
]
SALT = "small"
TOPIC = np.arange(ITEMS) % TOPICS
NEW = 12  # the last items: created one every eight hours from the day before the first on
USER_IDS = np.array([f"u{number:03d}" for number in range(USERS)])
ITEM_IDS = np.array([f"i{number:03d}" for number in range(ITEMS)])


@dataclass(frozen=True)
class _Answers:
    """One request a user and day: [requests] and [requests, K]."""

    user: np.ndarray
    day: np.ndarray
    item: np.ndarray
    head: np.ndarray
    score: np.ndarray


def write_place(folder: Path, shifted: Collection[int] = (), missing: Collection[int] = ()) -> Path:
    """Write the place `folder`; days `shifted` show and like the first topic alone, days `missing`
    have no rows.
    """
    rng = np.random.default_rng(0)
    arms = read_arms(ARMS)
    arm = np.array(assign_all(pa.array(USER_IDS), SALT, arms).to_pylist())
    version, run = write_version(folder / "run", rng), folder / "run"
    user, day = (axis.ravel() for axis in np.meshgrid(np.arange(USERS), np.arange(DAYS)))
    there = ~np.isin(day, list(missing))
    answers = _answers(user[there], day[there], arm, np.array(list(shifted), int), rng)
    tables = LogTables(_exposures(answers, arm), _engagements(answers, rng), REJECTED.empty_table())
    for name in ("exposures", "engagements", "rejected", "batches"):
        (folder / "tables" / name).mkdir(parents=True, exist_ok=True)
    write_batch(folder / "tables", tables, [])
    write_parquet(_items(), folder / "items.parquet")
    write_parquet(_history(rng), folder / "history.parquet")
    experiment = {
        "salt": SALT,
        "control": ARMS[0]["name"],
        "treatment": ARMS[1]["name"],
        "arms": ARMS,
    }
    experiment |= {
        "first_day": str(FIRST),
        "days": DAYS,
        "simulated": True,
        "world": "small",
        "seed": 0,
    }
    experiment |= {"retriever": str(version), "run": str(run)}
    (folder / "experiment.json").write_text(json.dumps(experiment))
    return folder


def write_version(run: Path, rng: np.random.Generator) -> Path:
    """The parts of a run that drift is measured against; returns its version directory."""
    version = run / "retriever"
    version.mkdir(parents=True)
    known = ITEMS - NEW
    write_parquet(_items().slice(0, known), version / "items.parquet")
    past = {
        "log_popularity": rng.uniform(1, 3, known),
        "log_age_days": np.log1p(rng.uniform(1, 60, known)),
    }
    write_parquet(
        pa.table({name: value.astype(np.float32) for name, value in past.items()}),
        version / "item_features.parquet",
    )
    for head in HEADS:
        centres = rng.normal(size=(TOPICS, 16))
        vectors = centres[TOPIC[:known]] + 0.5 * rng.normal(size=(known, 16))
        np.save(
            version / f"{head}.npy",
            (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        )
    split = f"{FIRST}T00:00:00+00:00"
    (version / "manifest.json").write_text(
        json.dumps({"created_from": {"split_time": split}, "sha256": {}})
    )
    (run / "config.yaml").write_text(yaml.safe_dump({"retrieval": {"alpha": 50}}))
    lists = [_evaluated(arm["alpha"], known, rng) for arm in ARMS]
    write_parquet(pa.concat_tables(lists), run / "candidates.parquet")
    return version


def _evaluated(alpha: int, known: int, rng: np.random.Generator) -> pa.Table:
    users = 200
    item = np.concatenate([rng.permutation(known)[: 2 * K] for _ in range(users)])
    head = np.where(rng.random(len(item)) * 100 < alpha, HEADS[0], HEADS[1])
    return pa.table(
        {
            "model": np.full(len(item), f"merged_alpha_{alpha}"),
            "user_id": np.repeat([f"t{number}" for number in range(users)], 2 * K),
            "rank": np.tile(np.arange(1, 2 * K + 1, dtype=np.int32), users),
            "item_id": ITEM_IDS[item],
            "head": head,
            "score": _scores(head, rng).astype(np.float32),
        }
    )


def _scores(head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(head == HEADS[0], 0.02, 0.04) * rng.lognormal(0, 0.3, head.shape)


def _answers(
    user: np.ndarray,
    day: np.ndarray,
    arm: np.ndarray,
    shifted: np.ndarray,
    rng: np.random.Generator,
) -> _Answers:
    chance = np.ones((len(user), ITEMS))
    hour = np.array([(time - _times(day * 24 + 12)).astype(float) for time in _created()]).T
    chance[hour > 0] = 0
    chance[np.isin(day, shifted)[:, None] & (TOPIC > 0)] = 0
    keys = np.where(chance > 0, rng.random(chance.shape), 2)
    item = np.argsort(keys, axis=1)[:, :K]
    engagement = np.where(
        (arm == ARMS[0]["name"])[user][:, None], True, rng.random(item.shape) < 0.5
    )
    head = np.where(engagement, *HEADS)
    return _Answers(user, day, item, head, _scores(head, rng))


def _times(hours: np.ndarray) -> np.ndarray:
    return np.datetime64(FIRST, "us") + (hours * 3600 * 10**6).astype("timedelta64[us]")


def _created() -> np.ndarray:
    hours = np.concatenate([np.full(ITEMS - NEW, -720.0), np.arange(NEW) * 8.0 - 24])
    return _times(hours)


def _items() -> pa.Table:
    names = np.array([f"topic {number}" for number in range(TOPICS)])[TOPIC]
    return pa.table(
        {
            "item_id": ITEM_IDS,
            "title": [f"item {number}" for number in range(ITEMS)],
            "creator_id": ["c0"] * ITEMS,
            "created_at": pa.array(_created()).cast(pa.timestamp("us", tz="UTC")),
            "l1_topics": [[name] for name in names],
            "l2_topics": [[f"{name}, part {number % 3}"] for number, name in enumerate(names)],
        }
    )


def _history(rng: np.random.Generator) -> pa.Table:
    events = 15 * USERS
    moment = _times(rng.uniform(-700, -1, events))
    return pa.table(
        {
            "user_id": USER_IDS[rng.integers(USERS, size=events)],
            "item_id": ITEM_IDS[rng.integers(ITEMS - NEW, size=events)],
            "timestamp": pa.array(np.sort(moment)).cast(pa.timestamp("us", tz="UTC")),
        }
    )


def _exposures(answers: _Answers, arm: np.ndarray) -> pa.Table:
    n = len(answers.user)
    request = np.array([f"r{number}" for number in range(n)])
    day = np.array([FIRST + timedelta(days=int(number)) for number in answers.day])
    of_request = {
        "exposure_id": request,
        "request_id": request,
        "timestamp": pa.array(_times(answers.day * 24 + 12))
        .cast(pa.timestamp("us", tz="UTC"))
        .to_numpy(),
        "user_id": USER_IDS[answers.user],
        "arm": arm[answers.user],
        "model_version": np.full(n, "1"),
        "alpha": np.where(arm[answers.user] == ARMS[0]["name"], 100.0, 50.0),
        "arm_alpha": np.where(arm[answers.user] == ARMS[0]["name"], 100.0, 50.0),
        "own_alpha": np.zeros(n, bool),
        "quotas": np.full(n, None),
        "arm_quotas": np.full(n, None),
        "degraded": np.arange(n) % 50 == 0,
        "k": np.full(n, K, np.int32),
        "surface": np.full(n, "retrieve"),
        "log_version": np.full(n, 2, np.int32),
        "day": day,
    }
    columns = {name: np.repeat(values, K) for name, values in of_request.items()}
    columns |= {"item_id": ITEM_IDS[answers.item].ravel(), "head": answers.head.ravel()}
    columns |= {
        "score": answers.score.ravel(),
        "trigger_id": ITEM_IDS[(answers.item + TOPICS) % (ITEMS - NEW)].ravel(),
    }
    columns |= {
        "position": np.tile(np.arange(1, K + 1), n),
        "head_rank": np.tile(np.arange(1, K + 1), n),
    }
    return pa.table({name: columns[name] for name in EXPOSURES.names}).cast(EXPOSURES)


def _engagements(answers: _Answers, rng: np.random.Generator) -> pa.Table:
    request, place = np.nonzero(rng.random(answers.item.shape) < 0.3)
    day = answers.day[request]
    columns = {
        "exposure_id": np.array([f"r{number}" for number in request]),
        "request_id": np.array([f"r{number}" for number in request]),
        "event_id": pa.nulls(len(request), pa.string()),
        "call_id": pa.nulls(len(request), pa.string()),
        "timestamp": pa.array(_times(day * 24 + 13)).cast(pa.timestamp("us", tz="UTC")).to_numpy(),
        "user_id": USER_IDS[answers.user[request]],
        "item_id": ITEM_IDS[answers.item[request, place]],
        "event": np.full(len(request), "engage"),
        "value": np.ones(len(request)),
        "dwell_seconds": rng.lognormal(3, 0.5, len(request)),
        "log_version": np.full(len(request), 2, np.int32),
        "day": np.array([FIRST + timedelta(days=int(number)) for number in day]),
    }
    return pa.table({name: columns[name] for name in ENGAGEMENTS.names}).cast(ENGAGEMENTS)
