"""A durable, append-only log of exposures and engagements: what `append` returned from is on disk.

    log = LogWriter(Path("log/router-0"))
    await log.append([{"kind": "exposure", "request_id": "7f6b", ..}])  # schema: records.py
    await log.close()

Appends that wait at the same time share one fsync (group commit), in a thread, so that the event
loop never waits for the disk. One process writes a directory; each further one gets a subdirectory
of its own, and whoever reads the directory above (mtmh/exposures/read.py) sees them all. An append
alone costs one fsync; many at once share it.
"""

import asyncio
import errno
import fcntl
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from mtmh.errors import UserError
from mtmh.exposures.records import encode
from mtmh.exposures.segment import OPEN, SegmentFile, frame, make_folder, recover

LOCK = "lock"
_logger = logging.getLogger(__name__)


class LogWriter:
    """The log of one process, to be used from one event loop.

    `segment_bytes` and `segment_seconds` are the size and the age at which the next append starts a
    new segment; `waiting_bytes` bounds what waits for the disk. `torn` has the files with the torn
    tails that a killed predecessor left, each with its bytes.

    Raises UserError when another process writes this directory, OSError as the disk gives it.
    """

    def __init__(
        self,
        directory: Path,
        segment_bytes: int = 64 * 2**20,
        segment_seconds: float = 3600.0,
        waiting_bytes: int = 16 * 2**20,
    ) -> None:
        self.directory = directory
        self._limits = segment_bytes, segment_seconds, waiting_bytes
        # The lock first: whoever writes here now has open segments that must not be finished.
        make_folder(directory)
        advice = f"Give each process a directory of its own, say {directory / '2'}"
        self._lock = lock(directory, f"another process writes the log {directory}. {advice}")
        self.torn: list[tuple[Path, int]] = []
        try:
            self.torn = recover(directory)
        except (
            OSError
        ) as error:  # a full disk, say: new records go elsewhere; the next start retries
            _logger.warning(
                "what an earlier process left in %s could not be finished: %s", directory, error
            )
        for path, size in self.torn:
            _logger.warning(
                "set aside %d bytes that an earlier process had not finished writing: %s",
                size,
                path,
            )
        # A segment begins with the first record: a process without any leaves none.
        self._segment: SegmentFile | None = None
        self._opened_at = 0.0
        # One thread alone: a segment is not to be used by two.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mtmh-log")
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._drain: asyncio.Task[None] | None = None
        self._closed = False
        self.waiting = 0  # bytes, what is being written included

    async def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Return when all records are on disk; they stand side by side in one segment.

        Raises ValueError, before anything is written, when one is no record; BlockingIOError at
        once when `waiting_bytes` wait already; OSError when the disk fails. After an OSError the
        records do not count as written (only a disk on which not even cutting the file succeeds may
        still show them), and the log can be used on. Cancelled, the records may or may not be
        written.
        """
        # Encoded before anything is queued: a bad record must not leave half of its call behind.
        block = b"".join(frame(encode(record)) for record in records)
        if not block:
            return
        if self._closed:
            raise OSError(errno.ESHUTDOWN, f"the log {self.directory} is closed")
        # A disk that hangs must not fill the memory: the caller decides what becomes of the rest.
        if self.waiting + len(block) > self._limits[2]:
            raise BlockingIOError(
                errno.EAGAIN, f"{self.waiting:,} bytes wait for the disk already; {self.directory}"
            )
        written = asyncio.get_running_loop().create_future()
        self._pending.append((block, written))
        self.waiting += len(block)
        # One task writes at a time; what comes in the meantime shares the next fsync.
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._write_pending())
        await written

    async def close(self) -> None:
        """Write what waits, finish the segment, and give the directory free."""
        if self._closed:
            return
        self._closed = True
        if self._drain is not None:
            await self._drain
        await asyncio.get_running_loop().run_in_executor(self._thread, self._retire)
        self._thread.shutdown()
        os.close(self._lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _write_pending(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            # All that waits by now goes to disk together; what comes later is the next group.
            group, self._pending = self._pending, []
            blocks = [block for block, _ in group]
            failure: Exception | None = None
            try:
                await loop.run_in_executor(self._thread, self._commit, blocks)
            except Exception as error:  # whatever it is, nobody may be left waiting
                failure = error
            self.waiting -= sum(map(len, blocks))
            # A group succeeds or fails as one: all of its appends hear the same.
            for _, written in group:
                if written.done():  # cancelled
                    continue
                if failure is None:
                    written.set_result(None)
                elif isinstance(failure, OSError):  # one each: tracebacks grow with every raise
                    copy = OSError(failure.errno, failure.strerror, failure.filename)
                    written.set_exception(copy)
                else:
                    written.set_exception(failure)

    def _commit(self, blocks: list[bytes]) -> None:
        """In the thread: write the blocks and wait for the disk."""
        size, seconds, _ = self._limits
        segment = self._segment
        if segment is not None:
            is_full = segment.size + sum(map(len, blocks)) > size
            if is_full or time.monotonic() - self._opened_at > seconds:
                self._retire()
        try:
            if self._segment is None:
                # A name that never comes again.
                name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:12]}{OPEN}"
                self._segment = SegmentFile(self.directory / name)
                self._opened_at = time.monotonic()
            self._segment.append(blocks)
        except OSError:
            # After a failed fsync nobody knows what of the file is on disk: never write to it
            # again.
            self._retire()
            raise

    def _retire(self) -> None:
        """In the thread: finish the segment. What is acknowledged is on disk already, so an error
        can wait.
        """
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            segment.close()
        except OSError as error:
            _logger.warning(
                "segment %s is left unfinished (%s); opening the log again finishes it",
                segment.path,
                error,
            )


def lock(directory: Path, taken: str, name: str = LOCK) -> int:
    """Take a directory for writing: the handle that holds it.

    Raises UserError, saying `taken`, when another process has it. A compaction looks for what
    killed processes left, and holds a writer's lock for that moment: so wait a little.
    """
    handle = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o644)
    # A second in all; nothing is waited for after the last try.
    for pause in [0.05] * 20 + [0.0]:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            time.sleep(pause)
    os.close(handle)
    raise UserError(f"{taken}; `fuser {directory / name}` tells which process it is.")
