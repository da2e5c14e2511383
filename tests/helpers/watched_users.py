"""A hand-made experiment: user days, item counts, items and history, seeded, with planted
effects.
"""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.experiment.arms import Arm, assign_all
from mtmh.experiment.units import ITEM_COUNTS, USER_DAYS
from mtmh.exposures.compact import write_batch
from mtmh.exposures.records import ENGAGEMENTS, EXPOSURES
from mtmh.exposures.tables import REJECTED, LogTables

FIRST = date(2025, 3, 2)
ITEMS = 300
TOPICS = ("bread", "chess", "opera")


def user_names(users: int) -> np.ndarray:
    """Half of them belong to each arm: even ones to the control."""
    return np.char.add("u", np.char.zfill(np.arange(users).astype(str), 5))


def user_days(
    users: int = 1200, days: int = 14, more_time: float = 0.0, fewer: float = 0.0, seed: int = 0
) -> pa.Table:
    """`more_time`: by how much the treatment lengthens dwell; `fewer`: by how much it lowers
    engagement.
    """
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), days)
    day = np.tile(np.arange(days), users)
    treated = user % 2 == 1
    taste = rng.lognormal(0, 0.4, users)[user]
    came = rng.random(len(user)) < np.clip(0.5 * taste, 0, 0.95)
    user, day, treated, taste = user[came], day[came], treated[came], taste[came]
    shown = 10 * rng.integers(1, 4, len(user))
    rate = np.clip(0.12 * taste, 0, 0.6) * np.where(treated, 1 - fewer, 1)
    engaged = rng.binomial(shown, rate)
    relevance = np.where(treated, shown // 2, 0)
    seconds = engaged * rng.lognormal(3.5, 0.6, len(user)) * np.where(treated, 1 + more_time, 1)
    columns = {
        "arm": np.where(treated, "new", "old"),
        "day": pa.array([FIRST + timedelta(days=int(n)) for n in day]),
        "user_id": user_names(users)[user],
        "bucket": user * 7919 % 100,
        "impressions": shown,
        "fresh_impressions": rng.binomial(shown, 0.1),
        "cold_impressions": rng.binomial(shown, 0.02),
        "relevance_impressions": relevance,
        "judged_impressions": shown,
        "matched_impressions": rng.binomial(shown, np.where(treated, 0.4, 0.25)),
        "engaged_impressions": engaged,
        "lists": shown // 10,
        "diversity": (shown // 10) * rng.uniform(0.4, 0.6, len(user)),
        "diverse_lists": shown // 10,
        "engagements": engaged,
        "attributed_engagements": engaged,
        "relevance_engagements": rng.binomial(engaged, np.where(treated, 0.5, 0)),
        "seconds": seconds,
        "active": (engaged > 0).astype(np.int64),
        "novel_interests": rng.binomial(2, np.where(treated, 0.14, 0.10)) * (engaged > 0),
        "recalled_interests": rng.uniform(0, 1, len(user)).round(1),
        "interested": np.ones(len(user), np.int64),
    }
    return pa.table({name: columns[name] for name in USER_DAYS.names}, schema=USER_DAYS)


def item_counts(days: int = 14, seed: int = 0) -> pa.Table:
    """Impressions and views of items and topics, by arm, day and bucket."""
    rng = np.random.default_rng(seed)
    parts = []
    for over, keys in (
        ("item", np.char.add("i", np.arange(ITEMS).astype(str))),
        ("topic", np.array(TOPICS)),
    ):
        shape = (2, days, 100, len(keys))
        shown = rng.poisson(200 / (1 + np.arange(len(keys))) / 20, shape)
        arm, day, bucket, key = np.nonzero(shown)
        count = shown[arm, day, bucket, key]
        parts.append(
            pa.table(
                {
                    "arm": np.array(["old", "new"])[arm],
                    "day": pa.array(np.datetime64(FIRST, "D") + day),
                    "bucket": bucket,
                    "over": np.full(len(arm), over),
                    "key": keys[key],
                    "impressions": count.astype(float),
                    "views": rng.binomial(count, 0.3).astype(float),
                    "size": np.full(len(arm), len(keys)),
                },
                schema=ITEM_COUNTS,
            )
        )
    return pa.concat_tables(parts)


def items() -> pa.Table:
    """Items with one coarse topic each, in turn; the last one has none."""
    topics = [[TOPICS[n % len(TOPICS)]] for n in range(ITEMS - 1)] + [[]]
    created = [datetime(2025, 1, 1, tzinfo=UTC)] * ITEMS
    return pa.table(
        {
            "item_id": [f"i{n}" for n in range(ITEMS)],
            "created_at": pa.array(created, pa.timestamp("us", tz="UTC")),
            "l1_topics": pa.array(topics, pa.list_(pa.string())),
            "l2_topics": pa.array(topics, pa.list_(pa.string())),
        }
    )


def history(users: int = 1200, seed: int = 0) -> pa.Table:
    """Engagements of 60 days before the experiment: from none at all (the first 150 users) to
    many.
    """
    rng = np.random.default_rng(seed)
    many = np.where(np.arange(users) < 150, 0, rng.poisson(25, users))
    user = np.repeat(np.arange(users), many)
    minutes = rng.integers(0, 60 * 24 * 60, len(user))
    start = np.datetime64(FIRST, "us") - np.timedelta64(60, "D")
    return pa.table(
        {
            "user_id": user_names(users)[user],
            "item_id": np.char.add("i", rng.integers(0, ITEMS, len(user)).astype(str)),
            "timestamp": pa.array(start + minutes.astype("timedelta64[m]")).cast(
                pa.timestamp("us", tz="UTC")
            ),
            "value": np.ones(len(user)),
            "dwell_seconds": rng.lognormal(3.5, 0.6, len(user)),
        }
    )


def write_place(folder: Path, users: int = 400, days: int = 2, in_both: int = 0) -> Path:
    """A whole place on disk: everyone gets a list a day, the first `in_both` users one of
    each arm.
    """
    arms = (Arm(name="old", alpha=100), Arm(name="new", alpha=50))
    for part in ("exposures", "engagements", "rejected", "batches"):
        (folder / "tables" / part).mkdir(parents=True)
    write_batch(folder / "tables", log_tables(arms, users, days, in_both), [])
    pq.write_table(items(), folder / "items.parquet")
    pq.write_table(history(users), folder / "history.parquet")
    described = {
        "salt": "salt", "control": "old", "treatment": "new", "arms": [arm.model_dump() for arm in arms],
        "first_day": str(FIRST), "days": days, "simulated": True, "world": "hand-made", "seed": 0,
    }  # fmt: skip
    (folder / "experiment.json").write_text(json.dumps(described))
    return folder


def log_tables(arms: tuple[Arm, ...], users: int, days: int, in_both: int) -> LogTables:
    """The lists of `write_place`, and an engagement with three of ten candidates."""
    rng = np.random.default_rng(0)
    names = user_names(users)
    arm = np.array(assign_all(pa.array(names), "salt", arms).to_pylist())
    user = np.concatenate([np.tile(np.arange(users), days), np.arange(in_both)])
    served = np.concatenate([np.tile(arm, days), np.where(arm[:in_both] == "old", "new", "old")])
    hour = 24 * np.concatenate([np.repeat(np.arange(days), users), np.zeros(in_both, int)]) + 12
    lists, k = len(user), 6
    shown = np.argsort(rng.random((lists, ITEMS)), axis=1)[:, :k]
    row = np.repeat(np.arange(lists), k)
    time = np.datetime64(FIRST, "us") + hour.astype("timedelta64[h]")
    answers = {
        "request_id": np.char.add("r", np.arange(lists).astype(str))[row],
        "timestamp": pa.array(time[row]).cast(pa.timestamp("us", tz="UTC")),
        "user_id": names[user[row]],
        "arm": served[row],
        "model_version": pa.repeat("1", lists * k),
        "alpha": np.where(served[row] == "old", 100.0, 50.0),
        "degraded": pa.array(np.zeros(lists * k, bool)),
        "k": np.full(lists * k, k, np.int32),
        "surface": pa.repeat("retrieve", lists * k),
        "log_version": np.full(lists * k, 2, np.int32),
        "item_id": np.char.add("i", shown.ravel().astype(str)),
        "head": np.where(
            (served[row] == "new") & (np.arange(lists * k) % 2 == 1), "relevance", "engagement"
        ),
        "head_rank": (np.tile(np.arange(k), lists) + 1).astype(np.int32),
        "score": np.ones(lists * k),
        "trigger_id": np.char.add("i", rng.integers(0, ITEMS, lists * k).astype(str)),
        "position": (np.tile(np.arange(k), lists) + 1).astype(np.int32),
        "day": pa.array(time[row].astype("datetime64[D]")),
    }
    answers |= {
        "exposure_id": answers["request_id"],
        "arm_alpha": answers["alpha"],
        "own_alpha": np.zeros(lists * k, bool),
        "quotas": pa.nulls(lists * k, pa.string()),
        "arm_quotas": pa.nulls(lists * k, pa.string()),
    }
    exposures = pa.table({name: answers[name] for name in EXPOSURES.names}, schema=EXPOSURES)
    liked = exposures.filter(pa.array(rng.random(lists * k) < 0.3))
    rows = liked.num_rows
    done = {
        **{
            name: liked[name]
            for name in ("exposure_id", "request_id", "user_id", "item_id", "day", "log_version")
        },
        **{name: pa.nulls(rows, pa.string()) for name in ("event_id", "call_id")},
        "timestamp": pc.add(liked["timestamp"], pa.scalar(timedelta(minutes=5))),
        "event": pa.repeat("engage", rows),
        "value": np.ones(rows),
        "dwell_seconds": rng.lognormal(3.5, 0.6, rows),
    }
    engagements = pa.table({name: done[name] for name in ENGAGEMENTS.names}, schema=ENGAGEMENTS)
    return LogTables(exposures, engagements, REJECTED.empty_table())
