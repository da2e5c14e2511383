"""Questions to a version from the command line."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtmh.errors import UserError
from mtmh.retrieval import query
from mtmh.retrieval.retriever import Retriever
from mtmh.retrieval.version import retrieval_settings

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def retriever(version: Make) -> Retriever:
    return query.load(version("mtmh"))


@pytest.fixture(scope="module")
def ids(retriever: Retriever) -> list[str]:
    return [str(item) for item in retriever.items["item_id"].to_pylist()]


def test_similar_shows_each_head_and_the_merge(retriever: Retriever, ids: list[str]) -> None:
    told = query.similar(retriever, ids[0], 4, 50)
    assert list(told) == ["engagement", "relevance", "merged"]
    for found in told.values():
        assert len({one.item_id for one in found}) == len(found) == 4
        assert ids[0] not in {one.item_id for one in found}
    deep = query.similar(
        retriever, ids[0], 20, 50
    )  # at alpha 50 the heads take turns; what both offer counts once
    offered: dict[str, str] = {}
    for pair in zip(deep["engagement"], deep["relevance"], strict=True):
        for one in pair:
            offered.setdefault(one.item_id, one.head)
    assert [(one.item_id, one.head) for one in told["merged"]] == list(offered.items())[:4]


@pytest.mark.parametrize(("alpha", "head"), [(0, "relevance"), (100, "engagement")])
def test_the_ends_of_alpha_are_the_heads(
    retriever: Retriever, ids: list[str], alpha: int, head: str
) -> None:
    told = query.similar(retriever, ids[1], 3, alpha)
    assert told["merged"] == told[head]


def test_a_version_with_one_head_has_no_merge(version: Make, ids: list[str]) -> None:
    assert list(query.similar(query.load(version("engagement")), ids[0], 3, 50)) == ["engagement"]


def test_a_recommendation_names_its_trigger_and_repeats_nothing(
    retriever: Retriever, ids: list[str], version: Make
) -> None:
    history = ids[:3]
    found = query.recommend(retriever, history, 5, 50, retrieval_settings(version("mtmh")))
    assert len(found) == 5
    assert not {one.item_id for one in found} & set(history)
    assert {one.trigger_id for one in found} <= set(history)


def test_an_unknown_item_names_close_ones(retriever: Retriever, ids: list[str]) -> None:
    with pytest.raises(UserError, match=ids[0]):
        query.describe(retriever, ids[0] + "x")


def test_a_test_users_list_comes_as_evaluated(
    version: Make, ids: list[str], tmp_path: Path
) -> None:
    (tmp_path / "retriever").symlink_to(version("mtmh"))
    same = {"trigger_id": ids[0], "head": "relevance", "score": 0.5}
    rows = [
        {"model": model, "user_id": "u1", "rank": rank, "item_id": ids[rank], **same}
        for model in ("merged_alpha_50", "popularity")
        for rank in (2, 1)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "candidates.parquet")
    assert [one.item_id for one in query.evaluated(tmp_path, "u1", 5, 50)] == ids[1:3]
    assert len(query.evaluated(tmp_path, "u1", 1, 50)) == 1
    with pytest.raises(UserError, match="merged_alpha_50"):
        query.evaluated(tmp_path, "u1", 5, 31)
    with pytest.raises(UserError, match="u1"):
        query.evaluated(tmp_path, "nobody", 5, 50)


def test_a_folder_that_is_no_version_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json"):
        query.load(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        query.load(tmp_path / "nowhere")
