"""Every fault under load, and nothing of what must be 0 is more than that. Slow: `make faults`."""

import shutil
from collections.abc import Iterator

import pytest
import uvloop

from benchmarks.faults.run import FAULTS, Traffic, make, traffic_of
from benchmarks.faults.scene import Scene, set_up
from benchmarks.random_version import make_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH"),
]
ITEMS, FUZZ = 3000, 1500
PATIENT = "limits.deadline_ms=10000"  # a busy machine is no fault of a new version


@pytest.fixture(scope="module")
def under_load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Traffic]]:
    run = make_run(ITEMS, tmp_path_factory.mktemp("bench"))
    with set_up(run, tmp_path_factory.mktemp("faults"), FUZZ, PATIENT) as scene:
        yield scene, uvloop.run(traffic_of(scene, run))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_breaks_no_promise(fault: str, under_load: tuple[Scene, Traffic]) -> None:
    scene, traffic = under_load
    row = uvloop.run(make(fault, scene, traffic))
    assert row.wrong() == {}, (row, scene.undeclared)
