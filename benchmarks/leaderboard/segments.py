"""What the lists of a model hold by segments of the catalog: popular items, the tail, cold and
fresh ones, as candidates and as the triggers that brought candidates in.

Popular are the fewest items that have half of T1's engagements; the tail is the rest of what T1
knows. Cold and fresh are those of `mtmh.evaluation.evaluate.Test.of`.
"""

from collections.abc import Mapping

import numpy as np

from mtmh.evaluation.evaluate import Test
from mtmh.evaluation.metrics import RECALL_AT, recall_at, recall_of, topic_matches
from mtmh.retrieval.retriever import Pool

Segments = dict[str, dict[str, dict[str, float]]]  # segment -> side -> figure -> value
SIDES = ("candidates", "triggers")
HEAD_SHARE = 0.5  # of T1's engagements: what popular items have together


def popular_and_tail(popularity: np.ndarray) -> dict[str, np.ndarray]:
    """bool [items] of each: `popularity` int [items], engagements in T1.

    Of items with as many engagements as the last popular one, those of the lower row are popular.
    """
    # Items by how much is engaged with more often: popular until that is half of all.
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    popular = np.zeros(len(popularity), bool)
    popular[order] = before < HEAD_SHARE * popularity.sum()
    popular &= popularity > 0
    return {"popular": popular, "tail": (popularity > 0) & ~popular}


def segments(pool: Pool, test: Test, groups: Mapping[str, np.ndarray]) -> Segments:
    """The figures of each group of items, bool [items], in the lists of all users.

    Both sides: `share` of all (trigger, candidate) pairs, and `l2_relevance` of those. As
    candidates: `recall` at 500 of the targets that are of the group, a mean over the users who have
    some. As triggers: `recall`, the part of all users' recall at 500 that came by them; over
    segments that divide the triggers, it adds up to the whole. A figure with nothing to measure is
    left out.
    """
    by_segment: Segments = {}
    present = pool.item >= 0
    for name, chosen in groups.items():
        by_segment[name] = {}
        for side, ids in zip(SIDES, (pool.item, pool.trigger), strict=True):
            pairs = present & chosen[ids]
            # The list with the segment's pairs alone; order and places stay.
            item = np.where(pairs, pool.item, -1)
            figures = {"share": float(pairs.sum() / max(present.sum(), 1))}
            # Recall of the targets there, or what came by the triggers there.
            if side == "candidates":
                recall = recall_of(pool.item, *test.targets, chosen, RECALL_AT[-1])
                recall = recall[~np.isnan(recall)]
            else:
                recall = recall_at(item, *test.targets, RECALL_AT)[:, -1]
            if len(recall):
                figures["recall"] = float(recall.mean())
            if test.l2_bits is not None and pairs.any():
                matches = topic_matches(item, pool.trigger, test.l2_bits).sum()
                figures["l2_relevance"] = float(matches / pairs.sum())
            by_segment[name][side] = {figure: round(value, 5) for figure, value in figures.items()}
    return by_segment
