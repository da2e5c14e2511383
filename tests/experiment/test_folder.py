"""A place that lacks something says what, and what to do."""

import json
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.watched import ARMS, FIRST, answer, at, item, make_place, past, write

from mtmh.errors import UserError
from mtmh.experiment.data import experiment_data
from mtmh.experiment.folder import Experiment, open_experiment
from mtmh.experiment.metrics import daily


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [answer("r", "user", at(1), ["a"], [None])]
    return make_place(tmp_path / "place", [item("a", ["x"])], [past("user", "a", -1)], rows)


def rewrite(folder: Path, **changed: Any) -> None:
    path = folder / "experiment.json"
    content = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


def test_a_place_is_what_its_files_say(folder: Path) -> None:
    rewrite(folder, retriever="runs/1/retriever", run=None, weather="fine")
    place = open_experiment(folder)
    assert place.experiment.retriever == Path("runs/1/retriever")
    assert place.experiment.last_day == FIRST + timedelta(days=3)
    assert [arm.name for arm in place.experiment.arms] == list(ARMS)
    assert place.logged().exposures.count().execute() == 1
    assert Experiment.model_validate_json(place.experiment.model_dump_json()) == place.experiment


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"salt": "gone"}, "salt: Field required"),
        ({"days": 0}, "days: Input should be greater than or equal to 1"),
        ({"first_day": "someday"}, "first_day"),
        ({"treatment": "third"}, r"not among .*third"),
        ({"treatment": ARMS[0]}, "must differ"),
        ({"arms": [{"name": ARMS[0], "weight": -1}, {"name": ARMS[1]}]}, "arms.0.weight"),
    ],
)
def test_a_wrong_experiment_is_told_key_by_key(
    folder: Path, changed: dict[str, Any], told: str
) -> None:
    rewrite(folder, **changed)
    with pytest.raises(UserError, match=told):
        open_experiment(folder)


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_experiment(folder / "elsewhere")
    for name in ("experiment.json", "items.parquet", "history.parquet"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(b"no")
        with pytest.raises(UserError, match=name):
            open_experiment(folder)
        (folder / name).unlink()
        with pytest.raises(UserError, match=rf"{name} is missing"):
            open_experiment(folder)
        (folder / name).write_bytes(content)
    rmtree(folder / "tables")
    open_experiment(folder)  # its log is not compacted
    rmtree(folder / "log")
    with pytest.raises(UserError, match="has no log"):
        open_experiment(folder)


def test_wrong_columns_are_named_with_what_is_there(folder: Path) -> None:
    table = pa.table({"item_id": ["a"], "created_at": [1.5], "topics": [["x"]]})
    pq.write_table(table, folder / "items.parquet")
    with pytest.raises(
        UserError, match=r"(?s)2 wrong columns.*created_at: .*double.*l2_topics: .*no such column"
    ):
        open_experiment(folder)


def test_days_outside_the_experiment_are_refused(folder: Path) -> None:
    place = open_experiment(folder)
    for first, last in ((-1, 2), (2, 1), (0, 4)):
        with pytest.raises(
            UserError,
            match="are not days of the experiment, which runs from 2025-03-02 to 2025-03-05",
        ):
            experiment_data(place, FIRST + timedelta(days=first), FIRST + timedelta(days=last))


@pytest.mark.parametrize(
    "kind", [pa.timestamp("s"), pa.timestamp("ns", tz="UTC"), pa.timestamp("us", tz="Asia/Tokyo")]
)
def test_times_of_other_tools_are_read_as_the_moment_they_name(
    folder: Path, kind: pa.DataType
) -> None:
    expected = daily(experiment_data(open_experiment(folder)))
    for name, column in (("items.parquet", "created_at"), ("history.parquet", "timestamp")):
        table = pq.read_table(folder / name)
        times = table[column].cast(pa.timestamp("us")) if kind.tz is None else table[column]
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, times.cast(kind)), folder / name)
    assert daily(experiment_data(open_experiment(folder))).equals(expected)


def test_a_log_that_nobody_has_compacted_yet_gives_the_same_figures(folder: Path) -> None:
    expected = daily(experiment_data(open_experiment(folder)))
    rmtree(folder / "tables")
    write(folder / "log", [answer("r", "user", at(1), ["a"], [None])])
    assert daily(experiment_data(open_experiment(folder))).equals(expected)
