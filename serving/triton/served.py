"""What the file `champion` of a store says."""

import re
from typing import NamedTuple

from mtmh.errors import UserError


class Served(NamedTuple):
    """What the file `champion` says: the version that serves, and, while there is one, a canary
    that a `share` (0 to 1) of the users outside of an experiment get instead.
    """

    champion: str
    canary: str = ""
    share: float = 0.0

    @property
    def versions(self) -> set[str]:
        """Those that must be loaded."""
        return {self.champion, self.canary} - {""}

    @property
    def text(self) -> str:
        """As the file has it."""
        canary = f"canary {self.canary} {self.share:g}\n" if self.canary else ""
        return f"{self.champion}\n{canary}"

    def check(self) -> None:
        """Raises UserError when the canary's share is none."""
        share = self.share
        if self.canary and not (0.0 < share < 1.0 and round(share, 4) == share):
            raise UserError(
                f"a canary's share is from 0.0001 to 0.9999, such as 0.05, not {share:g}."
            )

    @classmethod
    def read(cls, text: str, where: object) -> "Served":
        """From the text of the file `where`. Raises UserError when it is something else."""
        line = r"([0-9]{1,18})(?:\s+canary ([0-9]{1,18}) (0\.[0-9]{1,4}))?"
        if (match := re.fullmatch(line, text.strip())) is None:
            raise UserError(
                f"{where} holds {text.strip()[:20]!r}, which is no version: write its number there."
            )
        champion, canary, share = match.groups()
        return cls(champion, canary or "", float(share or 0.0))
