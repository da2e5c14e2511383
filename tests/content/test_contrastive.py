"""Contrastive training: what is drawn, what is dropped, when it stops and which weights it
leaves.
"""

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from mtmh.config import ConceptSettings
from mtmh.content.concepts import Concepts
from mtmh.content.contrastive import (
    PairBatches,
    draw,
    drop_modalities,
    fit,
    train_tower,
    untrained_tower,
)
from mtmh.content.encoder import Tower
from mtmh.content.features import ContentFeatures
from mtmh.content.projection import project_features

ITEMS, NAMES, WIDTH, DIM = 120, 12, 16, 8
CPU = torch.device("cpu")


@pytest.fixture
def small() -> tuple[ContentFeatures, np.ndarray, Concepts]:
    """Items whose vector is that of their two concepts, turned by a fixed rotation and covered by
    noise.
    """
    rng = np.random.default_rng(0)
    names = rng.normal(size=(NAMES, WIDTH))
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    two = np.array([rng.permutation(NAMES)[:2] for _ in range(ITEMS)])
    text = names[two].sum(axis=1) @ turn + rng.normal(size=(ITEMS, WIDTH))
    features = ContentFeatures(text.astype(np.float32), np.ones((ITEMS, 1), bool), {"text": WIDTH})
    item = np.arange(ITEMS).repeat(2)
    weight = np.ones(2 * ITEMS)
    return (
        features,
        names.astype(np.float32),
        Concepts(item, two.ravel(), weight, ["c"] * NAMES, {"tag": 240}, 0),
    )


def train(
    small: tuple[ContentFeatures, np.ndarray, Concepts], seed: int = 0, **settings: Any
) -> tuple[Tower, Any]:
    features, names, concepts = small
    chosen = ConceptSettings(**{"batch_size": 32, "hidden": 16, "held_out": 0.3, **settings})
    start = project_features(features, DIM)
    tower = untrained_tower(features, start, DIM, chosen.hidden, seed)
    return tower, train_tower(tower, features, start, names, concepts, chosen, seed, CPU)


def vectors(tower: Tower, features: ContentFeatures) -> torch.Tensor:
    with torch.no_grad():
        return tower(torch.from_numpy(features.vectors), torch.from_numpy(features.present))


def test_equal_weights_draw_each_pair_once_and_others_in_proportion() -> None:
    rng = np.random.default_rng(0)
    assert sorted(draw(np.full(1000, 0.3), rng)) == list(range(1000))
    weight = np.array([1.0, 2.0, 7.0, 0.01] * 25)
    counts = sum(np.bincount(draw(weight, rng), minlength=100) for _ in range(200)) / 200
    np.testing.assert_allclose(counts, 100 * weight / weight.sum(), atol=0.05)
    assert not np.array_equal(draw(weight, rng), draw(weight, rng))


def test_dropping_leaves_every_item_a_modality() -> None:
    present = np.array([[True, True], [True, False], [False, True]] * 500)
    kept = drop_modalities(present, 0.5, np.random.default_rng(0))
    assert kept.any(axis=1).all()
    assert np.array_equal(kept[1::3], present[1::3])
    assert np.array_equal(kept[2::3], present[2::3])
    lost = ~kept[::3]
    assert 0.2 < lost[:, 0].mean() < 0.3
    assert 0.2 < lost[:, 1].mean() < 0.3
    alone = np.ones((50, 1), bool)
    assert drop_modalities(alone, 1.0, np.random.default_rng(0)).all()


def test_batches_mask_items_that_share_any_concept(
    small: tuple[ContentFeatures, np.ndarray, Concepts],
) -> None:
    """Also one that is not the concept of either pair."""
    features, names, concepts = small
    batches = PairBatches(features, names, concepts, 32, 0.0)
    concepts_of = {item: set(concepts.concept[concepts.item == item]) for item in range(ITEMS)}
    seen = 0
    for batch in batches.epoch(np.random.default_rng(0)):
        item = [
            int(np.flatnonzero((features.vectors == row).all(axis=1))[0])
            for row in batch.vectors.numpy()
        ]
        expected = [[bool(concepts_of[one] & concepts_of[other]) for other in item] for one in item]
        assert batch.shared.tolist() == expected
        for row, number in zip(batch.concept.numpy(), item, strict=True):
            assert int(np.flatnonzero((names == row).all(axis=1))[0]) in concepts_of[number]
        seen += len(item)
    assert seen == 2 * ITEMS


def test_batches_lose_modalities_by_the_dropout(
    small: tuple[ContentFeatures, np.ndarray, Concepts],
) -> None:
    text, names, concepts = small
    both = np.column_stack([text.vectors, text.vectors[:, :4]])
    features = ContentFeatures(both, np.ones((ITEMS, 2), bool), {"text": WIDTH, "image": 4})
    for dropout, left in ((0.0, 2), (1.0, 1)):
        for batch in PairBatches(features, names, concepts, 32, dropout).epoch(
            np.random.default_rng(0)
        ):
            assert (batch.present.sum(dim=1) == left).all()


def test_training_brings_held_out_items_to_their_concepts(
    small: tuple[ContentFeatures, np.ndarray, Concepts],
) -> None:
    _, fitted = train(small)
    losses = [row["held_out_loss"] for row in fitted.curve]
    assert fitted.best_epoch > 0
    assert losses[fitted.best_epoch] == min(losses) < 0.9 * losses[0]
    assert fitted.curve[0]["tau"] == pytest.approx(0.07)
    assert fitted.curve[-1]["tau"] != pytest.approx(0.07, rel=1e-3)  # it is learned
    assert 0 < fitted.masked_share < 1


