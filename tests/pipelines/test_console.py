"""What a local run shows of all that Kubeflow's runner prints."""

import json
import logging
from io import StringIO
from pathlib import Path

from pipelines.local import Narrator, narrated

STEPS = ("prepare", "train")
NOISE = (
    "09:44:49.300 - INFO - Executing task 'train'\n    [KFP Executor INFO]: Got "
    "executor_input:\n    {\n    }\n"
)


def narrate(printed: str, log: Path) -> tuple[str, Narrator]:
    screen = StringIO()
    with narrated(STEPS, screen, log) as narrator:
        print(printed, end="")
    return screen.getvalue(), narrator


def test_a_steps_own_lines_pass_and_the_runners_do_not(tmp_path: Path) -> None:
    body = "    ::mtmh start train\n    epoch 1: 14,000 pairs/s\n\n    ::mtmh end train\n"
    shown, _ = narrate(NOISE + body + NOISE, tmp_path / "log")
    lines = shown.splitlines()
    assert lines[0] == "[ 2/2] train"
    assert lines[1] == "        epoch 1: 14,000 pairs/s"
    assert lines[2].startswith("        done in ")
    assert len(lines) == 3
    assert (tmp_path / "log").read_text() == NOISE + body + NOISE


def test_a_file_of_a_step_is_named_without_the_working_folder(tmp_path: Path) -> None:
    body = (
        f"    ::mtmh start prepare\n    see {tmp_path}/mtmh-1/prepare/prepared/rejected.parquet\n"
    )
    shown, _ = narrate(body, tmp_path / "log")
    assert shown.splitlines()[1] == "        see rejected.parquet"


def test_an_error_for_people_comes_whole_and_without_its_traceback(tmp_path: Path) -> None:
    message = "items.parquet has no column item_id.\nFound: id."
    body = (
        f"    ::mtmh start prepare\n    ::mtmh error prepare {json.dumps(message)}\n    "
        f"Traceback (most recent\n"
    )
    shown, narrator = narrate(body, tmp_path / "log")
    assert narrator.error == message
    assert shown.splitlines() == ["[ 1/2] prepare"]


def test_another_error_keeps_its_traceback_for_the_end(tmp_path: Path) -> None:
    trace = [
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in f',
        "KeyError: 'user'",
    ]
    body = "    ::mtmh start train\n" + "".join(f"    {line}\n" for line in trace)
    shown, narrator = narrate(body, tmp_path / "log")
    assert narrator.running == "train"
    assert narrator.traceback == trace
    assert shown.splitlines() == ["[ 2/2] train"]


def test_a_cached_step_says_so(tmp_path: Path) -> None:
    screen = StringIO()
    with narrated(STEPS, screen, tmp_path / "log"):
        logging.info("Task prepare cache hit (key=0123456789ab); skipping execution.")
    assert screen.getvalue() == "[ 1/2] prepare: from the cache\n"
