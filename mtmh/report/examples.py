"""Example triggers for the report: what each head offers for the same item, and what the merge makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from mtmh.heads import HEADS
from mtmh.retrieval.merge import quota_merge, quotas_at
from mtmh.retrieval.scoring import drop_self

Search = Callable[[np.ndarray, int, str], tuple[np.ndarray, np.ndarray]]
"""(items int32 [B], k, head "engagement" or "relevance") -> (ids int32 [B, k], -1 = none; scores float32 [B, k])."""

SHOWN, OFFERED, ASKED = 8, 50, 200  # candidates shown, candidates a head offers to the merge, triggers looked at
_LONGEST_TITLE = 100


@dataclass(frozen=True)
class Item:
    """An item as the page shows it."""

    title: str
    l1_topics: tuple[str, ...]
    l2_topics: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """One line of a list: `match` is the finest level at which it shares a topic with the trigger."""

    item: Item
    match: Literal["l2", "l1", ""]
    shared: tuple[str, ...]
    provenance: Literal["engagement", "relevance", "both"]


@dataclass(frozen=True)
class Example:
    """A trigger with the engagement head's, the relevance head's and the merged list, each SHOWN long at most.

    The list of a head that the model does not have is empty, and the merge is then the other head's.
    """

    trigger: Item
    users: int
    engagement: list[Candidate]
    relevance: list[Candidate]
    merged: list[Candidate]


def choose(
    popularity: np.ndarray, search: Search, seed: int, count: int = 5, heads: Sequence[str] = HEADS
) -> np.ndarray:
    """The `count` triggers on whose first candidates the heads disagree most, int32 [<= count]; any with one head.

    Among ASKED items drawn (seeded) from the more popular half of those with any user: rare items' lists are
    arbitrary, and a reader is more likely to know popular ones. `popularity` int [items] = users per item.
    """
    known = np.flatnonzero(popularity > 0)
    ranked = known[np.argsort(-popularity[known], kind="stable")]
    half = ranked[: max(count, len(ranked) // 2)]
    drawn = np.random.default_rng(seed).permutation(half)[:ASKED].astype(np.int32)
    if len(heads) < 2:
        return drawn[:count]
    lists = [_lists(search, drawn, SHOWN, head) for head in heads]
    agreement = [len(np.intersect1d(e[e >= 0], r[r >= 0])) for e, r in zip(*lists, strict=True)]
    return drawn[np.argsort(agreement, kind="stable")[:count]]


def collect(
    triggers: np.ndarray,
    items: pa.Table,
    popularity: np.ndarray,
    search: Search,
    alpha: int,
    heads: Sequence[str] = HEADS,
) -> list[Example]:
    """Look up the triggers' candidates by the model's `heads` and merge them at `alpha`; `items` row = item number."""
    nothing = np.full((len(triggers), OFFERED), -1, dtype=np.int32)
    engagement, relevance = (_lists(search, triggers, OFFERED, head) if head in heads else nothing for head in HEADS)
    merged = quota_merge([engagement, relevance], quotas_at(alpha), SHOWN)
    found = []
    for row, trigger in enumerate(triggers):
        offers = (set(engagement[row, :SHOWN].tolist()), set(relevance[row, :SHOWN].tolist()))
        origins = [HEADS[number] for number in merged.channel[row]]
        shown = _item(items, int(trigger))
        found.append(
            Example(
                trigger=shown,
                users=int(popularity[trigger]),
                engagement=_candidates(items, shown, engagement[row, :SHOWN], ["engagement"] * SHOWN, offers),
                relevance=_candidates(items, shown, relevance[row, :SHOWN], ["relevance"] * SHOWN, offers),
                merged=_candidates(items, shown, merged.item[row], origins, offers),
            )
        )
    return found


def _lists(search: Search, triggers: np.ndarray, k: int, head: str) -> np.ndarray:
    """The first k candidates of each trigger other than itself, int32 [B, k], -1 where a list ends."""
    ids, scores = search(triggers, k + 1, head)
    return drop_self(ids, scores, triggers)[0].astype(np.int32)


def _candidates(
    items: pa.Table, trigger: Item, ids: np.ndarray, heads: list[str], offers: tuple[set[int], set[int]]
) -> list[Candidate]:
    lines = []
    for number, head in zip(ids.tolist(), heads, strict=False):
        if number < 0:
            continue
        item = _item(items, number)
        fine = tuple(topic for topic in item.l2_topics if topic in trigger.l2_topics)
        coarse = tuple(topic for topic in item.l1_topics if topic in trigger.l1_topics)
        both = number in offers[0] and number in offers[1]
        origin: Literal["engagement", "relevance"] = "engagement" if head == "engagement" else "relevance"
        lines.append(
            Candidate(item, "l2" if fine else "l1" if coarse else "", fine or coarse, "both" if both else origin)
        )
    return lines


def _item(items: pa.Table, number: int) -> Item:
    row = items.slice(number, 1).to_pylist()[0]
    title = (row.get("title") or "").strip() or f"item {row['item_id']}"
    if len(title) > _LONGEST_TITLE:
        title = title[: _LONGEST_TITLE - 1].rstrip() + "…"
    return Item(title, tuple(row.get("l1_topics") or ()), tuple(row.get("l2_topics") or ()))
