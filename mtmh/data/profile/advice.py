"""What a data set's figures mean for this method: a sentence on each thing that it has, lacks, or has in bad shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mtmh.config import DataSettings
from mtmh.data.engagement import doubtful_events, listed
from mtmh.data.profile.describe import Description

FEW_TEST_USERS = 1000  # below it, one user is more than a tenth of a point of recall
MANY_TIES = 0.05  # share of the engagements
MANY_COLD = 0.2  # share of T2's engagements
MANY_WITHOUT = 0.1  # share of the items
WIDE_TOPIC = 0.5
LEAK = 0.01


@dataclass(frozen=True)
class Finding:
    """ok: as the method wants it. warn: works, but read the figures with it in mind. lacks: a part of it stands idle,
    or a run stops.
    """

    state: Literal["ok", "warn", "lacks"]
    about: str
    means: str


def findings(found: Description, settings: DataSettings) -> list[Finding]:
    """At least one finding on each of: contract, engagement, time, histories, cold items, text, topics, features."""
    return [
        *_contract(found, settings),
        *_engagement(found, settings),
        *_time(found),
        *_split(found),
        *_text(found),
        *_topics(found),
        *_features(found, settings),
        *_further(found),
    ]


def _contract(found: Description, settings: DataSettings) -> Iterator[Finding]:
    limit = settings.max_rejected_share
    broken = {
        name: table for name, table in found.rejected.items() if table.rows > limit * table.of
    }
    for name, table in broken.items():
        means = f"{table.rows:,} of {table.of:,} {name} are rejected, mostly because {next(iter(table.reasons))}"
        yield Finding(
            "warn", "contract", f"{means}: a run stops above {limit:.0%} (data.max_rejected_share)."
        )
    if not broken:
        rows = sum(table.rows for table in found.rejected.values())
        yield Finding(
            "ok", "contract", f"{rows:,} rows are rejected." if rows else "every row keeps it."
        )


def _engagement(found: Description, settings: DataSettings) -> Iterator[Finding]:
    log = found.log
    least, most = log.values
    for number, one in ((log.users, "user"), (log.items, "item")):
        if number < 2:
            yield Finding("lacks", f"{one}s", f"all engagements are of one {one}: a run stops.")
    yield Finding("ok", "events", f"count as engagement: {listed(log.counted)}.")
    if log.negative and settings.min_value is None:
        means = f"{log.negative:,} rows have a negative value and do not count (data.min_value sets another bound)."
        yield Finding("warn", "values", means)
    if log.exposures:
        names = ", ".join(doubtful_events(log.counted))
        means = f"rows sound like what was shown, passed over or disliked ({names}), and count as engagement"
        yield Finding(
            "warn",
            "engagement",
            f"{log.exposures:,} {means}: name the others in data.positive_events.",
        )
    if settings.min_value is None and least < most:
        means = (
            f"values run from {least:g} to {most:g}, and the lowest counts as much as the highest"
        )
        yield Finding("warn", "engagement", f"{means}: data.min_value leaves the lower ones out.")
    elif not log.exposures:
        rest = log.rows - log.engagements
        means = (
            f"{rest:,} of {log.rows:,} rows do not count, by data's settings."
            if rest
            else "every row counts."
        )
        yield Finding("ok", "engagement", means)


def _time(found: Description) -> Iterator[Finding]:
    log = found.log
    tied = f"{log.tied:.0%} of the engagements are at the same time as another of their user"
    if log.resolution == "days":
        yield Finding(
            "warn",
            "time",
            f"in days: within a day the order is arbitrary (by item_id), and {tied}.",
        )
    elif log.tied > MANY_TIES:
        yield Finding("warn", "time", f"{tied}: the order of these is arbitrary (by item_id).")
    else:
        yield Finding(
            "ok", "time", f"in {log.resolution}: the order of a user's engagements is known."
        )


def _split(found: Description) -> Iterator[Finding]:
    split = found.split
    if split is None:
        yield Finding("lacks", "split", f"{found.not_split} A run stops.")
        return
    if split.learners:
        yield Finding(
            "ok",
            "histories",
            f"pairs come from {split.learners:,} users with two different items in T1.",
        )
    else:
        yield Finding(
            "lacks",
            "histories",
            "no user has two different items in T1: there are no pairs, a run stops.",
        )
    if not split.test_users:
        means = "no user has an engagement before the split and a new item after it: a run stops."
        yield Finding("lacks", "test users", means)
    elif split.test_users < FEW_TEST_USERS:
        means = (
            f"only {split.test_users:,}: differences in recall between models will mostly be noise."
        )
        yield Finding("warn", "test users", means)
    else:
        yield Finding(
            "ok", "test users", f"{split.test_users:,}, with {split.targets:,} items to find."
        )
    means = f"{split.cold_share:.0%} of T2's engagements are with items that T1 does not know"
    if split.cold_share > MANY_COLD:
        means += ": the model has no id for these"
        if found.catalog.words:
            means += ", and they are placed by their content."
        elif found.catalog.creators:
            means += " and there is no text; write train.id_dropout=0.1, or they have no place."
        else:
            means += ", and with neither text nor creators nothing tells them apart."
        yield Finding("warn" if found.catalog.words else "lacks", "cold items", means)
    else:
        yield Finding("ok", "cold items", f"{means}.")


def _text(found: Description) -> Iterator[Finding]:
    words = found.catalog.words
    if not words:
        means = "no title or text: the relevance head has nothing to learn from; write train.objective=engagement."
        yield Finding("lacks", "text", means)
    elif words < 1 - MANY_WITHOUT:
        means = f"{1 - words:.0%} of the items have no title or text: as triggers they give nothing to distil."
        yield Finding("warn", "text", means)
    else:
        yield Finding(
            "ok", "text", f"{words:.0%} of the items have a title or text for the relevance head."
        )


def _topics(found: Description) -> Iterator[Finding]:
    l2 = found.l2
    if not l2.topics:
        means = (
            "L1 relevance is shown, but the gate looks at L2"
            if found.l1.topics
            else "relevance cannot be measured"
        )
        yield Finding(
            "lacks", "topics", f"none at L2: {means}; the gate judges recall and coverage only."
        )
        return
    if l2.without > MANY_WITHOUT:
        means = f"{l2.without:.0%} of the items have none at L2: they match nothing, which lowers all relevance."
        yield Finding("warn", "topics", means)
    elif l2.largest > WIDE_TOPIC:
        means = f"one L2 topic is on {l2.largest:.0%} of the items: much relevance comes by chance."
        yield Finding("warn", "topics", means)
    else:
        yield Finding("ok", "topics", f"{l2.topics:,} at L2 to measure relevance on.")
    means = f"{found.spelled:.1%} of the items spell one of their own L2 topics in title or text"
    if found.spelled > LEAK:
        means += ": the content encoder reads what relevance is measured on, which flatters it."
        yield Finding("warn", "leak", means)
    else:
        yield Finding("ok", "leak", f"{means}.")


def _features(found: Description, settings: DataSettings) -> Iterator[Finding]:
    catalog, named = found.catalog, "creator_id" in settings.id_features
    if catalog.creators:
        unused = "" if named else ", but data.id_features does not name creator_id"
        yield Finding(
            "ok",
            "creators",
            f"{catalog.creators:,}, on {catalog.creator:.0%} of the items{unused}.",
        )
    elif named:
        yield Finding("lacks", "creators", "no creator_id: the model does without this feature.")
    if catalog.created_at:
        yield Finding("ok", "created_at", f"on {catalog.created_at:.0%} of the items.")
    else:
        yield Finding("lacks", "created_at", "an item's age counts from its first engagement.")


def _further(found: Description) -> Iterator[Finding]:
    catalog, log = found.catalog, found.log
    if catalog.concepts:
        means = (
            f"{catalog.concepts:,} items have one: from 50 on the content encoder learns from them"
        )
        yield Finding(
            "ok", "concepts", f"{means} (but for the sources in content.concepts.leave_out)."
        )
    if catalog.image:
        means = f"{catalog.image:.0%} of the items have one: content.visual_backbone says what reads them."
        yield Finding("ok", "images", means)
    there = {
        f"dwell times ({log.dwell:.0%} of the engagements)": bool(log.dwell),
        f"arms ({', '.join(log.arms)})": bool(log.arms),
    }
    if any(there.values()):
        names = ", ".join(name for name, has in there.items() if has)
        yield Finding("ok", "further", f"{names}: kept, but no step of a run reads them yet.")
