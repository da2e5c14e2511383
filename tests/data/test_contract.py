"""A table that is not in the contract's form is one clear error; a bad row is set aside, and no row
is lost.
"""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmh.data.contract import INTERACTIONS, conform, item_columns
from mtmh.data.quarantine import Checked, check_concepts, check_interactions, check_items
from mtmh.errors import UserError

NAN, INF = float("nan"), float("inf")
NOON = 1_704_110_400  # 2024-01-01T12:00, seconds since 1970


def interactions(**columns: list) -> pa.Table:
    """Interactions of `i1`, all good but for the columns given."""
    count = len(next(iter(columns.values())))
    good = {
        "user_id": [f"u{n}" for n in range(count)],
        "item_id": ["i1"] * count,
        "timestamp": pa.array(
            [datetime(2024, 1, 1, tzinfo=UTC)] * count, pa.timestamp("us", tz="UTC")
        ),
    }
    return pa.table(good | columns)


def reasons(checked: Checked) -> dict[int, str]:
    return {row["row"]: row["reason"] for row in checked.rejected.to_pylist()}


def test_optional_columns_are_filled() -> None:
    table = conform(interactions(value=[None, 2]), INTERACTIONS, "f")
    assert table.column_names == [column.name for column in INTERACTIONS]
    assert table["value"].to_pylist() == [1.0, 2.0]
    assert table["event"].to_pylist() == ["engage", "engage"]
    assert table["dwell_seconds"].to_pylist() == table["arm"].to_pylist() == [None, None]
    items = conform(
        pa.table({"item_id": ["a", "b"], "title": ["x", None]}), item_columns([], []), "f"
    ).to_pylist()
    assert [item["title"] for item in items] == ["x", ""]
    assert items[0]["l1_topics"] == []


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_timestamps_of_any_unit_and_zone_are_read(unit: str, zone: str | None) -> None:
    moment = pa.array([1_700_000_000]).cast(pa.timestamp("s")).cast(pa.timestamp(unit, tz=zone))
    table = conform(interactions(timestamp=moment), INTERACTIONS, "f")
    assert table["timestamp"].to_pylist() == [datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)]


def test_every_fault_of_a_file_is_named_at_once() -> None:
    table = pa.table({"user_id": [1], "timestamp": ["2024-01-01"], "value": ["x"]})
    with pytest.raises(UserError) as caught:
        check_interactions(table, "log.parquet")
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("log.parquet: column ") for line in lines)
    assert "'user_id' has type int64, expected string" in lines[0]
    assert "astype('string')" in lines[0]
    assert "'item_id' (string) is missing; it has user_id, timestamp, value" in lines[1]
    assert "'timestamp' has type string, expected timestamp" in lines[2]
    assert "to_datetime" in lines[2]
    assert "'value' has type string, expected double" in lines[3]


def test_topics_must_be_lists() -> None:
    with pytest.raises(UserError, match=r"'l2_topics' has type string, expected list.*\[\"Books\""):
        check_items(pa.table({"item_id": ["a"], "l2_topics": ["Books"]}), "items.parquet")


def test_an_empty_table_is_an_error() -> None:
    with pytest.raises(UserError, match="log has no rows"):
        check_interactions(interactions(value=[1.0]).slice(0, 0), "log")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"user_id": ["", "b", None]}, "user_id is null or empty"),
        ({"item_id": [None, "i1", ""]}, "item_id is null or empty"),
        ({"item_id": ["i9", "i1", "i0"]}, "item_id is not among the items"),
        ({"value": [INF, 1.0, -INF]}, "value is NaN or infinite"),
        ({"dwell_seconds": [-1.0, 0.0, -INF]}, "dwell_seconds is"),
        ({"timestamp": pa.array([None, NOON, None], pa.timestamp("s"))}, "timestamp is null"),
        (
            {"timestamp": pa.array([2**62, NOON, -(2**62)], pa.timestamp("s"))},
            "timestamp is outside the years",
        ),
        (
            {"timestamp": pa.array([10**18, NOON * 10**6, -(10**18)], pa.timestamp("us"))},
            "timestamp is outside the years",
        ),
    ],
)
def test_a_bad_interaction_is_rejected_with_its_reason(columns: dict, reason: str) -> None:
    items = check_items(pa.table({"item_id": ["i1", "i2"]}), "items")
    checked = check_interactions(interactions(**columns), "log", items)
    assert checked.clean.num_rows == 1
    assert set(reasons(checked)) == {0, 2}
    assert all(said.startswith(reason) for said in reasons(checked).values())


def test_an_exact_repetition_is_rejected_and_the_first_is_kept() -> None:
    table = interactions(
        user_id=["a", "b", "a", "a"], value=[1.0, 1.0, 2.0, 3.0], event=["v", "v", "v", "w"]
    )
    checked = check_interactions(table, "log")
    assert reasons(checked) == {2: "the same user, item, timestamp and event as an earlier row"}
    assert checked.clean["value"].to_pylist() == [1.0, 1.0, 3.0]


