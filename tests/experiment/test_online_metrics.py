"""Every metric beside a plain loop over the same records."""

from pathlib import Path

import pytest
import reference
from watched import draw, make_place

from mtmh.experiment.facts import facts
from mtmh.experiment.metrics import DAILY, daily
from mtmh.experiment.place import open_place
from mtmh.experiment.units import USER_DAYS, user_days


@pytest.mark.parametrize("seed", range(6))
def test_user_days_and_every_metric_equal_a_plain_loop_over_the_records(seed: int, tmp_path: Path) -> None:
    items, history, log = draw(seed)
    found = facts(open_place(make_place(tmp_path / "place", items, history, log)))
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