def test_the_same_seed_gives_the_same_tower_and_another_another(
    small: tuple[ContentFeatures, np.ndarray, Concepts],
) -> None:
    first, second, other = (
        vectors(train(small, seed, epochs=3)[0], small[0]) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)


def test_training_ends_when_held_out_items_gain_nothing_and_keeps_the_best(
    small: tuple[ContentFeatures, np.ndarray, Concepts],
) -> None:
    features, names, concepts = small
    held_out = np.arange(ITEMS) < 40
    judged = PairBatches(features, names, concepts.of_items(held_out), 32, 0.0)
    learned = PairBatches(features, names, concepts.of_items(~held_out), 32, 0.0)
    torch.manual_seed(0)
    content, concept = Tower({"text": WIDTH}, 16, DIM), Tower({"text": WIDTH}, 16, DIM)
    law: dict[str, Any] = {"lr": 0.02, "tau": 0.07, "seed": 0, "device": CPU}
    fitted = fit(content, concept, learned, judged, epochs=200, patience=4, **law)
    assert fitted.best_epoch == len(fitted.curve) - 1 - 4 > 0
    best = fitted.curve[fitted.best_epoch]["held_out_loss"]
    assert (
        best
        == min(row["held_out_loss"] for row in fitted.curve)
        < fitted.curve[-1]["held_out_loss"]
    )
    # Training for no epoch at all judges the towers as they are left: it finds the best epoch's
    # loss.
    law["tau"] = fitted.curve[fitted.best_epoch]["tau"]
    again = fit(content, concept, learned, judged, epochs=0, patience=1, **law)
    assert again.curve[0]["held_out_loss"] == pytest.approx(best, rel=1e-5)


def test_towers_that_only_get_worse_stay_as_they_were(
    small: tuple[ContentFeatures, np.ndarray, Concepts],
) -> None:
    """Items that already lie where their concepts do, and steps far too long."""
    features, names, concepts = small
    text = names[concepts.concept].reshape(ITEMS, 2, WIDTH).sum(axis=1)
    features = replace(features, vectors=text)
    untrained = untrained_tower(features, project_features(features, DIM), DIM, 16, 0)
    tower, fitted = train((features, names, concepts), lr=1.0, tau=0.3, patience=2)
    assert fitted.best_epoch == 0
    assert len(fitted.curve) == 3
    assert torch.equal(vectors(tower, features), vectors(untrained, features))


def test_no_pair_of_a_held_out_item_is_trained_on(
    small: tuple[ContentFeatures, np.ndarray, Concepts], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr("mtmh.content.contrastive.fit", lambda *parts, **_: given.append(parts))
    train(small)
    _, _, learned, judged = given[0]
    assert set(learned.concepts.item) | set(judged.concepts.item) == set(range(ITEMS))
    assert not set(learned.concepts.item) & set(judged.concepts.item)
    assert len(set(judged.concepts.item)) == round(0.3 * ITEMS)
    assert judged.dropout == 0


def test_without_a_modality_the_tower_uses_what_it_learned_for_that(
    small: tuple[ContentFeatures, np.ndarray, Concepts],
) -> None:
    text, names, concepts = small
    rng = np.random.default_rng(1)
    both = np.column_stack([text.vectors, rng.normal(size=(ITEMS, 4)).astype(np.float32)])
    present = np.column_stack([np.arange(ITEMS) % 5 != 0, np.arange(ITEMS) % 7 != 1])
    both[~present[:, 0], :WIDTH], both[~present[:, 1], WIDTH:] = 0, 0
    features = ContentFeatures(both, present, {"text": WIDTH, "image": 4})
    tower, _ = train((features, names, concepts), modality_dropout=0.3)
    assert tower.absent.abs().min() > 0
    with torch.no_grad():
        written = tower.absent * tower.scale + tower.mean
        filled = torch.where(torch.from_numpy(features.filled()), torch.from_numpy(both), written)
        expected = tower(filled, torch.ones(ITEMS, 2, dtype=torch.bool))
    torch.testing.assert_close(vectors(tower, features), expected, rtol=1e-4, atol=1e-5)
    garbage = np.where(features.filled(), both, 1e6).astype(
        np.float32
    )  # what stands in an absent block is not read
    torch.testing.assert_close(
        vectors(tower, replace(features, vectors=garbage)), vectors(tower, features)
    )


def test_an_untrained_tower_gives_the_projection(
    small: tuple[ContentFeatures, np.ndarray, Concepts],
) -> None:
    text = small[0]
    two = ContentFeatures(
        np.column_stack([text.vectors, 50 + 9 * text.vectors[:, ::-2]]),
        np.column_stack([np.arange(ITEMS) % 3 != 0, np.arange(ITEMS) % 3 != 1]),
        {"text": WIDTH, "image": WIDTH // 2},
    )
    for features, dim in chain(((text, dim) for dim in (4, 40)), [(two, 8)]):
        start = project_features(features, dim)
        tower = untrained_tower(features, start, dim, 16, 0)
        np.testing.assert_allclose(vectors(tower, features), start.vectors, atol=1e-5)
