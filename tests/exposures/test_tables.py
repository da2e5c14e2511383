"""What comes out is what went in: from segments, from Parquet, from both, and whenever a compaction
is killed.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.log_records import NOON, engagement, exposure
from hypothesis import given, settings
from hypothesis import strategies as st

import mtmh_cli
from mtmh.errors import UserError
from mtmh.exposures.compact import compact
from mtmh.exposures.log import LogWriter
from mtmh.exposures.read import LogRelations, read
from mtmh.exposures.records import ENGAGEMENTS, EXPOSURES, encode
from mtmh.exposures.segment import frame
from mtmh.exposures.tables import DAMAGED, UNFINISHED, read_segment

Row = dict[str, Any]


def expected_rows(records: list[Row]) -> tuple[list[Row], list[Row]]:
    """Exposures and engagements of records, the plain way."""
    lists = ("item_id", "head", "head_rank", "score", "trigger_id")
    exposures, engagements = [], []
    for record in records:
        time = record["timestamp"].astimezone(UTC)
        whole = {**record, "timestamp": time, "day": time.date(), "log_version": 1}
        if whole.pop("kind") == "engagement":
            engagements.append({**dict.fromkeys(("exposure_id", "event_id", "call_id")), **whole})
            continue
        lacking = ("exposure_id", "arm_alpha", "own_alpha", "quotas", "arm_quotas")
        whole = {**dict.fromkeys(lacking), **whole}
        columns = {name: whole.pop(name) for name in lists}
        for place, values in enumerate(zip(*columns.values(), strict=True)):
            exposures.append(
                {**whole, **dict(zip(lists, values, strict=True)), "position": place + 1}
            )
    return ordered(exposures), ordered(engagements)


def ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def found_rows(directory: Path, out: Path) -> tuple[list[Row], list[Row]]:
    return rows_of(read(directory, out))


def rows_of(log: LogRelations) -> tuple[list[Row], list[Row]]:
    tables = log.exposures.to_pyarrow(), log.engagements.to_pyarrow()
    for table, schema in zip(tables, (EXPOSURES, ENGAGEMENTS), strict=True):
        assert table.schema.names == schema.names
        assert table.schema.types == schema.types
    return ordered(tables[0].to_pylist()), ordered(tables[1].to_pylist())


def write(directory: Path, records: list[Row], **limits: Any) -> None:
    async def run() -> None:
        async with LogWriter(directory, **limits) as log:
            for record in records:
                await log.append([record])

    asyncio.run(run())


MIXED = [
    one for number in range(12) for one in (exposure(number), engagement(number, request_id=None))
]
LATE = [
    exposure(50, timestamp=NOON - timedelta(days=3)),
    engagement(51, timestamp=NOON - timedelta(days=400), dwell_seconds=None),
    exposure(52, timestamp=NOON + timedelta(days=1), user_id=None, trigger_id=[None, "a", None]),
    exposure(53, candidates=0),
]


def test_the_tables_are_the_same_before_during_and_after_compaction(tmp_path: Path) -> None:
    directory, out = tmp_path / "log", tmp_path / "tables"
    write(directory / "0", MIXED, segment_bytes=2000)
    write(directory / "1", LATE[:2])
    expected = expected_rows(MIXED + LATE[:2])
    assert found_rows(directory, out) == expected
    done = compact(directory, out, batch_bytes=4000)
    assert (done.exposures, done.engagements, done.rejected) == (
        len(expected[0]),
        len(expected[1]),
        0,
    )
    assert len(list((out / "batches").iterdir())) > 1
    assert not list(directory.rglob("*.segment"))
    assert found_rows(directory, out) == expected
    write(
        directory / "1", LATE[2:]
    )  # late rows for a day that is there already, and days that are not
    expected = expected_rows(MIXED + LATE)
    assert found_rows(directory, out) == expected
    compact(directory, out)
    assert found_rows(directory, out) == expected
    assert compact(directory, out).segments == 0
    assert {path.parent.name for path in (out / "exposures").rglob("*.parquet")} == {
        f"day=2026-{day}" for day in ("02-26", "03-01", "03-02")
    }


def test_records_of_a_time_far_off_are_rejected_and_make_no_folder(tmp_path: Path) -> None:
    directory, out = tmp_path / "log", tmp_path / "tables"
    years = [2, 1970, 2999, 9998]
    far_off = [
        engagement(number, timestamp=datetime(year, 1, 1, tzinfo=UTC))
        for number, year in enumerate(years)
    ]
    write(directory, [engagement(9), *far_off])
    assert found_rows(directory, out) == expected_rows([engagement(9)])
    assert read(directory, out).rejected.num_rows == 4
    assert compact(directory, out).rejected == 4
    assert [path.name for path in (out / "engagements").iterdir()] == ["day=2026-03-01"]
    rejected = read(directory, out).rejected.to_pylist()
    for year, row in zip(years, rejected, strict=True):
        assert f"{year:04}-01-01" in row["reason"]
        assert "when it was written" in row["reason"]
        assert json.loads(row["content"])["user_id"]  # nothing is lost


def test_a_segment_that_is_being_written_is_read_and_left_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with LogWriter(tmp_path / "log" / "0") as log:
            await log.append([exposure(0)])
            assert compact(tmp_path / "log", tmp_path / "out").segments == 0
            assert found_rows(tmp_path / "log", tmp_path / "out") == expected_rows([exposure(0)])
            (live,) = (tmp_path / "log" / "0").glob("*.open")
            with live.open("ab") as stream:
                stream.write(frame(encode(exposure(1)))[:40])  # what a writer has got so far
            assert read(tmp_path / "log", tmp_path / "out").rejected.num_rows == 0
            assert found_rows(tmp_path / "log", tmp_path / "out") == expected_rows([exposure(0)])

    asyncio.run(run())


def test_what_a_killed_writer_left_is_compacted_and_its_torn_tail_reported(tmp_path: Path) -> None:
    directory, out = tmp_path / "log", tmp_path / "out"
    (directory / "0").mkdir(parents=True)
    half = frame(encode(exposure(1)))[:40]
    (directory / "0" / "20260301T120000-a.open").write_bytes(frame(encode(exposure(0))) + half)
    done = compact(directory, out)
    assert (done.exposures, done.rejected) == (3, 1)
    (torn,) = read(directory, out).rejected.to_pylist()
    assert (torn["segment"], torn["reason"], torn["content"]) == (
        "0/20260301T120000-a.torn",
        UNFINISHED,
        half,
    )
    assert found_rows(directory, out) == expected_rows([exposure(0)])


def test_what_cannot_be_read_is_set_aside_with_its_place_and_reason(tmp_path: Path) -> None:
    """A flipped bit, a record that this version does not know, and damage at the end of a finished
    segment.
    """
    directory, out = tmp_path / "log", tmp_path / "out"
    directory.mkdir()
    frames = [bytearray(frame(encode(exposure(number)))) for number in range(3)]
    frames[1][60] ^= 4
    unknown = frame(encode(exposure(3)).replace(b'"log_version":1', b'"log_version":3'))
    tail = b"\0" * 30
    (directory / "20260301T120000-a.segment").write_bytes(b"".join([*frames, unknown, tail]))
    for _ in range(2):
        rejected = read(directory, out).rejected.to_pylist()
        starts = [len(frames[0]), sum(map(len, frames)), sum(map(len, frames)) + len(unknown)]
        assert [row["start"] for row in rejected] == starts
        assert rejected[0]["reason"] == rejected[2]["reason"] == DAMAGED
        assert rejected[0]["content"] == bytes(frames[1])
        assert "log_version: input should be 1 or 2" in rejected[1]["reason"]
        assert {row["segment"] for row in rejected} == {"20260301T120000-a.segment"}
        assert found_rows(directory, out) == expected_rows([exposure(0), exposure(2)])
        compact(directory, out)  # and again from Parquet
    assert not list(directory.glob("*.segment"))


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
times = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)).map(
    lambda time: time.replace(tzinfo=UTC)
) | st.just(NOON.astimezone(timezone(timedelta(hours=-9))))
candidates = st.lists(
    st.tuples(
        text,
        st.sampled_from(["engagement", "relevance"]),
        st.integers(1, 2**31 - 1),
        numbers,
        st.none() | text,
    ),
    max_size=4,
)


@st.composite
def any_record(draw: st.DrawFn) -> Row:
    common = {"timestamp": draw(times), "request_id": draw(text)}
    if draw(st.booleans()):
        dwell = draw(st.none() | st.floats(0, 86_400))
        return engagement(
            **common, user_id=draw(text), item_id=draw(text), event=draw(text), dwell_seconds=dwell
        )
    columns = list(zip(*draw(candidates), strict=True)) or [()] * 5
    names = ("item_id", "head", "head_rank", "score", "trigger_id")
    lists = {name: list(values) for name, values in zip(names, columns, strict=True)}
    return exposure(
        **common, alpha=draw(st.floats(0, 100)), user_id=draw(st.none() | text), **lists
    )


@settings(max_examples=60)
@given(st.lists(any_record(), max_size=5))
def test_every_value_comes_out_as_it_went_in(records: list[Row]) -> None:
    tables = read_segment("a.segment", b"".join(frame(encode(record)) for record in records))
    found = ordered(tables.exposures.to_pylist()), ordered(tables.engagements.to_pylist())
    assert found == expected_rows(records)
    assert tables.rejected.num_rows == 0


def test_a_compaction_killed_at_any_step_neither_loses_nor_doubles_a_row(tmp_path: Path) -> None:
    """Killed before each of its calls that change the disk; read right then, then compacted, then
    read again.
    """
    directory = tmp_path / "log"
    write(directory / "0", MIXED[:8], segment_bytes=2000)
    (directory / "1").mkdir()
    left = frame(encode(LATE[0])) + frame(encode(LATE[2]))[:50]
    (directory / "1" / "20260301T120000-a.open").write_bytes(left)
    expected = expected_rows([*MIXED[:8], LATE[0]])
    helpers = Path(__file__).parents[1] / "helpers"
    command = [
        sys.executable,
        str(helpers / "killed_compaction.py"),
        str(directory),
        str(tmp_path / "trials"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(helpers.parents[1])}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    trials = sorted((tmp_path / "trials").iterdir())
    assert len(trials) > 25
    states = set()
    for trial in trials:
        states.add(
            (
                len(list(trial.rglob("*.segment"))),
                len(list(trial.rglob("*.json"))),
                len(list(trial.rglob("*.parquet"))),
            )
        )
        assert found_rows(trial / "log", trial / "out") == expected, trial
        compact(trial / "log", trial / "out")
        log = read(trial / "log", trial / "out")
        assert rows_of(log) == expected, trial
        assert log.rejected["reason"].to_pylist() == [UNFINISHED]
        assert not [
            path
            for path in (trial / "log").rglob("*")
            if path.suffix in (".segment", ".open", ".torn")
        ]
        written = sum(
            pq.read_metadata(path).num_rows
            for path in (trial / "out" / "exposures").rglob("*.parquet")
        )
        assert written == len(expected[0])  # no leftovers either
    assert len(states) > 5  # it really was killed at different steps


def test_a_reader_sees_every_row_once_while_the_log_is_written_and_compacted(
    tmp_path: Path,
) -> None:
    directory, out = tmp_path / "log", tmp_path / "out"
    done, acknowledged = threading.Event(), [0]

    async def append() -> None:
        async with LogWriter(directory, segment_bytes=3000) as log:
            for number in range(150):
                await log.append([engagement(number)])
                acknowledged[0] = number + 1

    def work() -> None:
        asyncio.run(append())
        done.set()

    def compacting() -> None:
        while not done.is_set():
            compact(directory, out)

    directory.mkdir()
    threads = [threading.Thread(target=work), threading.Thread(target=compacting)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        least = acknowledged[0]
        found = read(directory, out).engagements.request_id.to_pyarrow().to_pylist()
        assert len(found) == len(set(found))
        assert {f"request-{number}" for number in range(least)} <= set(found)
    for thread in threads:
        thread.join()
    assert read(directory, out).engagements.count().execute() == 150


def test_days_are_files_that_can_be_deleted_and_queries_run_in_utc(tmp_path: Path) -> None:
    write(
        tmp_path / "log",
        [engagement(0), engagement(1, timestamp=NOON + timedelta(hours=11, minutes=59))],
    )
    write(tmp_path / "log", [engagement(2, timestamp=NOON + timedelta(hours=12))])
    compact(tmp_path / "log", tmp_path / "out")
    log = read(tmp_path / "log", tmp_path / "out")
    days = log.engagements.group_by(log.engagements.timestamp.date().name("day")).agg(
        n=log.engagements.count()
    )
    found = days.order_by("day").execute()
    assert found["n"].tolist() == [2, 1]
    for path in (tmp_path / "out" / "engagements" / "day=2026-03-01").iterdir():
        path.unlink()
    assert read(tmp_path / "log", tmp_path / "out").engagements.count().execute() == 1


def test_errors_are_for_people(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        compact(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UserError, match="is the log itself"):
        compact(tmp_path, tmp_path)
    with pytest.raises(UserError, match="neither a folder"):
        read(tmp_path / "nothing", tmp_path / "nowhere")


def test_a_segment_that_vanished_is_an_error_unless_nothing_was_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed, and gone when it is to be read: a writer on a full disk removes the segment it could
    not begin.
    """
    monkeypatch.setattr("mtmh.exposures.read._listed", lambda directory: [directory / "a.open"])
    assert found_rows(tmp_path, tmp_path / "out") == ([], [])
    monkeypatch.setattr("mtmh.exposures.read._listed", lambda directory: [directory / "a.segment"])
    with pytest.raises(UserError, match=r"1 segments vanished .* such as a"):
        read(tmp_path, tmp_path / "out")


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    """Servers write text files there too, and these are called .log."""
    write(tmp_path / "log", MIXED[:2])
    (tmp_path / "log" / "server.log").write_text("started\n")
    assert compact(tmp_path / "log", tmp_path / "out").rejected == 0
    assert (tmp_path / "log" / "server.log").read_text() == "started\n"


