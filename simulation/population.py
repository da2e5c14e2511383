"""Who lives on the platform, and with what: the synthetic world's users and items, and more of the
same law."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa

from mtmh.config import SyntheticSettings
from mtmh.data import synthetic_vocabulary
from mtmh.data.synthetic import (
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

Columns = TypeVar("Columns", WorldUsers, WorldItems, Engagements)
LATENT = 3  # interests a user that are asleep at the start


@dataclass(frozen=True)
class Population:
    """Users, items and what happens by itself. Days count from the world's first; `start` is the
    first one lived."""

    users: WorldUsers
    items: WorldItems  # those of the world first, then new ones by the time of their publication
    # int [users, 5 + LATENT], L2 topics: interests that are awake, then latent ones
    topics: np.ndarray
    visits: np.ndarray  # float [users], of a day, when neither pleased nor displeased
    user_ids: pa.Array
    item_table: pa.Table  # the contract's, row = item
    history: Engagements  # before `start`
    elsewhere: Engagements  # since `start`, beside the lists
    start: int
    days: int

    def published(self, day: float) -> int:
        """How many items there are by then; they are the first ones."""
        existing = int((self.items.published < self.start).sum())
        return existing + int(np.searchsorted(self.items.published[existing:], day, side="right"))


def populate(
    world: SyntheticSettings,
    seed: int,
    users: int,
    days: int,
    behaviour: Behaviour,
    simulation_seed: int = 0,
) -> Population:
    """`users` people and the items of `days` days after the end of the world of this size and seed.

    The first users are the world's own, whom a model of it was trained on; the others have a
    history of the same law. New items come at the world's rate, at least one an hour.
    `simulation_seed` is the seed of everything that is not of the world.
    """
    drawn = draw_world(world.users, world.items, world.days, seed)
    rng = np.random.default_rng([seed, users, days, simulation_seed])
    # The world's own users, as many as are wanted, and others drawn by the same law beside them.
    parts = [WorldUsers(**{name: column[:users] for name, column in vars(drawn.users).items()})]
    histories = [_select(drawn.engagements, drawn.engagements.user < users)]
    if users > world.users:
        parts.append(draw_users(users - world.users, drawn.creators.communities, rng))
        history = draw_engagements(parts[1], drawn.items, world.days, rng)
        histories.append(replace(history, user=history.user + world.users))
    # Each part is as active as the other, per user.
    activity = np.concatenate([part.activity / part.activity.mean() for part in parts])
    everyone = replace(_concatenated(parts), activity=activity / activity.sum())
    # New items: the world publishes half of its items while it lasts, and goes on at that rate.
    an_hour = max(1, round(world.items / 2 / world.days / 24))
    hour = np.repeat(np.arange(24 * days), an_hour)
    published = np.sort(world.days + (hour + rng.random(len(hour))) / 24)
    new = draw_new_items(published, drawn.creators, world.items, rng)
    items = _concatenated([drawn.items, new])
    # What users do beside the lists.
    elsewhere = draw_engagements(
        everyone,
        items,
        world.days,
        rng,
        span=(world.days, world.days + days),
        rate=behaviour.elsewhere,
        reasons=behaviour.elsewhere_reasons,
    )
    visits = behaviour.visits_a_day * (everyone.activity * users) ** behaviour.activity_power
    history = _concatenated(histories)
    latent = _latent(everyone.interests, rng)
    new_table = items_table(new, rng, first=world.items)
    return Population(
        users=everyone,
        items=items,
        topics=np.concatenate([everyone.interests, latent], axis=1),
        visits=np.minimum(visits, behaviour.most_visits_a_day),
        user_ids=user_ids(np.arange(users)),
        item_table=pa.concat_tables([drawn.item_table, new_table]).combine_chunks(),
        history=_select(history, np.argsort(history.day, kind="stable")),
        elsewhere=elsewhere
        if behaviour.interest
        else _by_habit(elsewhere, everyone, items, behaviour),
        start=world.days,
        days=days,
    )


def _concatenated(parts: Sequence[Columns]) -> Columns:
    """One dataclass of arrays after the other."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])
    }
    return replace(parts[0], **columns)


def _select(engagements: Engagements, rows: np.ndarray) -> Engagements:
    return Engagements(**{name: column[rows] for name, column in vars(engagements).items()})


def _latent(interests: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Int [users, LATENT]: a sibling of the first interest, and topics from anywhere; none that is
    an interest."""
    users, topics = len(interests), len(synthetic_vocabulary.names()[1])
    key = rng.random((users, topics))
    key[np.arange(users)[:, None], interests] = np.inf
    sibling = np.arange(topics) // TOPICS_PER_L1 == interests[:, :1] // TOPICS_PER_L1
    first = np.where(sibling, key, np.inf).argmin(axis=1)
    key[np.arange(users), first] = -1.0
    return cast(np.ndarray, np.argsort(key, axis=1)[:, :LATENT])


def _by_habit(
    engagements: Engagements, users: WorldUsers, items: WorldItems, behaviour: Behaviour
) -> Engagements:
    """The same with dwell times by community instead of by topic."""
    user, item = engagements.user, engagements.item
    on_topic = (users.interests[user] == items.topic[item, None]).any(1)
    at_home = users.community[user] == items.community[item]
    median = np.array([behaviour.other_dwell, behaviour.wanted_dwell])
    dwell = engagements.dwell * median[at_home.astype(int)] / median[on_topic.astype(int)]
    return replace(engagements, dwell=np.round(dwell, 1))
