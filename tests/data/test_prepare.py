"""Stage prepare: what it writes, and one clear message for data that cannot be used."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.small_log import EVENTS, MakeFolder, Rows, small_tables

from mtmh.config import DataSettings, SyntheticSettings
from mtmh.data.prepare import fingerprint, prepare, read_checked
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError

NAN = float("nan")


def run(folder: Path, out: Path, **settings: object) -> dict:
    prepare(str(folder), out, DataSettings.model_validate(settings), seed=0)
    return json.loads((out / "prepared.json").read_text())


def test_numbers_order_and_periods(make_folder: MakeFolder, tmp_path: Path, rows: Rows) -> None:
    shuffled = small_tables()["interactions"].take(np.random.default_rng(0).permutation(EVENTS))
    info = run(make_folder(interactions=shuffled), tmp_path / "out", float_features=["price"])
    events, items = (
        rows(tmp_path / "out" / "interactions.parquet"),
        rows(tmp_path / "out" / "items.parquet"),
    )
    assert [(e["timestamp"], e["user_id"], e["item_id"]) for e in events] == sorted(
        (e["timestamp"], e["user_id"], e["item_id"]) for e in events
    )
    assert all(items[event["item"]]["item_id"] == event["item_id"] for event in events)
    users = sorted({event["user_id"] for event in events})
    assert all(users[event["user"]] == event["user_id"] for event in events)
    cut = datetime.fromisoformat(info["split_time"])
    assert cut.tzinfo is not None
    assert [e["period"] for e in events] == [
        "train" if e["timestamp"] < cut else "test" for e in events
    ]
    assert [item["item_id"] for item in items] == sorted(item["item_id"] for item in items)
    assert items[3]["price"] == 1.5
    loaded = Prepared.load(tmp_path / "out")
    assert (info["rows"], info["users"], info["items"], info["rejected_rows"]) == (EVENTS, 8, 30, 0)
    assert info["test_users"] == len(loaded.targets()[0])
    assert loaded.timestamp[0] == np.datetime64("2024-01-01T00", "us")
    assert loaded.is_train.sum() == 160
    assert (info["has_topics"], info["has_text"], info["validation"]) == (True, True, False)
    assert info["fingerprint"] == fingerprint(info["path"], DataSettings(), seed=7)


def test_validation_takes_the_end_of_t1(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    test = run(folder, tmp_path / "test")
    validation = run(folder, tmp_path / "validation", period="validation", validation_fraction=0.25)
    assert validation["validation"]
    assert validation["rows"] == 160
    loaded = Prepared.load(tmp_path / "validation")
    assert loaded.is_train.sum() == 120
    assert loaded.timestamp[-1] < np.datetime64(test["split_time"][:26])


def test_users_of_a_dropped_period_leave_no_gap(make_folder: MakeFolder, tmp_path: Path) -> None:
    users = [f"u{e % 8}" for e in range(EVENTS - 20)] + ["a-new-one"] * 20
    folder = make_folder(interactions={"user_id": pa.array(users)})
    assert run(folder, tmp_path / "test")["users"] == 9
    assert run(folder, tmp_path / "out", period="validation")["users"] == 8
    assert sorted(set(Prepared.load(tmp_path / "out").user.tolist())) == list(range(8))


def test_rows_that_are_no_engagement_are_counted_not_rejected(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    info = run(make_folder(), tmp_path / "out", min_value=2.0)
    assert (info["rows"], info["not_engagement_rows"], info["rejected_rows"]) == (160, 40, 0)
    with pytest.raises(UserError, match=r"data\.min_value 9.0 or more; the largest is 5.0"):
        run(make_folder(), tmp_path / "out", min_value=9.0)
    with pytest.raises(UserError, match=r"data\.positive_events \['buy'\]; the data have: view"):
        run(make_folder(), tmp_path / "out", positive_events=["buy"])


def test_rejected_rows_below_the_share_are_set_aside(
    make_folder: MakeFolder, tmp_path: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    users = [None] + [f"u{e % 8}" for e in range(1, EVENTS)]
    folder = make_folder(interactions={"user_id": pa.array(users)})
    info = run(folder, tmp_path / "out")
    assert (info["rows"], info["rejected_rows"]) == (EVENTS - 1, 1)
    assert "interactions: 1 of 200 rows (0.50%) rejected" in capsys.readouterr().out
    (rejected,) = rows(tmp_path / "out" / "rejected.parquet")
    assert (rejected["table"], rejected["row"], rejected["reason"]) == (
        "interactions",
        0,
        "user_id is null or empty",
    )
    assert json.loads(rejected["content"])["item_id"] == INTERACTIONS["item_id"][0].as_py()


def test_above_the_share_the_run_stops_and_nothing_is_lost(
    make_folder: MakeFolder, tmp_path: Path, rows: Rows
) -> None:
    out = tmp_path / "out"
    run(make_folder(), out)
    values = np.ones(EVENTS)
    values[:10] = np.inf
    users = [f"u{e % 8}" for e in range(EVENTS - 3)] + ["", "", ""]
    folder = make_folder(interactions={"value": pa.array(values), "user_id": pa.array(users)})
    with pytest.raises(UserError) as caught:
        run(folder, out)
    message = str(caught.value)
    assert "interactions: 13 of 200 rows (6.5%) break the contract; 1.0% may." in message
    assert "10 x value is NaN or infinite, e.g. row 0: {" in message
    assert "3 x user_id is null or empty, e.g. row 197: {" in message
    assert "rejected.parquet" in message
    assert len(rows(out / "rejected.parquet")) == 13
    assert [path.name for path in out.iterdir() if path.name != "step.json"] == ["rejected.parquet"]
    assert run(folder, out, max_rejected_share=0.1)["rejected_rows"] == 13


def repeated(table: pa.Table, rows: list[int]) -> pa.Table:
    return pa.concat_tables([table, table.take(rows)])


INTERACTIONS, ITEMS = (small_tables()[name] for name in ("interactions", "items"))
NAMES = pa.array([f"event {e}" for e in range(EVENTS)])
TIME = pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("interactions", "items", "message"),
    [
        (
            INTERACTIONS.drop_columns(["timestamp"]),
            None,
            r"interactions\.parquet: column 'timestamp'.* is missing",
        ),
        (
            {"timestamp": pa.array(["today"] * EVENTS)},
            None,
            r"'timestamp' has type string, expected timestamp",
        ),
        (
            {"user_id": pa.array(range(EVENTS))},
            None,
            r"'user_id' has type int64, expected string.*astype\('string'\)",
        ),
        (INTERACTIONS.slice(0, 0), None, r"interactions\.parquet has no rows"),
        (None, ITEMS.slice(0, 0), r"items\.parquet has no rows"),
        ({"user_id": pa.repeat("me", EVENTS)}, None, r"200 engagements are of one user \('me'\)"),
        ({"item_id": pa.repeat("i03", EVENTS)}, None, r"200 engagements are of one item \('i03'\)"),
        (
            {
                "timestamp": pa.repeat(pa.scalar(1_600_000_000 * 10**6, TIME), EVENTS),
                "event": NAMES,
            },
            None,
            r"happened at the same time \(2020",
        ),
        (
            None,
            repeated(ITEMS, [0, 5]),
            r"items: 2 of 32 rows.*\n.*2 x item_id is there twice.*row 30:",
        ),
        (
            None,
            {"price": pa.array([NAN] * 30)},
            r"items: 30 of 30 rows.*\n.*30 x price is NaN or infinite",
        ),
        ({"item_id": pa.repeat("other", EVENTS)}, None, r"200 x item_id is not among the items"),
        ({"user_id": pa.array([f"u{e}" for e in range(EVENTS)])}, None, r"no test user is left"),
    ],
)
def test_unusable_data_is_one_clear_error(
    make_folder: MakeFolder, tmp_path: Path, interactions: pa.Table, items: pa.Table, message: str
) -> None:
    folder = make_folder(interactions=interactions, items=items)
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path / "out", float_features=["price"])
    assert not {path.name for path in (tmp_path / "out").iterdir()} - {"rejected.parquet"}


def test_a_null_feature_is_filled_with_the_mean(
    make_folder: MakeFolder, tmp_path: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(items={"price": pa.array([None, 1.0, 3.0, *[2.0] * 27])})
    run(folder, tmp_path / "out", float_features=["price"])
    assert rows(tmp_path / "out" / "items.parquet")[0]["price"] == 2.0
    assert "1 null values of price filled with the mean, 2" in capsys.readouterr().out


def test_columns_that_are_not_used_are_named(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(make_folder(), tmp_path / "out")
    assert (
        "items: columns not in the contract nor declared as features are left out: price"
        in capsys.readouterr().out
    )


def test_the_synthetic_fingerprint_follows_seed_and_size() -> None:
    small = DataSettings(synthetic=SyntheticSettings(users=100))
    assert fingerprint("synthetic", small, 0) == fingerprint("synthetic", small, 0)
    prints = {
        fingerprint("synthetic", settings, seed)
        for settings in (small, DataSettings())
        for seed in (0, 1)
    }
    assert len(prints) == 4
    # A world with a seed of its own is the same in every run.
    fixed = DataSettings(synthetic=SyntheticSettings(users=100, seed=1))
    assert fingerprint("synthetic", fixed, 0) == fingerprint("synthetic", small, 1)
    tables = [read_checked("synthetic", fixed, seed)["items"].clean for seed in (0, 2)]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(read_checked("synthetic", small, 0)["items"].clean)
