"""How users respond to what they are shown: as README.md of the platform says, and by as much."""

from dataclasses import replace

import numpy as np
import pytest

from mtmh.errors import UserError
from simulation.behaviour import DEFAULT, WORLDS, Behaviour, behaviour
from simulation.population import LATENT, Population
from simulation.response import Page, Response, respond

HOURS = 40


def page_of(people: Population, item: np.ndarray, hour: int, **changes: np.ndarray) -> Page:
    """Everyone is shown `item` [users, shown], with interests awake as at the start and nobody
    tired.
    """
    users = np.arange(len(people.topics))
    activation = np.ones(people.topics.shape)
    activation[:, -LATENT:] = 0.0
    page = Page(
        users, hour, item, activation, np.zeros((len(users), 96)), np.zeros(item.shape, int)
    )
    return replace(page, **changes)


def responses(
    people: Population, item: np.ndarray, how: Behaviour = DEFAULT, **changes: np.ndarray
) -> list[Response]:
    """Of many hours, as if each was the first."""
    return [
        respond(page_of(people, item, hour, **changes), people, how, seed=5)
        for hour in range(HOURS)
    ]


def rate(found: list[Response], chosen: np.ndarray) -> float:
    """Engagements per examined item among the chosen places."""
    examined = sum(int((one.examined & chosen).sum()) for one in found)
    return sum(int((one.engaged & chosen).sum()) for one in found) / examined


@pytest.fixture(scope="module")
def slates(people: Population) -> np.ndarray:
    """Random items of the world's, all of them old."""
    old = np.flatnonzero(people.items.published < people.start - 20)
    return np.random.default_rng(0).choice(old, (len(people.topics), 12)).astype(np.int32)


def test_a_position_is_examined_nine_times_for_ten_of_the_one_above(
    people: Population, slates: np.ndarray
) -> None:
    examined = np.mean([one.examined for one in responses(people, slates)], axis=(0, 1))
    np.testing.assert_allclose(examined, 0.9 ** np.arange(12), atol=0.02)


def test_nothing_is_done_with_what_was_not_examined_or_not_there(
    people: Population, slates: np.ndarray
) -> None:
    item = np.where(np.arange(12) < 5, slates, -1)
    for one in responses(people, item):
        assert not one.examined[:, 5:].any()
        assert not ((one.engaged | one.glanced) & ~one.examined).any()
        assert not (one.engaged & one.glanced).any()
        np.testing.assert_array_equal(one.dwell > 0, one.engaged | one.glanced)


def test_home_and_interest_are_reasons_and_have_the_documented_odds(
    people: Population, slates: np.ndarray
) -> None:
    """Without fame, of items of usual popularity, old: 0.40 and 0.30 times 0.35 to 0.45."""
    how = replace(DEFAULT, fame=0.0, pull=0.0)
    home = people.users.community[:, None] == people.items.community[slates]
    topics = people.topics[:, None, :-LATENT]
    of_interest = (topics == people.items.topic[slates][:, :, None]) | (
        topics == people.items.second[slates][:, :, None]
    )
    wanted = of_interest.any(axis=2)
    found = responses(people, slates, how)
    assert rate(found, ~home & ~wanted) == 0.0
    assert 0.35 * 0.40 - 0.03 < rate(found, home & ~wanted) < 0.45 * 0.40 + 0.03
    assert 0.35 * 0.30 - 0.03 < rate(found, ~home & wanted) < 0.45 * 0.30 + 0.03
    fame = responses(people, slates)
    assert rate(fame, ~home & ~wanted) > 0.0


def test_a_latent_interest_is_none_until_it_wakes(people: Population) -> None:
    item = first_items_of(people, people.topics[:, -1])
    how = replace(DEFAULT, fame=0.0)
    home = people.users.community[:, None] == people.items.community[np.maximum(item, 0)]
    asleep = responses(people, item, how)
    assert rate(asleep, ~home & (item >= 0)) < 0.01  # second topics may be of interest
    activation = responses(people, item, how, activation=np.ones(people.topics.shape))
    assert rate(activation, ~home & (item >= 0)) > 0.08


def first_items_of(people: Population, topic: np.ndarray) -> np.ndarray:
    """An item of each topic named: int32 [n, 1], -1 where there is none."""
    match = people.items.topic[None, :400] == topic[:, None]
    return np.where(match.any(axis=1), match.argmax(axis=1), -1).astype(np.int32)[:, None]


@pytest.mark.parametrize("what", ["times_ignored", "fatigue"])
def test_fatigue_lowers_engagement(people: Population, slates: np.ndarray, what: str) -> None:
    tiring = {"times_ignored": np.full(slates.shape, 2), "fatigue": np.full((len(slates), 96), 4.0)}
    rested, weary = (
        rate(found, slates >= 0)
        for found in (responses(people, slates), responses(people, slates, **{what: tiring[what]}))
    )
    expected = {"times_ignored": DEFAULT.ignored**2, "fatigue": DEFAULT.satiation**4}[what]
    assert weary / rested == pytest.approx(expected, rel=0.15)


def test_new_items_are_engaged_with_more(people: Population) -> None:
    fresh = np.flatnonzero(
        (people.items.published > people.start - 2) & (people.items.published < people.start)
    )
    old = np.flatnonzero(people.items.published < people.start - 30)
    rng, users = np.random.default_rng(1), len(people.topics)
    rates = [
        rate(
            responses(people, rng.choice(some, (users, 12)).astype(np.int32)),
            np.ones((users, 12), bool),
        )
        for some in (fresh, old)
    ]
    assert rates[0] > 1.5 * rates[1]


def test_where_habit_is_all_topics_move_nobody(people: Population, slates: np.ndarray) -> None:
    how = WORLDS["habit-only"]
    found = responses(people, slates, how)
    activation = responses(people, slates, how, activation=np.ones(people.topics.shape))
    for one, other in zip(found, activation, strict=True):
        np.testing.assert_array_equal(one.engaged, other.engaged)
        np.testing.assert_array_equal(one.dwell, other.dwell)
    home = people.users.community[:, None] == people.items.community[slates]
    dwell = [
        np.concatenate([one.dwell[one.engaged & chosen] for one in found])
        for chosen in (home, ~home)
    ]
    assert np.median(dwell[0]) == pytest.approx(45.0, rel=0.2)
    assert np.median(dwell[1]) == pytest.approx(15.0, rel=0.2)


def test_luck_is_the_users_own(people: Population, slates: np.ndarray) -> None:
    """Whoever else visits in the same hour, and wherever on the page an item stands, changes
    nothing for a user.
    """
    whole = respond(page_of(people, slates, 3), people, DEFAULT, seed=5)
    part = page_of(people, slates, 3)
    some = np.arange(0, len(slates), 3)
    part = Page(
        part.user[some],
        3,
        part.item[some],
        part.activation[some],
        part.fatigue[some],
        part.times_ignored[some],
    )
    alone = respond(part, people, DEFAULT, seed=5)
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(whole, name)[some], getattr(alone, name))


def test_an_unknown_world_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"no world 'eden'.*default, habit-only"):
        behaviour("eden")
