"""Assignment: the same everywhere, in the shares that were asked for, and stable when an arm comes
or goes.
"""

import hashlib
import math

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmh.errors import UserError
from mtmh.experiment.arms import (
    BUCKETS,
    Arm,
    assign,
    assign_all,
    bucket,
    buckets,
    read_arms,
    shares,
)
from mtmh.experiment.relations import with_own_alpha

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
weights = st.lists(st.integers(1, 20), min_size=1, max_size=6)


def arms_of(weights: list[int]) -> tuple[Arm, ...]:
    return tuple(Arm(name=f"arm-{number}", weight=weight) for number, weight in enumerate(weights))


def test_a_bucket_is_the_sha256_of_salt_and_unit_mod_10_000() -> None:
    """Known values: whoever wants to check an assignment can do it with sha256sum."""
    assert (
        bucket("user-1", "summer")
        == int(hashlib.sha256(b"summeruser-1").hexdigest(), 16) % 10_000
        == 5801
    )


@given(text, text, weights)
def test_an_assignment_is_the_same_every_time(unit: str, salt: str, weights: list[int]) -> None:
    first, again = (assign(unit, salt, arms_of(weights)) for _ in range(2))
    assert first == again
    assert first in arms_of(weights)


@settings(max_examples=25)
@given(st.lists(st.one_of(st.none(), text), max_size=30), text, weights)
def test_whole_columns_are_assigned_as_single_units_are(
    units: list[str | None], salt: str, weights: list[int]
) -> None:
    arms, column = arms_of(weights), pa.array(units, pa.string())
    assert buckets(column, salt).to_pylist() == [
        None if unit is None else bucket(unit, salt) for unit in units
    ]
    names = [None if unit is None else assign(unit, salt, arms).name for unit in units]
    assert assign_all(column, salt, arms).to_pylist() == names
    assert assign_all(pa.chunked_array([column, column]), salt, arms).to_pylist() == names * 2


@pytest.mark.parametrize("weights", [[1, 1], [9, 1], [50, 30, 20], [1, 1, 1, 1, 1, 1, 1]])
@pytest.mark.parametrize("salt", ["summer", "winter"])
def test_many_users_are_shared_out_by_weight(weights: list[int], salt: str) -> None:
    """Within five standard errors of a binomial draw, and the arms independent of those under
    another salt.
    """
    n, arms = 100_000, arms_of(weights)
    users = pa.array([f"user-{number}" for number in range(n)])
    names = np.array(assign_all(users, salt, arms))
    for arm in arms:
        share = arm.weight / sum(weights)
        assert abs((names == arm.name).sum() - n * share) < 5 * math.sqrt(
            n * share * (1 - share)
        ) + n * 1e-4 * len(arms)
    other = np.array(assign_all(users, salt + " again", arms))
    both, share = (
        (names == arms[0].name) & (other == arms[0].name),
        (weights[0] / sum(weights)) ** 2,
    )
    assert abs(both.sum() - n * share) < 5 * math.sqrt(n * share * (1 - share)) + n * 2e-4 * len(
        arms
    )


@given(weights)
def test_shares_are_the_weights_to_a_bucket_an_arm(weights: list[int]) -> None:
    found = shares(arms_of(weights))
    assert sum(found.values()) == pytest.approx(1)
    for number, weight in enumerate(weights):
        off = abs(found[f"arm-{number}"] * BUCKETS - BUCKETS * weight / sum(weights))
        assert off <= len(weights) - number


@settings(max_examples=25)
@given(weights, st.integers(1, 20))
def test_an_arm_added_at_the_end_moves_nobody_between_the_others(
    weights: list[int], added: int
) -> None:
    before, after = arms_of(weights), arms_of([*weights, added])
    units = pa.array([str(number) for number in range(3000)])
    old, new = np.array(assign_all(units, "s", before)), np.array(assign_all(units, "s", after))
    joined = new == after[-1].name
    assert (old[~joined] == new[~joined]).all()
    switched_off = arms_of([*weights, 0])
    assert (np.array(assign_all(units, "s", switched_off)) == old).all()


def test_what_an_arm_serves_may_change_and_nobody_changes_arms() -> None:
    before = read_arms([{"name": "a", "alpha": 100}, {"name": "b"}])
    after = read_arms([{"name": "a", "alpha": 70, "k_ann": 500}, {"name": "b", "version": "12"}])
    assert all(
        assign(str(n), "s", before).name == assign(str(n), "s", after).name for n in range(200)
    )


def test_every_error_of_the_arms_is_told_at_once() -> None:
    with pytest.raises(UserError) as error:
        read_arms(
            [
                {"name": "a", "alpha": 101},
                {"weight": -1},
                {"name": "c", "k_anm": 3, "version": "latest"},
            ]
        )
    said = str(error.value)
    for part in (
        "5 errors",
        "arm 'a'.alpha: ",
        "found 101",
        "arm 2.name: ",
        "arm 2.weight: ",
        "k_anm: ",
        "'latest'",
    ):
        assert part in said


def test_an_arm_says_what_it_gives_by_alpha_or_by_channel() -> None:
    arms = read_arms(
        [
            {"name": "a", "alpha": 30},
            {"name": "b", "quotas": {"topical": 20, "engagement": 80.0, "relevance": 0}},
            {"name": "c"},
        ]
    )
    assert [arm.mix for arm in arms] == ["alpha 30", "engagement 80, topical 20", ""]


def test_answers_with_quotas_of_their_own_are_those_that_are_not_the_arms() -> None:
    """The experiment's, or of an arm that names none the router's; alpha and quotas alike."""
    quotas = {"engagement": 80.0, "topical": 20.0}
    arms = (Arm(name="alpha", alpha=30), Arm(name="named", quotas=quotas), Arm(name="champion"))
    rows = [  # id, arm, alpha, arm_alpha, quotas, arm_quotas
        ("same", "alpha", 30.0, 50.0, None, None),
        ("other", "alpha", 50.0, 50.0, None, None),
        ("same", "named", None, None, "engagement 80, topical 20", "topical 100"),
        ("other", "named", None, None, "topical 100", "topical 100"),
        ("same", "champion", None, None, "topical 100", "topical 100"),
        ("other", "champion", None, None, "topical 100", "engagement 100"),
        ("same", "champion", 50.0, 50.0, None, None),
        ("other", "champion", 51.0, 50.0, None, None),
        ("same", "champion", 50.0, None, None, None),  # log_version 1 says nothing of the arm
    ]
    names = ("kind", "arm", "alpha", "arm_alpha", "quotas", "arm_quotas")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    requests = ibis.memtable(pa.table({**columns, "row": range(len(rows))}))
    own = with_own_alpha(requests, arms).to_pyarrow().sort_by("row")
    assert own["row"].to_pylist() == [n for n, row in enumerate(rows) if row[0] == "other"]


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ([], "at least one arm with a weight"),
        ([{"name": "a", "weight": 0}], "at least one arm with a weight"),
        ([{"name": "a"}, {"name": "a"}], "there twice: a"),
        ([{"name": "a"}, {"name": "b", "weight": 1e-5}], "too small a weight .* b"),
        ([{"name": "a", "weight": float("nan")}], "finite"),
        ([{"name": "a", "quotas": {"engagement": 40, "deep": 50}}], "they are 90 in all"),
        ([{"name": "a", "alpha": 30, "quotas": {"deep": 100}}], "alpha and quotas say the same"),
    ],
)
def test_arms_that_cannot_be_dealt_out_are_refused(arms: list[dict], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_arms(arms)
