"""Drift: how far a day is from what the version was trained and judged on.

- Scores and features of what was shown, beside those of the same arm's evaluated lists. The features are those that
  the model reads, computed anew for the day, so that this is also how old those are that the vectors were made from.
  Evidently compares the columns of a sample (Wasserstein distance over the reference's standard deviation;
  Jensen-Shannon distance of the topics).
- Embeddings, in each head's space: of what is shown, beside the evaluated lists; of what users engage with, beside
  training, in all and within each topic. This is the squared distance between the two mean vectors, computed from how
  often each item occurs (`mean_distance`): no sample is taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa

from monitoring.evidently.figures import table
from monitoring.evidently.reference import Reference
from mtmh.heads import HEADS

SAMPLE = 2000  # impressions of an arm and day that are compared column by column
LEAST = 30  # values that a comparison needs on either side
TOPICS = 12  # the largest ones that get a line of their own
TOPIC = "l1_topic"


@dataclass(frozen=True)
class DriftSample:
    """Columns of an arm's impressions (`columns`), and those that they are compared with."""

    current: pd.DataFrame
    reference: pd.DataFrame


def sample(exposures: ir.Table, size: int = SAMPLE) -> pd.DataFrame:
    """About `size` impressions an arm and day, the same ones every time: day, arm, head, score, item_id."""
    counts = exposures.group_by("arm", "day").agg(n=exposures.count())
    rows = exposures.select("day", "arm", "head", "score", "item_id", key=exposures.exposure_id + exposures.item_id)
    rows = rows.inner_join(counts, ["arm", "day"])
    chance = (rows.key.hash() % 1_000_003).abs() / 1_000_003  # a prime, so that all of the hash counts
    kept = rows.filter(chance * rows.n < size).order_by("day", "arm", "key")
    return kept.select("day", "arm", "head", "score", "item_id").to_pyarrow().to_pandas(date_as_object=True)


def columns(
    row: np.ndarray, head: np.ndarray, score: np.ndarray, features: dict[str, np.ndarray], topic: np.ndarray
) -> pd.DataFrame:
    """What is compared, one row an impression: score_<head> (NaN for the other's), each feature, the L1 topic.

    `row` int64: the item's row in `features` and `topic`, -1 where the version does not know it.
    """
    scores = {f"score_{name}": np.where(head == name, score, np.nan) for name in HEADS}
    known = np.maximum(row, 0)
    read = {name: np.where(row >= 0, values[known], np.nan) for name, values in features.items()}
    return pd.DataFrame({**scores, **read, TOPIC: np.where(row >= 0, topic[known], None)})


def comparable(current: pd.DataFrame, reference: pd.DataFrame) -> list[str]:
    """The columns with enough values on either side, and more than one in the reference."""
    there = [name for name in current if min(current[name].count(), reference[name].count()) >= LEAST]
    return [str(name) for name in there if reference[name].nunique() > 1]


def mean_distance(vectors: np.ndarray, counts: np.ndarray, reference: np.ndarray) -> float:
    """Squared distance between the mean vectors of two samples of items, less what chance adds to it: 0 is no drift.

    Arguments: `vectors` float32 [items, d], unit rows; `counts` and `reference` int [items], how often each item is in
    the sample. This is the unbiased maximum mean discrepancy (Gretton et al. 2012, equation 3) of a linear kernel: it
    sees where the mass of the vectors lies, not how they scatter around it. NaN below LEAST items on either side.
    """
    if min(counts.sum(), reference.sum()) < LEAST:
        return float("nan")
    means, inside = [], []
    for each in (counts, reference):
        there = np.flatnonzero(each)
        n, total = float(each.sum()), each[there].astype(np.float64) @ vectors[there]
        means.append(total / n)
        inside.append((total @ total - n) / (n * (n - 1)))
    return float(inside[0] + inside[1] - 2 * means[0] @ means[1])


def embeddings(read: Reference, exposures: ir.Table, engagements: ir.Table) -> Iterator[pa.Table]:
    """Families `embeddings` and `topics` of each day and head. Items that the version does not know are left out."""
    shown = _counted(read, exposures, "arm", "head")
    engaged = _counted(read, engagements.filter(engagements["value"] > 0))
    topics = {topic: read.topic == topic for topic in _largest(read)}
    for day in sorted({*shown, *engaged}):
        now = engaged.get(day, {}).get((), np.zeros(len(read.item_id), np.int64))
        for head, vectors in read.vectors.items():
            values = {"engaged": mean_distance(vectors, now, read.engaged)}
            for (arm, by), counts in shown.get(day, {}).items():
                if by == head and arm in read.listed:
                    values[f"shown, {arm}"] = mean_distance(vectors, counts, read.shown(arm, head))
            yield table(day, "embeddings", head, values)
            inside = {topic: mean_distance(vectors, now * own, read.engaged * own) for topic, own in topics.items()}
            yield table(day, "topics", head, inside)


def unknown(read: Reference, exposures: ir.Table) -> Iterator[pa.Table]:
    """Share of each arm's impressions whose items the version does not know: they came in by a refresh."""
    rows = exposures.group_by("day", "arm", "item_id").agg(n=ibis._.count()).to_pyarrow()
    frame = rows.select(["day", "arm", "n"]).to_pandas(date_as_object=True)
    frame["new"] = frame["n"].where(read.rows(rows["item_id"]) < 0, 0)
    for (day, arm), sums in frame.groupby(["day", "arm"])[["n", "new"]].sum().iterrows():
        yield table(day, "freshness", arm, {"added_share": sums["new"] / sums["n"]})


def _counted(read: Reference, rows: ir.Table, *keys: str) -> dict[date, dict[tuple[str, ...], np.ndarray]]:
    """How often each item occurs in each group of a day: day -> keys -> int64 [items]."""
    counts = rows.group_by("day", *keys, "item_id").agg(n=ibis._.count()).to_pyarrow()
    frame = counts.select(["day", *keys, "n"]).to_pandas(date_as_object=True).assign(row=read.rows(counts["item_id"]))
    found: dict[date, dict[tuple[str, ...], np.ndarray]] = {}
    for (day, *rest), part in frame[frame["row"] >= 0].groupby(["day", *keys]):
        each = np.bincount(part["row"], part["n"], len(read.item_id)).astype(np.int64)
        found.setdefault(day, {})[tuple(map(str, rest))] = each
    return found


def _largest(read: Reference) -> list[str]:
    """The topics with most engagements in training, in alphabetical order."""
    engaged = pd.Series(read.engaged).groupby(read.topic).sum().sort_values(ascending=False)
    return sorted(map(str, engaged.index[:TOPICS]))
