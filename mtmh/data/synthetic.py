"""The synthetic world: a seeded log in which recall and relevance conflict, as they do in life.

The law of the world:

- Items. Each of 96 L2 topics (12 L1 x 8) holds a share of the items; one item in eight has a second
  topic. A creator specializes: most of its items are of one topic. Titles are made of the topics'
  words. Popularity follows a power law. Half of the items are there on day 0, the others are
  published day by day until the end, so that some of T2's items are fresh and some have no T1 event
  at all (cold); a new item is engaged with more than an old one.
- Users. Each has three known interests, two of them in the same L1 topic, and two latent ones: L2
  topics that it hardly touches on day 0 and as much as the known ones on the last day.
- Habits. Each creator and its items belong to a community (think of a town, or a language), and so
  does each user; which one has nothing to do with topics. Habits are off-topic: a user takes what
  its community has.
- An engagement is, by chance: habit (an item of the user's community), interest (an item of one of
  its topics, mostly of its community when there is one), or fame (any item, by popularity alone).
  Nobody engages with an item before it is published, or twice. Hence co-engagement (ItemKNN) finds
  the community and so recalls much of what a user does next, but its neighbours are mostly off
  topic; titles find the topic, but not what the user does next.
- Dwell times are log-normal, with a median of 45 s where the item is in one of the user's topics,
  15 s elsewhere.

All is drawn from one seeded generator: the same sizes and seed give the same tables.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mtmh.data.formats.format import SourceTables
from mtmh.data.synthetic_vocabulary import N_TOPICS, sibling, titles, topic_lists

WORLD_VERSION = 1  # part of the fingerprint; goes up when the same seed gives another world

START = np.datetime64("2025-01-01T00:00:00", "us")
DAY = 86_400_000_000  # microseconds
ENGAGEMENTS = 25  # per user, on average
ITEMS_PER_COMMUNITY = 80
ITEMS_PER_CREATOR = 10
HABIT, INTEREST = 0.5, 0.35  # shares of the engagements; the rest is fame
NEAR = 0.5  # share of on-topic engagements within the user's community, where it has the topic
ROUNDS = 12  # draws of an item for an event; an event that got none by then is left out


@dataclass(frozen=True)
class Creators:
    """Who publishes: each has a specialty and belongs to one of the communities."""

    specialty: np.ndarray  # int [creators], an L2 topic
    home: np.ndarray  # int [creators], a community
    communities: int


@dataclass(frozen=True)
class WorldItems:
    """The catalog."""

    topic: np.ndarray  # int [items], the L2 topic
    second: np.ndarray  # int [items], the second L2 topic or the same again
    creator: np.ndarray  # int [items]
    community: np.ndarray  # int [items]
    published: np.ndarray  # float [items], day
    weight: np.ndarray  # float [items], popularity


@dataclass(frozen=True)
class WorldUsers:
    """Who engages with the items."""

    interests: np.ndarray  # int [users, 5], L2 topics: three known, two latent
    community: np.ndarray  # int [users]
    activity: np.ndarray  # float [users], share of all engagements


@dataclass(frozen=True)
class Engagements:
    """What the users did, in order of time."""

    user: np.ndarray  # int [events]
    item: np.ndarray  # int [events]
    day: np.ndarray  # float [events], days since START
    dwell: np.ndarray  # float [events], seconds


@dataclass(frozen=True)
class World:
    """A world as drawn, by numbers; user n is called as `user_ids` has it, item n stands in row n
    of `item_table`.
    """

    creators: Creators
    items: WorldItems
    users: WorldUsers
    item_table: pa.Table  # in the contract's form
    engagements: Engagements


def make_world(users: int, items: int, days: int, seed: int) -> SourceTables:
    """Draw the world.

    The tables `interactions` and `items` are in the contract's form, unchecked.
    """
    world = draw_world(users, items, days, seed)
    tables = {"items": world.item_table, "interactions": interactions_table(world.engagements)}
    return SourceTables(tables, {name: f"synthetic {name}" for name in tables})


def draw_world(users: int, items: int, days: int, seed: int) -> World:
    """The world that `make_world` makes tables of."""
    rng = np.random.default_rng([seed, WORLD_VERSION])
    # Who publishes.
    communities = max(2, items // ITEMS_PER_COMMUNITY)
    n_creators = max(1, items // ITEMS_PER_CREATOR)
    specialty = rng.integers(N_TOPICS, size=n_creators)
    creators = Creators(specialty, rng.integers(communities, size=n_creators), communities)
    # What they publish: half of it before the first day, half day by day.
    kind = _draw_kind(items, creators, rng)
    is_old = rng.random(items) < 0.5
    published = np.where(is_old, rng.uniform(-60, 0, items), rng.uniform(0, days, items))
    weight = (1.0 + rng.permutation(items)) ** -0.6
    catalog = WorldItems(**kind, published=published, weight=weight)
    # Who reads it, under which titles, and when.
    people = draw_users(users, communities, rng)
    table = items_table(catalog, rng)
    return World(creators, catalog, people, table, draw_engagements(people, catalog, days, rng))


def draw_new_items(
    published: np.ndarray, creators: Creators, catalog: int, rng: np.random.Generator
) -> WorldItems:
    """Items of the same creators, published on the given days.

    They are as popular as the items of a catalog of `catalog` items.
    """
    count = len(published)
    kind = _draw_kind(count, creators, rng)
    weight = (1.0 + rng.integers(catalog, size=count)) ** -0.6
    return WorldItems(**kind, published=published, weight=weight)


def _draw_kind(count: int, creators: Creators, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What an item is by who makes it: its creator, topics and community."""
    creator = rng.integers(len(creators.home), size=count)
    # Most items are what their creator stands for; one in eight has a second topic.
    is_special = rng.random(count) < 0.7
    topic = np.where(is_special, creators.specialty[creator], rng.integers(N_TOPICS, size=count))
    second = np.where(rng.random(count) < 0.125, rng.integers(N_TOPICS, size=count), topic)
    elsewhere = rng.random(count) >= 0.9
    strange = rng.integers(creators.communities, size=count)
    community = np.where(elsewhere, strange, creators.home[creator])
    return {"topic": topic, "second": second, "creator": creator, "community": community}


