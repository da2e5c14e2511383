"""The time split: T2 is the end of the log, and no moment is on both sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmh.data.prepare import split, split_time
from mtmh.errors import UserError

times = st.lists(st.integers(0, 50), min_size=2, max_size=80).filter(lambda t: len(set(t)) > 1)
fractions = st.floats(0.01, 0.99)


def ascending(values: list[int]) -> np.ndarray:
    return np.sort(np.array(values)).astype("datetime64[us]")


@given(times, fractions)
def test_both_periods_have_events_and_the_quantile_is_in_t2(
    values: list[int], fraction: float
) -> None:
    events = ascending(values)
    cut = split_time(events, fraction)
    assert events[0] < cut <= events[-1]
    before = (events < cut).sum()
    smallest = (events == events[0]).sum()
    assert before <= max((1 - fraction) * len(events), smallest)
    assert (
        (events <= cut).sum() > int((1 - fraction) * len(events))
        or cut == events[-1]
        or before == smallest
    )


def test_without_ties_the_share_is_exact() -> None:
    events = ascending(list(range(1000)))
    assert (events >= split_time(events, 0.2)).sum() == 200


@given(times, fractions, fractions)
def test_validation_never_sees_t2(values: list[int], fraction: float, tail: float) -> None:
    events = ascending(values)
    cut = split_time(events, fraction)
    if len(np.unique(events[events < cut])) < 2:
        with pytest.raises(UserError, match="same time"):
            split(events, fraction, tail)
        return
    kept, validation_cut = split(events, fraction, tail)
    assert kept == (events < cut).sum()
    assert events[0] < validation_cut < cut


def test_one_moment_cannot_be_split() -> None:
    with pytest.raises(UserError, match=r"all 3 engagements happened at the same time.*timestamp"):
        split_time(ascending([5, 5, 5]), 0.2)
