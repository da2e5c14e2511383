"""What the model reads of an item's history, computed anew for each day: how old are the features that serve?"""

from datetime import date, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.data.contract import UTC_MICROSECONDS
from mtmh.data.feature_tables import RECENT
from mtmh.experiment.folder import ExperimentFolder

DAY = np.timedelta64(1, "D").astype("timedelta64[us]")


def statistics_by_day(
    place: ExperimentFolder, engagements: ir.Table, item_id: pa.Array, first: date, last: date
) -> dict[str, np.ndarray]:
    """The contract's STATISTICS of each item at the start of each day: name -> float32 [days, items].

    As `item_statistics` of mtmh/data/feature_tables.py has them, over the place's history and the log's positive
    `engagements`, but from counts an item and day, so that their number does not matter. NaN where nothing tells an
    item's age; an item that is not there yet has the age 0.
    """
    days = (last - first).days + 1
    recent = RECENT // timedelta(days=1)
    counts = _counts(place.history, engagements)
    row = np.asarray(pc.fill_null(pc.index_in(counts["item_id"], value_set=item_id), -1)).astype(np.int64)
    known = row >= 0
    row, n = row[known], counts["n"].to_numpy()[known]
    start = np.datetime64(first, "us") + DAY * np.arange(days)
    since = (counts["day"].to_numpy()[known].astype("datetime64[us]") - start[0]) // DAY
    # Column 0 is everything before the recent days of the first day, then one column a day.
    place_of = np.clip(since + recent + 1, 0, None).astype(np.int64)
    until = place_of < days + recent
    by_day = np.zeros((days + recent, len(item_id)))
    np.add.at(by_day, (place_of[until], row[until]), n[until])
    so_far = np.vstack([np.zeros(len(item_id)), np.cumsum(by_day, axis=0)])
    popularity = so_far[recent + 1 :][:days]
    born = _born(place.items, item_id, row, counts["first"].to_numpy()[known].astype("datetime64[us]"))
    age = (start[:, None] - born) / DAY
    return {
        "log_popularity": np.log1p(popularity).astype(np.float32),
        "log_recent_popularity": np.log1p(popularity - so_far[1 : days + 1]).astype(np.float32),
        "log_age_days": np.log1p(np.maximum(age, 0.0)).astype(np.float32),
    }


def _counts(history: Path, engagements: ir.Table) -> pa.Table:
    """item_id, day, n, first (the first time on that day) of all positive engagements that are known."""
    before = engagements.get_backend().read_parquet(history).select("item_id", "timestamp")
    events = before.union(engagements.filter(engagements["value"] > 0).select("item_id", "timestamp"))
    events = events.mutate(day=events.timestamp.truncate("D"))
    return events.group_by("item_id", "day").agg(n=ibis._.count(), first=ibis._.timestamp.min()).to_pyarrow()


def _born(items: Path, item_id: pa.Array, row: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Creation or first engagement of each item, whichever came first: datetime64[us] [items], NaT where unknown."""
    table = pq.read_table(items, columns=["item_id", "created_at"])
    found = pc.index_in(item_id, value_set=table["item_id"].cast(pa.string()).combine_chunks())
    created = table["created_at"].cast(UTC_MICROSECONDS, safe=False).take(found).cast(pa.timestamp("us"))
    born = np.asarray(created).astype("datetime64[us]").copy()
    np.fmin.at(born, row, first)
    return born
