"""One visit: what users do with the items that they are shown (README.md, "One visit", 3 to 6)."""

from dataclasses import dataclass

import numpy as np

from simulation.behaviour import Behaviour
from simulation.counter_rng import normal, uniform
from simulation.population import Population


@dataclass(frozen=True)
class Page:
    """What n users are shown in one hour, with what they bring along; item -1 where the page ends."""

    user: np.ndarray  # int [n], each once
    hour: int  # since the start
    item: np.ndarray  # int32 [n, shown]
    awake: np.ndarray  # float [n, topics], of the users' interests, 0..1
    tired: np.ndarray  # float [n, L2 topics], recent engagements
    passed: np.ndarray  # int [n, shown], how often the item was seen and passed by


@dataclass(frozen=True)
class Response:
    """What they do; a user's `interest` in an item is the place in Population.topics, -1 where there is none."""

    examined: np.ndarray  # bool [n, shown]
    engaged: np.ndarray  # bool [n, shown]
    glanced: np.ndarray  # bool [n, shown]
    dwell: np.ndarray  # float [n, shown], seconds; 0 where an item was not opened
    interest: np.ndarray  # int [n, shown]


def respond(page: Page, people: Population, behaviour: Behaviour, seed: int) -> Response:
    """Examination by position, the reasons to engage, dwell."""
    places = np.arange(page.item.shape[1])
    there, who = page.item >= 0, page.user[:, None]
    item = np.maximum(page.item, 0)
    interest, strength = interest_in(page, people)
    at_home = people.users.community[page.user][:, None] == people.items.community[item]
    examined = there & (places < _depth(page, behaviour, seed)[:, None])
    chance = _chance(page, people, behaviour, item, at_home, strength)
    engaged = examined & (uniform(seed, "engage", who, page.hour, item) < chance)
    glanced = examined & ~engaged & (uniform(seed, "glance", who, page.hour, item) < behaviour.glance)
    wanted = strength > 0.5 if behaviour.interest else at_home
    median = np.where(wanted, behaviour.wanted_dwell, behaviour.other_dwell)
    median = np.where(engaged, median, np.where(glanced, behaviour.glance_dwell, 0.0))
    luck = normal(seed, "dwell", who, page.hour, item)
    dwell = np.round(median * np.exp(behaviour.dwell_spread * luck), 1)
    return Response(examined, engaged, glanced, dwell, interest)


def interest_in(page: Page, people: Population) -> tuple[np.ndarray, np.ndarray]:
    """The user's most awake interest that an item is of, and how awake it is, 0 where none: int, float [n, shown]."""
    item, topics = np.maximum(page.item, 0)[:, :, None], people.topics[page.user][:, None, :]
    match = (people.items.topic[item] == topics) | (people.items.second[item] == topics)
    awake = np.where(match, page.awake[:, None, :], -1.0)
    found = awake.argmax(axis=2)
    strength = np.maximum(np.take_along_axis(awake, found[:, :, None], axis=2)[:, :, 0], 0.0)
    return np.where(match.any(axis=2), found, -1), strength


def _depth(page: Page, behaviour: Behaviour, seed: int) -> np.ndarray:
    """How many positions each user looks at: geometric, at least 1."""
    luck = uniform(seed, "scroll", page.user, page.hour)
    return 1 + np.floor(np.log(luck) / np.log(behaviour.scroll)).astype(int)


def _chance(
    page: Page, people: Population, behaviour: Behaviour, item: np.ndarray, at_home: np.ndarray, strength: np.ndarray
) -> np.ndarray:
    """Of an engagement with each examined item: float [n, shown]."""
    items = people.items
    weight = items.weight[item]
    no_reason = (
        (1.0 - behaviour.habit * at_home) * (1.0 - behaviour.interest * strength) * (1.0 - behaviour.fame * weight)
    )
    age = people.start + page.hour / 24 - items.published[item]
    novelty = 0.35 + 0.65 * np.exp(-np.maximum(age, 0.0) / 10.0)
    pull = (weight / items.weight.mean()) ** behaviour.pull
    fatigue = behaviour.ignored**page.passed * behaviour.satiation ** np.take_along_axis(
        page.tired, items.topic[item], axis=1
    )
    return np.minimum((1.0 - no_reason) * pull * novelty * fatigue, 1.0)
