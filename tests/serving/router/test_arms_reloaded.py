"""Arms and limits that come with a changed configuration, without a restart."""

from pathlib import Path

import yaml
from helpers.live_router import RouterFolder, Run, eventually
from helpers.merged_items import ASKED, items_of, offline_items

from mtmh.config import RetrievalSettings
from mtmh.experiment.arms import Arm, assign
from mtmh.retrieval import query
from mtmh.retrieval.retriever import Retriever


def test_arms_come_with_a_configuration_without_a_restart(
    run_router: Run, place: RouterFolder, offline: dict[str, Retriever], tmp_path: Path
) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("")

    def configure(arms: list[dict]) -> None:
        config.write_text(yaml.safe_dump({"experiment": {"salt": "s1", "arms": arms}}))

    with run_router(config=config) as router:
        assert router.retrieve(**ASKED, user_id="u03")["arm"] == "none"
        arms = [
            {"name": "control"},
            {"name": "relevant", "alpha": 0},
            {"name": "other", "version": "2", "k_ann": 7},
        ]
        configure(arms)
        expected = [Arm(**arm) for arm in arms]
        eventually(
            lambda: router.retrieve(**ASKED, user_id="u03")["arm"] != "none", "the arms are in use"
        )
        seen = {}
        for user in (f"user {n}" for n in range(60)):
            answer = router.retrieve(**ASKED, user_id=user)
            assert answer["arm"] == assign(user, "s1", expected).name
            seen[answer["arm"]] = answer
        assert set(seen) == {"control", "relevant", "other"}
        assert (seen["relevant"]["alpha"], seen["control"]["alpha"]) == (0, 50)
        assert [seen[name]["model_version"] for name in ("control", "other")] == ["1", "2"]
        assert items_of(seen["control"]) == offline_items(offline["1"], 50)
        narrow = query.recommend(
            offline["2"], ASKED["triggers"], 12, 50, RetrievalSettings(k_ann=7)
        )  # type: ignore[arg-type]
        assert items_of(seen["other"]) == [one.item_id for one in narrow]
        assert router.retrieve(**ASKED, user_id="user 1", alpha=20)["alpha"] == 20
        assert router.retrieve(**ASKED)["arm"] == "none"  # of nobody in particular

        refused = router.metric("mtmh_config_reloads_total", outcome="refused")
        config.write_text("experiment: {arms: [{nmae: x}]}")
        eventually(
            lambda: router.metric("mtmh_config_reloads_total", outcome="refused") > refused,
            "it is refused",
        )
        assert (
            router.retrieve(**ASKED, user_id="user 1")["arm"]
            == assign("user 1", "s1", expected).name
        )
        configure([{"name": "nowhere", "version": "99"}])
        eventually(
            lambda: "99" in router.client.get("/readyz").json()["refused"],
            "a version that is not there",
        )
        assert router.retrieve(**ASKED, user_id="u03")["arm"] in seen  # the old arms go on
        configure([{"name": "all"}])
        eventually(lambda: router.retrieve(**ASKED, user_id="u03")["arm"] == "all", "new arms")


def test_limits_change_with_the_configuration(run_router: Run, tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("limits: {k: 100}")
    with run_router(config=config) as router:
        router.retrieve(**ASKED | {"k": 60})
        config.write_text(
            "limits: {k: 50}\nlisten: {port: 1}"
        )  # the port needs a restart and stays
        eventually(
            lambda: router.client.post("/v1/retrieve", json=ASKED | {"k": 60}).status_code == 422,
            "k 50",
        )
        router.retrieve(**ASKED)
