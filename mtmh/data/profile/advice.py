"""What a data set's figures mean for this method: a sentence on each thing that it has, lacks, or
has in bad shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from mtmh.config import DataSettings
from mtmh.data.engagement import doubtful_events, listed
from mtmh.data.profile.describe import Description

FEW_TEST_USERS = 1000  # below it, one user is more than a tenth of a point of recall
MANY_TIES = 0.05  # share of the engagements
MANY_COLD = 0.2  # share of T2's engagements
MANY_WITHOUT = 0.1  # share of the items
WIDE_TOPIC = 0.5  # share of the items that have one and the same topic
LEAK = 0.01  # share of the items that spell one of their own topics


@dataclass(frozen=True)
class Advice:
    """A sentence on one thing.

    ok: as the method wants it. warn: works, but read the figures with it in mind. lacks: a part of
    the method stands idle, or a run stops.
    """

    state: Literal["ok", "warn", "lacks"]
    about: str
    means: str


ok = partial(Advice, "ok")
warn = partial(Advice, "warn")
lacks = partial(Advice, "lacks")


def findings(data: Description, settings: DataSettings) -> list[Advice]:
    """What there is to say on contract, engagement, time, histories, cold items, text, topics and
    features: at least one sentence on each.
    """
    return [
        *_on_contract(data, settings),
        *_on_log(data, settings),
        *_on_split(data),
        *_on_content(data),
        *_on_columns(data, settings),
    ]


def _on_contract(data: Description, settings: DataSettings) -> Iterator[Advice]:
    limit = settings.max_rejected_share
    broken = {name: table for name, table in data.rejected.items() if table.rows > limit * table.of}
    for name, table in broken.items():
        message = (
            f"{table.rows:,} of {table.of:,} {name} are rejected, mostly because"
            f" {next(iter(table.reasons))}: a run stops above {limit:.0%}"
            " (data.max_rejected_share)."
        )
        yield warn("contract", message)
    if not broken:
        rows = sum(table.rows for table in data.rejected.values())
        yield ok("contract", f"{rows:,} rows are rejected." if rows else "every row keeps it.")


def _on_log(data: Description, settings: DataSettings) -> Iterator[Advice]:
    log = data.log
    least, most = log.values
    # What counts as engagement, and of whom.
    for number, noun in ((log.users, "user"), (log.items, "item")):
        if number < 2:
            yield lacks(f"{noun}s", f"all engagements are of one {noun}: a run stops.")
    yield ok("events", f"count as engagement: {listed(log.counted)}.")
    if log.negative and settings.min_value is None:
        message = (
            f"{log.negative:,} rows have a negative value and do not count (data.min_value sets"
            " another bound)."
        )
        yield warn("values", message)
    if log.exposures:
        names = ", ".join(doubtful_events(log.counted))
        message = (
            f"{log.exposures:,} rows sound like what was shown, passed over or disliked ({names}),"
            " and count as engagement: name the others in data.positive_events."
        )
        yield warn("engagement", message)
    if settings.min_value is None and least < most:
        message = (
            f"values run from {least:g} to {most:g}, and the lowest counts as much as the highest:"
            " data.min_value leaves the lower ones out."
        )
        yield warn("engagement", message)
    elif not log.exposures:
        rest = log.rows - log.engagements
        message = f"{rest:,} of {log.rows:,} rows do not count, by data's settings."
        yield ok("engagement", message if rest else "every row counts.")
    # How fine the clock is, and so how much of the order it gives.
    tied = f"{log.tied:.0%} of the engagements are at the same time as another of their user"
    if log.resolution == "days":
        message = f"in days: within a day the order is arbitrary (by item_id), and {tied}."
        yield warn("time", message)
    elif log.tied > MANY_TIES:
        yield warn("time", f"{tied}: the order of these is arbitrary (by item_id).")
    else:
        yield ok("time", f"in {log.resolution}: the order of a user's engagements is known.")


def _on_split(data: Description) -> Iterator[Advice]:
    split = data.split
    if split is None:
        yield lacks("split", f"{data.not_split} A run stops.")
        return
    # Users to learn from, and users to judge by.
    if split.learners:
        message = f"pairs come from {split.learners:,} users with two different items in T1."
        yield ok("histories", message)
    else:
        message = "no user has two different items in T1: there are no pairs, a run stops."
        yield lacks("histories", message)
    if not split.test_users:
        message = "no user has an engagement before the split and a new item after it: a run stops."
        yield lacks("test users", message)
    elif split.test_users < FEW_TEST_USERS:
        message = "differences in recall between models will mostly be noise."
        yield warn("test users", f"only {split.test_users:,}: {message}")
    else:
        yield ok("test users", f"{split.test_users:,}, with {split.targets:,} items to find.")
    message = f"{split.cold_share:.0%} of T2's engagements are with items that T1 does not know"
    if split.cold_share <= MANY_COLD:
        yield ok("cold items", f"{message}.")
        return
    # Without an id, a cold item is placed by its text or its creator.
    message += ": the model has no id for these"
    if data.catalog.words:
        yield warn("cold items", f"{message}, and they are placed by their content.")
    elif data.catalog.creators:
        message += " and there is no text; write train.id_dropout=0.1, or they have no place."
        yield lacks("cold items", message)
    else:
        message += ", and with neither text nor creators nothing tells them apart."
        yield lacks("cold items", message)


def _on_content(data: Description) -> Iterator[Advice]:
    # Text, which the relevance head learns from.
    words = data.catalog.words
    if not words:
        message = "the relevance head has nothing to learn from; write train.objective=engagement."
        yield lacks("text", f"no title or text: {message}")
    elif words < 1 - MANY_WITHOUT:
        message = "of the items have no title or text: as triggers they give nothing to distil."
        yield warn("text", f"{1 - words:.0%} {message}")
    else:
        yield ok("text", f"{words:.0%} of the items have a title or text for the relevance head.")
    # Topics, which relevance is measured on.
    l2 = data.l2
    if not l2.topics:
        reason = "relevance cannot be measured"
        if data.l1.topics:
            reason = "L1 relevance is shown, but the gate looks at L2"
        yield lacks("topics", f"none at L2: {reason}; the gate judges recall and coverage only.")
        return
    if l2.without > MANY_WITHOUT:
        message = "of the items have none at L2: they match nothing, which lowers all relevance."
        yield warn("topics", f"{l2.without:.0%} {message}")
    elif l2.largest > WIDE_TOPIC:
        message = f"{l2.largest:.0%} of the items: much relevance comes by chance."
        yield warn("topics", f"one L2 topic is on {message}")
    else:
        yield ok("topics", f"{l2.topics:,} at L2 to measure relevance on.")
    # A topic that the text spells is no secret to the content encoder.
    message = f"{data.spelled:.1%} of the items spell one of their own L2 topics in title or text"
    if data.spelled > LEAK:
        message += ": the content encoder reads what relevance is measured on, which flatters it."
        yield warn("leak", message)
    else:
        yield ok("leak", f"{message}.")


def _on_columns(data: Description, settings: DataSettings) -> Iterator[Advice]:
    catalog, log = data.catalog, data.log
    named = "creator_id" in settings.id_features
    if catalog.creators:
        unused = "" if named else ", but data.id_features does not name creator_id"
        message = f"{catalog.creators:,}, on {catalog.creator:.0%} of the items{unused}."
        yield ok("creators", message)
    elif named:
        yield lacks("creators", "no creator_id: the model does without this feature.")
    if catalog.created_at:
        yield ok("created_at", f"on {catalog.created_at:.0%} of the items.")
    else:
        yield lacks("created_at", "an item's age counts from its first engagement.")
    # What teaches the content encoder beside the text.
    if catalog.concepts:
        message = (
            f"{catalog.concepts:,} items have one: from 50 on the content encoder learns from them"
            " (but for the sources in content.concepts.leave_out)."
        )
        yield ok("concepts", message)
    if catalog.image:
        message = "of the items have one: content.visual_backbone says what reads them."
        yield ok("images", f"{catalog.image:.0%} {message}")
    further = []
    if log.dwell:
        further.append(f"dwell times ({log.dwell:.0%} of the engagements)")
    if log.arms:
        further.append(f"arms ({', '.join(log.arms)})")
    if further:
        yield ok("further", f"{', '.join(further)}: kept, but no step of a run reads them yet.")
