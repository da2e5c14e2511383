"""How old what is served is: when it was packaged, and when its newest item was created."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers.live_router import RouterFolder, Run, dated, eventually, remove

from serving.router.package import Package
from serving.triton.export import write_package
from serving.triton.store import install, promote

PACKAGED, NEWEST = (
    "mtmh_index_packaged_timestamp_seconds",
    "mtmh_index_newest_item_timestamp_seconds",
)


def test_a_version_with_newer_items_is_told_as_soon_as_it_serves(
    run_router: Run, place: RouterFolder, tmp_path: Path
) -> None:
    start = datetime.now(UTC)
    newest = start - timedelta(hours=3)
    with run_router() as router:
        old = router.metric(PACKAGED, version="1", champion="true")
        assert 0 < old < start.timestamp()
        retriever = dated(
            place.retrievers["1"], tmp_path / "dated", [newest - timedelta(days=1), newest]
        )
        install(write_package(retriever, "41", tmp_path / "package"), place.store)
        promote(place.store, "41")
        eventually(
            lambda: router.metric(NEWEST, version="41", champion="true"), "the new version serves"
        )
        assert router.metric(NEWEST, version="41", champion="true") == pytest.approx(
            newest.timestamp()
        )
        assert (
            start.timestamp()
            <= router.metric(PACKAGED, version="41", champion="true")
            <= datetime.now(UTC).timestamp()
        )
        assert router.metric("mtmh_index_items", version="41", champion="true") == 44
        page = router.client.get("/metrics").text
        assert f'{PACKAGED}{{champion="true",version="1"}}' not in page
        promote(place.store, "1")
        eventually(
            lambda: router.metric(PACKAGED, version="1", champion="true") == old,
            "rolled back, it is old again",
        )
    remove(place.store, "41")


@pytest.mark.parametrize(
    ("hours", "told"),
    [([-24, None, -2], -2), ([-24, 24 * 365], -24), ([24 * 365], None), ([], None)],
    ids=["the newest", "not one from the future", "nothing but the future", "no dates"],
)
def test_the_newest_item(
    version: object, tmp_path: Path, hours: list[int | None], told: int | None
) -> None:
    now = datetime.now(UTC)
    dates = [None if each is None else now + timedelta(hours=each) for each in hours]
    retriever = dated(version("mtmh"), tmp_path / "dated", dates)  # type: ignore[operator]
    package = Package.load(write_package(retriever, "1", tmp_path / "package"))
    assert package.newest_item == (
        None if told is None else pytest.approx((now + timedelta(hours=told)).timestamp())
    )


def test_readiness_is_a_figure_too(run_router: Run, place: RouterFolder) -> None:
    with run_router() as router:
        eventually(lambda: router.metric("mtmh_ready") == 1, "it is ready")
    with run_router("triton.url=127.0.0.1:9", wait=False) as router:
        assert router.client.get("/readyz").status_code == 503
        assert "mtmh_ready 0.0" in router.client.get("/metrics").text
