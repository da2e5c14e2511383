"""Whether a version's heads answer now: requests tell, and where nobody asks a probe does."""

import time

from serving.router.heads import HeadList, ask, inputs_of
from serving.router.limits import Deadline
from serving.router.package import Package
from serving.router.triton_channel import TritonChannel

SILENCE = 5.0  # seconds without an answer after which a router takes itself out of service
PROBE_AFTER = 1.0  # seconds without an answer after which a probe asks
PROBE_MILLISECONDS = 2000
PAUSE = 0.5  # seconds between two probes


class Readiness:
    """When each version answered last. One head is enough: an answer without the other is degraded,
    and an answer.
    """

    def __init__(self, channel: TritonChannel) -> None:
        self.channel = channel
        self.answered: dict[str, float] = {}  # version -> time.monotonic()

    def note_answer(self, number: str) -> None:
        """A head of the version has just answered."""
        self.answered[number] = time.monotonic()

    def seconds_silent(self, number: str) -> float:
        """How long ago a head of the version answered."""
        return time.monotonic() - self.answered.get(number, float("-inf"))

    def answers(self, number: str) -> bool:
        """Whether the version answers: judged by the clock, so that nothing that hangs can hold it
        up.
        """
        return self.seconds_silent(number) < SILENCE

    async def probe(self, package: Package) -> None:
        """Ask every head for one item's candidates, as requests are asked, unless somebody was
        answered just now.
        """
        if self.seconds_silent(package.number) < PROBE_AFTER:
            return
        models = {head: f"retrieve_{head}_{package.number}" for head in package.heads}
        inputs = inputs_of(package, dict.fromkeys(package.item_ids[:1]), [], 1)
        answers = await ask(
            self.channel.client, models, inputs, "score", Deadline(PROBE_MILLISECONDS)
        )
        if any(isinstance(answer, HeadList) for answer in answers.values()):
            self.note_answer(package.number)
