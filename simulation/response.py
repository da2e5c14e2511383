"""One visit: what users do with the items that they are shown (README.md, "One visit", 3 to 6)."""

from dataclasses import dataclass

import numpy as np

from simulation.behaviour import Behaviour
from simulation.counter_rng import normal, uniform
from simulation.population import Population


@dataclass(frozen=True)
class Page:
    """What n users are shown in one hour, with what they bring along; item -1 where the page
    ends."""

    user: np.ndarray  # int [n], each once
    hour: int  # since the start
    item: np.ndarray  # int32 [n, shown]
    activation: np.ndarray  # float [n, topics], of the users' interests, 0..1
    fatigue: np.ndarray  # float [n, L2 topics], recent engagements
    times_ignored: np.ndarray  # int [n, shown], how often the item was seen and passed by


@dataclass(frozen=True)
class Response:
    """What they do; a user's `interest` in an item is the place in Population.topics, -1 where
    there is none."""

    examined: np.ndarray  # bool [n, shown]
    engaged: np.ndarray  # bool [n, shown]
    glanced: np.ndarray  # bool [n, shown]
    dwell: np.ndarray  # float [n, shown], seconds; 0 where an item was not opened
    interest: np.ndarray  # int [n, shown]


def respond(page: Page, people: Population, behaviour: Behaviour, seed: int) -> Response:
    """Examination by position, the reasons to engage, dwell."""
    who, item = page.user[:, None], np.maximum(page.item, 0)
    # How many positions a user looks at is geometric, at least 1.
    draw = uniform(seed, "scroll", page.user, page.hour)
    depth = 1 + np.floor(np.log(draw) / np.log(behaviour.scroll)).astype(int)
    examined = (page.item >= 0) & (np.arange(page.item.shape[1]) < depth[:, None])
    # Of the examined items some are engaged with, some of the others only opened.
    interest, strength = interest_in(page, people)
    at_home = people.users.community[page.user][:, None] == people.items.community[item]
    chance = _engagement_chance(page, people, behaviour, at_home, strength)
    engaged = examined & (uniform(seed, "engage", who, page.hour, item) < chance)
    glanced = (
        examined & ~engaged & (uniform(seed, "glance", who, page.hour, item) < behaviour.glance)
    )
    # Dwell is log-normal; its median says whether the user wanted the item.
    # A latent interest counts once it is more than half awake.
    of_interest = strength > 0.5 if behaviour.interest else at_home
    median = np.where(of_interest, behaviour.wanted_dwell, behaviour.other_dwell)
    median = np.where(engaged, median, np.where(glanced, behaviour.glance_dwell, 0.0))
    noise = normal(seed, "dwell", who, page.hour, item)
    dwell = np.round(median * np.exp(behaviour.dwell_spread * noise), 1)
    return Response(examined, engaged, glanced, dwell, interest)


def interest_in(page: Page, people: Population) -> tuple[np.ndarray, np.ndarray]:
    """The user's most active interest that an item is of, and its activation, 0 where none: int,
    float [n, shown]."""
    item, topics = np.maximum(page.item, 0)[:, :, None], people.topics[page.user][:, None, :]
    match = (people.items.topic[item] == topics) | (people.items.second[item] == topics)
    activation = np.where(match, page.activation[:, None, :], -1.0)
    strongest = activation.argmax(axis=2)
    strength = np.maximum(
        np.take_along_axis(activation, strongest[:, :, None], axis=2)[:, :, 0], 0.0
    )
    return np.where(match.any(axis=2), strongest, -1), strength


def _engagement_chance(
    page: Page, people: Population, behaviour: Behaviour, at_home: np.ndarray, strength: np.ndarray
) -> np.ndarray:
    """Of an engagement with each examined item: float [n, shown]."""
    items, item = people.items, np.maximum(page.item, 0)
    weight = items.weight[item]
    # Each reason alone may be enough.
    no_habit = 1.0 - behaviour.habit * at_home
    no_interest = 1.0 - behaviour.interest * strength
    no_fame = 1.0 - behaviour.fame * weight
    reason = 1.0 - no_habit * no_interest * no_fame
    # What is new and what many want draws more.
    age = people.start + page.hour / 24 - items.published[item]
    # The synthetic world's own law of age.
    novelty = 0.35 + 0.65 * np.exp(-np.maximum(age, 0.0) / 10.0)
    pull = (weight / items.weight.mean()) ** behaviour.pull
    # Users tire of an item that they passed by, and of a topic.
    topic_fatigue = np.take_along_axis(page.fatigue, items.topic[item], axis=1)
    rested = behaviour.ignored**page.times_ignored * behaviour.satiation**topic_fatigue
    return np.minimum(reason * pull * novelty * rested, 1.0)
