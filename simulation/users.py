"""What changes while users live: histories, what was shown to them, interests, fatigue, satisfaction."""

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
_BY_HOUR = np.array([2, 1, 1, 1, 1, 2, 3, 5, 6, 5, 4, 4, 5, 5, 4, 4, 5, 6, 7, 8, 8, 7, 5, 3]) / 102


@dataclass
class Lives:
    """State of U users and I items; memory is 4 bytes x U x I and some 700 bytes a user."""

    people: Population
    behaviour: Behaviour
    seed: int
    recent: np.ndarray  # int32 [U, RECENT], engaged with, newest first, -1 where the history ends
    engaged: np.ndarray  # bool [U, I]
    shown_at: np.ndarray  # int16 [U, I], hour since the start
    passed: np.ndarray  # uint8 [U, I], times seen and not engaged with
    awake: np.ndarray  # float32 [U, 5 + LATENT]
    tired: np.ndarray  # float32 [U, L2 topics], recent engagements
    satisfaction: np.ndarray  # float32 [U]

    @classmethod
    def begin(cls, people: Population, behaviour: Behaviour, seed: int) -> "Lives":
        """Everyone as they are at the start, with their histories."""
        users, items = len(people.topics), len(people.items.topic)
        awake = np.ones((users, people.topics.shape[1]), np.float32)
        awake[:, -LATENT:] = 0.0
        lives = cls(
            people,
            behaviour,
            seed,
            recent=np.full((users, RECENT), -1, np.int32),
            engaged=np.zeros((users, items), bool),
            shown_at=np.full((users, items), NEVER, np.int16),
            passed=np.zeros((users, items), np.uint8),
            awake=awake,
            tired=np.zeros((users, len(synthetic_vocabulary.names()[1])), np.float32),
            satisfaction=np.full(users, behaviour.first_satisfaction, np.float32),
        )
        lives._remember_all(people.history.user, people.history.item)
        lives.tired[:] = 0.0  # everyone begins rested
        return lives

    def visitors(self, hour: int) -> np.ndarray:
        """Who comes in this hour: int [n]."""
        users = np.arange(len(self.people.topics))
        pleased = np.exp(self.behaviour.loyalty * (self.satisfaction - 0.5))
        chance = self.people.visits * _BY_HOUR[hour % 24] * pleased
        return np.flatnonzero(uniform(self.seed, "visit", users, hour) < chance)

    def triggers(self, users: np.ndarray) -> Ragged:
        """Their histories, newest first."""
        recent = self.recent[users]
        there = recent >= 0
        return Ragged.of_lengths(there.sum(axis=1), recent[there])

    def page(self, users: np.ndarray, hour: int, slates: Slates) -> tuple[Page, np.ndarray]:
        """What the app shows of the answers, and the places in the answers, int [n, shown], where it stands.

        It leaves out what a user has engaged with, and what it showed in the last days.
        """
        who, item = users[:, None], np.maximum(slates.item, 0)
        hidden = 24 * self.behaviour.hidden_days
        allowed = (slates.item >= 0) & ~self.engaged[who, item] & (hour - self.shown_at[who, item] >= hidden)
        place = np.argsort(~allowed, axis=1, kind="stable")[:, : self.behaviour.shown]
        shown = np.where(np.take_along_axis(allowed, place, axis=1), np.take_along_axis(item, place, axis=1), -1)
        passed = self.passed[who, np.maximum(shown, 0)]
        return Page(users, hour, shown, self.awake[users], self.tired[users], passed), place

    def live(self, page: Page, response: Response) -> None:
        """Take in what a visit did."""
        user, place = np.nonzero(page.item >= 0)
        self.shown_at[page.user[user], page.item[user, place]] = page.hour
        user, place = np.nonzero(response.examined & ~response.engaged)
        self.passed[page.user[user], page.item[user, place]] += 1
        self._wake(page, response)
        newest_first = np.where(response.engaged, page.item, -1)[:, ::-1]
        self._remember(page.user, newest_first)
        memory = self.behaviour.memory
        pleasure = 1.0 - np.exp(-response.dwell.sum(axis=1) / self.behaviour.content_after)
        self.satisfaction[page.user] = memory * self.satisfaction[page.user] + (1.0 - memory) * pleasure

    def elsewhere(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Take in engagements beside the lists; nobody engages twice, and those that would do not count: bool [n]."""
        new = ~self.engaged[users, items]
        self._remember_all(users[new], items[new])
        return new

    def pass_hour(self) -> None:
        """Fatigue with topics fades."""
        self.tired *= 0.5 ** (1.0 / (24.0 * self.behaviour.recovery_days))

    def _wake(self, page: Page, response: Response) -> None:
        """Interests of the examined items: those that are awake stay so."""
        seen = response.examined & (response.interest >= 0)
        for chosen, by in ((seen, self.behaviour.spark), (seen & response.engaged, self.behaviour.ignition)):
            user, place = np.nonzero(chosen)
            asleep = np.ones((len(page.user), self.awake.shape[1]))
            np.multiply.at(asleep, (user, response.interest[user, place]), 1.0 - by)
            self.awake[page.user] = 1.0 - (1.0 - self.awake[page.user]) * asleep

    def _remember(self, users: np.ndarray, items: np.ndarray) -> None:
        """Engagements of distinct users, int [n, m] newest first, -1 for none."""
        row, column = np.nonzero(items >= 0)
        item = items[row, column]
        self.engaged[users[row], item] = True
        np.add.at(self.tired, (users[row], self.people.items.topic[item]), 1.0)
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