def test_the_command_compacts_and_says_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mtmh(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mtmh", "log", "compact", *arguments])
        with pytest.raises(SystemExit) as ended:
            mtmh_cli.main()
        return int(ended.value.code or 0)

    write(tmp_path / "log", MIXED[:2])
    (tmp_path / "log" / "20260301T120000-a.segment").write_bytes(b"nothing of ours")
    assert mtmh(str(tmp_path / "log"), str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "2 segments: 3 exposures, 1 engagements" in printed
    assert "1 pieces that could not be read" in printed
    assert mtmh(str(tmp_path / "nowhere"), str(tmp_path / "out")) == 2
    assert "no such folder" in capsys.readouterr().err


def test_an_empty_log_gives_empty_tables(tmp_path: Path) -> None:
    assert found_rows(tmp_path, tmp_path / "out") == ([], [])
    assert compact(tmp_path, tmp_path / "out").segments == 0
    assert found_rows(tmp_path, tmp_path / "out") == ([], [])


def test_an_answer_of_many_channels_has_their_names_and_quotas(tmp_path: Path) -> None:
    """In place of alpha, whose column is null; a record with neither is none."""
    quotas = "engagement 50, relevance 30, topical 20"
    many = exposure(
        1,
        alpha=None,
        quotas=quotas,
        arm_quotas=quotas,
        own_alpha=False,
        exposure_id="e1",
        log_version=2,
        head=["engagement", "topical", "relevance"],
    )
    write(tmp_path / "log", [exposure(0), many])
    compact(tmp_path / "log", tmp_path / "out")
    exposures, _ = found_rows(tmp_path / "log", tmp_path / "out")
    rows = [row for row in exposures if row["request_id"] == "request-1"]
    rows.sort(key=lambda row: row["position"])
    assert [row["head"] for row in rows] == ["engagement", "topical", "relevance"]
    assert {(row["alpha"], row["quotas"], row["arm_quotas"]) for row in rows} == {
        (None, quotas, quotas)
    }
    with pytest.raises(ValueError, match="alpha and quotas are both missing"):
        encode(exposure(2, alpha=None))
