"""What a pod finds before a run; what a cluster says stands in tests/cluster/test_apply.py."""

from pathlib import Path

import pytest
from helpers.http_server import served
from helpers.s3_server import reach, s3_server

from benchmarks.server_process import free_ports
from components.probe import Finding, probe


@pytest.fixture
def no_rights_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster is here to ask."""
    monkeypatch.setattr("components.probe._rights", lambda namespace, wanted: iter(()))


def findings(volume: str = "", tracking_uri: str = "") -> list[Finding]:
    return list(probe(volume, tracking_uri, "mtmh", serves=False))


pytestmark = pytest.mark.usefixtures("no_rights_wanted")


def test_a_volume_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (finding,) = findings(volume=str(tmp_path))
    assert finding.problem == ""
    assert "GiB free" in finding.need
    assert list(tmp_path.iterdir()) == []


def test_a_volume_that_cannot_be_written_says_whom_to_let(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = findings(volume=str(tmp_path / "file"))
    assert "cannot write there" in finding.problem
    assert "chown" in finding.problem


def test_an_mlflow_that_answers_is_there_and_another_server_is_not() -> None:
    status = [200]
    with served("127.0.0.1", 0, lambda verb, path, body: (status[0], {})) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        assert findings(tracking_uri=url) == [Finding(f"MLflow at {url}")]
        status[0] = 404
        assert "no MLflow server" in findings(tracking_uri=url)[0].problem


def test_an_mlflow_that_does_not_answer_is_said() -> None:
    (port,) = free_ports(1)
    (finding,) = findings(tracking_uri=f"http://127.0.0.1:{port}")
    assert "no answer" in finding.problem


def test_a_redis_that_does_not_answer_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("REDIS_CONNECTION", f"127.0.0.1:{port},password=hidden")
    (finding,) = findings()
    assert finding.need == f"Redis at 127.0.0.1:{port}"
    assert "Secret `redis`" in finding.problem
    assert "hidden" not in finding.need + finding.problem


def test_a_bucket_is_written_read_and_left_as_it_was_and_one_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bucket").mkdir()
    with s3_server(tmp_path) as environment:
        reach(monkeypatch, environment)
        stores = ("s3://bucket/scratch", "s3://nowhere/serving")
        there, missing = probe("", "", "mtmh", serves=False, stores=stores)
    assert there == Finding("object store s3://bucket/scratch")
    assert [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()] == []
    assert missing.need == "object store s3://nowhere/serving"
    assert "there is no such bucket: make it, or mend its name" in missing.problem