def test_bad_items_are_rejected_with_their_reason() -> None:
    table = pa.table(
        {
            "item_id": ["a", "a", "", "b", "c", "d", "e"],
            "price": [1.0, 2.0, 3.0, NAN, 5.0, None, INF],
            "l1_topics": [[], [], [], [], ["x", ""], ["y"], []],
        }
    )
    checked = check_items(table, "items", float_features=["price"])
    assert reasons(checked) == {
        1: "item_id is there twice, the first row is kept",
        2: "item_id is null or empty",
        3: "price is NaN or infinite",
        4: "l1_topics holds a null or empty topic",
        6: "price is NaN or infinite",
    }
    assert checked.clean["item_id"].to_pylist() == ["a", "d"]


def test_a_bad_first_row_does_not_cost_its_good_repetition() -> None:
    table = pa.table({"item_id": ["a", "a"], "price": [NAN, 2.0]})
    assert check_items(table, "items", float_features=["price"]).clean["price"].to_pylist() == [2.0]


def test_concepts_need_a_known_item() -> None:
    items = check_items(pa.table({"item_id": ["a"]}), "items")
    table = pa.table({"item_id": ["a", "b", "a", "a"], "concept": ["cat", "dog", None, " "]})
    checked = check_concepts(table, "concepts", items)
    assert checked.clean.to_pylist() == [
        {"item_id": "a", "concept": "cat", "source": "tag", "weight": 1.0}
    ]
    assert reasons(checked) == {
        1: "item_id is not among the items",
        2: "concept is null or empty",
        3: "concept is blank",
    }


def test_concepts_need_a_weight_to_be_drawn_by() -> None:
    items = check_items(pa.table({"item_id": ["a"]}), "items")
    weight = [2, 0, -1, -INF, INF, None]
    table = pa.table(
        {"item_id": ["a"] * 6, "concept": list("uvwxyz"), "weight": pa.array(weight, pa.float64())}
    )
    checked = check_concepts(table, "concepts", items)
    assert [row["weight"] for row in checked.clean.to_pylist()] == [2.0, 1.0]
    assert reasons(checked) == {
        1: "weight is zero or negative",
        2: "weight is zero or negative",
        3: "weight is NaN or infinite",
        4: "weight is NaN or infinite",
    }


def test_declared_features_must_be_there_and_of_their_kind() -> None:
    with pytest.raises(UserError, match="'price' \\(double\\) is missing"):
        check_items(pa.table({"item_id": ["a"]}), "items", float_features=["price"])
    with pytest.raises(UserError, match="'brand' has type int64, expected string"):
        check_items(pa.table({"item_id": ["a"], "brand": [1]}), "items", id_features=["brand"])
    with pytest.raises(UserError, match=r"data.float_features names 'title'"):
        check_items(pa.table({"item_id": ["a"]}), "items", float_features=["title"])
    with pytest.raises(UserError, match=r"data.id_features names 'l1_topics'"):
        check_items(pa.table({"item_id": ["a"]}), "items", id_features=["l1_topics"])


def test_rejected_rows_keep_their_content_whatever_its_type() -> None:
    extra = {
        "half": pa.array([1.5]).cast(pa.float16()),
        "big": pa.array([1]).cast(pa.decimal256(40, 2)),
        "raw": pa.array([b"\xff"]),
        "nested": pa.array([{"x": [1]}]),
    }
    table = interactions(user_id=[""])
    for name, values in extra.items():
        table = table.append_column(name, values)
    content = json.loads(check_interactions(table, "log").rejected["content"][0].as_py())
    assert set(content) == set(table.column_names)
    assert (content["item_id"], content["timestamp"]) == ("i1", "2024-01-01 00:00:00.000000Z")
    assert (content["half"], content["big"], content["nested"]) == (1.5, "1.00", {"x": [1]})


values = st.sampled_from([None, "", "a", "b", "c"])
moments = st.one_of(st.none(), st.integers(NOON, NOON + 2), st.just(2**60))
numbers = st.sampled_from([None, NAN, INF, -1.0, 0.0, 2.0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(values, values, moments, numbers, numbers), min_size=1, max_size=30))
def test_clean_and_rejected_rows_are_the_input(given_rows: list[tuple]) -> None:
    user, item, moment, value, dwell = (list(column) for column in zip(*given_rows, strict=True))
    table = pa.table(
        {
            "user_id": pa.array(user, pa.string()),
            "item_id": pa.array(item, pa.string()),
            "timestamp": pa.array(moment, pa.timestamp("s")),
            "value": pa.array(value, pa.float64()),
            "dwell_seconds": pa.array(dwell, pa.float64()),
        }
    )
    items = check_items(pa.table({"item_id": ["a", "b"]}), "items")
    checked = check_interactions(table, "log", items)
    assert checked.clean.num_rows + checked.rejected.num_rows == len(given_rows)
    bad = set(reasons(checked))
    good = [row for number, row in enumerate(given_rows) if number not in bad]
    assert checked.clean["user_id"].to_pylist() == [row[0] for row in good]
    expected, seen = [], set()
    for number, (u, i, t, v, d) in enumerate(given_rows):
        fine = (
            u and i in ("a", "b") and t is not None and t < 2**60 and v != INF
        )  # NaN is a missing value
        fine = fine and (d is None or d != d or (d >= 0 and d < INF))
        if not fine or (u, i, t) in seen:
            expected.append(number)
        else:
            seen.add((u, i, t))
    assert sorted(bad) == expected
