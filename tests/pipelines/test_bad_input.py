"""Bad input: one clear message, exit status 2, nothing half-written, nothing lost."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.command_line import mtmh

START = datetime(2025, 1, 1, tzinfo=UTC)
Tables = dict[str, pa.Table]


def tables(users: int = 20, items: int = 10) -> Tables:
    """A small world without a fault: every user engages with every item, one a minute."""
    rows = [(user, item) for item in range(items) for user in range(users)]
    interactions = pa.table(
        {
            "user_id": [f"u{user:02d}" for user, _ in rows],
            "item_id": [f"i{item:02d}" for _, item in rows],
            "timestamp": pa.array(
                [START + timedelta(minutes=n) for n in range(len(rows))], pa.timestamp("us", "UTC")
            ),
            "event": ["view"] * len(rows),
        }
    )
    catalog = pa.table(
        {
            "item_id": [f"i{item:02d}" for item in range(items)],
            "title": [f"title {item}" for item in range(items)],
            "price": pa.array([float(item) for item in range(items)]),
        }
    )
    return {"interactions": interactions, "items": catalog}


def put(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def missing_file(world: Tables) -> None:
    del world["interactions"]


def missing_column(world: Tables) -> None:
    world["interactions"] = world["interactions"].drop_columns(["item_id"])


def wrong_type(world: Tables) -> None:
    rows = world["interactions"].num_rows
    world["interactions"] = put(world["interactions"], "timestamp", ["yesterday"] * rows)


def no_rows(world: Tables) -> None:
    world["interactions"] = world["interactions"].slice(0, 0)


def one_user(world: Tables) -> None:
    world.update(tables(users=1))


def one_item(world: Tables) -> None:
    world.update(tables(items=1))


def equal_timestamps(world: Tables) -> None:
    rows = world["interactions"].num_rows
    world["interactions"] = put(world["interactions"], "timestamp", [START] * rows)


def duplicate_item_ids(world: Tables) -> None:
    world["items"] = pa.concat_tables([world["items"], world["items"]])


def nan_features(world: Tables) -> None:
    world["items"] = put(world["items"], "price", [float("nan")] * world["items"].num_rows)


FAULTS = {
    missing_file: "interactions.parquet",
    missing_column: "item_id",
    wrong_type: "timestamp",
    no_rows: "interactions",
    one_user: "user",
    one_item: "item",
    equal_timestamps: "time",
    duplicate_item_ids: "item_id",
    nan_features: "price",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_one_message(
    fault: Callable[[Tables], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = tables()
    fault(world)
    data, runs = tmp_path / "data", tmp_path / "runs"
    data.mkdir()
    for name, table in world.items():
        pq.write_table(table, data / f"{name}.parquet")
    before = {path: path.read_bytes() for path in data.iterdir()}
    settings = ["--set", "data.float_features=[price]", "--set", "data.id_features=[]"]
    status = mtmh(monkeypatch, "run", "--data", str(data), "--runs", str(runs), *settings)
    printed = capsys.readouterr()
    assert status == 2
    assert printed.err.startswith("mtmh: ")
    assert FAULTS[fault] in printed.err
    assert "Traceback" not in printed.err + printed.out
    left = {path.name for path in runs.iterdir()} if runs.exists() else set()
    assert {name for name in left if not name.startswith("rejected-")} <= {".pipeline"}
    assert not [path for path in (runs / ".pipeline").glob("[!.]*") if path.is_dir()]
    for name in left - {".pipeline"}:
        assert str(runs / name) in printed.err
        assert pq.read_table(runs / name).num_rows > 0
    assert before == {path: path.read_bytes() for path in data.iterdir()}
