"""A log with everything wrong in it: each kind counted, with an example, and nothing else changed
by it.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers.watched import ARMS, FIRST, answer, append, arm_of, at, event, item, make_place, past

from mtmh.experiment.data import experiment_data
from mtmh.experiment.findings import LogFinding
from mtmh.experiment.folder import open_experiment
from mtmh.experiment.metrics import daily
from mtmh.experiment.units import item_counts, user_days
from mtmh.exposures.segment import frame

Row = dict[str, Any]
CONTROL = next(f"c{n}" for n in range(99) if arm_of(f"c{n}") == ARMS[0])
TREATED = next(f"t{n}" for n in range(99) if arm_of(f"t{n}") == ARMS[1])
ITEMS = [item("a", ["x"]), item("b", ["x", "y"]), item("c", []), item("new", ["z"], at(1))]
HISTORY = [past(CONTROL, "a", -29)]


def sound(days: int = 4) -> list[Row]:
    """Each day an answer and an engagement of each arm."""
    rows = []
    for day in range(days):
        for user in (CONTROL, TREATED):
            request = f"{user}-{day}"
            rows.append(answer(request, user, at(day, 3600), ["a", "b", "c"], ["b", "a", None]))
            rows.append(event(request, user, at(day, 3700), "a"))
    return rows


def look(place: Path, **days: Any) -> tuple[dict[str, LogFinding], list[Row]]:
    """Findings that found something, and the daily figures."""
    found = experiment_data(open_experiment(place), **days)
    assert user_days(found).count().execute() >= 0
    assert item_counts(found).count().execute() >= 0
    return {finding.name: finding for finding in found.findings if finding.count}, daily(
        found
    ).to_pylist()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    findings, figures = look(
        make_place(tmp_path_factory.mktemp("clean") / "place", ITEMS, HISTORY, sound())
    )
    assert findings == {}
    return figures


CASES: dict[str, tuple[list[Row], int, str]] = {
    "exposures_before": ([answer("early", CONTROL, at(-2), ["a", "b"], [None, None])], 2, "early"),
    "exposures_after": ([answer("future", CONTROL, at(400), ["a"], [None])], 1, "future"),
    "engagements_before": ([event(None, CONTROL, at(-300), "a")], 1, "2024-05-06"),
    "engagements_after": ([event(None, CONTROL, at(400), "a")], 1, "2026-04-06"),
    "no_user": (
        [answer("nobody", None, at(1), ["a", "b"], [None, None], arm=ARMS[0])],
        1,
        "nobody",
    ),
    "unknown_arm": ([answer("odd", "someone", at(1), ["a"], [None], arm="holdout")], 1, "holdout"),
    "mixed_answers": (
        [answer("both", user, at(1), ["a"], [None]) for user in ("one", "two")],
        1,
        "both",
    ),
    "duplicate_exposures": (
        [answer(f"{CONTROL}-0", CONTROL, at(0, 3600), ["a", "b", "c"], ["b", "a", None])],
        3,
        "a",
    ),
    "duplicate_engagements": (
        [event(f"{CONTROL}-0", CONTROL, at(0, 3700), "a")] * 2,
        2,
        f"{CONTROL}-0",
    ),
    "contaminated": (
        [answer(f"both-{arm}", "torn", at(1), ["a", "b"], [None, None], arm=arm) for arm in ARMS],
        1,
        "torn: engagement-only, mtmh",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_belongs_to_nobody_or_came_twice_changes_no_figure(
    name: str, clean: list[Row], tmp_path: Path
) -> None:
    rows, count, example = CASES[name]
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, [*sound(), *rows]))
    assert {key: finding.count for key, finding in findings.items()} == {name: count}
    assert example in (findings[name].example or "")
    assert figures == clean


def test_an_engagement_sent_again_by_its_id_counts_once_whatever_time_it_names(
    clean: list[Row], tmp_path: Path
) -> None:
    rows = sound()
    rows[1] |= {"event_id": "mine"}
    again = [rows[1] | {"timestamp": at(day, 5000)} for day in (0, 1, 2)]
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, [*rows, *again]))
    assert {name: finding.count for name, finding in findings.items()} == {
        "duplicate_engagements": 3
    }
    assert figures == clean


def test_an_id_of_another_user_hides_nothing(clean: list[Row], tmp_path: Path) -> None:
    rows = sound()
    for number, row in enumerate(rows):
        if row["kind"] == "engagement":
            row["event_id"] = f"day-{number // 4}"  # of both users
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, rows))
    assert findings == {}
    assert figures == clean


def test_answers_that_are_not_the_arms_own_are_counted(tmp_path: Path) -> None:
    rows = sound()
    rows[0] |= {"alpha": 0.0}
    rows[2] |= {"degraded": True}
    findings, _ = look(make_place(tmp_path / "place", ITEMS, HISTORY, rows))
    assert findings["degraded"].count == 1
    counted = findings.get("own_alpha")
    assert (counted.count if counted else None) == 1


def test_engagements_of_a_user_in_two_arms_are_left_out_too(
    clean: list[Row], tmp_path: Path
) -> None:
    rows = [
        *CASES["contaminated"][0],
        event("both-mtmh", "torn", at(1, 60), "a"),
        event(None, "torn", at(3), "c"),
    ]
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, [*sound(), *rows]))
    assert findings["contaminated"].count == 1
    assert [row | {"cold_share": None} for row in figures] == [
        row | {"cold_share": None} for row in clean
    ]
    assert (
        figures[3]["cold_share"] == clean[3]["cold_share"]
    )  # "c" is engaged with on the last day only


def test_malformed_records_are_counted_and_the_rest_is_read(
    clean: list[Row], tmp_path: Path
) -> None:
    place = make_place(tmp_path / "place", ITEMS, HISTORY, sound())
    folder = place / "log"
    torn = frame(b'{"kind":"exposure"}').replace(b"exposure", b"exposurE")
    (folder / "20250302T000000-1.segment").write_bytes(
        frame(b'{"kind":"party"}') + torn + frame(b"{}")
    )
    findings, figures = look(place)  # not compacted yet
    assert {name: finding.count for name, finding in findings.items()} == {"rejected": 3}
    assert "party" in (findings["rejected"].example or "")
    assert figures == clean
    append(place, [])
    again, figures = look(place)
    assert again == findings
    assert figures == clean


def test_late_rows_count_in_their_day_and_are_told(clean: list[Row], tmp_path: Path) -> None:
    rows = sound()
    late = rows[:2]
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, rows[2:], late))
    assert {name: finding.count for name, finding in findings.items()} == {
        "late_exposures": 3,
        "late_engagements": 1,
    }
    assert "day=2025-03-02" in (findings["late_exposures"].example or "")
    assert figures == clean
    assert "late_exposures" not in look(tmp_path / "place", first=FIRST + timedelta(days=1))[0]


def test_rows_out_of_order_in_the_log_give_the_same_figures(
    clean: list[Row], tmp_path: Path
) -> None:
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, sound()[::-1]))
    assert findings == {}
    assert figures == clean


@pytest.mark.parametrize(
    ("seconds", "name", "attributed"),
    [
        (-60, "out_of_order", 1),
        (-3000, "out_of_order", 0),
        (90_000, "late_engagement_of_exposure", 0),
        (60, None, 1),
    ],
)
def test_engagements_before_or_long_after_their_exposure(
    seconds: float, name: str | None, attributed: int, tmp_path: Path
) -> None:
    rows = [
        answer("r", CONTROL, at(0, 7200), ["a"], [None]),
        event("r", CONTROL, at(0, 7200 + seconds), "a"),
    ]
    found = experiment_data(
        open_experiment(make_place(tmp_path / "place", ITEMS, HISTORY, rows, days=2))
    )
    findings = {finding.name: finding for finding in found.findings}
    totals = user_days(found).to_pyarrow()
    assert sum(totals["engagements"].to_pylist()) == 1
    assert sum(totals["attributed_engagements"].to_pylist()) == attributed
    assert sum(totals["engaged_impressions"].to_pylist()) == attributed
    for kind in ("out_of_order", "late_engagement_of_exposure", "unattributed"):
        assert findings[kind].count == (kind == name), kind


@pytest.mark.parametrize("first", [0, 3])
def test_an_engagement_days_after_its_exposure_is_late_and_not_without_one(
    first: int, tmp_path: Path
) -> None:
    rows = [*sound(), event(f"{CONTROL}-0", CONTROL, at(3), "b")]
    place = make_place(tmp_path / "place", ITEMS, HISTORY, rows)
    findings, _ = look(place, first=FIRST + timedelta(days=first))
    assert {name: finding.count for name, finding in findings.items()} == {
        "late_engagement_of_exposure": 1
    }


def test_engagements_of_ones_own_accord_are_nothing_wrong(tmp_path: Path) -> None:
    rows = [event(None, CONTROL, at(3, 9000), "new"), event(None, CONTROL, at(0), "b")]
    findings, _ = look(make_place(tmp_path / "place", ITEMS, HISTORY, [*sound(2), *rows]))
    assert findings.keys() == {"empty_days", "quiet_days"}


def test_engagements_that_name_no_exposure_are_counted_and_told(tmp_path: Path) -> None:
    rows = [event("lost", CONTROL, at(1), "a"), event(f"{CONTROL}-0", TREATED, at(0, 3700), "a")]
    rows += [event(f"{CONTROL}-0", CONTROL, at(0, 3800), "new")]
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, [*sound(), *rows]))
    assert findings["unattributed"].count == 3
    assert figures[1]["time_spent"] == 2 * 2.5


def test_unknown_items_and_items_shown_too_early(tmp_path: Path) -> None:
    rows = [
        answer("r", CONTROL, at(0, 9000), ["ghost", "new"], ["a", "ghost"]),
        event(None, CONTROL, at(0), "spirit"),
    ]
    findings, figures = look(
        make_place(tmp_path / "place", [*ITEMS, item("a", ["z"])], HISTORY, [*sound(), *rows])
    )
    assert {name: finding.count for name, finding in findings.items()} == {
        "unknown_items_exposures": 1,
        "unknown_items_engagements": 1,
        "not_yet_created": 1,
        "repeated_items": 1,
    }
    assert "ghost" in (findings["unknown_items_exposures"].example or "")
    assert (
        figures[0]["topic_match"] == 1.0
    )  # the first row of "a" counts, and what has no topics is not judged
    assert figures[0]["fresh_share"] == 0.0
    assert figures[0]["distinct_item_views"] == 2  # "a" and "spirit"


def test_an_arm_that_vanishes_and_days_without_anything(tmp_path: Path) -> None:
    rows = [row for row in sound(6) if row["timestamp"] < at(2) or row["user_id"] == CONTROL]
    rows = [row for row in rows if not at(4) <= row["timestamp"] < at(5)]
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, rows, days=6))
    assert {name: (finding.count, finding.example) for name, finding in findings.items()} == {
        "vanished_arms": (1, "mtmh: no answers since 2025-03-04"),
        "empty_days": (1, "2025-03-06"),
        "quiet_days": (1, "2025-03-06"),
    }
    by_day = {(row["arm"], row["day"]): row for row in figures}
    assert len(by_day) == 12
    gone, empty = (
        by_day["mtmh", FIRST + timedelta(days=3)],
        by_day[ARMS[0], FIRST + timedelta(days=4)],
    )
    for row in (gone, empty):
        assert row["users"] == 1
        assert row["active_users"] == row["daily_active_users"] == row["time_spent"] == 0
        assert row["fresh_share"] is row["gini"] is row["novel_interests"] is None


def test_an_arm_that_is_away_for_a_day(tmp_path: Path) -> None:
    rows = [
        row for row in sound() if not at(1) <= row["timestamp"] < at(2) or row["user_id"] == CONTROL
    ]
    findings, _ = look(make_place(tmp_path / "place", ITEMS, HISTORY, rows))
    assert {name: finding.example for name, finding in findings.items()} == {
        "missing_arm_days": "mtmh on 2025-03-03"
    }


def test_a_log_without_a_single_row(tmp_path: Path) -> None:
    findings, figures = look(make_place(tmp_path / "place", ITEMS, [], [], days=2))
    assert figures == []
    assert findings["empty_days"].count == findings["quiet_days"].count == 2
    assert findings["short_history"].count == 28


def test_users_whom_another_arm_served_than_theirs_stay_where_they_were_served(
    tmp_path: Path,
) -> None:
    rows = [{**row, "arm": ARMS[1]} if row["kind"] == "exposure" else row for row in sound()]
    findings, figures = look(make_place(tmp_path / "place", ITEMS, HISTORY, rows))
    assert findings["misplaced"].count == 1
    assert findings["vanished_arms"].example == "engagement-only: no answers at all"
    assert {row["arm"]: row["users"] for row in figures} == {"mtmh": 2}


def test_the_clock_of_the_reader_bounds_a_log_of_real_users(tmp_path: Path) -> None:
    place = make_place(tmp_path / "place", ITEMS, HISTORY, sound(), simulated=False)
    findings, figures = look(place, now=at(1, 3650))
    assert {name: finding.count for name, finding in findings.items()} == {
        "exposures_after": 12,
        "engagements_after": 4,
    }
    assert {row["day"] for row in figures} == {FIRST, FIRST + timedelta(days=1)}
