"""A segment of the log: a file of framed records that is only ever appended to.

A frame is one line: the crc32 of the record and its length in bytes, 8 hex digits each, and the
record as JSON:

    5d1c8e0f 00000cf2 {"kind":"exposure","request_id":"7f6b...

Lines of text, so that an engineer can read them at three in the morning with what every machine has
(`tail -n 1 *.open | cut -c 19- | jq`), and grep them. The length is there so that no single damaged
byte, a line's end included, costs more than the record that it is in: a reader that finds damage
goes on at the next line.

A segment that is written has the suffix .open, a finished one .segment, and what was cut from the
end of one .torn.
"""

import errno
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

OPEN, CLOSED, TORN = ".open", ".segment", ".torn"
_HEADER = 18  # bytes before the record
_FRAME = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8}) ")


def frame(record: bytes) -> bytes:
    """The line of a record, which holds no line's end itself."""
    return b"%08x %08x %s\n" % (zlib.crc32(record), len(record), record)


@dataclass
class Scan:
    """What a segment holds. Spans are (start, end) in bytes."""

    # Whole ones, each with the start of its frame.
    records: list[tuple[int, bytes]] = field(default_factory=list)
    damage: list[tuple[int, int]] = field(default_factory=list)  # with whole records behind it
    end: int = 0  # of the last whole record; what follows is a torn tail


def scan(data: bytes) -> Scan:
    """Read all frames. A record counts when its checksum does; each stretch of other bytes is
    damage.
    """
    result = Scan()
    position = 0
    while position < len(data):
        header = _FRAME.match(data, position)
        begin, length = (header.end(), int(header[2], 16)) if header else (position, 0)
        # The length may be damaged too: only the checksum says that a record is whole.
        record = data[begin : begin + length]
        is_whole = header and len(record) == length and zlib.crc32(record) == int(header[1], 16)
        if not is_whole:  # damaged: go on at the next line
            position = data.find(b"\n", position) + 1 or len(data)
            continue
        # With a whole record behind it, what was passed over is damage and no torn tail.
        if position > result.end:
            result.damage.append((result.end, position))
        result.records.append((position, record))
        # The line's end may be missing at the end of the file: the record counts all the same.
        position = min(position + _HEADER + len(record) + 1, len(data))
        result.end = position
    return result


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, with names that are durable."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync_folder(path.parent)


class SegmentFile:
    """A segment that is being written. What `append` returned from is on disk, whatever happens
    then.

    Not to be used by two threads at once. Raises OSError from every method, as the disk gives it.
    """

    def __init__(self, path: Path) -> None:
        """Make the file `path`, with a name that is durable before the first record is."""
        self.path, self.size = path, 0
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        try:
            sync_folder(path.parent)
        except OSError:
            os.close(self._handle)
            raise

    def append(self, frames: Sequence[bytes]) -> None:
        """Write whole frames and wait for the disk. After an error the file is done for: `close`
        it.
        """
        left = memoryview(b"".join(frames))
        size = self.size + len(left)
        while left:
            # A disk that fills up takes a part, then raises.
            left = left[os.write(self._handle, left) :]
        os.fsync(self._handle)
        if not os.fstat(self._handle).st_nlink:  # a deleted file takes everything, for nobody
            raise OSError(errno.ESTALE, f"the segment {self.path} was deleted while it was written")
        self.size = size

    def close(self) -> None:
        """Cut what was not acknowledged, and give the file its final name; nothing is left of an
        empty one.
        """
        try:
            if os.fstat(self._handle).st_size > self.size:
                os.ftruncate(self._handle, self.size)
                os.fsync(self._handle)
        finally:
            os.close(self._handle)
        if self.size:
            self.path.rename(self.path.with_suffix(CLOSED))
        else:
            self.path.unlink()
        sync_folder(self.path.parent)


def recover(folder: Path) -> list[tuple[Path, int]]:
    """Finish the segments that a killed writer left; the caller must hold the folder's lock.

    A torn tail is set aside in a file beside the segment, then cut. Returns these files with their
    bytes.
    """
    torn = []
    for path in sorted(folder.glob(f"*{OPEN}")):
        data = path.read_bytes()
        end = scan(data).end
        if end < len(data):
            # The tail is on disk under its own name before it is cut.
            draft = path.with_suffix(".draft")
            with draft.open("wb") as stream:
                stream.write(data[end:])
                stream.flush()
                os.fsync(stream.fileno())
            torn.append((draft.rename(path.with_suffix(TORN)), len(data) - end))
            os.truncate(path, end)
        with path.open("rb") as stream:
            # What was written and not yet acknowledged is whole, and stays.
            os.fsync(stream.fileno())
        path.rename(path.with_suffix(CLOSED)) if end else path.unlink()
    sync_folder(folder)
    return torn
