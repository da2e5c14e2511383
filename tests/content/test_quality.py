"""The quality check: the figures against plain Python, and what it does below the bound."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtmh.content.quality import Quality, area_under_curve, content_quality, judge, neighbour_match
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError

TOPICS = ("a", "b", "c")


def world(noise: float, items: int = 60, level: str = "l2") -> tuple[np.ndarray, Prepared]:
    """Items of three topics around three directions; every tenth has no content, every twelfth no
    topic.
    """
    rng = np.random.default_rng(0)
    vectors = np.eye(3, 8)[np.arange(items) % 3] + noise * rng.normal(size=(items, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[::10] = 0
    named = [[] if number % 12 == 5 else [TOPICS[number % 3]] for number in range(items)]
    empty: list[list[str]] = [[] for _ in range(items)]
    columns = {
        f"{name}_topics": pa.array(named if name == level else empty, pa.list_(pa.string()))
        for name in ("l1", "l2")
    }
    none = np.zeros(0, np.int32)
    data = Prepared(
        Path(), {}, none, none, none.astype("datetime64[us]"), none > 0, 0, items, pa.table(columns)
    )
    return vectors.astype(np.float32), data


def test_the_figures_are_those_of_all_pairs_and_neighbours() -> None:
    vectors, data = world(0.6)
    found = content_quality(vectors, data, seed=0)
    assert found is not None
    rows = [n for n in range(60) if n % 10 and n % 12 != 5]
    pairs = [(float(vectors[i] @ vectors[j]), i % 3 == j % 3) for i, j in combinations(rows, 2)]
    same, other = (
        [score for score, shares in pairs if shares is wanted] for wanted in (True, False)
    )
    auc = sum((s > o) + (s == o) / 2 for s in same for o in other) / (len(same) * len(other))
    match = []
    for i in rows:
        nearest = sorted(
            (j for j in rows if j != i), key=lambda j: -float(vectors[i] @ vectors[j])
        )[:10]
        match.append(sum(j % 3 == i % 3 for j in nearest) / 10)
    assert (found.level, found.items) == ("l2", len(rows))
    assert found.auc == pytest.approx(auc, abs=0.01)  # over sampled pairs
    assert found.chance == pytest.approx(len(same) / len(pairs), abs=0.01)
    assert found.match_at_10 == pytest.approx(np.mean(match))
    assert content_quality(vectors, data, seed=0) == found


def test_ties_count_half() -> None:
    score, positive = np.array([1.0, 2, 2, 3]), np.array([False, True, False, True])
    assert area_under_curve(score, positive) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert area_under_curve(score, np.ones(4, bool)) is None


def test_an_item_is_not_its_own_neighbour() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    bits = np.array([[1], [2], [4], [4]], np.uint64)
    assert neighbour_match(vectors, bits, np.arange(4), k=1) == 0.5


def test_without_l2_topics_l1_judges_and_without_any_nothing_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = content_quality(*world(0.3, level="l1"), seed=0)
    assert found is not None
    assert found.level == "l1"
    assert content_quality(*world(0.3, level="none"), seed=0) is None
    assert judge(None, 0.5, "stop") is None
    assert "no topics to judge by" in capsys.readouterr().out


def test_below_the_bound_it_warns_or_stops(capsys: pytest.CaptureFixture[str]) -> None:
    clear, noise = (content_quality(*world(amount), seed=0) for amount in (0.2, 50.0))
    assert judge(clear, 0.9, "stop")
    assert "WARNING" not in capsys.readouterr().out
    figures = judge(noise, 0.9, "warn")
    assert figures is not None
    assert figures["auc"] < 0.9
    assert (
        capsys.readouterr().out.count("WARNING: the AUC is below content.quality.min_auc 0.9") == 1
    )
    with pytest.raises(
        UserError, match=r"below content\.quality\.min_auc 0\.9.*content\.quality\.below=warn"
    ):
        judge(noise, 0.9, "stop")


def test_topics_that_say_nothing_are_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(Quality("l2", 9, None, 1.0, 1.0), 0.9, "stop") is not None
    assert "all pairs of items share an l2 topic" in capsys.readouterr().out
