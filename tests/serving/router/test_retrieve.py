"""What the router answers, beside what the offline retriever does with the same version and
input.
"""

import numpy as np
import pytest
from helpers.live_router import Router

from mtmh.config import RetrievalSettings
from mtmh.retrieval import query
from mtmh.retrieval.retriever import Retriever
from serving.router import schema

ITEMS = [f"i{number:02d}" for number in range(44)]
OLD = ITEMS[:40]
NEW_TRIGGER = {"item_id": "never seen", "id_features": {"creator_id": "c11"}}


def rows(found: list[query.CandidateLine]) -> list[tuple[str, str, str]]:
    return [(one.item_id, one.head, one.trigger_id) for one in found]


def candidates(answer: dict) -> list[tuple[str, str, str]]:
    return [(one["item_id"], one["head"], one["trigger_id"]) for one in answer["candidates"]]


@pytest.mark.parametrize("alpha", [0, 30, 50, 77.5, 100])
@pytest.mark.parametrize("history", [["i03"], ["i00", "i11", "i25"], OLD[:12]])
def test_the_served_merge_is_the_offline_one(
    router: Router, offline: dict[str, Retriever], history: list[str], alpha: float
) -> None:
    answer = router.retrieve(triggers=history, k=20, alpha=alpha)
    told = query.recommend(offline["1"], history, 20, alpha, RetrievalSettings())
    assert candidates(answer) == rows(told)
    np.testing.assert_allclose(
        [one["score"] for one in answer["candidates"]], [one.score for one in told], rtol=1e-4
    )
    schema.Answer.model_validate(answer, strict=True)


def test_similar_items_are_the_offline_ones(router: Router, offline: dict[str, Retriever]) -> None:
    for item in OLD[::7]:
        answer = router.post("/v1/similar", {"item_id": item, "k": 9, "alpha": 40})
        told = query.similar(offline["1"], item, 9, 40)["merged"]
        assert candidates(answer) == rows(told)
        cosines = [one["score"] for one in answer["candidates"]]
        np.testing.assert_allclose(cosines, [one.score for one in told], atol=1e-5)


def test_every_prefix_holds_its_share_of_the_engagement_head(router: Router) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        alpha, k = float(rng.uniform(0, 100)), int(rng.integers(1, 30))
        triggers = rng.choice(OLD, int(rng.integers(1, 6)), replace=False).tolist()
        answer = router.retrieve(triggers=triggers, k=k, alpha=alpha)
        found = answer["candidates"]
        assert len({one["item_id"] for one in found}) == len(found) == k
        assert answer["alpha"] == alpha
        for head in ("engagement", "relevance"):
            ranks = [one["head_rank"] for one in found if one["head"] == head]
            assert ranks == sorted(set(ranks))
        # A candidate of both heads counts for the one that is due first; the turn of what is shown
        # tells alpha.
        turns = [
            (one["head_rank"] - 0.5)
            / max((alpha if one["head"] == "engagement" else 100 - alpha) / 100, 1e-9)
            for one in found
        ]
        assert turns == sorted(turns)


def test_a_user_gets_what_the_history_in_the_store_says(
    router: Router, offline: dict[str, Retriever]
) -> None:
    from feature_repo.online import online_user_history
    from feature_repo.store import open_store

    package = router.service.versions.serving.live["1"].package  # type: ignore[union-attr]
    history = online_user_history(open_store(package.folder / "features"), ["u03"])[0].item_ids
    answer = router.retrieve(user_id="u03", k=10)
    assert candidates(answer) == rows(
        query.recommend(offline["1"], history, 10, 50, RetrievalSettings())
    )
    assert not {one["item_id"] for one in answer["candidates"]} & set(history)
    both = router.retrieve(user_id="u03", triggers=["i00"], k=30)
    assert {one["trigger_id"] for one in both["candidates"]} == {"i00"}
    assert not {one["item_id"] for one in both["candidates"]} & {*history, "i00"}
    shown = router.retrieve(user_id="u03", triggers=["i00"], k=43, filters={"exclude_seen": False})
    assert {one["item_id"] for one in shown["candidates"]} & set(history)


def test_without_exclusion_one_trigger_may_retrieve_another(router: Router) -> None:
    asked = {"triggers": ["i00", "i02"], "k": 43}
    assert not {"i00", "i02"} & {one["item_id"] for one in router.retrieve(**asked)["candidates"]}
    free = router.retrieve(**asked, filters={"exclude_seen": False})["candidates"]
    assert {"i00", "i02"} <= {one["item_id"] for one in free}


def test_topics_sift_both_heads_before_the_merge(router: Router) -> None:
    def subject(item: str) -> str:
        return f"subject {int(item[1:]) // 10 % 2}"

    everything = {one["item_id"] for one in router.retrieve(triggers=["i00"], k=43)["candidates"]}
    only = router.retrieve(triggers=["i00"], k=10, filters={"allow_topics": ["subject 1"]})[
        "candidates"
    ]
    assert len(only) == 10  # filled up, from further down
    assert {subject(one["item_id"]) for one in only} == {"subject 1"}
    ranks = [one["head_rank"] for one in only if one["head"] == "engagement"]
    assert ranks[0] == 1  # places in the sifted list
    none = router.retrieve(
        triggers=["i00"], k=43, filters={"deny_topics": ["subject 1", "never heard of"]}
    )
    assert {one["item_id"] for one in none["candidates"]} == {
        i for i in everything if subject(i) == "subject 0"
    }
    assert (
        router.retrieve(triggers=["i00"], filters={"allow_topics": ["never heard of"]})[
            "candidates"
        ]
        == []
    )
    both = {"allow_topics": ["all"], "deny_topics": ["subject 0"]}
    kept = router.retrieve(triggers=["i00"], k=43, filters=both)["candidates"]
    assert {one["item_id"] for one in kept} == {i for i in everything if subject(i) == "subject 1"}


