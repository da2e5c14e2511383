"""The preranker's scores: what the two towers say, by plain loops, and what is said of new
items.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtmh.model.preranker import ENGAGEMENT, LONG_DWELL, Preranker, build_towers
from mtmh.ragged import Ragged
from mtmh.retrieval import retriever as module
from mtmh.retrieval.retriever import candidate_logits

ITEMS, DIM = 12, 4
ARCHITECTURE = {
    "vocabularies": [ITEMS + 1, 4],
    "dims": [4, 2],
    "mean": [1.0],
    "deviation": [2.0],
    "content_dim": 3,
    "interests": 2,
    "hidden": 5,
    "dim": DIM,
    "tasks": [ENGAGEMENT, LONG_DWELL],
}
HISTORY = Ragged.of([[1, 5, 2], [], [7]])  # the second user has none
CANDIDATES = np.array([[0, 3, 4, 6], [8, 9, 10, -1], [11, 0, 1, 2]], np.int32)


@pytest.fixture
def ranker() -> Preranker:
    torch.manual_seed(3)
    towers = build_towers(ARCHITECTURE).eval()
    rng = torch.Generator().manual_seed(4)
    past = torch.randn(ITEMS, DIM, generator=rng)
    items = {task: torch.randn(ITEMS, DIM, generator=rng) for task in (ENGAGEMENT, LONG_DWELL)}
    new = torch.zeros(ITEMS, dtype=torch.bool)
    return Preranker(
        towers, past, torch.arange(ITEMS) % 2, items, new, {ENGAGEMENT: 0.5, LONG_DWELL: 2.0}, 100
    )


def test_a_logit_is_the_weighted_sum_of_the_tasks_products(ranker: Preranker) -> None:
    logits = candidate_logits(ranker, HISTORY, CANDIDATES)
    decay = np.log1p(np.exp(ranker.towers.age.item()))
    for user in range(3):
        own = HISTORY.take(np.array([user])).values
        weight = np.exp(-decay * np.arange(len(own)))
        mean = (weight @ ranker.past[own].numpy()) / weight.sum() if len(own) else np.zeros(DIM)
        share = np.bincount(own % 2, minlength=2) / max(len(own), 1)
        known = torch.tensor(
            np.concatenate([mean, share, [np.log1p(len(own))]]), dtype=torch.float32
        )
        for place, item in enumerate(CANDIDATES[user]):
            if item >= 0:
                products = {
                    task: head(known) @ ranker.items[task][item]
                    for task, head in ranker.towers.user_heads.items()
                }
                expected = 0.5 * products[ENGAGEMENT] + 2.0 * products[LONG_DWELL]
                assert logits[user, place] == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


def test_blocks_do_not_show(ranker: Preranker, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = candidate_logits(ranker, HISTORY, CANDIDATES)
    monkeypatch.setattr(module, "USERS", 2)
    np.testing.assert_allclose(
        candidate_logits(ranker, HISTORY, CANDIDATES), whole, rtol=1e-5, atol=1e-6
    )


def test_new_items_are_as_good_as_known_ones_on_average_and_keep_their_order(
    ranker: Preranker,
) -> None:
    before = candidate_logits(ranker, HISTORY, CANDIDATES)
    new = torch.zeros(ITEMS, dtype=torch.bool)
    new[[3, 4, 8, 9, 10]] = True
    after = candidate_logits(replace(ranker, new=new), HISTORY, CANDIDATES)
    assert after[0, 1:3].mean() == pytest.approx(after[0, [0, 3]].mean(), abs=1e-5)
    np.testing.assert_allclose(np.diff(after[0, 1:3]), np.diff(before[0, 1:3]), rtol=1e-4)
    np.testing.assert_allclose(after[0, [0, 3]], before[0, [0, 3]])
    assert np.isfinite(after).all()  # the second user's candidates are all new
    np.testing.assert_allclose(after[2], before[2])


def test_a_new_items_vector_depends_on_content_and_side_features_alone(ranker: Preranker) -> None:
    ids, floats = torch.tensor([[1, 1], [2, 1], [2, 3]]), torch.tensor([[0.0], [9.0], [9.0]])
    content = torch.ones(3, 3)
    new = ranker.towers.items(ids, floats, content, torch.tensor([True, True, True]))[ENGAGEMENT]
    torch.testing.assert_close(new[0], new[1])
    assert not torch.allclose(new[1], new[2])
    known = ranker.towers.items(ids, floats, content, torch.tensor([False, False, False]))[
        ENGAGEMENT
    ]
    assert not torch.allclose(known[0], known[1])


def test_what_is_saved_is_what_is_loaded(ranker: Preranker, tmp_path: Path) -> None:
    ranker.save(tmp_path, {"architecture": ARCHITECTURE})
    loaded = Preranker.load(tmp_path)
    assert (loaded.weights, loaded.candidates) == (ranker.weights, 100)
    expected = candidate_logits(ranker, HISTORY, CANDIDATES)
    np.testing.assert_array_equal(candidate_logits(loaded, HISTORY, CANDIDATES), expected)
