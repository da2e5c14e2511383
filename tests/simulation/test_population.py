"""Who lives on the platform: the world's own users, more of the same law, and items that go on
being published.
"""

import numpy as np
import pyarrow.compute as pc
from helpers.small_platform import WORLD

from mtmh.data.importers import SourceTables, check
from mtmh.data.synthetic import interactions_table, make_world
from simulation.behaviour import DEFAULT, WORLDS
from simulation.population import LATENT, Population, populate


def test_the_first_users_and_items_are_the_worlds_own(people: Population) -> None:
    world = make_world(WORLD.users, WORLD.items, WORLD.days, seed=1).tables
    assert people.item_table.slice(0, WORLD.items).equals(world["items"].combine_chunks())
    own = interactions_table(people.history)
    own = own.filter(pc.less(own["user_id"], "u0000200")).sort_by(
        [("timestamp", "ascending"), ("user_id", "ascending")]
    )
    assert own.equals(
        world["interactions"].sort_by([("timestamp", "ascending"), ("user_id", "ascending")])
    )


def test_luck_is_of_what_the_world_does_not_say(people: Population) -> None:
    other = populate(WORLD, 1, 300, 3, DEFAULT, simulation_seed=1)
    own = people.history.user < 200
    np.testing.assert_array_equal(
        people.history.item[own], other.history.item[other.history.user < 200]
    )
    assert not np.array_equal(people.items.topic[WORLD.items :], other.items.topic[WORLD.items :])
    assert not np.array_equal(people.users.community[200:], other.users.community[200:])


def test_fewer_users_than_the_world_has_are_its_first() -> None:
    few = populate(WORLD, 1, 50, 1, DEFAULT)
    assert few.history.user.max() < 50
    assert len(few.user_ids) == len(few.visits) == 50


def test_users_beyond_the_worlds_follow_the_same_law(people: Population) -> None:
    events = np.bincount(people.history.user, minlength=300)
    assert 0.6 < events[200:].mean() / events[:200].mean() < 1.6
    known, more = (
        people.history.dwell[chosen]
        for chosen in (people.history.user < 200, people.history.user >= 200)
    )
    assert 0.8 < np.median(more) / np.median(known) < 1.25
    assert (people.history.day < people.start).all()


def test_new_items_come_every_hour_in_order_and_keep_the_contract(people: Population) -> None:
    published = people.items.published[WORLD.items :]
    assert (np.diff(published) >= 0).all()
    hours = np.bincount(((published - people.start) * 24).astype(int), minlength=72)
    assert hours.min() >= 1
    assert people.published(people.start) == WORLD.items
    assert people.published(people.start + people.days) == len(people.items.topic)
    tables = {"items": people.item_table, "interactions": interactions_table(people.history)}
    checked = check(SourceTables(tables, {name: name for name in tables}), [], [])
    assert all(one.rejected.num_rows == 0 for one in checked.values())


def test_latent_interests_are_new_to_the_user_and_one_is_a_sibling(people: Population) -> None:
    activation, latent = people.topics[:, :-LATENT], people.topics[:, -LATENT:]
    assert not (activation[:, :, None] == latent[:, None, :]).any()
    assert (latent[:, 0] // 8 == activation[:, 0] // 8).all()
    assert all(len(set(row)) == LATENT for row in latent.tolist())


def test_what_users_do_elsewhere_is_of_published_items_and_of_no_topic_where_habit_is_all(
    people: Population,
) -> None:
    def shares(someone: Population) -> tuple[float, float]:
        done, items, users = someone.elsewhere, someone.items, someone.users
        at_home = users.community[done.user] == items.community[done.item]
        on_topic = (users.interests[done.user] == items.topic[done.item, None]).any(axis=1)
        assert (items.published[done.item] <= done.day).all()
        assert ((done.day >= someone.start) & (done.day < someone.start + someone.days)).all()
        return float(at_home.mean()), float(on_topic.mean())

    habit, interest = shares(people)
    only_habit, no_interest = shares(populate(WORLD, 1, 300, 3, WORLDS["habit-only"]))
    assert only_habit > habit
    assert no_interest < 0.5 * interest
