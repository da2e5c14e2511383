"""A router and Triton that share no volume with anybody: versions come from a bucket, the log goes
there. The S3 server, Triton and the router are real.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.live_router import POLL, RouterFolder, Traffic, eventually, running
from helpers.processes import triton_ports
from helpers.s3_server import reach, s3_server

from mtmh import object_store
from mtmh.exposures.compact import compact
from mtmh.exposures.read import read
from serving.router import service
from serving.triton import bucket
from serving.triton.supervisor import triton

URL = "s3://bucket/serving/small"


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server's buckets."""
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    monkeypatch.setitem(object_store.RETRIES, "max_retries", 1)
    monkeypatch.setattr(service, "SHIP_PAUSE", POLL)
    with s3_server(tmp_path / "s3") as environment:
        reach(monkeypatch, environment)
        yield tmp_path / "s3"


def test_versions_come_from_the_bucket_and_the_log_goes_there(
    place: RouterFolder, buckets: Path, tmp_path: Path
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    # The first version is deployed before anything starts: Triton's pod fetches it.
    bucket.promote(URL, bucket.install(place.root / "packages" / "1", URL))
    bucket.follow(URL, store)
    settings = [f"bucket={URL}", f"log.directory={log}", f"log.bucket={URL}/log/router-1"]
    settings.append("log.segment_seconds=1")
    with (
        triton(store, triton_ports(), load_champion=False) as server,
        running(store, server.ports, server.secret, *settings) as router,
    ):
        # The next version comes while requests go on: none fails, none is degraded.
        asked = {"triggers": ["i00"], "user_id": "u03", "k": 5}
        with Traffic(router.port, asked) as traffic:
            bucket.promote(URL, bucket.install(place.package("3"), URL))
            eventually(lambda: router.retrieve(**asked)["model_version"] == "3", "version 3 serves")
        answers = [response.json() for response in traffic.answers]
        assert {(each["model_version"], each["degraded"]) for each in answers} <= {
            ("1", False),
            ("3", False),
        }
        # The bucket goes for a while: what serves goes on, what is logged stays on the disk.
        (buckets / "bucket").rename(buckets / "elsewhere")
        logged = router.retrieve(**asked)
        assert (logged["model_version"], logged["exposure_logged"]) == ("3", True)
        (buckets / "elsewhere").rename(buckets / "bucket")
        exposures = len(answers) + 1
    # All that was acknowledged is there, each record once, however often it is fetched.
    assert not list(log.rglob("*.segment"))
    assert not list(log.rglob("*.open"))
    for _ in range(2):
        object_store.fetch(f"{URL}/log", tmp_path / "fetched")
        compact(tmp_path / "fetched", tmp_path / "tables")
    kept = read(tmp_path / "fetched", tmp_path / "tables").exposures.to_pyarrow()
    ids = set(kept["exposure_id"].to_pylist())
    assert {each["exposure_id"] for each in (*answers, logged)} <= ids
    assert len(ids) >= exposures
