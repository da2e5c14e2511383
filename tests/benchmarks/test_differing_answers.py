"""What the benchmarks of serving call wrong: lists that differ, answers of another version, memory
that grows.
"""

import numpy as np
import pytest

from benchmarks.load import Ranked, differing, is_foreign, ranked, undeclared
from benchmarks.steady import slope


def listed(items: str, *scores: float) -> Ranked:
    return list(items), np.array(scores)


RIGHT = listed("abcd", 0.9, 0.5, 0.5, 0.1)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (RIGHT, 0),
        (listed("acbd", 0.9, 0.5, 0.5, 0.1), 0),  # b and c tie
        (listed("abcd", 0.9, 0.5, 0.500001, 0.1), 0),  # the last digit
        (listed("abce", 0.9, 0.5, 0.5, 0.1), 0),  # d tied with what is cut off
        (listed("bacd", 0.5, 0.9, 0.5, 0.1), 2),  # the order is another
        (listed("bacd", 0.9, 0.5, 0.5, 0.1), 2),  # the scores are right, the items not theirs
        (listed("aecd", 0.9, 0.5, 0.5, 0.1), 1),  # e is not there, and no tie of the last
        (listed("abcd", 0.9, 0.5, 0.5, 0.2), 1),
        (listed("abc", 0.9, 0.5, 0.5), 1),
        (listed(""), 4),
    ],
)
def test_lists_differ_where_it_is_no_tie(found: Ranked, wrong: int) -> None:
    assert differing(found, RIGHT) == wrong


def answer(version: str, items: str, *missing: str) -> dict:
    one = [
        {"head": "engagement", "item_id": item, "score": 1 / (1 + at) + ord(item) / 1e4}
        for at, item in enumerate(items)
    ]
    return {"model_version": version, "missing": list(missing), "candidates": one}


def test_an_answer_is_that_of_the_version_it_names() -> None:
    right = [answer("1", "ab"), answer("2", "cd"), answer("2", "c", "relevance")]
    references = {(0, one["model_version"], " ".join(one["missing"])): ranked(one) for one in right}
    assert not any(is_foreign(0, one, references) for one in right)
    assert is_foreign(0, answer("1", "ad"), references)  # half of it is of version 2
    assert is_foreign(0, answer("1", "cd"), references)
    assert is_foreign(0, answer("2", "cd", "relevance"), references)
    assert is_foreign(0, answer("3", "ab"), references)
    assert is_foreign(1, answer("1", "ab"), references)


def test_a_declared_error_says_when_to_come_back() -> None:
    assert not undeclared(503, "1", [503])
    assert undeclared(503, None, [503])
    assert undeclared(500, "1", [503])
    assert not undeclared(429, None, [])


def test_a_slope_is_that_of_the_line_and_an_hour() -> None:
    seconds = np.array([100.0, 110.0, 130.0, 200.0])
    assert slope(seconds, 7 + 0.5 * seconds) == pytest.approx(1800)
    assert slope(seconds, np.full(4, 3.0)) == 0
    assert slope(seconds, np.array([1.0, 1.2, 1.0, 1.1])) == pytest.approx(
        3600 * np.polyfit(seconds, [1, 1.2, 1, 1.1], 1)[0]
    )
    assert slope(seconds[:1], seconds[:1]) == 0
    assert slope(seconds[:0], seconds[:0]) == 0
