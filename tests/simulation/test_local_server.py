"""The retriever as the platform's server: what it answers is what retrieval answers, in the world's
numbers.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.checkerboard import ITEMS, item_id, retrieval_settings

from mtmh.errors import UserError
from mtmh.experiment.arms import Arm
from mtmh.ragged import Ragged
from mtmh.retrieval import query
from mtmh.retrieval.retriever import Request, Retriever
from simulation.local_server import LocalServer

Make = Callable[[str], Path]
ARMS = (Arm(name="engagement-only", alpha=100), Arm(name="mtmh", alpha=50))
SETTINGS = retrieval_settings()


@pytest.fixture(scope="module")
def retriever(version: Make) -> Retriever:
    return query.load(version("mtmh"))


@pytest.fixture(scope="module")
def items() -> pa.Table:
    """Its items in another order than the version's, and one more that the version does not
    know.
    """
    return pa.table({"item_id": [item_id(number) for number in range(ITEMS, -1, -1)]})


def number(row: np.ndarray) -> np.ndarray:
    """The world's number of a version's row."""
    return np.where(row >= 0, ITEMS - row, -1)


def test_answers_are_the_retrievers_in_each_arm(retriever: Retriever, items: pa.Table) -> None:
    rng, users, k = np.random.default_rng(0), 30, 10
    rows = [rng.permutation(40)[: rng.integers(1, 12)].astype(np.int32) for _ in range(users)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    asked = Ragged(indptr, number(np.concatenate(rows)).astype(np.int32))
    arms = rng.integers(2, size=users)
    slates = LocalServer(retriever, SETTINGS, items, ARMS).answer(np.arange(users), asked, arms, k)

    newest = [row[: SETTINGS.triggers] for row in rows]
    triggers, seen = Ragged.of(newest), Ragged.of([np.sort(row) for row in newest])
    request = replace(Request.of(triggers, seen, SETTINGS), size=k)
    pools = list(retriever.pools(request).values())
    for arm, alpha in enumerate((100, 50)):
        merged, own = retriever.recommend(request, alpha), arms == arm
        np.testing.assert_array_equal(slates.item[own], number(merged.item)[own])
        np.testing.assert_array_equal(slates.trigger[own], number(merged.trigger)[own])
        np.testing.assert_array_equal(slates.head[own], merged.channel[own])
        there = slates.item >= 0
        np.testing.assert_allclose(
            slates.score[own & there.any(1)][there[own]], merged.score[own][there[own]], rtol=1e-6
        )
    for pool, head in zip(
        pools, range(2), strict=True
    ):  # a rank is the place in the head's own list
        user, place = np.nonzero(slates.head == head)
        found = pool.item[user, slates.head_rank[user, place] - 1]
        np.testing.assert_array_equal(number(found), slates.item[user, place])


def test_triggers_that_are_not_served_yet_are_passed_over(
    retriever: Retriever, items: pa.Table
) -> None:
    server = LocalServer(retriever, SETTINGS, items, ARMS)
    unknown = 0  # item ITEMS, which the version does not hold
    one = server.answer(np.array([4]), Ragged.of([[unknown, 7]]), np.array([1]), 5)
    other = server.answer(np.array([9]), Ragged.of([[7]]), np.array([1]), 5)
    np.testing.assert_array_equal(one.item, other.item)
    nothing = server.answer(np.array([4]), Ragged.of([[unknown]]), np.array([1]), 5)
    assert (nothing.item == -1).all()


def test_a_refresh_takes_in_what_is_published_and_not_served(
    retriever: Retriever, items: pa.Table
) -> None:
    taken: list[list[str]] = []

    def add_new(kept: Retriever, new: pa.Table) -> Retriever:
        taken.append(new["item_id"].to_pylist())
        return kept

    server = LocalServer(retriever, SETTINGS, items, ARMS, add_new)
    server.refresh(1)
    assert taken == [[item_id(ITEMS)]]
    LocalServer(retriever, SETTINGS, items.slice(1), ARMS, add_new).refresh(
        ITEMS
    )  # all are there: nothing to do
    assert len(taken) == 1


def test_a_version_of_another_world_or_with_one_head_is_refused(
    retriever: Retriever, version: Make, items: pa.Table
) -> None:
    with pytest.raises(UserError, match=r"holds item 'i\d\d', which is not of this world"):
        LocalServer(retriever, SETTINGS, items.slice(5), ARMS)
    with pytest.raises(UserError, match="no relevance head"):
        LocalServer(query.load(version("engagement")), SETTINGS, items, ARMS)
