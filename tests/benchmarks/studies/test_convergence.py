"""Figure 7: what is new, that it comes later, and how its way is measured."""

import numpy as np
import pytest
from helpers.checkerboard import Stages, train_settings

from benchmarks.studies import arrival as arrival_data
from benchmarks.studies import convergence
from benchmarks.studies.arrival import Arrival
from benchmarks.studies.convergence import WITH, WITHOUT, distance, draw, follow, halved

LATE, UPDATES, NEW = (
    0.9,
    8,
    3,
)  # three items of the small world are first engaged with after its first tenth


@pytest.fixture
def arrival(world: Stages, monkeypatch: pytest.MonkeyPatch) -> Arrival:
    monkeypatch.setattr(arrival_data, "LATE", LATE)
    monkeypatch.setattr(convergence, "UPDATES", UPDATES)
    return Arrival.of(world.prepared, world.features, world.content, world.pairs)


def test_no_batch_holds_a_new_item_before_they_arrive(arrival: Arrival) -> None:
    settings = train_settings()
    assert arrival.in_train - arrival.old == NEW
    before = [batch.items.max() for batch in arrival.batches(settings, 0, arrived=False)]
    after = arrival.batches(settings, 0, arrived=True)
    assert max(before) < arrival.old
    assert arrival.old <= max(next(after).items.max() for _ in before) < arrival.in_train


def test_a_new_item_is_followed_from_before_its_first_update(arrival: Arrival) -> None:
    paths, steps = follow(arrival, train_settings(), seed=0)
    assert steps >= UPDATES
    for path in paths.values():
        assert path.shape == (NEW, UPDATES + 1, 8)
        assert (path[:, 1:] != path[:, :-1]).any(axis=2).all()
        assert distance(path)[0] > distance(path)[-2] > distance(path)[-1] == 0
    np.testing.assert_allclose(np.linalg.norm(paths["relevance"], axis=2), 1, rtol=1e-5)


def test_both_runs_start_alike_but_for_the_relevance_loss(arrival: Arrival) -> None:
    """Nobody touched a new item's id before: it is as it was drawn, with and without."""
    paths, without = (follow(arrival, train_settings(w_r=w_r), seed=0)[0] for w_r in (1.0, 0.0))
    np.testing.assert_array_equal(paths["id"][:, 0], without["id"][:, 0])
    assert (paths["id"][:, 1:] != without["id"][:, 1:]).any()


def test_a_distance_is_the_mean_share_of_the_last_norm() -> None:
    path = np.zeros((2, 3, 2), np.float32)
    path[0] = [[0, 0], [1, 0], [2, 0]]  # of a norm of 2: 1, 0.5, 0
    path[1] = [[3, 4], [3, 4], [6, 8]]  # of a norm of 10: 0.5, 0.5, 0
    assert distance(path).tolist() == [0.75, 0.5, 0]


def test_a_curve_is_halved_where_it_first_is_at_half_of_its_start() -> None:
    assert halved(np.array([0.8, 0.5, 0.41, 0.4, 0.39, 0])) == 3


def test_the_picture_tells_both_runs_of_every_data_set() -> None:
    curves = {
        "id": np.array([[1.0, 0.5, 0], [0.9, 0.4, 0]]),
        "relevance": np.array([[0.8, 0.5, 0], [0.8, 0.4, 0]]),
    }
    figure = draw({"one": {WITH: curves, WITHOUT: curves}, "two": {WITH: curves, WITHOUT: curves}})
    assert [axes.get_title(loc="left").split(":")[0] for axes in figure.axes] == [
        "one",
        "one",
        "two",
        "two",
    ]
    for axes in figure.axes:
        told = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [line.rpartition(", halved after ")[0] for line in told] == [WITH, WITHOUT]
