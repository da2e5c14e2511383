"""Stage pairs: every engagement is paired with the ones shortly before it in the user's history
(paper section 2).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.config import PairSettings
from mtmh.data.files import write_relation
from mtmh.data.pair_source import ROW_GROUP, Pairs, write_blocks
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError


def mine_pairs(events: ir.Table, window: int) -> ir.Table:
    """UIH pairing as one relational expression: for each event, the `window` events of its user
    before it.

    `events` needs user, item, timestamp; equal timestamps are ordered by item, so every engine
    gives the same rows. Returns user, trigger, candidate and the candidate's timestamp in a fixed
    order. An array of lags keeps it one pass over sorted histories, four times faster than a
    self-join, and the memory of a heavy user bounded by the window.
    """
    history = ibis.window(group_by="user", order_by=["timestamp", "item"])
    lags = [events.item.lag(n).over(history) for n in range(1, window + 1)]
    paired = events.mutate(trigger=ibis.array(lags), event=ibis.row_number().over(history))
    # Both arrays, of the lags and of the items at them, are unnested together.
    numbers = ibis.array(list(range(1, window + 1)))
    event = ("user", "event", "candidate", "timestamp")
    flat = paired.mutate(candidate="item", pair=numbers.zip(paired.trigger)).select(*event, "pair")
    flat = flat.mutate(pair=flat.pair.unnest())
    rows = flat.select(*event, lag=flat.pair.f1, trigger=flat.pair.f2)
    rows = rows.filter(rows.trigger.notnull(), rows.trigger != rows.candidate)
    return rows.order_by("user", "event", "lag").select("user", "trigger", "candidate", "timestamp")


def sim_weight(
    trigger: np.ndarray,
    candidate: np.ndarray,
    form: Literal["soft", "hard", "none"],
    beta: float,
    content: np.ndarray,
    l2_bits: np.ndarray | None,
) -> np.ndarray:
    """Search-based interest model (paper section 2): pairs about the same thing weigh more, float32
    [pairs].

    soft: 1 + beta * max(0, cos of the content vectors), `content` float32 [items, d] unit rows;
    hard: 1 + beta where both share an L2 topic (`l2_bits` uint64 [items, words]); none: 1. The hard
    form shows topics, on which relevance is measured, to the model: leave it out of runs whose
    relevance is reported.
    """
    weight = np.ones(len(trigger), dtype=np.float32)
    if form == "hard" and l2_bits is None:
        raise UserError("pairs.sim is 'hard', but the items have no l2_topics; write soft or none.")
    if form == "none":
        return weight
    # In blocks: the vectors of all pairs at once would not fit in memory.
    for start in range(0, len(trigger), ROW_GROUP):
        block = slice(start, start + ROW_GROUP)
        t, c = trigger[block], candidate[block]
        if form == "soft":
            close = np.maximum(np.einsum("pd,pd->p", content[t], content[c]), 0)
        else:
            assert l2_bits is not None
            close = (l2_bits[t] & l2_bits[c]).any(axis=1)
        weight[block] += beta * close
    return weight


def propensity_weight(candidate: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """1 / max(theta, 0.1) with theta = (n / max n)^0.5, the propensity of the pair's positive
    (paper section 2).

    `candidate` int32 [pairs], `popularity` int64 [items], events in T1. Returns float32 [pairs];
    the sampler brings the mean of each batch to 1.
    """
    theta = np.sqrt(popularity / max(popularity.max(), 1))
    return (1 / np.maximum(theta, 0.1)).astype(np.float32)[candidate]


def user_weight(user: np.ndarray, pairs_of: np.ndarray, power: float) -> np.ndarray:
    """n^-power for a user of n pairs, float32 [pairs]: a few heavy users are not the training set.

    `user` int32 [pairs], `pairs_of` int64 [users]. Power 0: each pair counts alike; 1: each user.
    """
    return (np.maximum(pairs_of, 1).astype(np.float64) ** -power).astype(np.float32)[user]


def recency_weight(
    timestamp: np.ndarray, events: np.ndarray, half_life: float | None
) -> np.ndarray:
    """One half where a share `half_life` of T1's events came after the pair's, one quarter where
    twice as many did, float32 [pairs]; 1 with None.

    `timestamp` [pairs], of the candidates' events; `events` [events of T1], sorted. By events and
    not by time, so that the same setting fits days and years.
    """
    if half_life is None:
        return np.ones(len(timestamp), dtype=np.float32)
    later = 1 - np.searchsorted(events, timestamp, side="right") / len(events)
    return (0.5 ** (later / half_life)).astype(np.float32)


def write_pairs(prepared: Path, content: Path, out: Path, settings: PairSettings) -> None:
    """Mine, weigh and write `out/pairs.parquet` (user, trigger, candidate int32, weight float32)
    and `out/pairs.json`.

    Raises UserError when no user has two different items in T1.
    """
    data = Prepared.load(prepared)
    connection = ibis.duckdb.connect()
    events = connection.read_parquet(prepared.resolve() / "interactions.parquet")
    # T1 alone: a pair of T2 would teach what is to be predicted.
    events = events.filter(events.period == "train").select("user", "item", "timestamp")
    # By way of a file, block by block: the pairs may not fit in memory.
    mined = out / "mined.parquet"
    write_relation(mine_pairs(events, settings.window), mined)
    weigh = _weighing(data, np.load(content / "content.npy"), mined, settings)
    with pq.ParquetFile(mined) as file:
        count = write_blocks(out / "pairs.parquet", map(weigh, file.iter_batches(ROW_GROUP)))
    mined.unlink()
    if count == 0:
        # What is left would look like the result of a stage that went well.
        (out / "pairs.parquet").unlink()
        raise UserError(
            f"no training pairs: of the {int(data.is_train.sum())} events before the split, no user"
            " engaged with two different items. The method learns from users with at least two;"
            " give a longer log."
        )
    (out / "pairs.json").write_text(json.dumps({"pairs": count, "window": settings.window}))
    print(f"pairs: {count:,} from {int(data.is_train.sum()):,} events, window {settings.window}")


def _weighing(
    data: Prepared, content: np.ndarray, mined: Path, settings: PairSettings
) -> Callable[[pa.RecordBatch], Pairs]:
    """What gives a block of the pairs in the file `mined` its weights: the product of all that
    `settings` ask for."""
    bits = data.topic_bits("l2") if settings.sim == "hard" else None
    times = np.sort(data.timestamp[data.is_train])
    pairs_of = np.zeros(data.n_users, np.int64)
    with pq.ParquetFile(mined) as file:
        for rows in file.iter_batches(ROW_GROUP, columns=["user"]):
            pairs_of += np.bincount(rows["user"].to_numpy(), minlength=data.n_users)

    def weighed(rows: pa.RecordBatch) -> Pairs:
        columns = ("user", "trigger", "candidate")
        user, trigger, candidate = (rows[name].to_numpy().astype(np.int32) for name in columns)
        weight = sim_weight(trigger, candidate, settings.sim, settings.beta, content, bits)
        weight *= user_weight(user, pairs_of, settings.user_power)
        weight *= recency_weight(rows["timestamp"].to_numpy(), times, settings.half_life)
        if settings.propensity:
            weight *= propensity_weight(candidate, data.popularity)
        return Pairs(user, trigger, candidate, weight)

    return weighed
