"""The figures of a model by segments of the catalog, against loops over every pair."""

import numpy as np
import pytest

from benchmarks.leaderboard.segments import popular_and_tail, segments
from mtmh.evaluation.evaluate import Test as UsersOfT2
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Pool

ITEMS, USERS, SIZE = 12, 30, 5
rng = np.random.default_rng(0)
TOPICS = rng.integers(1, 8, (ITEMS, 1)).astype(np.uint64)
POPULAR = np.arange(ITEMS) < 3
GROUPS = {"popular": POPULAR, "tail": ~POPULAR & (np.arange(ITEMS) < 9)}
GROUPS["cold"] = np.arange(ITEMS) >= 9


def lists() -> tuple[Pool, UsersOfT2]:
    """Random lists, some of them short; triggers among what is not cold."""
    item = np.stack([rng.permutation(ITEMS)[:SIZE] for _ in range(USERS)]).astype(np.int32)
    item[:7, 3:] = -1
    trigger = np.where(item >= 0, rng.integers(0, 9, item.shape), -1).astype(np.int32)
    targets = Ragged.of([rng.permutation(ITEMS)[: 1 + row % 3] for row in range(USERS)])
    test = UsersOfT2(
        users=np.arange(USERS, dtype=np.int32),
        triggers=Ragged.of([[0]] * USERS),
        seen=Ragged.of([[0]] * USERS),
        targets=targets,
        l1_bits=None,
        l2_bits=TOPICS,
        content=np.zeros((ITEMS, 2), np.float32),
        item_groups={},
    )
    return Pool(
        item, np.zeros(item.shape, np.float32), trigger, np.zeros(item.shape, np.int8)
    ), test


def test_popular_items_are_the_fewest_with_half_of_the_engagements() -> None:
    groups = popular_and_tail(np.array([1, 5, 3, 1, 0]))
    assert groups["popular"].tolist() == [False, True, False, False, False]
    assert groups["tail"].tolist() == [True, False, True, True, False]
    # One more than half is needed where one alone has less; the lower row of equals is popular.
    assert popular_and_tail(np.array([2, 2, 2, 0]))["popular"].tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert not popular_and_tail(np.zeros(3, np.int64))["popular"].any()


@pytest.mark.parametrize("name", GROUPS)
def test_each_figure_is_that_of_a_loop_over_the_pairs(name: str) -> None:
    pool, test = lists()
    chosen, figures = GROUPS[name], segments(pool, test, GROUPS)[name]
    pairs = [
        (user, item, trigger)
        for user in range(USERS)
        for item, trigger in zip(pool.item[user], pool.trigger[user], strict=True)
        if item >= 0
    ]
    wanted = [set(row.tolist()) for row in np.split(test.targets.values, test.targets.indptr[1:-1])]
    for side, column in (("candidates", 1), ("triggers", 2)):
        own = [pair for pair in pairs if chosen[pair[column]]]
        assert figures[side]["share"] == pytest.approx(len(own) / len(pairs), abs=1e-5)
        if not own:
            assert "l2_relevance" not in figures[side]
            continue
        alike = [bool(TOPICS[item, 0] & TOPICS[trigger, 0]) for _, item, trigger in own]
        assert figures[side]["l2_relevance"] == pytest.approx(np.mean(alike), abs=1e-5)
    # Recall of the segment's targets, over the users who have one; and what its triggers brought.
    of_targets, by_triggers = [], []
    for user, targets in enumerate(wanted):
        hits = [(item, trigger) for row, item, trigger in pairs if row == user and item in targets]
        if own_targets := {item for item in targets if chosen[item]}:
            of_targets.append(len({item for item, _ in hits} & own_targets) / len(own_targets))
        by_triggers.append(sum(bool(chosen[trigger]) for _, trigger in hits) / len(targets))
    assert figures["candidates"]["recall"] == pytest.approx(np.mean(of_targets), abs=1e-5)
    assert figures["triggers"]["recall"] == pytest.approx(np.mean(by_triggers), abs=1e-5)


def test_what_the_segments_triggers_brought_adds_up_to_all_recall() -> None:
    pool, test = lists()
    figures = segments(pool, test, {**GROUPS, "all": np.ones(ITEMS, bool)})
    assert sum(figures[name]["triggers"]["recall"] for name in GROUPS) == pytest.approx(
        figures["all"]["triggers"]["recall"], abs=3e-5
    )
