"""Every metric beside a plain loop over the same records."""

from collections import Counter
from datetime import date, timedelta
from math import log2
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers import reference
from helpers.watched import ARMS, FIRST, arm_of, at, draw, event, item, make_place
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from mtmh.experiment import relations
from mtmh.experiment.arms import bucket as bucket_of
from mtmh.experiment.catalog import UNIT_SALT, ItemTable, UserTable
from mtmh.experiment.data import ExperimentData, experiment_data
from mtmh.experiment.definitions import coverage, distinct, entropy, gini
from mtmh.experiment.folder import Experiment, open_experiment
from mtmh.experiment.metrics import DAILY, METRICS, daily
from mtmh.experiment.units import ITEM_COUNTS, USER_DAYS, item_counts, user_days
from mtmh.exposures.records import ENGAGEMENTS, EXPOSURES


@pytest.mark.parametrize("seed", range(4))
def test_user_days_and_every_metric_equal_a_plain_loop_over_the_records(
    seed: int, tmp_path: Path
) -> None:
    items, history, log = draw(seed)
    found = experiment_data(open_experiment(make_place(tmp_path / "place", items, history, log)))
    table = user_days(found).to_pyarrow()
    assert table.schema.equals(USER_DAYS)
    rows = {(row.pop("arm"), row.pop("day"), row.pop("user_id")): row for row in table.to_pylist()}
    assert {row.pop("bucket") for row in rows.values()} <= set(range(100))
    wanted = reference.user_days(items, history, log)
    assert rows.keys() == wanted.keys()
    for key, row in rows.items():
        assert row == pytest.approx(wanted[key]), key
    figures = daily(found)
    assert figures.schema.equals(DAILY)
    by_day = {(row.pop("arm"), row.pop("day")): row for row in figures.to_pylist()}
    expected = reference.daily(items, history, log, days=4)
    assert by_day.keys() == expected.keys()
    for key, values in by_day.items():
        assert values == pytest.approx(expected[key]), key


def test_a_day_alone_has_the_figures_it_has_among_all_days(tmp_path: Path) -> None:
    place = open_experiment(make_place(tmp_path / "place", *draw(7, users=20)))
    whole = user_days(experiment_data(place)).to_pyarrow()
    for number in range(4):
        day = FIRST + timedelta(days=number)
        alone = user_days(experiment_data(place, day, day)).to_pyarrow()
        among = whole.filter(pc.equal(whole["day"], day))
        order = [("user_id", "ascending")]
        assert alone.sort_by(order).equals(among.sort_by(order))


def test_impressions_and_engagements_can_be_read_with_their_names(tmp_path: Path) -> None:
    items, history, log = draw(9)
    found = experiment_data(open_experiment(make_place(tmp_path / "place", items, history, log)))
    shown = found.named_impressions.select(
        "arm", "user_id", "item_id", "request_id", "position", "relevance"
    ).to_pyarrow()
    answers = [one for one in log if one["kind"] == "exposure"]
    assert set(map(tuple, (row.values() for row in shown.to_pylist()))) == {
        (
            arm_of(one["user_id"]),
            one["user_id"],
            name,
            one["request_id"],
            place,
            head == "relevance",
        )
        for one in answers
        for place, (name, head) in enumerate(zip(one["item_id"], one["head"], strict=True), 1)
    }
    events = found.named_engagements.select(
        "arm", "user_id", "item_id", "timestamp", "value"
    ).to_pyarrow()
    assert set(map(tuple, (row.values() for row in events.to_pylist()))) == {
        (arm_of(one["user_id"]), one["user_id"], one["item_id"], one["timestamp"], one["value"])
        for one in log
        if one["kind"] == "engagement"
    }


def test_item_counts_add_up_to_what_was_shown_and_viewed(tmp_path: Path) -> None:
    items, history, log = draw(8)
    found = experiment_data(open_experiment(make_place(tmp_path / "place", items, history, log)))
    table = item_counts(found).to_pyarrow()
    assert table.schema.equals(ITEM_COUNTS)
    assert len(set(table["key"].to_pylist())) > 10
    shown = Counter(item for one in log if one["kind"] == "exposure" for item in one["item_id"])
    by_item = (
        table.filter(pc.equal(table["over"], "item"))
        .group_by("key")
        .aggregate([("impressions", "sum")])
    )
    assert {
        row["key"]: row["impressions_sum"] for row in by_item.to_pylist() if row["impressions_sum"]
    } == shown
    viewed = Counter(one["item_id"] for one in log if one["kind"] == "engagement")
    by_item = (
        table.filter(pc.equal(table["over"], "item")).group_by("key").aggregate([("views", "sum")])
    )
    assert {
        row["key"]: row["views_sum"] for row in by_item.to_pylist() if row["views_sum"]
    } == viewed
    topics = {one["item_id"]: one["l2_topics"] for one in items}
    by_topic = table.filter(pc.equal(table["over"], "topic"))
    total = sum(count for name, count in shown.items() if topics[name])
    assert pc.sum(by_topic["impressions"]).as_py() == pytest.approx(total)
    assert set(by_topic["size"].to_pylist()) == {5}


