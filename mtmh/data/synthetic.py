"""The synthetic world: a seeded interaction log in which recall and relevance conflict, as they do in life.

The law of the world:

- Items. Each of 96 L2 topics (12 L1 x 8) holds a share of the items; one item in eight has a second topic. A creator
  specializes: most of its items are of one topic. Titles are made of the topics' words. Popularity follows a power law.
  Half of the items are there on day 0, the others are published day by day until the end, so that some of T2's items
  are fresh and some have no T1 event at all (cold); a new item is engaged with more than an old one.
- Users. Each has three known interests, two of them in the same L1 topic, and two latent ones: L2 topics that it hardly
  touches on day 0 and as much as the known ones on the last day.
- Habits. Each creator and its items belong to a community (think of a town, or a language), and so does each user;
  which one has nothing to do with topics. Habits are off-topic: a user takes what its community has.
- An engagement is, by chance: habit (an item of the user's community), interest (an item of one of its topics, mostly
  of its community when there is one), or fame (any item, by popularity alone). Nobody engages with an item before it is
  published, or twice. Hence co-engagement (ItemKNN) finds the community and so recalls much of what a user does next,
  but its neighbours are mostly off topic; titles find the topic, but not what the user does next.
- Dwell times are log-normal, with a median of 45 s where the item is in one of the user's topics, 15 s elsewhere.

Everything is drawn on whole arrays from one seeded generator: the same sizes and seed give the same tables.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mtmh.data import synthetic_vocabulary
from mtmh.data.importers import SourceTables

WORLD_VERSION = 1  # part of the fingerprint; count up when the same seed gives another world

START = np.datetime64("2025-01-01T00:00:00", "us")
DAY = 86_400_000_000  # microseconds
ENGAGEMENTS = 25  # per user, on average
ITEMS_PER_COMMUNITY = 80
ITEMS_PER_CREATOR = 10
HABIT, INTEREST = 0.5, 0.35  # shares of the engagements; the rest is fame
NEAR = 0.5  # share of the on-topic engagements that stay in the user's community, where it has the topic
ROUNDS = 12
TOPICS_PER_L1 = 8


@dataclass(frozen=True)
class Creators:
    """Who publishes: each has a specialty and belongs to one of the communities."""

    specialty: np.ndarray  # int [creators], an L2 topic
    home: np.ndarray  # int [creators], a community
    communities: int


@dataclass(frozen=True)
class Items:
    """The catalog."""

    topic: np.ndarray  # int [items], the L2 topic
    second: np.ndarray  # int [items], the second L2 topic or the same again
    creator: np.ndarray  # int [items]
    community: np.ndarray  # int [items]
    published: np.ndarray  # float [items], day
    weight: np.ndarray  # float [items], popularity


@dataclass(frozen=True)
class Users:
    """The people."""

    interests: np.ndarray  # int [users, 5], L2 topics: three known, two latent
    community: np.ndarray  # int [users]
    activity: np.ndarray  # float [users], share of all engagements


@dataclass(frozen=True)
class Engagements:
    """What they did, in order of time."""

    user: np.ndarray  # int [events]
    item: np.ndarray  # int [events]
    day: np.ndarray  # float [events], days since START
    dwell: np.ndarray  # float [events], seconds


@dataclass(frozen=True)
class World:
    """A world as drawn, by numbers; user n is called as `user_ids` has it, item n stands in row n of `item_table`."""

    creators: Creators
    items: Items
    users: Users
    item_table: pa.Table  # in the contract's form
    engagements: Engagements


def make_world(users: int, items: int, days: int, seed: int) -> SourceTables:
    """Draw the world. The tables `interactions` and `items` are in the contract's form, unchecked."""
    world = draw_world(users, items, days, seed)
    tables = {"items": world.item_table, "interactions": interactions_table(world.engagements)}
    return SourceTables(tables, {name: f"synthetic {name}" for name in tables})


