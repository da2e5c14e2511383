"""Days on the platform: what is logged is a log of the contract's, in which everything happens in
its order.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers.small_platform import Popular

from mtmh.experiment.arms import Arm, assign_all
from mtmh.experiment.folder import open_experiment
from simulation.behaviour import DEFAULT
from simulation.platform import simulate, write_experiment
from simulation.population import LATENT, Population
from simulation.response import respond
from simulation.users import UserStates

ARMS = (Arm(name="popular", alpha=100), Arm(name="home", alpha=50))
MINUTE = np.timedelta64(1, "m")
Simulated = tuple[pa.Table, pa.Table, Popular]
Simulate = Callable[..., Simulated]


@pytest.fixture(scope="module")
def run(people: Population, tmp_path_factory: pytest.TempPathFactory) -> Simulate:
    """Simulate, and return exposures, engagements and the server."""

    def simulated(other: str = "community", seed: int = 0, refresh_hours: int = 24) -> Simulated:
        out = tmp_path_factory.mktemp("place")
        server = Popular(people, other)
        progress = simulate(people, DEFAULT, server, ARMS, "salt", seed, out, refresh_hours)
        write_experiment(out, people, ARMS, "salt", {"world": "default", "seed": seed})
        logged = open_experiment(out).logged()
        assert logged.rejected.num_rows == 0
        keys = ["request_id", "timestamp", "user_id", "item_id"]
        exposures = logged.exposures.to_pyarrow().sort_by(
            [(name, "ascending") for name in [*keys, "position"]]
        )
        engagements = logged.engagements.to_pyarrow().sort_by(
            [(name, "ascending") for name in keys]
        )
        assert exposures.num_rows == progress.exposures
        assert pc.sum(pc.greater(engagements["value"], 0.0)).as_py() == progress.engagements
        return exposures, engagements, server

    return simulated


@pytest.fixture(scope="module")
def default(run: Simulate) -> Simulated:
    return run()


def joined(default: Simulated) -> pa.Table:
    """Engagements that came of a list, beside their exposures."""
    exposures, engagements, _ = default
    of_lists = engagements.filter(pc.is_valid(engagements["request_id"]))
    keys = ["request_id", "user_id", "item_id"]
    both = of_lists.join(
        exposures.select([*keys, "timestamp", "position"]), keys, right_suffix="_shown"
    )
    assert both.num_rows == of_lists.num_rows > 100
    return both


def test_the_seed_decides_everything(run: Simulate, default: Simulated) -> None:
    again, other = run(), run(seed=1)
    assert again[0].equals(default[0])
    assert again[1].equals(default[1])
    assert not other[0].equals(default[0])


def test_every_engagement_is_of_an_item_that_was_shown_and_comes_after(default: Simulated) -> None:
    both = joined(default)
    assert both["timestamp_shown"].null_count == 0
    after = both["timestamp"].to_numpy() - both["timestamp_shown"].to_numpy()
    assert (after > np.timedelta64(0)).all()
    assert np.median(after) < 5 * MINUTE


def test_some_engagements_come_from_elsewhere_and_most_do_not(default: Simulated) -> None:
    positive = default[1].filter(pc.greater(default[1]["value"], 0.0))
    assert 0.03 < positive["request_id"].null_count / positive.num_rows < 0.5
    assert set(default[1]["event"].to_pylist()) == {"engage", "view"}


def test_users_are_in_the_arm_that_their_name_says_and_get_its_alpha(default: Simulated) -> None:
    exposures = default[0]
    assert exposures["arm"].combine_chunks().equals(assign_all(exposures["user_id"], "salt", ARMS))
    assert pc.all(
        pc.equal(exposures["alpha"], pc.if_else(pc.equal(exposures["arm"], "home"), 50.0, 100.0))
    ).as_py()


def test_arms_do_not_spill_over(run: Simulate, default: Simulated) -> None:
    """Another policy in arm 1 changes nothing at all for the users of arm 0."""
    other = run("unpopular")
    for table, changed in zip(default[:2], other[:2], strict=True):
        arm = [
            pc.equal(assign_all(one["user_id"], "salt", ARMS), "popular")
            for one in (table, changed)
        ]
        assert table.filter(arm[0]).equals(changed.filter(arm[1]))
        assert not table.filter(pc.invert(arm[0])).equals(changed.filter(pc.invert(arm[1])))


def test_wanted_lists_bring_more_engagement_time_and_visits_than_unwanted_ones(
    run: Simulate,
) -> None:
    """Arm 1 gets its community's items, or what is least popular: the second is worse in
    everything.
    """
    figures = []
    for other in ("community", "unpopular"):
        exposures, engagements, _ = run(other)
        own = [
            one.filter(pc.equal(assign_all(one["user_id"], "salt", ARMS), "home"))
            for one in (exposures, engagements)
        ]
        figures.append(
            (
                pc.count_distinct(own[0]["request_id"]).as_py(),
                pc.sum(own[1]["dwell_seconds"]).as_py(),
            )
        )
    assert figures[0][0] > figures[1][0]
    assert figures[0][1] > figures[1][1]


def test_a_page_shows_nothing_engaged_with_and_nothing_of_the_last_two_days(
    default: Simulated,
) -> None:
    exposures, engagements, _ = default
    by_item = exposures.sort_by(
        [("user_id", "ascending"), ("item_id", "ascending"), ("timestamp", "ascending")]
    )
    user, item = (by_item[name].to_numpy() for name in ("user_id", "item_id"))
    again = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    assert (
        np.diff(by_item["timestamp"].to_numpy())[again].min(initial=np.timedelta64(99, "D"))
        > 47 * 60 * MINUTE
    )
    positive = engagements.filter(pc.greater(engagements["value"], 0.0))
    pairs = positive.group_by(["user_id", "item_id"]).aggregate([("item_id", "count")])
    assert pc.max(pairs["item_id_count"]).as_py() == 1
    per_page = exposures.group_by("request_id").aggregate(
        [("position", "max"), ("position", "count")]
    )
    assert per_page["position_max"].equals(per_page["position_count"].cast(pa.int32()))
    assert pc.max(per_page["position_max"]).as_py() == DEFAULT.page_length


@pytest.mark.parametrize("start", [0, 364 * 24])
def test_what_was_shown_is_hidden_for_two_days_and_then_comes_again(
    people: Population, start: int
) -> None:
    states, server, users = (
        UserStates.begin(people, DEFAULT, seed=0),
        Popular(people),
        np.arange(len(people.topics)),
    )
    server.refresh(400)
    slates = server.answer(users, states.triggers(users), np.zeros(len(users), int), 100)
    first, position = states.page(users, start, slates)
    assert (first.item >= 0).all()
    np.testing.assert_array_equal(np.take_along_axis(slates.item, position, axis=1), first.item)
    untouched = respond(first, people, DEFAULT, 0)
    states.apply(first, replace(untouched, engaged=np.zeros_like(untouched.engaged)))
    soon, later = (states.page(users, start + hours, slates)[0].item for hours in (47, 48))
    assert not (soon[:, :, None] == first.item[:, None, :]).any()
    np.testing.assert_array_equal(later, first.item)


@pytest.mark.parametrize("hours", [6, 24])
def test_new_items_are_shown_after_the_next_refresh_and_not_before(
    run: Simulate, people: Population, hours: int
) -> None:
    exposures = run("unpopular", refresh_hours=hours)[0]
    item = np.array([name[1:] for name in exposures["item_id"].to_pylist()], int)
    new = people.items.published[item] >= people.start
    assert new.any()
    shown = exposures["timestamp"].to_numpy()[new]
    day = (shown - np.datetime64("2025-01-01", "us")) / np.timedelta64(1, "D") - people.start
    refreshed = np.floor(day * 24 / hours) * hours / 24
    assert (people.items.published[item[new]] - people.start <= refreshed).all()


def test_triggers_are_the_users_engagements_newest_first(
    people: Population, default: Simulated
) -> None:
    users, (indptr, items) = default[2].asked[0]
    user = users[0]
    own = people.history.item[people.history.user == user][::-1][: indptr[1]]
    np.testing.assert_array_equal(items[: indptr[1]], own)
    last_users, (last_indptr, last_items) = default[2].asked[-1]
    engagements = default[1].filter(
        pc.equal(default[1]["user_id"], people.user_ids[last_users[0]].as_py())
    )
    lived = engagements.filter(pc.greater(engagements["value"], 0.0)).num_rows
    before = int((people.history.user == last_users[0]).sum())
    assert before <= last_indptr[1] <= min(before + lived, 64)
    assert len(last_items) == last_indptr[-1]


def test_a_latent_interest_wakes_by_exposure_and_satisfaction_brings_users_back(
    people: Population,
) -> None:
    states = UserStates.begin(people, DEFAULT, seed=0)
    assert (states.activation[:, -LATENT:] == 0).all()
    simulated, indifferent = Popular(people), states.satisfaction.copy()
    simulated.refresh(len(people.items.topic))
    for hour in range(0, 200, 50):
        users = np.arange(len(people.topics))
        slates = simulated.answer(users, states.triggers(users), np.zeros(len(users), int), 100)
        page, _ = states.page(users, hour, slates)
        states.apply(page, respond(page, people, DEFAULT, 0))
    assert 0.0 < states.activation[:, -LATENT:].mean() < 1.0
    assert (states.activation[:, :-LATENT] == 1).all()
    assert (states.satisfaction < indifferent).any()
    pleased, displeased = (UserStates.begin(people, DEFAULT, seed=0) for _ in range(2))
    pleased.satisfaction[:], displeased.satisfaction[:] = 1.0, 0.0
    visits = [sum(len(some.visitors(hour)) for hour in range(24)) for some in (pleased, displeased)]
    assert visits[0] > 2 * visits[1]


def test_the_place_is_one_that_the_metrics_open(people: Population, tmp_path: Path) -> None:
    simulate(people, DEFAULT, Popular(people), ARMS, "salt", 0, tmp_path)
    write_experiment(tmp_path, people, ARMS, "salt", {"world": "default", "seed": 0})
    position = open_experiment(tmp_path)
    assert position.experiment.simulated
    assert (str(position.experiment.first_day), position.experiment.days) == ("2025-01-31", 3)
    assert pq.read_table(position.items).num_rows == len(people.items.topic)
    history = pq.read_table(position.history)
    logged = position.logged().engagements.to_pyarrow()
    assert pc.max(history["timestamp"]).as_py() < pc.min(logged["timestamp"]).as_py()
