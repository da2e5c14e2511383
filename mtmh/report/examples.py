"""Example triggers for the report: what each head offers for the same item, and
what the merge makes of it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from mtmh.heads import HEADS
from mtmh.retrieval.merge import quota_merge
from mtmh.retrieval.scoring import drop_self

Search = Callable[[np.ndarray, int, str], tuple[np.ndarray, np.ndarray]]
"""(items int32 [B], k, a head's name) -> (ids int32 [B, k], -1 = none; scores
float32 [B, k]).
"""

LIST_LENGTH = 8  # candidates of a list on the page
OFFERED = 50  # candidates of a head that the merge draws from
DRAWN = 200  # triggers that are compared
_LONGEST_TITLE = 100  # characters; a longer one is cut


@dataclass(frozen=True)
class ExampleItem:
    """An item as the page shows it."""

    title: str
    l1_topics: tuple[str, ...]
    l2_topics: tuple[str, ...]


@dataclass(frozen=True)
class ExampleCandidate:
    """One line of a list: `match` is the finest level at which it shares a topic
    with the trigger.
    """

    item: ExampleItem
    match: Literal["l2", "l1", ""]
    shared: tuple[str, ...]
    provenance: str  # the head that lists it, or "both" where more than one does


@dataclass(frozen=True)
class Example:
    """A trigger with each head's list and the merged one, LIST_LENGTH long at most."""

    trigger: ExampleItem
    users: int
    heads: dict[str, list[ExampleCandidate]]  # by the head's name
    merged: list[ExampleCandidate]


def choose(
    popularity: np.ndarray, search: Search, seed: int, count: int = 5, heads: Sequence[str] = HEADS
) -> np.ndarray:
    """The `count` triggers on whose first candidates the heads disagree most,
    int32 [<= count]; any with one head.

    Among DRAWN items, a seeded sample of the more popular half of those with any user: rare items'
    lists are arbitrary, and a reader is more likely to know popular ones. `popularity` int [items]
    = users per item.
    """
    engaged = np.flatnonzero(popularity > 0)
    ranked = engaged[np.argsort(-popularity[engaged], kind="stable")]
    half = ranked[: max(count, len(ranked) // 2)]
    drawn = np.random.default_rng(seed).permutation(half)[:DRAWN].astype(np.int32)
    if len(heads) < 2:
        return drawn[:count]
    # The fewer candidates the heads share, the more a reader learns from the lists.
    lists = [_lists(search, drawn, LIST_LENGTH, head) for head in heads]
    offers = [np.concatenate(rows) for rows in zip(*lists, strict=True)]
    agreement = [(offer >= 0).sum() - len(np.unique(offer[offer >= 0])) for offer in offers]
    return drawn[np.argsort(agreement, kind="stable")[:count]]


def collect(
    triggers: np.ndarray,
    items: pa.Table,
    popularity: np.ndarray,
    search: Search,
    quotas: Mapping[str, float],
) -> list[Example]:
    """Look up the triggers' candidates by each head of `quotas`, and merge them by what it says, in
    percent; `items` row = item number.
    """
    lists = [_lists(search, triggers, OFFERED, head) for head in quotas]
    # The merge draws from deeper lists than the page shows.
    merged = quota_merge(lists, tuple(quotas.values()), LIST_LENGTH)
    names, collected = list(quotas), []
    for row, trigger in enumerate(triggers):
        # What several heads list is marked as such, whichever the merge took it from.
        first = {head: ids[row, :LIST_LENGTH] for head, ids in zip(names, lists, strict=True)}
        offers = Counter(item for ids in first.values() for item in ids.tolist())
        several = {item for item, count in offers.items() if count > 1}
        origins = [names[number] for number in merged.channel[row]]
        item = _item(items, int(trigger))
        collected.append(
            Example(
                trigger=item,
                users=int(popularity[trigger]),
                heads={
                    head: _candidates(items, item, ids, [head] * LIST_LENGTH, several)
                    for head, ids in first.items()
                },
                merged=_candidates(items, item, merged.item[row], origins, several),
            )
        )
    return collected


def _lists(search: Search, triggers: np.ndarray, k: int, head: str) -> np.ndarray:
    """The first k candidates of each trigger other than itself, int32 [B, k], -1
    where a list ends.
    """
    ids, scores = search(triggers, k + 1, head)
    return drop_self(ids, scores, triggers)[0].astype(np.int32)


def _candidates(
    items: pa.Table,
    trigger: ExampleItem,
    ids: np.ndarray,
    heads: list[str],
    several: set[int],
) -> list[ExampleCandidate]:
    lines = []
    for number, head in zip(ids.tolist(), heads, strict=False):
        if number < 0:
            continue
        # The finest level at which trigger and candidate share a topic.
        item = _item(items, number)
        fine = tuple(topic for topic in item.l2_topics if topic in trigger.l2_topics)
        coarse = tuple(topic for topic in item.l1_topics if topic in trigger.l1_topics)
        origin = "both" if number in several else head
        match: Literal["l2", "l1", ""] = "l2" if fine else "l1" if coarse else ""
        lines.append(ExampleCandidate(item, match, fine or coarse, origin))
    return lines


def _item(items: pa.Table, number: int) -> ExampleItem:
    row = items.slice(number, 1).to_pylist()[0]
    title = (row.get("title") or "").strip() or f"item {row['item_id']}"
    if len(title) > _LONGEST_TITLE:
        title = title[: _LONGEST_TITLE - 1].rstrip() + "…"
    return ExampleItem(title, tuple(row.get("l1_topics") or ()), tuple(row.get("l2_topics") or ()))