def draw_users(count: int, communities: int, rng: np.random.Generator) -> WorldUsers:
    """People of the world's law; their shares of all engagements sum to 1."""
    # Three known interests, the second in the L1 topic of the first, and two latent ones.
    interests = rng.integers(N_TOPICS, size=(count, 5))
    interests[:, 1] = sibling(interests[:, 0], rng)
    activity = rng.lognormal(0.0, 0.6, count)
    return WorldUsers(interests, rng.integers(communities, size=count), activity / activity.sum())


def draw_engagements(
    users: WorldUsers,
    items: WorldItems,
    days: int,
    rng: np.random.Generator,
    span: tuple[float, float] | None = None,
    rate: float = 1.0,
    reasons: tuple[float, float] = (HABIT, INTEREST),
) -> Engagements:
    """What the law has users do: ENGAGEMENTS each, on average, in `days` days.

    `span` is from which day to which (default: all `days`; what lies behind them is as the last
    day), `rate` how much of the law's activity there is, `reasons` the shares of habit and
    interest.
    """
    first, last = span or (0, days)
    events = int(rate * ENGAGEMENTS * len(users.activity) * (last - first) / days)
    # A fifth more than needed: some find no item, others repeat an engagement.
    user = rng.choice(len(users.activity), size=int(1.2 * events), p=users.activity)
    day = np.sort(rng.uniform(first, last, len(user)))
    item = _choose(user, day, np.minimum(day / days, 1.0), users, items, reasons, rng)
    has_item = item >= 0
    user, day, item = user[has_item], day[has_item], item[has_item]
    _, first_time = np.unique(user * len(items.topic) + item, return_index=True)
    rows = np.sort(rng.permutation(first_time)[:events])
    user, day, item = user[rows], day[rows], item[rows]
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
    users: WorldUsers,
    items: WorldItems,
    reasons: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """An item for each event, -1 where none is published already; `time` is the day from 0 to 1."""
    kind = rng.random(len(user))
    habit, interest = reasons
    # Latent topics come up with time.
    is_latent = rng.random(len(user)) < 0.4 * time
    latent = 3 + rng.integers(2, size=len(user))
    topic = users.interests[user, np.where(is_latent, latent, rng.integers(3, size=len(user)))]
    community = users.community[user]
    draw_any = _WeightedDraw(np.zeros_like(items.topic), items.weight)
    draw_topic = _WeightedDraw(items.topic, items.weight)
    draw_community = _WeightedDraw(items.community, items.weight**0.5)
    draw_both = _WeightedDraw(items.community * N_TOPICS + items.topic, items.weight)
    item = np.full(len(user), -1)
    left = np.arange(len(user))
    # Rejection sampling: a drawn item is not published yet, or too old for today's taste.
    for _ in range(ROUNDS):
        near = draw_both(community[left] * N_TOPICS + topic[left], rng)
        stays_near = (near >= 0) & (rng.random(len(left)) < NEAR)
        on_topic = np.where(stays_near, near, draw_topic(topic[left], rng))
        famous = draw_any(np.zeros_like(left), rng)
        is_habit, is_interest = kind[left] < habit, kind[left] < habit + interest
        usual = draw_community(community[left], rng)
        drawn = np.select([is_habit, is_interest], [usual, on_topic], famous)
        age = day[left] - items.published[drawn]
        taste = 0.35 + 0.65 * np.exp(-np.maximum(age, 0.0) / 10.0)
        accepted = (drawn >= 0) & (age >= 0.0) & (rng.random(len(left)) < taste)
        item[left[accepted]] = drawn[accepted]
        left = left[~accepted]
    return item


class _WeightedDraw:
    """Draws members of groups by weight: `group` int [members] is the group of each member."""

    def __init__(self, group: np.ndarray, weight: np.ndarray) -> None:
        self.order = np.argsort(group, kind="stable")
        self.sums = np.concatenate([[0.0], np.cumsum(weight[self.order])])
        self.starts = np.searchsorted(group[self.order], np.arange(group.max() + 2))

    def __call__(self, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A member of each named group, int; -1 where the group is empty."""
        inside = np.minimum(group, len(self.starts) - 2)
        start, end = self.starts[inside], self.starts[inside + 1]
        low, high = self.sums[start], self.sums[end]
        mark = low + rng.random(len(group)) * (high - low)
        position = np.searchsorted(self.sums, mark, side="right") - 1
        position = np.clip(position, start, np.maximum(end - 1, start))
        member = self.order[position % len(self.order)]
        return np.where((end > start) & (inside == group), member, -1)


def items_table(items: WorldItems, rng: np.random.Generator, first: int = 0) -> pa.Table:
    """The contract's items, numbered from `first`; their titles are drawn here."""
    names = titles(items.topic, items.second, sibling(items.topic, rng), rng)
    count = len(names)
    return pa.table(
        {
            "item_id": _ids("i", first + np.arange(count)),
            "title": pa.array(names),
            "text": pa.repeat("", count),
            "creator_id": _ids("c", items.creator),
            "created_at": timestamps(items.published),
            "l1_topics": topic_lists("l1", items.topic, items.second),
            "l2_topics": topic_lists("l2", items.topic, items.second),
        }
    )


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
