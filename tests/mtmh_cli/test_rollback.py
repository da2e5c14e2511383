"""`mtmh rollback`: what serves and what runs are compared with go back together."""

from pathlib import Path

import pytest
from helpers.command_line import mtmh
from helpers.run_directory import write_run
from helpers.small_package import write_small_package

from components import registry, tracking
from pipelines.local import tracking_uri
from pipelines.names import record
from serving.triton import store as packages
from serving.triton.refreshed import version_before

MODEL = "mtmh-tiny"
# MLflow 3.17 asks SQLAlchemy 2.1 for what SQLAlchemy calls deprecated; its pyfunc warns of own
# types.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),
]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Versions 1, 2 (rejected) and 3 in registry and store; 3 serves."""
    store, uri = tmp_path / "serving" / "tiny", tracking_uri(tmp_path)
    (tmp_path / "champions").mkdir()
    for number, passed in {"1": True, "2": False, "3": True}.items():
        run = write_run(tmp_path / f"run-{number}", passed, weights=number)
        artifacts = (tmp_path / "mlartifacts").as_uri()
        assert tracking.register_run(run, MODEL, uri, artifacts) == number
        packages.install(write_small_package(tmp_path / f"package-{number}", number), store)
    packages.promote(store, "3")
    registry.make_champion(uri, MODEL, "3")
    record(tmp_path, "tiny", "tiny", "f" * 64)
    return tmp_path


def champions(runs: Path) -> tuple[str, str, str]:
    """By the store, the registry, and the link."""
    registered = registry.champion_of(tracking.connect(tracking_uri(runs)), MODEL)
    assert registered is not None
    link = (runs / "champions" / "tiny").resolve().parent.name
    return packages.champion(runs / "serving" / "tiny"), str(registered.version), link


def test_a_version_serves_again_and_is_the_champion_again(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["rollback", "--runs", str(runs), "--data", "tiny"]
    assert mtmh(monkeypatch, *command) == 2  # the one before was rejected
    assert "mtmh-tiny has no version 2 that passed the gate" in capsys.readouterr().err
    assert champions(runs)[:2] == ("3", "3")
    assert mtmh(monkeypatch, *command, "--version", "1") == 0
    assert champions(runs) == ("1", "1", "run-1")
    for words, message in (((), "no version before 1"), (("--version", "9"), "there is 1, 2, 3")):
        assert mtmh(monkeypatch, *command, *words) == 2
        assert message in capsys.readouterr().err
    assert mtmh(monkeypatch, *command, "--version", "3") == 0
    assert champions(runs) == ("3", "3", "run-3")


def test_the_version_before_a_refresh_is_what_was_refreshed(tmp_path: Path) -> None:
    for number in ("7", "8", "70001", "80001", "80002"):
        packages.install(write_small_package(tmp_path / number, number), tmp_path / "store")
    before = {}
    for number in ("80002", "80001", "8", "70001"):
        packages.promote(tmp_path / "store", number)
        before[number] = version_before(tmp_path / "store")
    assert before == {"80002": "80001", "80001": "8", "8": "70001", "70001": "7"}
