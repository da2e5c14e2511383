"""Drift: how far a day is from what the version was trained and judged on.

- Scores and features of what was shown, beside those of the same arm's evaluated lists. The
  features are those that the model reads, computed for the day, so that this is also how old those
  are that the vectors were made from. Evidently compares the columns of a sample (Wasserstein
  distance over the reference's standard deviation; Jensen-Shannon distance of the topics).
- Embeddings, in each head's space: of what is shown, beside the evaluated lists; of what users
  engage with, beside training, in all and within each topic. This is the squared distance between
  the two mean vectors, computed from how often each item occurs (`mean_distance`): no sample is
  taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from monitoring.evidently.figures import table
from monitoring.evidently.reference import Reference
from mtmh.data.contract import UTC_MICROSECONDS
from mtmh.data.feature_tables import RECENT
from mtmh.experiment.folder import ExperimentFolder
from mtmh.ids import Ids

SAMPLE = 2000  # impressions of an arm and day that are compared column by column
LEAST = 30  # values that a comparison needs on either side
TOPICS = 12  # the largest ones have a line each
TOPIC = "l1_topic"
DAY = np.timedelta64(1, "D").astype("timedelta64[us]")


@dataclass(frozen=True)
class DriftSample:
    """Columns of an arm's impressions (`columns`), and those that they are compared with."""

    current: pd.DataFrame
    reference: pd.DataFrame


def sample(exposures: ir.Table, size: int = SAMPLE) -> pd.DataFrame:
    """About `size` impressions an arm and day, the same ones every time: day, arm, head, score,
    item_id.
    """
    counts = exposures.group_by("arm", "day").agg(n=exposures.count())
    key = exposures.exposure_id + exposures.item_id
    rows = exposures.select("day", "arm", "head", "score", "item_id", key=key)
    rows = rows.inner_join(counts, ["arm", "day"])
    # A prime, so that all of the hash counts.
    chance = (rows.key.hash() % 1_000_003).abs() / 1_000_003
    rows = rows.filter(chance * rows.n < size).order_by("day", "arm", "key")
    rows = rows.select("day", "arm", "head", "score", "item_id")
    return rows.to_pyarrow().to_pandas(date_as_object=True)


def samples(
    folder: ExperimentFolder,
    reference: Reference,
    exposures: ir.Table,
    engagements: ir.Table,
    days: list[date],
) -> Iterator[tuple[tuple[date, str], DriftSample]]:
    """The sampled impressions of each of the `days` and arm, beside the arm's evaluated lists."""
    sampled = sample(exposures)
    statistics = statistics_by_day(folder, engagements, reference.item_id, days[0], days[-1])
    # The reference: a sample of what each arm's evaluated lists would have shown.
    evaluated = {}
    for arm, candidates in reference.candidates.items():
        order = np.random.default_rng(0).permutation(len(candidates))
        few = candidates.take(order[:SAMPLE])
        row, head, score = (np.asarray(few[name]) for name in ("item", "head", "score"))
        evaluated[arm] = columns(reference, row, head, score, reference.features)
    # Beside it, what was shown, with the features as they were on that day.
    for number, day in enumerate(days):
        features = {name: statistics[name][number] for name in reference.features}
        for arm, lists in evaluated.items():
            rows = sampled[(sampled["day"] == day) & (sampled["arm"] == arm)]
            row = reference.rows(pa.array(rows["item_id"], pa.string()))
            head, score = rows["head"].to_numpy(), rows["score"].to_numpy()
            current = columns(reference, row, head, score, features)
            yield (day, arm), DriftSample(current, lists)


def columns(
    reference: Reference,
    row: np.ndarray,
    channel: np.ndarray,
    score: np.ndarray,
    features: dict[str, np.ndarray],
) -> pd.DataFrame:
    """What is compared, one row an impression: score_<channel>, each feature, the L1 topic.

    A score is NaN in the columns of the other channels. `row` int64: the item's row in `features`
    and the reference, -1 where training did not see it.
    """
    names, topic = reference.vectors, reference.topic
    scores = {f"score_{name}": np.where(channel == name, score, np.nan) for name in names}
    in_train = row >= 0
    index = np.maximum(row, 0)
    read = {name: np.where(in_train, values[index], np.nan) for name, values in features.items()}
    return pd.DataFrame({**scores, **read, TOPIC: np.where(in_train, topic[index], None)})


def comparable(current: pd.DataFrame, reference: pd.DataFrame) -> list[str]:
    """The columns with enough values on either side, and more than one in the reference."""
    return [
        str(name)
        for name in current
        if min(current[name].count(), reference[name].count()) >= LEAST
        and reference[name].nunique() > 1
    ]


def mean_distance(vectors: np.ndarray, counts: np.ndarray, reference: np.ndarray) -> float:
    """Squared distance between the mean vectors of two samples of items, less what chance adds to
    it: 0 is no drift.

    Arguments: `vectors` float32 [items, d], unit rows; `counts` and `reference` int [items], how
    often each item is in the sample. This is the unbiased maximum mean discrepancy (Gretton et al.
    2012, equation 3) of a linear kernel: it sees where the mass of the vectors lies, not how they
    scatter around it. NaN below LEAST items on either side.
    """
    if min(counts.sum(), reference.sum()) < LEAST:
        return float("nan")
    means, inside = [], []
    for sample_counts in (counts, reference):
        items = np.flatnonzero(sample_counts)
        n = float(sample_counts.sum())
        total = sample_counts[items].astype(np.float64) @ vectors[items]
        means.append(total / n)
        inside.append((total @ total - n) / (n * (n - 1)))
    return float(inside[0] + inside[1] - 2 * means[0] @ means[1])


