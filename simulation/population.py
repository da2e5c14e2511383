"""Who lives on the platform, and with what: the synthetic world's users and items, and more of the same law."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mtmh.config import SyntheticSettings
from mtmh.data import synthetic_vocabulary
from mtmh.data.synthetic import (
    Creators,
    Engagements,
    WorldItems,
    WorldUsers,
    draw_engagements,
    draw_new_items,
    draw_users,
    draw_world,
    items_table,
    user_ids,
)
from mtmh.data.synthetic_vocabulary import TOPICS_PER_L1
from simulation.behaviour import Behaviour

LATENT = 3  # interests a user that are asleep at the start


@dataclass(frozen=True)
class Population:
    """Users, items and what happens by itself. Days count from the world's first; `start` is the first one lived."""

    users: WorldUsers
    items: WorldItems  # those of the world first, then new ones by the time of their publication
    topics: np.ndarray  # int [users, 5 + LATENT], L2 topics: interests that are awake, then latent ones
    visits: np.ndarray  # float [users], of a day, when neither pleased nor displeased
    user_ids: pa.Array
    item_table: pa.Table  # the contract's, row = item
    history: Engagements  # before `start`
    elsewhere: Engagements  # since `start`, beside the lists
    start: int
    days: int

    def published(self, day: float) -> int:
        """How many items there are by then; they are the first ones."""
        known = int((self.items.published < self.start).sum())
        return known + int(np.searchsorted(self.items.published[known:], day, side="right"))


def populate(
    world: SyntheticSettings, seed: int, users: int, days: int, behaviour: Behaviour, luck: int = 0
) -> Population:
    """`users` people and the items of `days` days after the end of the world of this size and seed.

    The first users are the world's own, whom a model of it knows; the others have a history of the same law. New items
    come at the world's rate, at least one an hour. `luck` is the seed of everything that is not of the world.
    """
    drawn = draw_world(world.users, world.items, world.days, seed)
    rng = np.random.default_rng([seed, users, days, luck])
    kept = drawn.engagements.user < users
    people, history = [_first(drawn.users, users)], [_events(drawn.engagements, kept, 0)]
    if users > world.users:
        people.append(draw_users(users - world.users, drawn.creators.communities, rng))
        more = draw_engagements(people[1], drawn.items, world.days, rng)
        history.append(_events(more, np.ones(len(more.user), bool), world.users))
    lives = _joined(people)
    fresh = _new_items(drawn.creators, world, days, rng)
    items = WorldItems(*(np.concatenate([getattr(drawn.items, name), getattr(fresh, name)]) for name in vars(fresh)))
    elsewhere = draw_engagements(
        lives,
        items,
        world.days,
        rng,
        span=(world.days, world.days + days),
        rate=behaviour.elsewhere,
        reasons=behaviour.elsewhere_reasons,
    )
    relative = lives.activity * users
    return Population(
        users=lives,
        items=items,
        topics=np.concatenate([lives.interests, _latent(lives.interests, rng)], axis=1),
        visits=np.minimum(
            behaviour.visits_a_day * relative**behaviour.activity_power,
            behaviour.most_visits_a_day,
        ),
        user_ids=user_ids(np.arange(users)),
        item_table=pa.concat_tables([drawn.item_table, items_table(fresh, rng, first=world.items)]).combine_chunks(),
        history=_merged(history),
        elsewhere=elsewhere if behaviour.interest else _by_habit(elsewhere, lives, items, behaviour),
        start=world.days,
        days=days,
    )


def _new_items(creators: Creators, world: SyntheticSettings, days: int, rng: np.random.Generator) -> WorldItems:
    an_hour = max(1, round(world.items / 2 / world.days / 24))  # the world publishes half of its items while it lasts
    hour = np.repeat(np.arange(24 * days), an_hour)
    published = np.sort(world.days + (hour + rng.random(len(hour))) / 24)
    return draw_new_items(published, creators, world.items, rng)


def _latent(interests: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Int [users, LATENT]: a sibling of the first interest, and topics from anywhere; none that is an interest."""
    users, topics = len(interests), len(synthetic_vocabulary.names()[1])
    key = rng.random((users, topics))
    key[np.arange(users)[:, None], interests] = np.inf
    sibling = np.arange(topics) // TOPICS_PER_L1 == interests[:, :1] // TOPICS_PER_L1
    first = np.where(sibling, key, np.inf).argmin(axis=1)
    key[np.arange(users), first] = -1.0
    chosen: np.ndarray = np.argsort(key, axis=1)[:, :LATENT]
    return chosen


def _first(users: WorldUsers, count: int) -> WorldUsers:
    return WorldUsers(users.interests[:count], users.community[:count], users.activity[:count])


def _joined(parts: list[WorldUsers]) -> WorldUsers:
    """All of them; each part is as active as the other, per user."""
    activity = np.concatenate([part.activity / part.activity.mean() for part in parts])
    interests, community = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("interests", "community")
    )
    return WorldUsers(interests, community, activity / activity.sum())


def _events(done: Engagements, kept: np.ndarray, first_user: int) -> Engagements:
    return Engagements(done.user[kept] + first_user, done.item[kept], done.day[kept], done.dwell[kept])


def _merged(parts: list[Engagements]) -> Engagements:
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    order = np.argsort(columns["day"], kind="stable")
    return Engagements(**{name: column[order] for name, column in columns.items()})


def _by_habit(done: Engagements, users: WorldUsers, items: WorldItems, behaviour: Behaviour) -> Engagements:
    """The same with dwell times by community instead of by topic."""
    on_topic = (users.interests[done.user] == items.topic[done.item, None]).any(1)
    at_home = users.community[done.user] == items.community[done.item]
    median = np.array([behaviour.other_dwell, behaviour.wanted_dwell])
    return replace(done, dwell=np.round(done.dwell * median[at_home.astype(int)] / median[on_topic.astype(int)], 1))
