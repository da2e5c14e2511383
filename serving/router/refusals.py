"""Versions that are named and take no traffic: why they are refused, or what they wait for."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field

log = logging.getLogger("mtmh.router")


@dataclass
class Refusals:
    """What /readyz says of them, by version. Whoever names a champion, the same one too, has it
    tried again: what was refused before is then forgotten.
    """

    reasons: dict[str, str] = field(default_factory=dict)  # in a few words; the log has the details
    waiting: dict[str, str] = field(default_factory=dict)  # for what; no refusal
    # Of what was refused: not tried again until it changes.
    stamps: dict[str, object] = field(default_factory=dict)
    champion_named_us: int = 0  # the naming that all this is of (store.champion_named_us)

    def follow(self, champion_named_us: int) -> None:
        """Forget everything where the champion was named anew."""
        if champion_named_us != self.champion_named_us:
            for register in (self.reasons, self.waiting, self.stamps):
                register.clear()
        self.champion_named_us = champion_named_us

    def add(self, number: str, reason: str, error: BaseException, stamp: object) -> bool:
        """Callers see the reason; what exactly is wrong, with its paths, is in the log, once.
        Returns whether it is news.
        """
        is_news = self.stamps.get(number) != stamp
        if is_news:
            why = (str(error) or type(error).__name__)[:2000]
            log.error(
                "version refused",
                extra={"fields": {"version": number, "reason": reason, "why": why}},
            )
        self.waiting.pop(number, None)
        self.reasons[number], self.stamps[number] = reason, stamp
        return is_news

    def wait(self, number: str, what: str) -> None:
        """The version is sound as far as one can see, and not all of it is there yet."""
        self.drop(number)
        self.waiting[number] = what

    def stands(self, number: str, stamp: object) -> bool:
        """Whether the version was refused, and nothing of it has changed."""
        return number in self.stamps and self.stamps[number] == stamp

    def drop(self, number: str) -> None:
        """The version is neither refused nor waits."""
        for register in (self.reasons, self.waiting, self.stamps):
            register.pop(number, None)

    def keep(self, named: Collection[str]) -> None:
        """Drop what nobody names any more: it needs nobody's attention."""
        for number in {*self.reasons, *self.waiting} - set(named):
            self.drop(number)
