"""Whether a version's channels answer now: requests tell, and where nobody asks a probe does.

A channel is a head with the preranker behind it, as /v1/retrieve asks it. Before a version serves,
each of them has answered (loading.py). Later a router is ready while one does: all routers ask the
same Triton, so that a head that fails there would take every one of them out of service at once,
and an answer without it is degraded, and an answer. /readyz says which is silent, and why.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping

from serving.router.heads import HeadFailure, HeadList, ask, inputs_of
from serving.router.limits import Deadline
from serving.router.package import Package
from serving.router.triton_channel import TritonChannel

SILENCE = 5.0  # seconds without an answer after which a channel counts as silent
PROBE_AFTER = 1.0  # seconds without an answer after which a probe asks
PROBE_MILLISECONDS = 2000
PAUSE = 0.5  # seconds between two probes
WHY = {  # HeadFailure.reason, for people; the log has the details
    "slow": "no answer in time",
    "gone": "no server, or no such model",
    "failed": "its model answers with an error",
}

log = logging.getLogger("mtmh.router")


class Readiness:
    """When each channel of each version answered last, and why one does not."""

    def __init__(self, channel: TritonChannel) -> None:
        self.channel = channel
        self.answered: dict[str, dict[str, float]] = {}  # version -> channel -> time.monotonic()
        self.failures: dict[tuple[str, str], HeadFailure] = {}  # of version and channel, since then

    def note_answers(self, number: str, channels: Iterable[str]) -> None:
        """Channels of the version have just answered."""
        self.answered.setdefault(number, {}).update(dict.fromkeys(channels, time.monotonic()))
        for channel in channels:
            self.failures.pop((number, channel), None)

    def note(self, number: str, answers: Mapping[str, HeadList | HeadFailure]) -> None:
        """What each channel of the version has just answered; a new reason is logged once."""
        failed = {name: a for name, a in answers.items() if isinstance(a, HeadFailure)}
        self.note_answers(number, [name for name in answers if name not in failed])
        for channel, failure in failed.items():
            before = self.failures.get((number, channel))
            if before is None or before.reason != failure.reason:
                fields = {"version": number, "head": channel, "why": failure.detail[:2000]}
                log.warning("a head does not answer", extra={"fields": fields})
            self.failures[number, channel] = failure

    def answers(self, number: str) -> bool:
        """Whether a channel of the version answers: judged by the clock, so that nothing that hangs
        can hold it up.
        """
        channels = self.answered.get(number, {})
        return any(self._seconds_silent(number, channel) < SILENCE for channel in channels)

    def silent(self, number: str) -> dict[str, str]:
        """The channels of the version that do not answer, and why in a few words."""
        return {
            channel: WHY[failure.reason]
            if (failure := self.failures.get((number, channel)))
            else WHY["slow"]
            for channel in self.answered.get(number, {})
            if self._seconds_silent(number, channel) >= SILENCE
        }

    def forget(self, number: str) -> None:
        """The version serves no more."""
        self.answered.pop(number, None)
        for key in [key for key in self.failures if key[0] == number]:
            del self.failures[key]

    async def probe(self, packages: Collection[Package]) -> None:
        """Ask the channels of the versions for one item's candidates, as requests are asked, where
        nobody was answered just now.
        """
        await asyncio.gather(*map(self._probe, packages))

    async def _probe(self, package: Package) -> None:
        models = package.models_of(
            "retrieve_",
            (
                channel
                for channel in package.channel_names
                if self._seconds_silent(package.number, channel) >= PROBE_AFTER
            ),
        )
        inputs = inputs_of(package, dict.fromkeys(package.item_ids[:1]), [], 1)
        deadline = Deadline(PROBE_MILLISECONDS)
        self.note(package.number, await ask(self.channel.client, models, inputs, "score", deadline))

    def _seconds_silent(self, number: str, channel: str) -> float:
        return time.monotonic() - self.answered.get(number, {}).get(channel, float("-inf"))
