"""The pre-period for CUPED: the last 28 days before the experiment, counted against a plain count."""

from collections import defaultdict
from datetime import UTC, datetime, time, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from watched_users import FIRST, history

from monitoring.ab.comparison import PRE_PERIOD_DAYS, pre_period


def test_engagements_days_and_seconds_are_those_of_the_pre_period() -> None:
    past = history(300)
    later = past.set_column(2, "timestamp", pc.add(past["timestamp"], pa.scalar(timedelta(days=60))))
    zero = past.slice(0, 50).set_column(3, "value", pa.array([0.0] * 50))
    rows = pa.concat_tables([past, later, zero])
    begin = datetime.combine(FIRST, time(), UTC)
    days, seconds, count = defaultdict(set), defaultdict(float), defaultdict(int)
    for row in rows.to_pylist():
        if begin - timedelta(days=PRE_PERIOD_DAYS) <= row["timestamp"] < begin:
            seconds[row["user_id"]] += row["dwell_seconds"]
            if row["value"] > 0:
                days[row["user_id"]].add(row["timestamp"].date())
                count[row["user_id"]] += 1
    found = {row["user_id"]: row for row in pre_period(rows, FIRST).to_pylist()}
    assert set(found) == set(seconds)
    for user, row in found.items():
        assert row["seconds"] == pytest.approx(seconds[user])
        assert row["active"] == len(days[user])
        assert row["engagements"] == count[user]


def test_a_history_of_three_columns_will_do() -> None:
    found = pre_period(history(300).select(["user_id", "item_id", "timestamp"]), FIRST)
    assert set(found.column_names) == {"user_id", "engagements", "active"}