def test_an_age_that_no_item_has_is_said_to_be_no_filter(router: Router) -> None:
    answer = router.retrieve(422, triggers=["i00"], filters={"max_age_hours": 24})
    assert "max_age_hours" in answer["error"]


@pytest.mark.parametrize(
    "asked",
    [
        {"user_id": "nobody"},
        {"triggers": ["nothing"]},
        {"triggers": []},
        {"user_id": "nobody", "triggers": []},
    ],
)
def test_the_unknown_is_an_answer_without_candidates(router: Router, asked: dict) -> None:
    empty = router.metric("mtmh_empty_answers_total")
    answer = router.retrieve(**asked)
    assert (answer["candidates"], answer["degraded"]) == ([], False)
    assert router.metric("mtmh_empty_answers_total") == empty + 1


def test_an_unknown_trigger_adds_nothing_and_is_counted(router: Router) -> None:
    cold = router.metric("mtmh_cold_triggers_total")
    mixed = router.retrieve(triggers=["nothing", "i03", "i03"], k=10)
    assert candidates(mixed) == candidates(router.retrieve(triggers=["i03"], k=10))
    assert router.metric("mtmh_cold_triggers_total") == cold + 1


def test_an_unseen_item_is_placed_by_its_features(router: Router) -> None:
    answer = router.retrieve(triggers=[NEW_TRIGGER], k=5)
    assert {one["trigger_id"] for one in answer["candidates"]} == {"never seen"}
    assert len(answer["candidates"]) == 5
    nearest = router.post("/v1/similar", {"item_id": NEW_TRIGGER, "k": 5})
    assert len(nearest["candidates"]) == 5
    wrong = NEW_TRIGGER | {"id_features": {"creator": "c11"}}
    assert "creator_id" in router.retrieve(422, triggers=[wrong])["error"]
    of_a_known = {
        "item_id": "i00",
        "content": [-1e29],
        "id_features": {"any": "x"},
    }  # known: its own features count
    assert candidates(router.retrieve(triggers=[of_a_known])) == candidates(
        router.retrieve(triggers=["i00"])
    )
    huge = NEW_TRIGGER | {"content": [1e30] * 6}
    assert router.retrieve(triggers=[huge], k=5)["candidates"]
    short = NEW_TRIGGER | {"content": [1.0]}
    assert "6" in router.retrieve(422, triggers=[short])["error"]


def test_a_batch_is_its_requests_in_order(router: Router) -> None:
    asked = [
        {"triggers": ["i00"], "k": 3},
        {"triggers": ["i01"], "k": 400},
        {"triggers": ["i02"], "k": 4},
        {},
    ]
    answers = router.post("/v1/retrieve/batch", {"requests": asked})["answers"]
    for one, answer in zip(asked[:3], answers, strict=False):
        assert candidates(answer) == candidates(router.retrieve(**one))
    assert answers[3]["status"] == 422
    assert len({answer["request_id"] for answer in answers}) == 4


def test_the_merge_is_measured(router: Router) -> None:
    names = ("mtmh_merged_candidates_total", "mtmh_duplicates_removed_total", "mtmh_triggers_total")
    before = [
        router.metric(names[0], head="engagement"),
        router.metric(names[1]),
        router.metric(names[2]),
    ]
    answer = router.retrieve(triggers=["i00", "i01"], k=30)
    own = [one for one in answer["candidates"] if one["head"] == "engagement"]
    other = [one for one in answer["candidates"] if one["head"] == "relevance"]
    passed = own[-1]["head_rank"] - len(own) + other[-1]["head_rank"] - len(other)
    after = [
        router.metric(names[0], head="engagement"),
        router.metric(names[1]),
        router.metric(names[2]),
    ]
    assert np.subtract(after, before).tolist() == [len(own), passed, 2]
    assert passed > 0
    page = router.client.get("/metrics").text
    assert 'mtmh_stage_seconds_bucket{le="0.001",stage="merge"}' in page
    assert router.metric("mtmh_model_version_loaded", version="1", champion="true") == 1


def test_what_the_merge_went_through_of_each_head_is_what_alpha_gives_it(router: Router) -> None:
    def counted() -> np.ndarray:
        names, heads = ("mtmh_offers_total", "mtmh_quota_offers_total"), ("engagement", "relevance")
        return np.array([[router.metric(name, head=head) for head in heads] for name in names])

    before = counted()
    answer = router.retrieve(triggers=["i00"], k=20, alpha=30)
    offers, quota = counted() - before
    assert offers.sum() > len(answer["candidates"])  # some were offered twice
    assert quota == pytest.approx(offers.sum() * np.array([0.3, 0.7]))
    assert offers == pytest.approx(quota, abs=1)