def draw_world(users: int, items: int, days: int, seed: int) -> World:
    """The world that `make_world` makes tables of."""
    rng = np.random.default_rng([seed, WORLD_VERSION])
    communities = max(2, items // ITEMS_PER_COMMUNITY)
    creators = _draw_creators(max(1, items // ITEMS_PER_CREATOR), communities, rng)
    catalog = _draw_items(items, creators, days, rng)
    people = draw_users(users, communities, rng)
    table = items_table(catalog, rng)
    return World(creators, catalog, people, table, draw_engagements(people, catalog, days, rng))


def _draw_creators(count: int, communities: int, rng: np.random.Generator) -> Creators:
    topics = len(synthetic_vocabulary.names()[1])
    return Creators(
        rng.integers(topics, size=count), rng.integers(communities, size=count), communities
    )


def _draw_items(count: int, creators: Creators, days: int, rng: np.random.Generator) -> Items:
    kind = _draw_kind(count, creators, rng)
    published = np.where(
        rng.random(count) < 0.5, rng.uniform(-60, 0, count), rng.uniform(0, days, count)
    )
    return Items(**kind, published=published, weight=(1.0 + rng.permutation(count)) ** -0.6)


def draw_new_items(
    published: np.ndarray, creators: Creators, catalog: int, rng: np.random.Generator
) -> Items:
    """Items of the same creators, published on the days told; as popular as one in a catalog of that many items."""
    count = len(published)
    kind = _draw_kind(count, creators, rng)
    return Items(
        **kind, published=published, weight=(1.0 + rng.integers(catalog, size=count)) ** -0.6
    )


def _draw_kind(count: int, creators: Creators, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What an item is by who makes it: its creator, topics and community."""
    topics = len(synthetic_vocabulary.names()[1])
    creator = rng.integers(len(creators.home), size=count)
    own = creators.specialty[creator]
    topic = np.where(rng.random(count) < 0.7, own, rng.integers(topics, size=count))
    second = np.where(rng.random(count) < 0.125, rng.integers(topics, size=count), topic)
    elsewhere = rng.random(count) >= 0.9
    community = np.where(
        elsewhere, rng.integers(creators.communities, size=count), creators.home[creator]
    )
    return {"topic": topic, "second": second, "creator": creator, "community": community}


def draw_users(count: int, communities: int, rng: np.random.Generator) -> Users:
    """People of the world's law; their shares of all engagements sum to 1."""
    topics = len(synthetic_vocabulary.names()[1])
    interests = rng.integers(topics, size=(count, 5))
    interests[:, 1] = _sibling(interests[:, 0], rng)
    activity = rng.lognormal(0.0, 0.6, count)
    return Users(interests, rng.integers(communities, size=count), activity / activity.sum())


def draw_engagements(
    users: Users,
    items: Items,
    days: int,
    rng: np.random.Generator,
    span: tuple[float, float] | None = None,
    rate: float = 1.0,
    reasons: tuple[float, float] = (HABIT, INTEREST),
) -> Engagements:
    """What the law has users do: ENGAGEMENTS each, on average, in `days` days.

    `span` is from which day to which (default: all `days`; what lies behind them is as the last day), `rate` how much
    of the law's activity there is, `reasons` the shares of habit and interest.
    """
    first, last = span or (0, days)
    wanted = int(rate * ENGAGEMENTS * len(users.activity) * (last - first) / days)
    user = rng.choice(
        len(users.activity), size=int(1.2 * wanted), p=users.activity
    )  # some are lost below
    day = np.sort(rng.uniform(first, last, len(user)))
    item = _choose(user, day, np.minimum(day / days, 1.0), users, items, reasons, rng)
    found = item >= 0
    user, day, item = user[found], day[found], item[found]
    _, once = np.unique(user * len(items.topic) + item, return_index=True)
    kept = np.sort(rng.permutation(once)[:wanted])
    user, day, item = user[kept], day[kept], item[kept]
    on_topic = (users.interests[user] == items.topic[item, None]).any(1)
    dwell = np.round(np.where(on_topic, 45.0, 15.0) * rng.lognormal(0.0, 0.7, len(user)), 1)
    return Engagements(user, item, day, dwell)


def interactions_table(done: Engagements) -> pa.Table:
    """The contract's interactions."""
    return pa.table(
        {
            "user_id": user_ids(done.user),
            "item_id": _ids("i", done.item),
            "timestamp": timestamps(done.day),
            "event": pa.repeat("engage", len(done.user)),
            "value": np.ones(len(done.user)),
            "dwell_seconds": done.dwell,
        }
    )


def _choose(
    user: np.ndarray,
    day: np.ndarray,
    time: np.ndarray,
    users: Users,
    items: Items,
    reasons: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """An item for each event, -1 where none was found that is published already."""
    kind = rng.random(len(user))
    habit, interest = reasons
    topic = _topic_of_the_day(user, time, users, rng)
    community = users.community[user]
    topics = len(synthetic_vocabulary.names()[1])
    draw_any = _Sampler(np.zeros_like(items.topic), items.weight)
    draw_topic = _Sampler(items.topic, items.weight)
    draw_community = _Sampler(items.community, items.weight**0.5)
    draw_both = _Sampler(items.community * topics + items.topic, items.weight)
    item = np.full(len(user), -1)
    left = np.arange(len(user))
    for _ in range(ROUNDS):  # rejection: not yet published, or too old for today's taste
        of, at = topic[left], community[left]
        near = draw_both(at * topics + of, rng)
        near = np.where((near >= 0) & (rng.random(len(left)) < NEAR), near, draw_topic(of, rng))
        famous = draw_any(np.zeros_like(left), rng)
        drawn = np.select(
            [kind[left] < habit, kind[left] < habit + interest],
            [draw_community(at, rng), near],
            famous,
        )
        age = day[left] - items.published[drawn]
        taste = 0.35 + 0.65 * np.exp(-np.maximum(age, 0.0) / 10.0)
        accepted = (drawn >= 0) & (age >= 0.0) & (rng.random(len(left)) < taste)
        item[left[accepted]] = drawn[accepted]
        left = left[~accepted]
    return item


def _topic_of_the_day(
    user: np.ndarray, time: np.ndarray, users: Users, rng: np.random.Generator
) -> np.ndarray:
    """One of the user's topics per event; `time` runs from 0 to 1 and brings up the latent ones."""
    latent = rng.random(len(user)) < 0.4 * time
    column = np.where(latent, 3 + rng.integers(2, size=len(user)), rng.integers(3, size=len(user)))
    return users.interests[user, column]


def _sibling(topic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another L2 topic of the same L1 topic."""
    below = (topic + rng.integers(1, TOPICS_PER_L1, size=len(topic))) % TOPICS_PER_L1
    return topic // TOPICS_PER_L1 * TOPICS_PER_L1 + below


class _Sampler:
    """Draws members of groups by weight: `group` int [members] is where each belongs."""

    def __init__(self, group: np.ndarray, weight: np.ndarray) -> None:
        self.order = np.argsort(group, kind="stable")
        self.sums = np.concatenate([[0.0], np.cumsum(weight[self.order])])
        self.starts = np.searchsorted(group[self.order], np.arange(group.max() + 2))

    def __call__(self, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A member of each named group, int; -1 where the group is empty."""
        inside = np.minimum(group, len(self.starts) - 2)
        start, end = self.starts[inside], self.starts[inside + 1]
        low, high = self.sums[start], self.sums[end]
        place = (
            np.searchsorted(self.sums, low + rng.random(len(group)) * (high - low), side="right")
            - 1
        )
        member = self.order[np.clip(place, start, np.maximum(end - 1, start)) % len(self.order)]
        return np.where((end > start) & (inside == group), member, -1)


def items_table(items: Items, rng: np.random.Generator, first: int = 0) -> pa.Table:
    """The contract's items, numbered from `first`; their titles are drawn here."""
    l1_names, l2_names = synthetic_vocabulary.names()
    count = len(items.topic)
    return pa.table(
        {
            "item_id": _ids("i", first + np.arange(count)),
            "title": pa.array(
                synthetic_vocabulary.titles(
                    items.topic, items.second, _sibling(items.topic, rng), rng
                )
            ),
            "text": pa.repeat("", count),
            "creator_id": _ids("c", items.creator),
            "created_at": timestamps(items.published),
            "l1_topics": _one_or_two(
                l1_names, items.topic // TOPICS_PER_L1, items.second // TOPICS_PER_L1
            ),
            "l2_topics": _one_or_two(l2_names, items.topic, items.second),
        }
    )


def _one_or_two(names: np.ndarray, first: np.ndarray, second: np.ndarray) -> pa.Array:
    both = np.stack([first, second], axis=1)
    keep = np.stack([np.ones(len(first), bool), first != second], axis=1)
    offsets = np.concatenate([[0], np.cumsum(keep.sum(1))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(names[both[keep]]))


def user_ids(number: np.ndarray) -> pa.Array:
    """The names of users by their numbers."""
    return _ids("u", number)


def _ids(letter: str, number: np.ndarray) -> pa.Array:
    return pa.array(np.char.add(letter, np.char.zfill(number.astype(str), 7)))


def timestamps(day: np.ndarray) -> pa.Array:
    """UTC, of days since START."""
    return pa.array(START.astype(np.int64) + (day * DAY).astype(np.int64)).cast(
        pa.timestamp("us", tz="UTC")
    )
