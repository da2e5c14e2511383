"""Histories that cannot be read, exposures and engagements that can or cannot be kept."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_router import Place, Router, Run, eventually, free_ports

from mtmh.experiment.log import read_records


@pytest.fixture
def redis_store(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen]:
    pass


def test_a_store_that_cannot_be_read_costs_users_and_nobody_else(run_router: Run, place: Place, tmp_path: Path) -> None:
    features = tmp_path / "features"
    shutil.copytree(place.features, features)
    (features / "online.db").write_bytes(b"this is no database" * 100)
    with run_router(f"features.directory={features}") as router:
        response = router.client.post("/v1/retrieve", json={"user_id": "u03"})
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert "history" in response.json()["error"]
        answer = router.retrieve(user_id="u03", triggers=["i00"], k=5)
        assert (answer["degraded"], answer["missing"], len(answer["candidates"])) == (True, ["history"], 5)
        assert not router.retrieve(triggers=["i00"])["degraded"]
        free = router.retrieve(user_id="u03", triggers=["i00"], filters={"exclude_seen": False})
        assert not free["degraded"]  # no history was needed
        shutil.copy(place.features / "online.db", features / "online.db")
        eventually(lambda: router.client.post("/v1/retrieve", json={"user_id": "u03"}).status_code == 200, "it is back")
        assert router.retrieve(user_id="u03", k=5)["candidates"]
