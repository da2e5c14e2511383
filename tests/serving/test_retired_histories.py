"""Histories in Redis go with the last version that reads them, and no earlier."""

from pathlib import Path

import pytest
from helpers.checkerboard import Stages
from helpers.small_package import write_small_package

from feature_repo.histories import build_histories
from feature_repo.online import online_user_history
from feature_repo.store import open_store
from mtmh.errors import UserError
from serving.triton import store as packages


def install(store: Path, world: Stages, work: Path, version: str, like: str = "") -> None:
    """A version with histories of its own, or as a refresh those of the version `like`."""
    features = work / f"histories-{like or version}"
    if not like:
        build_histories(world.prepared, features, f"mtmh_small_{version}")
    packages.install(write_small_package(work / version, version, features=features), store)


def known(work: Path, version: str) -> bool:
    """Whether a user is known under the version's project."""
    (history,) = online_user_history(open_store(work / f"histories-{version}"), ["u03"])
    return bool(history.item_ids)


@pytest.mark.usefixtures("in_redis")
def test_what_is_retired_leaves_redis_and_what_may_serve_again_stays(
    world: Stages, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    for version in ("1", "2", "3", "4"):
        install(store, world, tmp_path, version)
    packages.promote(store, "4")
    assert packages.retire(store) == ["1"]
    assert [known(tmp_path, version) for version in "1234"] == [False, True, True, True]


@pytest.mark.usefixtures("in_redis")
def test_a_refresh_keeps_the_histories_of_what_it_came_from(world: Stages, tmp_path: Path) -> None:
    store = tmp_path / "store"
    install(store, world, tmp_path, "1")
    install(store, world, tmp_path, "10001", like="1")
    packages.promote(store, "10001")
    assert packages.retire(store, spare=0) == ["1"]
    assert known(tmp_path, "1")
    install(store, world, tmp_path, "2")
    packages.promote(store, "2")
    assert packages.retire(store, spare=0) == ["10001"]
    assert not known(tmp_path, "1")
    assert known(tmp_path, "2")


@pytest.mark.usefixtures("in_redis")
def test_a_version_whose_rows_cannot_be_removed_is_retired_the_next_time(
    world: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    for version in ("1", "2"):
        install(store, world, tmp_path, version)
    packages.promote(store, "2")
    with monkeypatch.context() as away:
        away.setenv("REDIS_CONNECTION", "127.0.0.1:9")
        with pytest.raises(UserError, match="mtmh_small_1, refuses"):
            packages.retire(store, spare=0)
    assert packages.versions(store) == ["1", "2"]
    assert packages.retire(store, spare=0) == ["1"]
    assert not known(tmp_path, "1")