def test_a_users_bucket_stays_and_has_nothing_to_do_with_the_arm(tmp_path: Path) -> None:
    users = [f"user-{n}" for n in range(2000)]
    log = [event(None, user, at(0), "a") for user in users]
    table = user_days(
        experiment_data(open_experiment(make_place(tmp_path / "place", [item("a", [])], [], log)))
    ).to_pyarrow()
    arm, bucket = (np.asarray(table[name]) for name in ("arm", "bucket"))
    assert len(np.unique(bucket)) == 100
    counts = np.stack([np.bincount(bucket[arm == name], minlength=100) for name in ARMS])
    assert 0.001 < chi2_contingency(counts).pvalue < 0.999
    known = {row["user_id"]: row["bucket"] for row in table.to_pylist()}
    assert [known[user] for user in ("user-0", "user-1", "user-2")] == [
        bucket_of(f"user-{n}", UNIT_SALT) % 100 for n in range(3)
    ]


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_the_figures_of_sets_equal_their_definitions(counts: list[int]) -> None:
    present, size = np.array([count for count in counts if count], float), len(counts)
    assert distinct(present, size) == len(present)
    assert coverage(present, size) == len(present) / size
    if not len(present):
        assert np.isnan(entropy(present, size))
        assert np.isnan(gini(present, size))
        return
    total = sum(counts)
    assert entropy(present, size) == pytest.approx(
        -sum(n / total * log2(n / total) for n in counts if n)
    )
    apart = sum(abs(a - b) for a in counts for b in counts)
    assert gini(present, size) == pytest.approx(apart / (2 * size * total))


def test_the_arrays_may_have_zeros_too() -> None:
    assert gini(np.array([0.0, 3.0]), 2) == gini(np.array([3.0]), 2) == 0.5
    assert entropy(np.array([0.0, 1.0, 1.0]), 3) == 1.0
    assert np.isnan(coverage(np.array([]), 0))


def test_every_metric_names_columns_that_there_are_or_a_function() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        if metric.is_ratio:
            assert {metric.numerator, metric.denominator or metric.numerator} <= set(
                USER_DAYS.names
            )
            assert metric.over is metric.counts is metric.of_counts is None
        else:
            assert metric.of_counts is not None
            assert metric.over in ("item", "topic")
            assert metric.counts in ITEM_COUNTS.names


def some_days() -> tuple[Experiment, date, date, UserTable, ItemTable]:
    """An experiment with one user and one item, which expressions need and do not look into."""
    experiment = Experiment(
        salt="",
        control=ARMS[0],
        treatment=ARMS[1],
        arms=[{"name": name} for name in ARMS],
        first_day=FIRST,
        days=4,
        simulated=True,
    )
    zero = np.zeros(1, np.int32)
    no, seen = np.zeros(1, bool), np.array([FIRST], "datetime64[D]")
    users = UserTable(pa.array(["u"]), zero, zero, no, ~no, seen)
    nothing = np.array([], "datetime64[us]")
    created = np.array(["NaT"], "datetime64[us]")
    catalog = ItemTable(
        pa.array(["a"]), created, pa.array(["x"]), zero, zero, 1, nothing, pa.array([])
    )
    return experiment, FIRST, FIRST + timedelta(days=3), users, catalog


@pytest.mark.parametrize("dialect", ["databricks", "trino", "bigquery", "snowflake", "postgres"])
def test_the_expressions_are_those_of_other_engines_too(dialect: str) -> None:
    """Compiled, not run: no such engine is here."""
    exposures = ibis.table(ibis.Schema.from_pyarrow(EXPOSURES), "exposures")
    engagements = ibis.table(ibis.Schema.from_pyarrow(ENGAGEMENTS), "engagements")
    items = ibis.table(
        {
            "item_id": "string",
            "item": "int32",
            "created": "timestamp('UTC')",
            "fresh_until": "timestamp('UTC')",
            "topics": "int32",
        },
        "items",
    )
    topics = ibis.table({"item": "int32", "topic": "int32", "share": "float64"}, "topics")
    users = ibis.table(
        {"user_id": "string", "user": "int32", "arm": "int32", "bucket": "int32"}, "users"
    )

    def kept(name: str, rows: ir.Table) -> ir.Table:
        """As `data` does between steps."""
        assert "SELECT" in ibis.to_sql(rows, dialect=dialect)
        return ibis.table(rows.schema(), name)

    requests = kept("requests", relations.requests(exposures))
    lists = kept("lists", relations.lists(requests, users))
    touched = relations.first_engagements(engagements.select("item_id", "day"))
    shown = kept("shown", relations.impressions(exposures, lists, items, touched))
    repeats = kept("repeats", relations.repeats(shown))
    shown = kept("shown_once", relations.without_repeats(shown, repeats))
    events = kept("events", relations.events(engagements, users, items))
    found = kept("found", relations.attributed(events, lists, shown))
    placed = kept("placed", relations.in_time(events, found))
    past = placed.select("user", "item", "day")
    data = ExperimentData(
        *some_days(),
        impressions=shown,
        lists=lists,
        answered=requests,
        matched=kept("matched", relations.matches(shown, topics)),
        events=placed,
        engaged=kept("engaged", relations.engaged(placed)),
        history=past,
        interests=kept("interests", relations.top_interests(past, topics, 5)),
        findings=(),
    )
    for table in (
        user_days(data),
        item_counts(data),
        data.named_impressions,
        data.named_engagements,
    ):
        kept("result", table)
