"""`mtmh bench`: what it lists, the options of each benchmark, and the command line that a result
records.
"""

import importlib
import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import BENCHMARKS, result
from mtmh import version_hash
from mtmh.errors import UserError
from mtmh_cli import app

ROOT = Path(__file__).parents[2]


def output_of(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["bench", *words], env={"COLUMNS": "200"})
    assert done.exit_code == status, done.output
    return done.output


def test_every_benchmark_is_listed_with_a_line() -> None:
    listing = output_of("--help")
    for name, (_, measures) in BENCHMARKS.items():
        assert re.search(rf"\b{name} +{re.escape(measures)}", listing), name


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_a_command_with_words_to_it(name: str) -> None:
    module, _, function = BENCHMARKS[name][0].partition(":")
    command = typer.Typer()
    command.command()(getattr(importlib.import_module(module), function))
    done = CliRunner().invoke(command, ["--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    options = re.findall(r"--[a-z]+ +<?\w+.*?>? +(\S.*?) +│", done.output)
    assert len(options) == len(re.findall(r"│ --[a-z]+ ", done.output))
    assert typer.main.get_command(command).help


def test_the_options_of_one_are_shown_by_its_name() -> None:
    assert "--rows" in output_of("daily", "--help")


def test_the_leaderboard_is_a_command_of_its_own() -> None:
    done = CliRunner().invoke(app, ["study", "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "--models" in done.output
    assert re.search(r"Usage: \S+ study \[OPTIONS\] \S*data", done.output, re.IGNORECASE)
    refused = CliRunner().invoke(app, ["study"], env={"COLUMNS": "200"})
    assert refused.exit_code == 2


def test_a_wrong_name_or_option_is_refused() -> None:
    assert "No such command 'speed'" in output_of("speed", status=2)
    assert "No such option: --rows" in output_of("merge", "--rows", "3", status=2)


def test_without_a_checkout_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(version_hash, "ROOT", tmp_path)
    with pytest.raises(UserError, match="part of the checkout, not of the installed package"):
        CliRunner().invoke(app, ["bench", "merge"], catch_exceptions=False)


def test_a_result_records_its_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(result, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["/bin/mtmh", "bench", "cold", "--data", "a folder"])
    result.write("cold_a", 1.0, "x", 2.0, {})
    written = json.loads((tmp_path / "cold_a.json").read_text())
    assert (written["command"], written["ratio"]) == ("mtmh bench cold --data 'a folder'", 0.5)


def test_every_command_that_the_docs_cite_is_there() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    cited = {name for page in pages for name in re.findall(r"mtmh bench (\w+)`", page.read_text())}
    assert cited - {"NAME"} <= set(BENCHMARKS)
    assert len(cited) > 10
