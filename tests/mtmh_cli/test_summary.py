"""What a run prints at its end."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtmh_cli.summary import COLUMNS, summarize

METRICS = {
    "data": {
        "path": "synthetic",
        "split_time": "2025-01-01",
        "rows": 1234,
        "users": 10,
        "items": 20,
        "test_users": 9,
        "pairs": 5678,
    },
    "models": {
        "popularity": {**dict.fromkeys(COLUMNS, 0.1234), "l2_relevance": None},
        "merged_alpha_100": dict.fromkeys(COLUMNS, 1.0),
    },
    "gate": {
        "passed": False,
        "rules": [{"rule": "recall [floor]", "passed": False, "why": "It is :below: the floor."}],
    },
    "seconds": {"train": 3.0, "index": 1.0},
}


@pytest.mark.parametrize("columns", ["20", "80", "300"])
def test_every_figure_rule_and_place_is_there_at_any_width(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "20260101T000000Z-abc"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text(json.dumps(METRICS))
    started, cpu_before = time.perf_counter() - 2.0, time.process_time()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    summarize(run, Path("runs"), started)
    printed = capsys.readouterr().out
    took = re.search(
        r"^Took +(\d+) s, (\d+) s of CPU in all processes, (\d+) MB", printed, re.MULTILINE
    )
    assert took
    assert int(took[1]) >= 2
    assert int(took[2]) >= round(cpu_before)
    assert int(took[3]) > 10
    popularity = next(line.split() for line in printed.splitlines() if "popularity" in line)
    assert popularity == [
        "popularity",
        *("-" if name == "l2_relevance" else "12.34" for name in COLUMNS),
    ]
    assert "merged_alpha_100" in printed
    assert "Gate: REJECTED" in printed
    assert "FAIL recall [floor]: It is :below: the floor." in printed
    assert "1,234 rows" in printed
    for place in (
        "runs/20260101T000000Z-abc/report.html",
        "runs/20260101T000000Z-abc/retriever",
        "runs/mlflow.db",
    ):
        assert place in printed
    assert "\x1b" not in printed
