"""The store in a bucket of a real S3 server: put, rolled out, mirrored by those who serve."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_api import StandIn
from helpers.cluster_api import running as cluster_running
from helpers.cluster_pods import Trouble
from helpers.s3_server import reach, s3_server
from helpers.small_cluster import cluster
from helpers.small_package import write_small_package

from mtmh import object_store
from mtmh.errors import UserError
from serving.cluster.pods import RolloutError
from serving.cluster.rollout import roll_out
from serving.triton import bucket, store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with s3_server(folder) as environment:
        yield folder / "bucket", environment


@pytest.fixture
def url(
    server: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A store with the versions 7, 8 and 9, none of which serves."""
    reach(monkeypatch, server[1])
    monkeypatch.setitem(object_store.RETRIES, "max_retries", 1)
    location = f"s3://bucket/{tmp_path.name}"
    for version in ("7", "8", "9"):
        bucket.install(write_small_package(tmp_path / version, version), location)
    return location


def test_the_same_package_again_changes_nothing_and_another_of_its_number_is_refused(
    url: str, tmp_path: Path
) -> None:
    before = object_store.fingerprint(url)
    assert bucket.install(tmp_path / "7", url) == "7"
    assert object_store.fingerprint(url) == before
    other = write_small_package(tmp_path / "other", "7", alpha=30)
    with pytest.raises(UserError, match=f"{url} has another package as version 7"):
        bucket.install(other, url)


def test_a_package_that_was_put_in_part_is_none(url: str, tmp_path: Path) -> None:
    """Its manifest comes last; the next try makes it whole."""
    package = write_small_package(tmp_path / "10", "10")
    object_store.write(f"{url}/packages/10/serving.json", b"{")
    assert bucket.versions(url) == ["7", "8", "9"]
    with pytest.raises(UserError, match="packages/10 holds no manifest"):
        bucket.promote(url, "10")
    bucket.install(package, url)
    bucket.mirror(url, tmp_path / "store", ["10"])
    store.verify(tmp_path / "store", "10")


def test_a_router_follows_the_champion_and_keeps_what_arms_name(url: str, tmp_path: Path) -> None:
    place = tmp_path / "store"
    bucket.follow(url, place)
    assert store.champion_named_us(place) == 0
    for number in ("7", "8", "9"):
        bucket.promote(url, number)
        bucket.follow(url, place, pinned=["7"])
        assert store.champion(place) == bucket.champion(url) == number
        assert store.champion_named_us(place) == bucket.champion_named_us(url)
        store.verify(place, number)
    assert store.versions(place) == ["7", "8", "9"]
    bucket.promote(url, "7")
    bucket.follow(url, place)
    assert (store.champion(place), store.versions(place)) == ("7", ["7", "8", "9"])
    bucket.promote(url, bucket.install(write_small_package(tmp_path / "10", "10"), url))
    bucket.follow(url, place)
    assert (store.champion(place), store.versions(place)) == ("10", ["8", "9", "10"])


def test_what_is_not_as_it_was_made_is_not_mirrored(url: str, tmp_path: Path) -> None:
    """What serves goes on."""
    place = tmp_path / "store"
    bucket.promote(url, "7")
    bucket.follow(url, place)
    object_store.write(f"{url}/packages/8/serving.json", json.dumps({"alpha": 51}).encode())
    bucket.promote(url, "8")
    with pytest.raises(UserError, match=r"packages/8/serving.json does not have its checksum"):
        bucket.follow(url, place)
    assert (store.champion(place), store.versions(place)) == ("7", ["7"])
    object_store.remove(f"{url}/packages/9", ["serving.json"])
    with pytest.raises(UserError, match=r"packages/9/serving.json is missing: deploy version 9"):
        bucket.promote(url, "9")


def test_old_versions_go_from_the_bucket(url: str) -> None:
    bucket.promote(url, "8")
    assert bucket.retire(url, spare=0, needed=["9"]) == ["7"]
    assert bucket.versions(url) == ["8", "9"]
    assert not [name for name in object_store.listed(url) if name.startswith("packages/7/")]


def test_a_rollout_from_the_bucket_and_back(url: str, tmp_path: Path) -> None:
    """Over the stand-in of a cluster, whose routers have what `follow` gives them."""
    place = tmp_path / "store"
    place.mkdir()
    with cluster_running(StandIn(place)) as api:
        api.on_request = lambda verb, resource: bucket.follow(url, place)
        assert roll_out(url, "7", cluster(api)) == ["7"]
        assert roll_out(url, "8", cluster(api)) == ["7", "8"]
        assert (api.champion, api.serving, bucket.champion(url)) == ("8", {"8"}, "8")
        api.trouble = Trouble(refused="9")
        with pytest.raises(RolloutError, match="Version 8 serves as before"):
            roll_out(url, "9", cluster(api, seconds=5.0))
        assert (api.serving, bucket.champion(url)) == ({"8"}, "8")
