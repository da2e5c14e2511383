"""What `append` returned from is on disk, through kills, torn writes, damage and full disks."""

import asyncio
import errno
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.log_records import engagement, exposure
from hypothesis import given
from hypothesis import strategies as st

from mtmh.errors import UserError
from mtmh.exposures.log import LogWriter
from mtmh.exposures.records import RECORD
from mtmh.exposures.segment import SegmentFile, frame, scan

HELPERS = Path(__file__).parents[1] / "helpers"


def segments(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix in (".open", ".segment"))


def request_ids(directory: Path) -> list[str]:
    """Of every whole record; each must be one by the schema too."""
    records = [
        record for path in segments(directory) for _, record in scan(path.read_bytes()).records
    ]
    return [RECORD.validate_json(record).request_id or "" for record in records]


def write(directory: Path, numbers: range, **limits: Any) -> None:
    async def run() -> None:
        async with LogWriter(directory, **limits) as log:
            for number in numbers:
                await log.append([exposure(number)])

    asyncio.run(run())


def test_an_engineer_can_read_a_segment_with_the_machines_own_tools(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    (path,) = segments(tmp_path)
    last = subprocess.run(
        f"tail -n 1 {path} | cut -c 19-", shell=True, capture_output=True, check=True
    ).stdout
    assert json.loads(last) == {
        **exposure(2),
        "timestamp": "2026-03-01T12:00:02Z",
        "log_version": 1,
    }


def test_appends_that_wait_together_are_all_written_in_order_and_share_fsyncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, threads, append = [], set(), SegmentFile.append

    def counted(file: SegmentFile, frames: list[bytes]) -> None:
        commits.append(len(frames))
        threads.add(threading.current_thread())
        append(file, frames)

    monkeypatch.setattr(SegmentFile, "append", counted)

    async def run() -> None:
        async with LogWriter(tmp_path) as log:
            await asyncio.gather(
                *(log.append([exposure(number), engagement(number)]) for number in range(100))
            )
            assert log.waiting == 0

    asyncio.run(run())
    assert request_ids(tmp_path) == [f"request-{number}" for number in range(100) for _ in range(2)]
    assert sum(commits) == 100
    assert len(commits) <= 2  # what comes while the first is being written goes with the second
    assert threading.main_thread() not in threads


def test_the_event_loop_goes_on_while_the_disk_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = threading.Event(), os.fsync

    def slow(handle: int) -> None:
        assert synced.wait(60)
        fsync(handle)

    async def run() -> None:
        log = LogWriter(tmp_path)
        monkeypatch.setattr(os, "fsync", slow)
        writing = asyncio.create_task(log.append([exposure()]))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not writing.done()  # not acknowledged before the disk says so
        synced.set()  # which only a loop that goes on can do
        await writing
        await log.close()

    asyncio.run(run())


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """Killed again and again in the middle of heavy appending; every restart goes on in the same
    directory.
    """
    acknowledged: set[str] = set()
    for attempt in range(6):
        command = [
            sys.executable,
            str(HELPERS / "heavy_writer.py"),
            str(tmp_path),
            str(attempt * 1_000_000),
            "300000",
        ]
        folders = (HELPERS.parents[1], HELPERS.parent)  # of mtmh, and of the package helpers
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(200 + 37 * attempt)]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        assert writer.returncode == -signal.SIGKILL
        acknowledged |= {line.strip() for line in lines if line.endswith("\n")}
        assert len(acknowledged) >= 200 * (attempt + 1)
    write(tmp_path, range(9_000_000, 9_000_001))  # the next process finishes what the last one left
    found = request_ids(tmp_path)
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    assert not list(tmp_path.glob("*.open"))
    assert all(scan(path.read_bytes()).damage == [] for path in segments(tmp_path))


