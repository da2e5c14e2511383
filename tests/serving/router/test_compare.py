"""What the page asks: both heads' lists beside the merge, items to choose from."""

from pathlib import Path

import pytest
from helpers.live_router import Router, Run

from mtmh.config import RetrievalSettings
from mtmh.retrieval import query
from mtmh.retrieval.retriever import Retriever
from serving.router import schema


def test_the_merge_is_the_one_that_retrieve_answers(router: Router) -> None:
    asked = {"triggers": ["i03", "i14"], "k": 12, "alpha": 40}
    told, answer = router.post("/v1/compare", asked), router.retrieve(**asked)
    schema.Comparison.model_validate(told, strict=True)
    merged = [
        {key: row[key] for key in row if key != "topic_match"} for row in told["lists"]["merged"]
    ]
    # Scores up to what a batch of another size changes in the last digit.
    assert merged == [
        {**one, "score": pytest.approx(one["score"], rel=1e-6)} for one in answer["candidates"]
    ]
    for head in ("engagement", "relevance"):
        rows = told["lists"][head]
        assert [row["head_rank"] for row in rows] == list(range(1, 13))
        assert [row["score"] for row in rows] == sorted(
            (row["score"] for row in rows), reverse=True
        )
        taken = {
            row["head_rank"]: row["item_id"]
            for row in told["lists"]["merged"]
            if row["head"] == head
        }
        assert taken.items() <= {row["head_rank"]: row["item_id"] for row in rows}.items()
    named = {row["item_id"] for rows in told["lists"].values() for row in rows}
    assert set(told["items"]) == named | {"i03", "i14"}


def test_the_heads_lists_are_the_offline_ones(
    router: Router, offline: dict[str, Retriever]
) -> None:
    told = router.post("/v1/compare", {"triggers": ["i03"], "k": 8})
    for head, alpha in (("engagement", 100), ("relevance", 0)):
        alone = query.recommend(offline["1"], ["i03"], 8, alpha, RetrievalSettings())
        assert [row["item_id"] for row in told["lists"][head]] == [one.item_id for one in alone]


def test_a_topic_match_is_that_of_the_finest_level(router: Router) -> None:
    told = router.post("/v1/compare", {"triggers": ["i03"], "k": 20})
    for rows in told["lists"].values():
        for row in rows:
            same = told["items"][row["item_id"]]["l2_topics"] == told["items"]["i03"]["l2_topics"]
            assert row["topic_match"] == ("l2" if same else "l1")  # all share "all"


def test_of_unseen_triggers_nothing_is_made_up(router: Router) -> None:
    told = router.post("/v1/compare", {"triggers": ["unseen"]})
    assert told["triggers"] == ["unseen"]
    assert told["items"] == {}
    assert told["heads"] == ["engagement", "relevance"]
    assert told["lists"] == {"engagement": [], "relevance": [], "merged": []}
    content = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    told = router.post(
        "/v1/compare", {"triggers": [{"item_id": "unseen", "content": content}], "k": 5}
    )
    assert {row["topic_match"] for row in told["lists"]["merged"]} == {None}


def test_looking_exposes_nobody(run_router: Run, tmp_path: Path) -> None:
    with run_router(f"log.directory={tmp_path}") as router:
        assert router.post("/v1/compare", {"user_id": "u00"})["lists"]["merged"]
        assert router.metric("mtmh_exposures_total", logged="true") == 0
        assert router.retrieve(user_id="u00")["exposure_logged"]
        assert router.metric("mtmh_exposures_total", logged="true") == 1


def test_items_are_found_by_title_and_id_in_any_case(router: Router) -> None:
    def found(**query: str | int) -> list[str]:
        answer = router.client.get("/v1/items", params=query).json()
        schema.Items.model_validate(answer)
        return [item["item_id"] for item in answer["items"]]

    assert found(q="ITEM 12") == ["i12"]
    assert found(q="I12") == ["i12"]
    assert found(q="item 1", limit=3) == ["i01", "i10", "i11"]
    assert found(q="nothing has this") == []
    assert len(found(limit=7)) == 7
    schema.Samples.model_validate(router.client.get("/v1/samples").json())
