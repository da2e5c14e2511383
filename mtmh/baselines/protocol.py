"""Baselines in the project's own offline protocol (paper section 6): the users, triggers, lists and
metrics of `mtmh.evaluation.evaluate`, and recall on warm and on cold targets apart."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mtmh.baselines.contract import Baseline
from mtmh.config import RetrievalSettings
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import Test, measure, summary
from mtmh.retrieval.retriever import Pool, Request, pool_lists, pool_users

# What the leaderboard shows of a model, as in metrics.json; warm targets are those of T1's items.
FIGURES = (
    "recall_at_5",
    "recall_at_20",
    "recall_at_100",
    "recall_at_500",
    "warm_recall_at_500",
    "cold_recall_at_500",
    "l1_relevance",
    "l2_relevance",
    "coverage",
    "cold_share",
)


def load_test(
    data: Prepared, content: Path, settings: RetrievalSettings, fresh_hours: float
) -> Test:
    """The test users of `data`, their last `settings.triggers` items as triggers; what they have
    seen is excluded. The groups of items are cold, fresh, and warm besides."""
    test = Test.of(data, np.load(content / "content.npy"), settings.triggers, fresh_hours)
    return replace(test, item_groups={**test.item_groups, "warm": data.in_train})


def evaluate_baseline(
    model: Baseline, test: Test, settings: RetrievalSettings, temperature: float | None
) -> Mapping[str, float | None]:
    """The FIGURES of one model over all test users; None where the data has nothing to measure."""
    request = Request.of(test.triggers, test.seen, settings)
    pool = pool_of(model, request, len(test.content), temperature)
    figures = summary(measure(pool, test), pool, test)
    return {name: figures[name] for name in FIGURES}


def pool_of(model: Baseline, request: Request, n_items: int, temperature: float | None) -> Pool:
    """Each user's first `request.size` candidates from the lists of the triggers.

    With a temperature, by p(candidate | user) as the heads are pooled (`pool_lists`); with None, by
    the sum of the scores over the triggers, which is how neighbour models rank. A preranker has no
    part in it, and a cold item is where the model itself has it.
    """
    # Users share triggers: each distinct one is asked for once.
    distinct = np.unique(request.triggers.values)
    lists = model.similar_items(distinct, min(request.k_ann, n_items - 1))
    if temperature is not None:
        tempered = replace(request, temperature=temperature)
        return pool_lists(distinct, lists, tempered, request.size, n_items)
    ids, scores = lists
    list_of = np.full(n_items, -1, dtype=np.int64)
    list_of[distinct] = np.arange(len(distinct))
    # A vote is the score itself; behind a list's end there is none.
    votes = np.where(ids >= 0, scores, np.float32(0))
    item, score, trigger = pool_users(
        request.triggers, request.seen, list_of, ids, scores, votes, request.size
    )
    return Pool(item, score, trigger, np.where(item >= 0, 0, -1).astype(np.int8))
