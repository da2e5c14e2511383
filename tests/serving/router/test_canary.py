"""A canary: a share of the users get another version, the same users every time, and no answer
mixes the two.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.live_router import Router, RouterFolder, Run, eventually

from mtmh.errors import UserError
from mtmh.experiment.arms import BUCKETS, bucket
from mtmh.retrieval.retriever import Retriever
from serving.triton.served import Served
from serving.triton.store import CHAMPION, promote, serve, served

ASKED = {"triggers": ["i00", "i11", "i25"], "k": 12}
USERS = [f"user {number}" for number in range(60)]


def health(router: Router) -> tuple[str, str | None, float]:
    told = router.client.get("/readyz").json()
    return told["model_version"], told["canary"], told["canary_share"]


def ids(answer: dict[str, Any]) -> list[str]:
    return [candidate["item_id"] for candidate in answer["candidates"]]


def test_a_share_of_the_users_get_the_canary_until_it_ends(
    run_router: Run, place: RouterFolder, offline: dict[str, Retriever], tmp_path: Path
) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("experiment: {arms: null}\n")
    with run_router(config=config) as router:
        serve(place.store, Served("1", "2", 0.3))
        eventually(lambda: health(router) == ("1", "2", 0.3), "the canary serves")
        answers = {user: router.retrieve(**ASKED, user_id=user) for user in USERS}
        chosen = {user for user in USERS if bucket(user, "canary 2 ") < 0.3 * BUCKETS}
        assert 0 < len(chosen) < len(USERS)
        assert {user for user in USERS if answers[user]["model_version"] == "2"} == chosen
        for user, answer in answers.items():
            # All of an answer is of its version: nothing is merged across the two.
            version = answer["model_version"]
            assert ids(router.retrieve(**ASKED, user_id=user)) == ids(answer)
            known = offline[version].items["item_id"].to_pylist()
            assert {c["item_id"] for c in answer["candidates"]} <= set(known)
            similar = router.post("/v1/similar", {"item_id": "i00", "user_id": user})
            assert similar["model_version"] == version
        by_version = [
            [c["item_id"] for c in next(a for a in answers.values() if a["model_version"] == v)["candidates"]]
            for v in ("1", "2")
        ]  # fmt: skip
        assert by_version[0] != by_version[1]
        # Requests for nobody in particular are split as well, each by itself.
        versions = {router.retrieve(**ASKED)["model_version"] for _ in range(60)}
        assert versions == {"1", "2"}
        for version in ("1", "2"):
            assert router.metric("mtmh_version_seconds_count", version=version) > 0
            assert router.metric("mtmh_version_candidates_total", version=version) > 0
            assert router.metric("mtmh_version_degraded_answers_total", version=version) == 0
        # Users of an experiment get their arm's version alone.
        arms = [{"name": "all", "alpha": 30}]
        config.write_text(yaml.safe_dump({"experiment": {"salt": "s", "arms": arms}}))
        eventually(
            lambda: (
                {router.retrieve(**ASKED, user_id=user)["model_version"] for user in chosen}
                == {"1"}
            ),
            "the experiment begins",
        )
        config.write_text("experiment: {arms: null}\n")
        eventually(
            lambda: router.retrieve(**ASKED, user_id=min(chosen))["model_version"] == "2",
            "the experiment ends",
        )
        promote(place.store, "2")
        eventually(lambda: health(router) == ("2", None, 0.0), "all have it")
        assert {router.retrieve(**ASKED, user_id=user)["model_version"] for user in USERS} == {"2"}
        labels = {"version": "1"}
        registry = router.service.metrics.registry
        eventually(
            lambda: registry.get_sample_value("mtmh_version_seconds_count", labels) is None,
            "the figures of a version that is unloaded go with it",
        )


def test_a_canary_that_is_not_there_changes_nothing_and_is_named(
    run_router: Run, place: RouterFolder
) -> None:
    with run_router() as router:
        draft = place.store / ".draft"
        draft.write_text("1\ncanary 77 0.5\n")
        draft.replace(place.store / CHAMPION)
        eventually(lambda: router.client.get("/readyz").json()["refused"], "it is refused")
        assert health(router) == ("1", None, 0.0)
        assert {router.retrieve(**ASKED, user_id=u)["model_version"] for u in USERS[:20]} == {"1"}


@pytest.mark.parametrize("share", [0.0, 1.0, 0.00001, -0.1])
def test_a_share_of_nobody_or_of_all_is_refused(share: float, place: RouterFolder) -> None:
    with pytest.raises(UserError, match="share is from"):
        serve(place.store, Served("1", "2", share))
    assert served(place.store) == Served("1")


@pytest.mark.parametrize("text", ["1\n2\n", "canary 2 0.1", "1\ncanary 2", "1\ncanary 2 5", "1 2"])
def test_a_file_that_says_something_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="which is no version"):
        Served.read(text, "the store's champion")
    named = Served("7", "8", 0.0001)
    assert Served.read(named.text, "") == named
