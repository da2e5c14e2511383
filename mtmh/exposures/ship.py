"""A router's log to a bucket: finished segments, each put and then removed here.

What a lost disk takes with it is the segment that was being written and those not shipped yet.
Shipped twice, a segment is the same object again. Compaction reads them from a folder that `mtmh
store fetch` filled; it counts each segment once, however often it was fetched.
"""

from pathlib import Path

from mtmh import object_store
from mtmh.exposures.compact import finished
from mtmh.exposures.segment import sync_folder


def ship(directory: Path, url: str) -> int:
    """Move the finished segments and torn tails below `directory` to `url`, under the same names;
    returns their number. Raises UserError where the bucket does not take one: it stays here.
    """
    segments = finished(directory)
    for path in segments:
        object_store.write(f"{url}/{path.relative_to(directory).as_posix()}", path)
        # Only what the server has acknowledged goes.
        path.unlink()
        sync_folder(path.parent)
    return len(segments)
