"""A small population, and a server that is no retriever: the most popular items, of all or of one's
community.
"""

import numpy as np

from mtmh.config import SyntheticSettings
from mtmh.ragged import Ragged
from simulation.population import Population
from simulation.server import Slates

WORLD = SyntheticSettings(users=200, items=400, days=30)


class Popular:
    """Arm 0 gets what is popular; arm 1 what is popular in the user's community, or what `other`
    says.
    """

    def __init__(self, people: Population, other: str = "community") -> None:
        self.people, self.other, self.served = people, other, 0
        self.asked: list[tuple[np.ndarray, Ragged]] = []

    def refresh(self, items: int) -> None:
        self.served = items

    def answer(self, users: np.ndarray, triggers: Ragged, arms: np.ndarray, k: int) -> Slates:
        self.asked.append((users, triggers))
        weight = np.broadcast_to(
            self.people.items.weight[: self.served], (len(users), self.served)
        ).copy()
        if self.other == "community":
            home = (
                self.people.items.community[: self.served]
                == self.people.users.community[users][:, None]
            )
            weight += home * (arms[:, None] == 1)
        else:
            weight[arms == 1] *= -1.0
        item = np.argsort(-weight, axis=1)[:, :k].astype(np.int32)
        rank = np.broadcast_to(np.arange(1, item.shape[1] + 1, dtype=np.int32), item.shape)
        nothing = np.zeros(item.shape)
        return Slates(
            item,
            np.broadcast_to(arms[:, None].astype(np.int8), item.shape),
            rank,
            nothing.astype(np.float32),
            nothing.astype(np.int32),
            np.zeros(len(users), bool),
            np.full(len(users), "popular"),
        )
