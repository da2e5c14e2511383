"""How a run on a cluster ended: what its steps kept, and what the last one says of it."""

import json
from pathlib import Path

import pytest
from kfp import dsl

from components.finish import finish
from components.states import FOLDER, RUN
from components.step import running
from mtmh.errors import UserError


@pytest.fixture
def on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The variables that a step has there."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "states"))
    monkeypatch.setenv(RUN, "run-1")
    return tmp_path / "states"


def said_by_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: str, state: str, error: str = ""
) -> str:
    """What the step writes for the run's page; it keeps no state of its own."""
    monkeypatch.delenv(FOLDER, raising=False)
    summary = dsl.Markdown(name="summary", uri=str(tmp_path / "summary.md"))
    status = dsl.PipelineTaskFinalStatus(state, "workflow-1", "exit-handler-1", None, error)
    finish.python_func(status=status, run_id="run-1", states=states, summary=summary)
    return Path(summary.path).read_text()


def test_a_failed_step_is_named_with_its_message_and_what_to_do(
    on_a_cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with running("prepare"):
        pass
    with pytest.raises(UserError), running("content"):
        raise UserError("no such backbone: write a directory")
    # Kubeflow 2.17 may still call the run running while its exit handler is.
    text = said_by_finish(tmp_path, monkeypatch, str(on_a_cluster), "RUNNING")
    assert "step **content** failed: no such backbone: write a directory" in text
    assert "prepare" not in text
    assert "`mtmh submit`" in text
    assert text.strip() in capsys.readouterr().out
    assert not (on_a_cluster / "run-1").exists()


def test_an_error_of_ours_is_named_too(
    on_a_cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError), running("index"):
        _ = 1 / 0
    text = said_by_finish(tmp_path, monkeypatch, str(on_a_cluster), "FAILED")
    assert "step **index** failed: ZeroDivisionError: division by zero" in text


def test_a_step_that_was_killed_left_no_word_and_is_found_all_the_same(
    on_a_cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = running("train")
    killed.__enter__()  # and never goes on
    assert json.loads((on_a_cluster / "run-1" / "train.json").read_text())["state"] == "running"
    text = said_by_finish(tmp_path, monkeypatch, str(on_a_cluster), "FAILED")
    assert "step **train** began and did not end" in text
    assert "cluster.steps.train.memory" in text


def test_a_second_try_that_went_well_is_no_failure(
    on_a_cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="node"), running("train"):
        raise OSError("the node goes away")
    with running("train"):
        pass
    text = said_by_finish(tmp_path, monkeypatch, str(on_a_cluster), "SUCCEEDED")
    assert text == "Run run-1 ended well.\n"


def test_without_a_volume_kubeflows_own_words_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = said_by_finish(tmp_path, monkeypatch, "", "FAILED", "ImagePullBackOff: mtmh-python")
    assert "Kubeflow calls it FAILED: ImagePullBackOff: mtmh-python" in text


def test_on_this_machine_no_state_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with running("prepare"):
        pass
    assert not list(tmp_path.iterdir())
