"""The router's connection to Triton: made anew until Triton is there, and what the log says of its
absence.
"""

import logging
import time
from dataclasses import dataclass

from serving.router.heads import connect

FRESH_SECONDS = 5.0  # a channel that is older, with nobody behind it, is replaced
FIRST_PAUSE = 30.0  # seconds from the first warning to the second; each pause is twice the last
LONGEST_PAUSE = 3600.0

log = logging.getLogger("mtmh.router")


class TritonChannel:
    """Whoever asks Triton takes `client` anew for each call, and never keeps it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = connect(url)
        self.opened = time.monotonic()

    async def renew(self) -> None:
        """Replace a client that is not fresh any more; calls that it has open are cancelled.

        gRPC looks a name that does not resolve up ever more seldom, down to every two minutes, and
        no setting of a channel changes that: a new channel begins again. On a cluster the name
        of Triton resolves as soon as its first pod is ready.
        """
        if time.monotonic() - self.opened < FRESH_SECONDS:
            return
        old, self.client, self.opened = self.client, connect(self.url), time.monotonic()
        await old.close()


@dataclass
class Outage:
    """Says in the log that Triton does not answer: at once, then ever more seldom; and once that it
    answers again.
    """

    since: float | None = None  # time.monotonic() of the first failure; None while Triton answers
    next_warning: float = 0.0
    pause: float = FIRST_PAUSE

    def note_silence(self, why: str) -> None:
        """Triton did not answer just now."""
        now = time.monotonic()
        if self.since is None:
            self.since, self.next_warning, self.pause = now, now, FIRST_PAUSE
        if now < self.next_warning:
            return
        seconds = round(now - self.since, 1)
        log.warning("triton is not ready", extra={"fields": {"why": why, "seconds": seconds}})
        self.next_warning = now + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def note_answer(self) -> None:
        """Triton answered."""
        if self.since is None:
            return
        seconds = round(time.monotonic() - self.since, 1)
        log.info("triton is ready again", extra={"fields": {"seconds": seconds}})
        self.since = None
