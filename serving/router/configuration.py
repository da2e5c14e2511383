"""The configuration in force: read again when its files change, and never for the worse.

What is wrong, empty, gone or only half there is refused, and what was in force stays. The token and
a running experiment do not go away because a file says nothing of them.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtmh.errors import UserError
from mtmh.layers import read_small
from mtmh.settings_check import check
from serving.router.limits import Tokens
from serving.router.metrics import Metrics
from serving.router.settings import Settings, Source
from serving.triton.store import MANIFEST

START_ONLY = (
    "store",
    "bucket",
    "listen",
    "triton",
    "features",
    "log",
)  # sections that are read once
# Two tokens of a caller: the old and the new one while it changes over. Bytes of the whole file.
MOST_TOKENS, MOST_CALLERS, MOST_TOKEN_BYTES = 2, 100, 16_384
NAMED = re.compile(rb"([a-z0-9][a-z0-9._-]{0,62}): +(\S+)")  # a caller's line

log = logging.getLogger("mtmh.router")

# Time of change, inode, size, mode; the error's number alone where there is no file.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class InForce:
    """Replaced as a whole, so that no request sees half of a change."""

    settings: Settings
    tokens: Tokens | None  # None: nobody is asked for one
    written: dict[str, Any]  # what the file says


@dataclass
class Watched:
    """A file: its stamp when it was last read, its stamp at the last look, and why it is
    refused.
    """

    read: Stamp | None
    seen: Stamp
    refusal: tuple[Stamp, str] | None = None  # its stamp, and the reason

    def is_due(self, stamp: Stamp) -> bool:
        """Whether to read it: it has changed, and not grown since the look before, so that nobody
        is writing it.
        """
        settled, self.seen = stamp[1:] == self.seen[1:], stamp
        return settled and stamp != self.read


class Configuration:
    """Reads the files at the start, and at every `look`. Raises UserError when they are wrong at
    the start.

    It touches the file system, so it is asked from a thread.
    """

    def __init__(self, source: Source, metrics: Metrics) -> None:
        self.source, self.metrics = source, metrics
        stamp = _stamp(source.path)
        written = source.written()
        settings = source.read(written)
        token_stamp = _stamp(settings.auth.token_file)
        self.in_force = InForce(settings, read_tokens(settings.auth.token_file), written)
        self.file, self.token_file = Watched(stamp, stamp), Watched(token_stamp, token_stamp)

    def look(self) -> bool:
        """Whether something new is in force. Raises nothing: what is refused is counted, and said
        in the log once.
        """
        before = self.in_force
        self._follow(self.file, self.source.path, self._read_file)
        self._follow(self.token_file, self.in_force.settings.auth.token_file, self._read_token_file)
        self.metrics.config_refused.set(any(file.refusal for file in (self.file, self.token_file)))
        return self.in_force is not before

    def _follow(self, file: Watched, path: Path | None, read: Callable[[], str]) -> None:
        stamp = _stamp(path)
        if not file.is_due(stamp):
            return
        file.read = stamp
        try:
            outcome = read()
        except Exception as error:  # a file can hold anything; the router goes on with what it has
            self._refuse(file, stamp, error)
            return
        file.refusal = None
        self.metrics.reloads.labels(outcome).inc()
        log.info("configuration read again", extra={"fields": {"outcome": outcome}})

    def _refuse(self, file: Watched, stamp: Stamp, error: Exception) -> None:
        if isinstance(error.__cause__, OSError):
            file.read = None  # it may be readable again without having changed: look again
        why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if file.refusal == (stamp, why):
            return
        file.refusal = (stamp, why)
        self.metrics.reloads.labels("refused").inc()
        log.error("configuration refused, the old one stays", extra={"fields": {"why": why}})

    def _read_file(self) -> str:
        """Take over what the file says; "taken", or "pending" where an arm's version is not in the
        store yet.
        """
        old = self.in_force
        written = self.source.written()
        self._check_nothing_is_lost(written)
        new = self.source.read(written)
        if late := [
            name for name in START_ONLY if getattr(new, name) != getattr(old.settings, name)
        ]:
            log.warning("these settings need a restart", extra={"fields": {"settings": late}})
        # What goes into force is the new file with the sections that are read once as they were:
        # that must be right.
        parts = {
            name: getattr(old.settings if name in START_ONLY else new, name)
            for name in Settings.model_fields
        }
        settings = check(Settings, parts, self.source.where)
        if old.tokens is not None and settings.auth.token_file is None:
            raise UserError(
                "auth.token_file is not set any more: a router that asks for a token goes on "
                "asking for it."
            )
        stamp = _stamp(settings.auth.token_file)
        tokens = read_tokens(settings.auth.token_file)
        self.in_force, self.token_file = InForce(settings, tokens, written), Watched(stamp, stamp)
        return "pending" if self._missing_versions(settings) else "taken"

    def _check_nothing_is_lost(self, written: dict[str, Any]) -> None:
        """A file that is empty or half written must not end an experiment, or lift limits."""
        old = self.in_force
        # A whole section has disappeared: the file may have been cut off.
        lost = [name for name in old.written if name not in written]
        # An experiment ends when the file says `arms: null`, not when `arms` is missing.
        before, after = old.written.get("experiment"), written.get("experiment")
        if (
            isinstance(before, dict)
            and before.get("arms")
            and isinstance(after, dict)
            and "arms" not in after
        ):
            lost.append("experiment.arms")
        # An empty file is refused even if the one before it was empty as well.
        if lost or not written:
            what = f"{', '.join(lost)} is not there any more" if lost else "it says nothing"
            raise UserError(
                f"configuration {self.source.where}: {what}, as in a file that is half written. "
                f"Write a section out to "
                "change it: `limits: {}` takes its defaults, `experiment: {arms: null}` ends an "
                "experiment."
            )

    def _missing_versions(self, settings: Settings) -> list[str]:
        folder = settings.store / "versions"
        missing = [
            number
            for number in settings.experiment.versions
            if not (folder / number / MANIFEST).is_file()
        ]
        if missing:
            log.warning(
                "arms wait for versions that are not in the store",
                extra={"fields": {"versions": missing}},
            )
        return missing

    def _read_token_file(self) -> str:
        old = self.in_force
        self.in_force = InForce(
            old.settings, read_tokens(old.settings.auth.token_file), old.written
        )
        return "taken"


def read_tokens(path: Path | None) -> Tokens | None:
    """The tokens in a file, one a line, each with its caller's name where the line is `name:
    token`; None without a file. Raises UserError on a file without, or of other things.
    """
    if path is None:
        return None
    name = f"auth.token_file {path}"
    # Empty lines and repeated tokens do not count towards the two that are allowed.
    lines = [line.strip() for line in read_small(path, MOST_TOKEN_BYTES, name).splitlines()]
    pairs = set(map(_with_caller, filter(None, lines)))
    tokens = dict(pairs)
    # With no token at all, nobody could get in: more likely the file is still being written.
    if not tokens:
        raise UserError(f"{name} is empty. Write a token there, say with: openssl rand -hex 32.")
    callers = Counter(tokens.values())
    caller, most = callers.most_common(1)[0]
    if most > MOST_TOKENS:
        whose = f" of {caller}" if caller else ""
        raise UserError(
            f"{name} has {most} tokens{whose}. Two at the most, each on a line: the old and the "
            f"new one. Callers with tokens of their own have lines like `web: TOKEN`."
        )
    if len(callers) > MOST_CALLERS:
        raise UserError(f"{name} has {len(callers)} callers. {MOST_CALLERS} at the most.")
    if len(tokens) < len(pairs):
        raise UserError(f"{name}: two callers have the same token. Give each its own.")
    # Other bytes may not survive a header, so nobody could ever show such a token.
    if not all(re.fullmatch(rb"[ -~]+", token) for token in tokens):
        raise UserError(
            f"{name}: a token is of visible ASCII characters. Write one, say of hex digits."
        )
    return tokens


def _with_caller(line: bytes) -> tuple[bytes, str]:
    """The token of a line and its caller's name, empty where it has none."""
    named = NAMED.fullmatch(line)
    return (named[2], named[1].decode()) if named else (line, "")


def _stamp(path: Path | None) -> Stamp:
    """Changes when the file does, or what keeps it from being seen."""
    try:
        state = path.stat() if path is not None else None
    except OSError as error:
        return (error.errno or 0, 0, 0, 0)
    if state is None:
        return (0, 0, 0, 0)
    return (state.st_mtime_ns, state.st_ino, state.st_size, state.st_mode)
