"""A full disk, in whichever words a library reports it, as one message for people."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtmh.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
# What SQLite, Arrow, DuckDB, faiss and the C library say; some raise it as a
# RuntimeError, or wrap it.
PHRASES = (
    "no space left on device",
    "disk quota exceeded",
    "disk is full",
    "disk full",
    "not enough space",
)
# What is said of a write that was cut short, without its reason: then the
# file system itself is looked at.
CUT_SHORT = (
    "unexpected pos",
    "pytorchstreamwriter",
    "disk i/o error",
    "write error",
    "short write",
    "failed to write",
)
LITTLE = 256 * 1024  # bytes


def explain_full_disk(error: BaseException | str, *folders: Path) -> str | None:
    """The message for people when `error`, one of its causes, or the text of a
    log speaks of a full disk, else None.

    `folders` are those that were written to: the one with the least room is named.
    """
    # A library may wrap the error, and say in its text alone what happened.
    causes = [error] if isinstance(error, str) else list(_causes(error))
    # Of all the folders involved, the one with the least room is the full one.
    names = [cause.filename for cause in causes if isinstance(cause, OSError)]
    files = [Path(name) for name in names if isinstance(name, str)]
    fullest = min((*files, *folders, Path(tempfile.gettempdir())), key=_free)
    text = "\n".join(str(cause) for cause in causes).lower()
    by_number = any(isinstance(cause, OSError) and cause.errno in FULL for cause in causes)
    by_words = any(phrase in text for phrase in PHRASES)
    by_room = _free(fullest) < LITTLE and any(phrase in text for phrase in CUT_SHORT)
    if not (by_number or by_words or by_room):
        return None
    # The message names the file system as `df` does, and a folder on it that people recognize.
    folder = _existing(fullest)
    real = folder.resolve()
    mount = next(above for above in (real, *real.parents) if os.path.ismount(above))
    usage = shutil.disk_usage(folder)
    room = f"{usage.free / 1e6:,.1f} MB of its {usage.total / 1e6:,.1f} MB are free"
    return (
        f"the disk is full: {mount} (which holds {folder}) has no room for what was to be "
        f"written; {room} now. Nothing is lost: what was finished is kept, and half-written files "
        "are removed. Make room there (or look at its quota), and give the same command again: "
        "it goes on from there."
    )


@contextmanager
def full_disk_explained(*folders: Path) -> Iterator[None]:
    """Raise UserError in place of an error that a full disk led to; `folders` as
    in `explain_full_disk`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = explain_full_disk(error, *folders)
        if message is None:
            raise
        raise UserError(message) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    # Causes may point at each other, so each is visited once.
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        original = getattr(cause, "orig", None)  # SQLAlchemy's
        waiting += [cause.__cause__, cause.__context__, original]


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _free(path: Path) -> int:
    return shutil.disk_usage(_existing(path)).free
