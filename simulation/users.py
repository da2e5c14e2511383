"""What changes while users live: histories, what they saw, interests, fatigue, satisfaction."""

from dataclasses import dataclass

import numpy as np

from mtmh.data import synthetic_vocabulary
from mtmh.ragged import Ragged
from simulation.behaviour import Behaviour
from simulation.counter_rng import uniform
from simulation.population import LATENT, Population
from simulation.response import Page, Response
from simulation.server import Slates

RECENT = 64  # items of a history that are kept in order: more than a server takes as triggers
NEVER = -20_000  # hours before the start; as far from the last hour of a year as int16 reaches
# Shares of a day's visits by the hour (UTC): little at night, most in the evening.
# 102 is their sum.
_BY_HOUR = np.array([2, 1, 1, 1, 1, 2, 3, 5, 6, 5, 4, 4, 5, 5, 4, 4, 5, 6, 7, 8, 8, 7, 5, 3]) / 102


@dataclass
class UserStates:
    """State of U users and I items; memory is 4 bytes x U x I and some 700 bytes a user."""

    people: Population
    behaviour: Behaviour
    seed: int
    recent: np.ndarray  # int32 [U, RECENT], engaged with, newest first, -1 where the history ends
    engaged: np.ndarray  # bool [U, I]
    last_shown: np.ndarray  # int16 [U, I], hour since the start
    times_ignored: np.ndarray  # uint8 [U, I], times seen and not engaged with
    activation: np.ndarray  # float32 [U, 5 + LATENT]
    fatigue: np.ndarray  # float32 [U, L2 topics], recent engagements
    satisfaction: np.ndarray  # float32 [U]

    @classmethod
    def begin(cls, people: Population, behaviour: Behaviour, seed: int) -> "UserStates":
        """Everyone as they are at the start, with their histories."""
        users, items = len(people.topics), len(people.items.topic)
        activation = np.ones((users, people.topics.shape[1]), np.float32)
        # Latent interests are asleep until items of theirs wake them.
        activation[:, -LATENT:] = 0.0
        states = cls(
            people,
            behaviour,
            seed,
            recent=np.full((users, RECENT), -1, np.int32),
            engaged=np.zeros((users, items), bool),
            last_shown=np.full((users, items), NEVER, np.int16),
            times_ignored=np.zeros((users, items), np.uint8),
            activation=activation,
            fatigue=np.zeros((users, len(synthetic_vocabulary.names()[1])), np.float32),
            satisfaction=np.full(users, behaviour.first_satisfaction, np.float32),
        )
        # Past engagements count like lived ones: the app does not show those items again.
        states._remember_all(people.history.user, people.history.item)
        states.fatigue[:] = 0.0  # everyone begins rested
        return states

    def visitors(self, hour: int) -> np.ndarray:
        """Who comes in this hour: int [n]."""
        users = np.arange(len(self.people.topics))
        # At a satisfaction of 0.5 users come at their usual rate.
        pleased = np.exp(self.behaviour.loyalty * (self.satisfaction - 0.5))
        chance = self.people.visits * _BY_HOUR[hour % 24] * pleased
        return np.flatnonzero(uniform(self.seed, "visit", users, hour) < chance)

    def triggers(self, users: np.ndarray) -> Ragged:
        """Their histories, newest first."""
        recent = self.recent[users]
        in_history = recent >= 0
        return Ragged.of_lengths(in_history.sum(axis=1), recent[in_history])

    def page(self, users: np.ndarray, hour: int, slates: Slates) -> tuple[Page, np.ndarray]:
        """What the app shows of the answers, and each item's column in its answer, int [n, shown].

        It leaves out what a user has engaged with, and what it showed in the last days.
        """
        who, item = users[:, None], np.maximum(slates.item, 0)
        hidden = 24 * self.behaviour.hidden_days
        allowed = (
            (slates.item >= 0)
            & ~self.engaged[who, item]
            & (hour - self.last_shown[who, item] >= hidden)
        )
        position = np.argsort(~allowed, axis=1, kind="stable")[:, : self.behaviour.page_length]
        # The first allowed ones, in the order of the answer.
        is_filled = np.take_along_axis(allowed, position, axis=1)
        page_items = np.where(is_filled, np.take_along_axis(item, position, axis=1), -1)
        times_ignored = self.times_ignored[who, np.maximum(page_items, 0)]
        return Page(
            users, hour, page_items, self.activation[users], self.fatigue[users], times_ignored
        ), position

    def apply(self, page: Page, response: Response) -> None:
        """Take in what a visit did."""
        user, position = np.nonzero(page.item >= 0)
        self.last_shown[page.user[user], page.item[user, position]] = page.hour
        user, position = np.nonzero(response.examined & ~response.engaged)
        self.times_ignored[page.user[user], page.item[user, position]] += 1
        self._wake(page, response)
        newest_first = np.where(response.engaged, page.item, -1)[:, ::-1]
        self._remember(page.user, newest_first)
        memory = self.behaviour.memory
        pleasure = 1.0 - np.exp(-response.dwell.sum(axis=1) / self.behaviour.content_after)
        self.satisfaction[page.user] = (
            memory * self.satisfaction[page.user] + (1.0 - memory) * pleasure
        )

    def elsewhere(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Take in engagements beside the lists; nobody engages twice, and those that would do not
        count: bool [n]."""
        new = ~self.engaged[users, items]
        self._remember_all(users[new], items[new])
        return new

    def rest(self) -> None:
        """Fatigue with topics fades."""
        self.fatigue *= 0.5 ** (1.0 / (24.0 * self.behaviour.recovery_days))

    def _wake(self, page: Page, response: Response) -> None:
        """Interests of the examined items: those that are awake stay so."""
        seen = response.examined & (response.interest >= 0)
        for chosen, by in (
            (seen, self.behaviour.spark),
            (seen & response.engaged, self.behaviour.ignition),
        ):
            user, position = np.nonzero(chosen)
            unchanged = np.ones((len(page.user), self.activation.shape[1]))
            np.multiply.at(unchanged, (user, response.interest[user, position]), 1.0 - by)
            self.activation[page.user] = 1.0 - (1.0 - self.activation[page.user]) * unchanged

    def _remember(self, users: np.ndarray, items: np.ndarray) -> None:
        """Engagements of distinct users, int [n, m] newest first, -1 for none."""
        row, column = np.nonzero(items >= 0)
        item = items[row, column]
        self.engaged[users[row], item] = True
        np.add.at(self.fatigue, (users[row], self.people.items.topic[item]), 1.0)
        joined = np.concatenate([items, self.recent[users]], axis=1)
        order = np.argsort(joined < 0, axis=1, kind="stable")[:, :RECENT]
        self.recent[users] = np.take_along_axis(joined, order, axis=1)

    def _remember_all(self, users: np.ndarray, items: np.ndarray) -> None:
        """Engagements in order of time, of any users."""
        order = np.argsort(users, kind="stable")
        who, first, count = np.unique(users[order], return_index=True, return_counts=True)
        newest = np.full((len(who), count.max(initial=0)), -1, np.int32)
        row = np.repeat(np.arange(len(who)), count)
        newest[row, first[row] + count[row] - 1 - np.arange(len(row))] = items[order]
        self._remember(who, newest)
