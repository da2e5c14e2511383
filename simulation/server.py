"""What the simulated platform asks of whoever serves it: the border between users who live here and
any retrieval."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mtmh.heads import HEADS
from mtmh.ragged import Ragged


@dataclass(frozen=True)
class Slates:
    """The answers to n requests; items and triggers are numbers of the world's, -1 where a list
    ends."""

    item: np.ndarray  # int32 [n, k], best first
    head: np.ndarray  # int8 [n, k], place in `channels`
    head_rank: np.ndarray  # int32 [n, k], place in that channel's own list, from 1
    score: np.ndarray  # float32 [n, k]
    trigger: np.ndarray  # int32 [n, k], the item that retrieved it
    degraded: np.ndarray  # bool [n], something did not answer
    version: np.ndarray  # str [n], the version that answered
    channels: tuple[str, ...] = HEADS  # by name


class Server(Protocol):
    """Answers the platform's users: the retriever in this process, or a router over HTTP."""

    def answer(self, users: np.ndarray, triggers: Ragged, arms: np.ndarray, k: int) -> Slates:
        """Candidates for `users` int [n], numbers of the population's.

        `triggers` are what each engaged with, newest first (items that are not served yet may be
        among them; a server takes as many of the others as it does of anyone's); `arms` int [n] is
        the arm of each, by its number.
        """
        ...

    def refresh(self, items: int) -> None:
        """Serve the first `items` of the world's from now on, as far as this server can."""
        ...