def embeddings(
    reference: Reference, exposures: ir.Table, engagements: ir.Table
) -> Iterator[pa.Table]:
    """Families `embeddings` and `topics` of each day and head; cold items are left out."""
    impressions = _item_counts(reference, exposures, "arm", "head")
    engaged = _item_counts(reference, engagements.filter(engagements["value"] > 0))
    # The topics with most engagements in training, in alphabetical order.
    by_topic = pd.Series(reference.engaged).groupby(reference.topic).sum()
    largest = by_topic.sort_values(ascending=False).index[:TOPICS]
    topics = {topic: reference.topic == topic for topic in sorted(map(str, largest))}
    # What is shown against the evaluated lists; what users engage with against training.
    nothing = np.zeros(len(reference.item_id), np.int64)
    for day in sorted({*impressions, *engaged}):
        now = engaged.get(day, {}).get((), nothing)
        for head, vectors in reference.vectors.items():
            values = {"engaged": mean_distance(vectors, now, reference.engaged)}
            for (arm, of_head), counts in impressions.get(day, {}).items():
                if of_head == head and arm in reference.candidates:
                    evaluated = reference.candidate_counts(arm, head)
                    values[f"shown, {arm}"] = mean_distance(vectors, counts, evaluated)
            yield table(day, "embeddings", head, values)
            inside = {
                topic: mean_distance(vectors, now * is_topic, reference.engaged * is_topic)
                for topic, is_topic in topics.items()
            }
            yield table(day, "topics", head, inside)


def unknown(reference: Reference, exposures: ir.Table) -> Iterator[pa.Table]:
    """Share of each arm's impressions whose items training did not see: a refresh added them."""
    rows = exposures.group_by("day", "arm", "item_id").agg(n=ibis._.count()).to_pyarrow()
    frame = rows.select(["day", "arm", "n"]).to_pandas(date_as_object=True)
    frame["new"] = frame["n"].where(reference.rows(rows["item_id"]) < 0, 0)
    for (day, arm), sums in frame.groupby(["day", "arm"])[["n", "new"]].sum().iterrows():
        yield table(day, "freshness", arm, {"added_share": sums["new"] / sums["n"]})


def _item_counts(
    reference: Reference, rows: ir.Table, *keys: str
) -> dict[date, dict[tuple[str, ...], np.ndarray]]:
    """How often each item occurs in each group of a day: day -> keys -> int64 [items]."""
    counts = rows.group_by("day", *keys, "item_id").agg(n=ibis._.count()).to_pyarrow()
    frame = counts.select(["day", *keys, "n"]).to_pandas(date_as_object=True)
    frame["row"] = reference.rows(counts["item_id"])
    by_day: dict[date, dict[tuple[str, ...], np.ndarray]] = {}
    for (day, *rest), part in frame[frame["row"] >= 0].groupby(["day", *keys]):
        of_items = np.bincount(part["row"], part["n"], len(reference.item_id)).astype(np.int64)
        by_day.setdefault(day, {})[tuple(map(str, rest))] = of_items
    return by_day


def statistics_by_day(
    folder: ExperimentFolder, engagements: ir.Table, item_id: pa.Array, first: date, last: date
) -> dict[str, np.ndarray]:
    """The contract's STATISTICS of each item at each day's start: name -> float32 [days, items].

    As `item_statistics` of mtmh/data/feature_tables.py has them, over the folder's history and the
    log's positive `engagements`, but from counts an item and day, so that their number does not
    matter. NaN where nothing dates an item; one that is not created yet has the age 0.
    """
    days = (last - first).days + 1
    recent = RECENT // timedelta(days=1)
    # item_id, day, n, first (the first time on that day) of all positive engagements.
    events = engagements.filter(engagements["value"] > 0).select("item_id", "timestamp")
    history = engagements.get_backend().read_parquet(folder.history)
    events = history.select("item_id", "timestamp").union(events)
    events = events.mutate(day=events.timestamp.truncate("D")).group_by("item_id", "day")
    counts = events.agg(n=ibis._.count(), first=ibis._.timestamp.min()).to_pyarrow()
    row = Ids(item_id).rows(counts["item_id"])
    counts = counts.filter(pa.array(row >= 0))
    row, n = row[row >= 0], counts["n"].to_numpy()

    # Column 0 is everything before the recent days of the first day, then one column a day.
    start = np.datetime64(first, "us") + DAY * np.arange(days)
    since = (counts["day"].to_numpy().astype("datetime64[us]") - start[0]) // DAY
    column = np.clip(since + recent + 1, 0, None).astype(np.int64)
    until = column < days + recent
    by_day = np.zeros((days + recent, len(item_id)))
    np.add.at(by_day, (column[until], row[until]), n[until])
    so_far = np.vstack([np.zeros(len(item_id)), np.cumsum(by_day, axis=0)])
    popularity = so_far[recent + 1 :][:days]

    # An item is as old as its creation or its first engagement, whichever came first.
    items = pq.read_table(folder.items, columns=["item_id", "created_at"])
    index = pc.index_in(item_id, value_set=items["item_id"].cast(pa.string()).combine_chunks())
    created = items["created_at"].cast(UTC_MICROSECONDS, safe=False).take(index)
    begin = np.asarray(created.cast(pa.timestamp("us"))).astype("datetime64[us]").copy()
    np.fmin.at(begin, row, counts["first"].to_numpy().astype("datetime64[us]"))
    age = (start[:, None] - begin) / DAY
    return {
        "log_popularity": np.log1p(popularity).astype(np.float32),
        "log_recent_popularity": np.log1p(popularity - so_far[1 : days + 1]).astype(np.float32),
        "log_age_days": np.log1p(np.maximum(age, 0.0)).astype(np.float32),
    }
