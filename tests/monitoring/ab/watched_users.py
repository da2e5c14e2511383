"""A hand-made experiment: user days, item counts, items and history, seeded, with planted effects."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from mtmh.experiment.units import ITEM_COUNTS, USER_DAYS

FIRST = date(2025, 3, 2)
ITEMS = 300
TOPICS = ("bread", "chess", "opera")


def user_names(users: int) -> np.ndarray:
    """Half of them belong to each arm: even ones to the control."""
    return np.char.add("u", np.char.zfill(np.arange(users).astype(str), 5))


def user_days(users: int = 1200, days: int = 14, more_time: float = 0.0, fewer: float = 0.0, seed: int = 0) -> pa.Table:
    """`more_time`: by how much the treatment lengthens dwell; `fewer`: by how much it lowers engagement."""
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
    for over, keys in (("item", np.char.add("i", np.arange(ITEMS).astype(str))), ("topic", np.array(TOPICS))):
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
    """Engagements of 60 days before the experiment: from none at all (the first 150 users) to many."""
    rng = np.random.default_rng(seed)
    many = np.where(np.arange(users) < 150, 0, rng.poisson(25, users))
    user = np.repeat(np.arange(users), many)
    minutes = rng.integers(0, 60 * 24 * 60, len(user))
    start = np.datetime64(FIRST, "us") - np.timedelta64(60, "D")
    return pa.table(
        {
            "user_id": user_names(users)[user],
            "item_id": np.char.add("i", rng.integers(0, ITEMS, len(user)).astype(str)),
            "timestamp": pa.array(start + minutes.astype("timedelta64[m]")).cast(pa.timestamp("us", tz="UTC")),
            "value": np.ones(len(user)),
            "dwell_seconds": rng.lognormal(3.5, 0.6, len(user)),
        }
    )
