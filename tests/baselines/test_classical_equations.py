"""The classical models against their equations, in float64 and by plain loops."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.checkerboard import ITEMS

from mtmh.baselines import classical
from mtmh.baselines.contract import ScoreMatrix, TrainData
from mtmh.baselines.models import fit_baseline
from mtmh.config import TrainSettings
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from mtmh.ragged import Ragged
from mtmh.stages import StageFolders


@pytest.fixture(scope="module")
def data(world: StageFolders) -> TrainData:
    """The small world's items with histories that are not so even."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(ITEMS)[: rng.integers(2, 20)] for _ in range(50)]
    loaded = TrainData.load(
        Prepared.load(world.prepared), world.features, world.content, world.pairs
    )
    return replace(loaded, history=Ragged.of(rows))


@pytest.fixture(scope="module")
def x(data: TrainData) -> np.ndarray:
    return classical.interaction_matrix(data).toarray()


def dense(model: ScoreMatrix) -> np.ndarray:
    matrix = model.matrix
    return np.asarray(matrix if isinstance(matrix, np.ndarray) else matrix.toarray())


def test_ease_minimizes_its_loss_under_its_constraint(data: TrainData, x: np.ndarray) -> None:
    """|X - XB|^2 + lambda |B|^2 with a diagonal of 0: a column at a time it is a ridge regression
    on the other items."""
    expected = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = np.delete(np.arange(ITEMS), item)
        gram = x[:, others].T @ x[:, others] + 7.0 * np.eye(ITEMS - 1)
        expected[others, item] = np.linalg.solve(gram, x[:, others].T @ x[:, item])
    np.testing.assert_allclose(dense(classical.ease(data, 7.0)), expected, atol=2e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.7, 0.4)])
def test_rp3beta_is_a_walk_of_two_steps(
    data: TrainData, x: np.ndarray, alpha: float, beta: float
) -> None:
    n_item, n_user = np.maximum(x.sum(axis=0), 1), x.sum(axis=1)
    expected = np.zeros((ITEMS, ITEMS))
    for i in range(ITEMS):
        for user in np.flatnonzero(x[:, i]):
            for j in np.flatnonzero(x[user]):
                expected[i, j] += (1 / n_item[i]) ** alpha * (1 / n_user[user]) ** alpha
    expected /= n_item**beta
    np.testing.assert_allclose(dense(classical.rp3beta(data, alpha, beta)), expected, rtol=1e-5)


def test_shrinkage_is_added_to_the_product_of_the_lengths(data: TrainData, x: np.ndarray) -> None:
    length = np.linalg.norm(x, axis=0)
    shrunk = x.T @ x / (np.outer(length, length) + 9.0)
    np.testing.assert_allclose(dense(classical.item_knn(data, "none", 9.0)), shrunk, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Method expects CSR input")  # implicit of its own format
def test_tf_idf_without_shrinkage_is_that_of_implicit(data: TrainData, x: np.ndarray) -> None:
    from implicit.nearest_neighbours import TFIDFRecommender

    model = TFIDFRecommender(K=ITEMS)
    model.fit(classical.interaction_matrix(data), show_progress=False)
    ours = dense(classical.item_knn(data, "tfidf", 0.0))
    np.testing.assert_allclose(ours, model.similarity.toarray(), rtol=1e-5)


def test_folded_in_factors_rank_as_the_user_that_they_stand_for(
    data: TrainData, x: np.ndarray
) -> None:
    """Where no item weighs more than another (alpha 1), the sum over a user's items is ALS's own
    score of the user, solved anew."""
    model = classical.als(data, 0, 6, 0.5, 1.0, "fold_in")
    factors = model.keys.astype(np.float64)
    system = factors.T @ factors + 0.5 * np.eye(6)
    for history in x[:5]:
        user = np.linalg.solve(system, factors.T @ history)
        votes = model.queries[history > 0] @ model.keys.T
        np.testing.assert_allclose(votes.sum(axis=0), factors @ user, atol=1e-4)


def test_recent_popularity_counts_the_last_share(data: TrainData) -> None:
    model = classical.recent_popularity(replace(data, events=np.array([3, 3, 3, 2, 1, 1])), 0.5)
    assert np.argsort(-model.score, kind="stable")[:4].tolist() == [1, 2, 3, 0]


def test_data_without_content_are_refused(data: TrainData) -> None:
    blind = replace(data, content=np.zeros_like(data.content))
    hyper = {"temperature": 0.15}
    with pytest.raises(UserError, match="baseline content reads what items are about, and no item"):
        fit_baseline("content", blind, TrainSettings(), 0, hyper)


def test_a_catalog_too_large_for_a_gram_matrix_is_refused(
    data: TrainData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classical, "MOST_DENSE", 10)
    with pytest.raises(UserError, match="dense matrix of 44 x 44, and takes 10 items at the most"):
        classical.ease(data, 100)
