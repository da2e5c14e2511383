"""The command line: what a user types and reads."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.command_line import mtmh

MOVIES = (
    "movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n2,Heat "
    "(1995),Action\n3,Sabrina (1995),Comedy\n"
)
RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{movie},4.0,{1_000_000_000 + 1000 * user + 100 * movie}\n"
    for user in range(1, 9)
    for movie in (1, 2, 3)
)


@pytest.fixture
def movielens(tmp_path: Path) -> Path:
    folder = tmp_path / "movielens"
    folder.mkdir()
    (folder / "movies.csv").write_text(MOVIES)
    (folder / "ratings.csv").write_text(RATINGS)
    return folder


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    script = (
        "import sys, mtmh_cli; mtmh_cli.app(standalone_mode=False, args=['--help']); "
        "print(sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    for command in ("run", "compile", "import", "check", "data", "synthesize", "ui"):
        assert f" {command} " in done.stdout
    for heavy in ("'torch'", "'kfp'", "'mlflow'", "'feast'", "'transformers'", "'pyarrow'"):
        assert heavy not in done.stdout


def test_import_writes_the_contract_and_check_reads_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    movielens: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "contract"
    assert mtmh(monkeypatch, "import", str(movielens), str(out)) == 0
    assert "interactions: 24 rows" in capsys.readouterr().out
    assert pq.read_table(out / "items.parquet").num_rows == 3
    assert mtmh(monkeypatch, "check", str(out)) == 0
    printed = capsys.readouterr().out
    assert "24" in printed
    assert "keeps the contract" in printed


def test_check_keeps_the_rejected_rows(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    movielens: Path,
    tmp_path: Path,
) -> None:
    with (movielens / "ratings.csv").open("a") as file:
        file.write("9,4711,4.0,1000009000\n")
    monkeypatch.chdir(tmp_path)
    assert mtmh(monkeypatch, "check", str(movielens)) == 2
    message = capsys.readouterr().err
    assert str(tmp_path / "rejected.parquet") in message
    assert pq.read_table(tmp_path / "rejected.parquet").num_rows == 1


def test_synthesize_is_seeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    size = ("--users", "60", "--items", "50", "--days", "20")
    worlds = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert mtmh(monkeypatch, "synthesize", str(tmp_path / name), *size, "--seed", seed) == 0
        worlds.append(pq.read_table(tmp_path / name / "interactions.parquet"))
    assert worlds[0].equals(worlds[1])
    assert not worlds[0].equals(worlds[2])


def test_describe_prints_figures_and_what_they_mean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], movielens: Path
) -> None:
    with (movielens / "movies.csv").open("a") as file:
        file.write(MOVIES.splitlines()[1] + "\n")
    assert mtmh(monkeypatch, "data", "describe", str(movielens)) == 0
    printed = capsys.readouterr().out
    assert f"{movielens}: MovieLens" in printed
    assert "interactions  24, of which 24 are engagements" in printed
    assert "lacks creators: no creator_id" in printed
    assert mtmh(monkeypatch, "data", "describe", str(movielens), "--json") == 0
    told = capsys.readouterr()
    described = json.loads(told.out)
    assert "lines repeat an earlier line" in told.err
    assert (described["form"], described["log"]["users"], described["l2"]["topics"]) == (
        "MovieLens",
        8,
        3,
    )
    assert {finding["state"] for finding in described["findings"]} == {"ok", "warn", "lacks"}


def test_import_of_a_public_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "mind"
    folder.mkdir()
    (folder / "news.tsv").write_text("N1\tsports\tgolf\tA putt\tIt fell\thttps://x\t[]\t[]\n")
    (folder / "behaviors.tsv").write_text("1\tU1\t11/12/2019 9:05:58 AM\tN1\tN1-1\n")
    assert mtmh(monkeypatch, "import", str(folder), str(tmp_path / "out")) == 0
    assert "interactions: 2 rows" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_data_folder_is_one_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
) -> None:
    data = (
        [str(tmp_path / "nowhere")] if command == "check" else ["--data", str(tmp_path / "nowhere")]
    )
    monkeypatch.chdir(tmp_path)
    assert mtmh(monkeypatch, command, *data) == 2
    message = capsys.readouterr().err
    assert message.startswith("mtmh: ")
    assert "nowhere" in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


def test_ui_without_a_run_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert mtmh(monkeypatch, "ui", "--runs", str(tmp_path)) == 2
    assert "mtmh run" in capsys.readouterr().err


def test_wrong_settings_stop_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mtmh(monkeypatch, "run", "--set", "train.lr=fast", "--set", "train.epoch=1") == 2
    message = capsys.readouterr().err
    assert "2 errors" in message
    assert list(tmp_path.iterdir()) == []
