"""The real page: a browser, the router and Triton with a version of its own, started once for all
of its tests.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from helpers.live_page import NUMBER, PATIENT, Page
from helpers.live_router import Router, RouterFolder, Run, remove

from benchmarks.page import browser
from mtmh.data.files import write_parquet
from serving.triton.export import write_package
from serving.triton.store import install, promote
from serving.triton.supervisor import load


@pytest.fixture(autouse=True)
def _champion_one() -> None:
    """Not here: the version shown stays champion."""


@pytest.fixture(scope="package")
def shown(place: RouterFolder) -> Iterator[str]:
    """The version that the page shows, installed, champion, and loaded; these tests' routers unload
    nothing.
    """
    run = place.root / "run"
    run.mkdir()
    (run / "retriever").symlink_to(place.retrievers["1"])
    write_parquet(pa.table({"user_id": ["u00", "u00", "u01"]}), run / "candidates.parquet")
    install(
        write_package(run, NUMBER, place.root / "packages" / NUMBER, place.features), place.store
    )
    promote(place.store, NUMBER)
    load(place.triton, place.store, NUMBER)
    yield NUMBER
    promote(place.store, "1")
    remove(place.store, NUMBER)


@pytest.fixture(scope="package")
def router(run_router: Run, shown: str) -> Iterator[Router]:
    with run_router(*PATIENT) as running:
        yield running


@pytest.fixture(scope="package")
def driver() -> Iterator[Any]:
    with browser() as driver:
        yield driver


@pytest.fixture
def page(router: Router, driver: Any) -> Iterator[Page]:
    yield Page(driver, router)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.get_log("browser")
