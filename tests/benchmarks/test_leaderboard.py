"""The leaderboard over a tiny world: tuned with one budget, kept, added to, compared, printed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import result
from benchmarks.leaderboard import measure, page, study
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world
from mtmh.errors import UserError

ROOT = Path(__file__).parents[2]
NAMES = ["popularity", "itemknn"]
SMALL = ["train.epochs=1", "train.embedding_dim=16", "train.hidden=[16]", "train.out_dim=16"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, table in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table, tmp_path / "tiny" / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(result, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    return tmp_path


def board(folder: Path) -> dict:
    return json.loads((folder / "results" / "leaderboard_tiny.json").read_text())


def test_a_board_has_a_row_a_model_and_goes_on_where_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "page.md").write_text(f"before\n{page.begin('tiny')}\nold\n<!-- end -->\nbehind\n")
    study.main("tiny", NAMES, seeds=2, trials=3)
    first = board(folder)
    assert list(first) == ["data", "protocol", "budget", "models"]
    assert list(first["models"]) == NAMES
    row = first["models"]["itemknn"]
    assert set(row["recall_at_500"]) == {"mean", "least", "most"}
    assert {"l2_relevance", "coverage", "seeds", "parameters", "train_seconds", "commit"} <= set(
        row
    )
    assert row["command"].startswith("mtmh study tiny --models itemknn --seeds=2 --trials=3")
    # The best of its trials, of which each model has as many at the most.
    assert row["recall_at_500"]["mean"] == pytest.approx(
        max(trial["recall_at_500"] for trial in row["trials"]), abs=1e-5
    )
    assert [len(one["trials"]) for one in first["models"].values()] == [1, 3]
    # The page has the tables between its markers, and nothing else has changed.
    text = (folder / "page.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nbehind\n")
    assert page.tables(first) in text
    assert (folder / "results" / "leaderboard_tiny.png").exists()

    # Finished trials are read: nothing is fitted again.
    def fitted(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(measure, "fit_baseline", fitted)
    study.main("tiny", ["itemknn"], seeds=2, trials=3)
    assert board(folder)["models"]["itemknn"]["trials"] == row["trials"]
    assert set(board(folder)["models"]) == set(NAMES)


def test_the_projects_own_models_are_rows_and_every_row_is_compared_with_mtmh(folder: Path) -> None:
    own = ["mtmh", "mtmh_engagement_head", "mtmh_preranked", "engagement_alone", "mtsh"]
    study.main("tiny", ["popularity", *own], seeds=1, trials=1, settings=SMALL)
    models = board(folder)["models"]
    assert set(models) == {"popularity", *own}
    assert "against_mtmh" not in models["mtmh"]
    for name, row in models.items():
        if name == "mtmh":
            continue
        for figure, interval in row["against_mtmh"].items():
            difference = row[figure]["mean"] - models["mtmh"][figure]["mean"]
            assert interval["difference"] == pytest.approx(difference, abs=3e-5)
            assert interval["low"] <= interval["difference"] <= interval["high"]
    # A part of mtmh has mtmh's own setting; the preranker adds to what is learned.
    assert models["mtmh_preranked"]["settings"] == models["mtmh"]["settings"]
    assert models["mtmh_preranked"]["parameters"] > models["mtmh"]["parameters"]
    assert models["mtmh"]["parameters"] > models["engagement_alone"]["parameters"]


def test_divide_and_conquer_is_a_row(folder: Path) -> None:
    study.main("tiny", ["divide_and_conquer"], seeds=1, trials=1, settings=SMALL)
    row = board(folder)["models"]["divide_and_conquer"]
    assert 0 < row["recall_at_500"]["mean"] <= 1
    assert row["parameters"] > 0


def test_seeds_of_the_synthetic_world_are_of_the_models_alone(folder: Path) -> None:
    """A model that chance has no part in has one seed, and is compared with three of mtmh."""
    world = ["data.synthetic.users=120", "data.synthetic.items=90", "data.synthetic.days=20"]
    study.main("synthetic", ["itemknn", "mtmh"], seeds=2, trials=1, settings=[*SMALL, *world])
    kept = json.loads((folder / "results" / "leaderboard_synthetic.json").read_text())
    rows = kept["models"]
    assert [len(rows[name]["seeds"]) for name in ("itemknn", "mtmh")] == [1, 2]
    assert set(rows["itemknn"]["against_mtmh"]) == {"recall_at_500", "l2_relevance"}
    # A row's command makes it again: the world's seed is no setting that a reader must know of.
    assert "data.synthetic.seed" not in rows["mtmh"]["command"]


def test_rows_of_another_budget_go(folder: Path) -> None:
    study.main("tiny", ["popularity"], seeds=1, trials=1)
    study.main("tiny", ["itemknn"], seeds=1, trials=2)
    assert list(board(folder)["models"]) == ["itemknn"]


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"--models magic: no such model\. Known: popularity, .*mt"):
        study.main("tiny", ["magic"])
    with pytest.raises(UserError, match=r"no folder tiny\. Write mtmh study FOLDER"):
        study.main("tiny", ["itemknn"])


def test_data_without_text_leave_out_what_reads_it_and_say_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "tiny" / "items.parquet"
    items = make_world(users=120, items=90, days=20, seed=0).tables["items"]
    blank = pa.array([""] * len(items))
    for column in {"title", "text"} & set(items.column_names):
        items = items.set_column(items.column_names.index(column), column, blank)
    write_parquet(items, path)
    with pytest.raises(UserError, match="content reads what items are about, and no item has"):
        study.main("tiny", ["content"], seeds=1, trials=1)
    # All models: what can be measured is.
    monkeypatch.setattr(study, "NAMES", ("popularity", "content", "mtmh"))
    study.main("tiny", None, seeds=1, trials=1, settings=SMALL)
    printed = capsys.readouterr().out
    assert "study: content is left out: the baseline content reads" in printed
    assert "study: mtmh is left out: no item has a title or text" in printed
    assert list(board(folder)["models"]) == ["popularity"]


def test_a_users_difference_has_an_interval_by_the_users() -> None:
    rng = np.random.default_rng(0)
    users = {
        "recall": rng.random(200),
        "l2_matches": rng.integers(0, 50, 200),
        "retrieved": np.full(200, 50),
    }
    better = {**users, "recall": users["recall"] + 0.1}
    recall = study.differences(better, users)["recall_at_500"]
    assert recall["low"] == recall["difference"] == recall["high"] == pytest.approx(0.1)
    equal = study.differences(users, users)
    assert equal["l2_relevance"]["difference"] == 0


@pytest.mark.parametrize(
    "file",
    sorted((ROOT / "benchmarks" / "results").glob("leaderboard_*.json")),
    ids=lambda f: f.stem,
)
def test_the_docs_print_what_the_file_holds(file: Path) -> None:
    kept = json.loads(file.read_text())
    text = (ROOT / "docs" / "results.md").read_text()
    assert page.with_tables(text, kept["data"], kept) == text