def test_a_torn_tail_is_cut_and_set_aside_wherever_it_is_torn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (b'{"number":%d}' % number for number in range(2))
    whole = frame(first) + frame(second)
    for cut in range(len(whole) + 1):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / "left.open").write_bytes(whole[:cut])
        with caplog.at_level(logging.WARNING, "mtmh.exposures.log"):
            caplog.clear()
            log = LogWriter(directory)
            asyncio.run(log.close())
        kept = [
            record for path in segments(directory) for _, record in scan(path.read_bytes()).records
        ]
        assert kept == [first, second][: (cut >= len(frame(first)) - 1) + (cut >= len(whole) - 1)]
        tail = whole[sum(len(frame(record)) for record in kept) : cut]
        assert log.torn == ([(directory / "left.torn", len(tail))] if tail else [])
        assert b"".join(path.read_bytes() for path in directory.glob("*.torn")) == tail
        assert ("set aside" in caplog.text) == bool(tail)


@given(st.integers(1, 8), st.data())
def test_a_flipped_bit_costs_one_record_and_is_told(count: int, data: st.DataObject) -> None:
    records = [b'{"number":%d,"text":"%s"}' % (number, b"x" * number) for number in range(count)]
    content = bytearray(b"".join(map(frame, records)))
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    found = scan(bytes(content))
    kept = [record for _, record in found.records]
    assert set(kept) <= set(records)
    assert len(kept) >= count - 1
    told = sum(end - start for start, end in found.damage) + len(content) - found.end
    assert (told > 0) == (len(kept) < count)
    assert len(found.damage) + (found.end < len(content)) == count - len(kept)


def test_segments_are_rotated_by_size_and_by_age(tmp_path: Path) -> None:
    write(tmp_path / "size", range(20), segment_bytes=2000)
    assert len(segments(tmp_path / "size")) >= 5
    assert all(
        path.stat().st_size <= 2000 and path.suffix == ".segment"
        for path in segments(tmp_path / "size")
    )
    assert sorted(request_ids(tmp_path / "size")) == sorted(
        f"request-{number}" for number in range(20)
    )
    write(tmp_path / "age", range(4), segment_seconds=0)
    assert len(segments(tmp_path / "age")) == 4


def test_two_writers_of_one_directory_are_refused_and_two_directories_are_not(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with LogWriter(tmp_path / "a") as log, LogWriter(tmp_path / "b"):
            await log.append([exposure()])
            with pytest.raises(UserError, match=r"another process writes the log .*/a\. Give each"):
                LogWriter(tmp_path / "a")
            await log.append([exposure(1)])  # nothing was touched
        assert request_ids(tmp_path / "a") == ["request-0", "request-1"]
        await LogWriter(tmp_path / "a").close()  # free again

    asyncio.run(run())


def test_a_full_queue_fails_at_once_and_only_for_who_comes_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = threading.Event(), os.fsync

    async def run() -> None:
        log = LogWriter(tmp_path, waiting_bytes=1500)
        monkeypatch.setattr(os, "fsync", lambda handle: (synced.wait(60), fsync(handle)))
        early = [asyncio.create_task(log.append([exposure(number)])) for number in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BlockingIOError, match="wait for the disk already"):
            await log.append([exposure(2), exposure(3)])
        synced.set()
        await asyncio.gather(*early)
        await log.append([exposure(4)])
        await log.close()

    asyncio.run(run())
    assert request_ids(tmp_path) == ["request-0", "request-1", "request-4"]


def test_a_cancelled_append_leaves_the_others_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with LogWriter(tmp_path) as log:
            tasks = [asyncio.create_task(log.append([exposure(number)])) for number in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            assert [type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [
                type(None),
                asyncio.CancelledError,
                type(None),
            ]

    asyncio.run(run())
    assert {"request-0", "request-2"} <= set(request_ids(tmp_path))


def fill_up(directory: Path, make_room: Any) -> tuple[list[int], list[OSError]]:
    """Append until the disk refuses, three at a time; make room; append once more. Numbers written,
    and errors.
    """
    written: list[int] = []
    errors: list[OSError] = []

    async def run() -> None:
        async with LogWriter(directory) as log:

            async def one(number: int) -> None:
                try:
                    await log.append([exposure(number, candidates=50)])
                    written.append(number)
                except OSError as error:
                    errors.append(error)

            number = 0
            while len(errors) < 9 and number < 3000:
                await asyncio.gather(*(one(number + place) for place in range(3)))
                number += 3
            make_room()
            await log.append([exposure(number)])
            written.append(number)

    asyncio.run(run())
    return written, errors


def test_a_full_disk_fails_every_waiter_and_harms_nothing_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    """A real tmpfs of 256 KiB, half of it taken by another file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"may not mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        (disk / "other").write_bytes(bytes(2**17))
        written, errors = fill_up(disk / "log", (disk / "other").unlink)
        assert len(written) > 10
        assert {error.errno for error in errors} == {errno.ENOSPC}
        assert request_ids(disk / "log") == [f"request-{number}" for number in written]
        assert all(
            scan(path.read_bytes()).end == path.stat().st_size for path in segments(disk / "log")
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_that_may_not_grow_fails_as_a_full_disk_does(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the write takes what fits, then raises EFBIG. The log goes on in a new
    segment.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        written, errors = fill_up(
            tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {error.errno for error in errors} == {errno.EFBIG}
    assert request_ids(tmp_path) == [f"request-{number}" for number in written]
    assert all(scan(path.read_bytes()).end == path.stat().st_size for path in segments(tmp_path))


def test_after_a_failed_fsync_the_segment_is_never_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may drop pages that it could not write and call the next fsync a success."""
    fsync, failing = os.fsync, [False]

    def maybe(handle: int) -> None:
        if failing.pop() if failing else False:
            raise OSError(errno.EIO, "Input/output error")
        fsync(handle)

    async def run() -> None:
        async with LogWriter(tmp_path) as log:
            await log.append([exposure(0)])
            monkeypatch.setattr(os, "fsync", maybe)
            failing[:] = [True]
            with pytest.raises(OSError, match="Input/output error"):
                await log.append([exposure(1)])
            await log.append([exposure(2)])

    asyncio.run(run())
    assert sorted(request_ids(tmp_path)) == ["request-0", "request-2"]
    assert len(segments(tmp_path)) == 2


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"kind": "impression"}, "'exposure', 'engagement'"),
        (exposure(score=[1.0, 2.0]), "must be equally long"),
        (exposure(score=[1.0, float("nan"), 0.0]), r"score\.1: input should be a finite number"),
        (
            exposure(timestamp=exposure()["timestamp"].replace(tzinfo=None)),
            "timestamp: input should have timezone",
        ),
        (engagement(user_id=""), "user_id: string should have at least 1 character"),
        (engagement(dwell_seconds=-1.0), "dwell_seconds: "),
        (engagement(colour="red"), "colour: extra inputs are not permitted"),
    ],
)
def test_what_is_no_record_is_refused_before_anything_is_written(
    tmp_path: Path, record: dict[str, Any], said: str
) -> None:
    async def run() -> None:
        async with LogWriter(tmp_path) as log:
            with pytest.raises(ValueError, match=said):
                await log.append([exposure(), record])

    asyncio.run(run())
    assert segments(tmp_path) == []


def test_a_log_that_is_deleted_under_its_writer_is_not_written(tmp_path: Path) -> None:
    folder = tmp_path / "log"

    async def run() -> None:
        async with LogWriter(folder) as log:
            await log.append([exposure(0)])
            shutil.rmtree(folder)
            for _ in range(2):
                with pytest.raises(OSError, match=str(folder)):
                    await log.append([exposure(1)])
            folder.mkdir()
            await log.append([exposure(2)])

    asyncio.run(run())
    assert request_ids(folder) == [exposure(2)["request_id"]]


def test_a_closed_log_takes_nothing_more(tmp_path: Path) -> None:
    async def run() -> None:
        log = LogWriter(tmp_path)
        await log.close()
        with pytest.raises(OSError, match="is closed"):
            await log.append([exposure()])

    asyncio.run(run())
