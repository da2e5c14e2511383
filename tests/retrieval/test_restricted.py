"""Search within clusters against plain loops, and a small world whose right answer is known."""

import faiss
import numpy as np
import pytest
import torch

from mtmh.config import TrainSettings
from mtmh.data.cluster_sampler import ClusterSampler
from mtmh.data.cluster_sequences import ClusterSequences, sequences_of
from mtmh.data.clusters import Clusters
from mtmh.data.pair_source import Pairs
from mtmh.model.catalog import Catalog
from mtmh.ragged import Ragged
from mtmh.retrieval.index import search_within
from mtmh.retrieval.restricted import cluster_pools, lists_over_all, merged_pool
from mtmh.retrieval.retriever import Request
from mtmh.retrieval.user_lists import user_lists
from mtmh.training.prompted import item_vectors, train_prompted, trigger_vectors
from mtmh.training.prompted_sequence import (
    SequenceSettings,
    candidate_vectors,
    train_sequence,
    user_vectors,
)

N, K = 60, 3
CLUSTERS = Clusters.of(np.arange(N) % K)


def some_units(rows: int, seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(rows, 6))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def index_of(kind: str, vectors: np.ndarray) -> faiss.Index:
    """Over all vectors; the IVF one reads all its lists."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    if kind == "ivf":
        ivf = faiss.IndexIVFFlat(flat, vectors.shape[1], 4, faiss.METRIC_INNER_PRODUCT)
        ivf.cp.min_points_per_centroid = 1
        ivf.train(vectors)
        ivf.nprobe = 4
    index = ivf if kind == "ivf" else flat
    index.add(vectors)
    return index


@pytest.mark.parametrize("kind", ["flat", "ivf"])
@pytest.mark.parametrize("k", [1, 7, 20])
def test_search_within_is_the_plain_search_of_the_allowed(kind: str, k: int) -> None:
    vectors, queries = some_units(N, 0), some_units(12, 1)
    allowed, exclude = CLUSTERS.items(1), np.arange(12)
    ids, scores = search_within(index_of(kind, vectors), queries, allowed, exclude, k)
    for row in range(12):
        candidates = [i for i in allowed if i != row]
        similarity = {i: float(queries[row] @ vectors[i]) for i in candidates}
        exact = sorted(candidates, key=lambda i: -similarity[i])[:k]
        assert ids[row, : len(exact)].tolist() == exact
        assert scores[row, : len(exact)] == pytest.approx([similarity[i] for i in exact], abs=1e-5)
        assert (ids[row, len(exact) :] == -1).all()
        assert np.isneginf(scores[row, len(exact) :]).all()


def request(size: int = 10) -> Request:
    triggers = Ragged.of([[0, 4, 8], [5], [59, 1]])
    return Request(triggers, triggers, k_ann=15, size=size, temperature=0.2)


def test_pools_hold_their_own_cluster_and_threads_change_nothing() -> None:
    vectors = some_units(N, 0)
    shifted = [vectors + some_units(1, 9 + k) for k in range(K)]
    pools = cluster_pools(vectors, CLUSTERS, lambda items, k: shifted[k][items], request())
    threaded = cluster_pools(
        vectors, CLUSTERS, lambda items, k: shifted[k][items], request(), threads=3
    )
    for k, (pool, same) in enumerate(zip(pools, threaded, strict=True)):
        assert (CLUSTERS.of_item[pool.item[pool.item >= 0]] == k).all()
        assert not np.isin(pool.item[0], [0, 4, 8]).any()  # what the user has seen
        assert (pool.item == same.item).all()
        assert (pool.score == same.score).all()
    merged = merged_pool(pools, np.array([[0.6, 0.4, 0.0]] * 3), 10, 1.0)
    assert [(merged.channel == k).sum(axis=1).tolist() for k in range(K)] == [
        [6] * 3,
        [4] * 3,
        [0] * 3,
    ]
    for row in range(3):  # a candidate keeps what its own cluster's list says of it
        for item, score, trigger, k in zip(
            merged.item[row],
            merged.score[row],
            merged.trigger[row],
            merged.channel[row],
            strict=True,
        ):
            place = pools[k].item[row].tolist().index(item)
            assert score == pools[k].score[row, place]
            assert trigger == pools[k].trigger[row, place]


def test_lists_over_all_score_each_candidate_by_its_own_cluster() -> None:
    vectors = some_units(N, 0)
    shifted = [vectors + some_units(1, 9 + k) for k in range(K)]
    triggers = np.array([3, 40], np.int32)
    ids, scores = lists_over_all(vectors, CLUSTERS, lambda i, k: shifted[k][i], triggers, 8)
    for row, trigger in enumerate(triggers):
        exact = {
            i: float(shifted[CLUSTERS.of_item[i]][trigger] @ vectors[i])
            for i in range(N)
            if i != trigger
        }
        assert ids[row].tolist() == sorted(exact, key=lambda i: -exact[i])[:8]
        assert scores[row] == pytest.approx([exact[i] for i in ids[row].tolist()], abs=1e-5)


def test_user_lists_are_the_best_unseen_of_every_cluster() -> None:
    vectors, users = some_units(N, 0), [some_units(3, 20 + k) for k in range(K)]
    overall, pools = user_lists(vectors, CLUSTERS, users, request())
    for row, seen in enumerate(([0, 4, 8], [5], [59, 1])):
        score = {i: float(users[i % K][row] @ vectors[i]) for i in range(N) if i not in seen}
        ranked = sorted(score, key=lambda i: -score[i])
        assert overall.item[row].tolist() == ranked[:10]
        for k, pool in enumerate(pools):
            assert pool.item[row].tolist() == [i for i in ranked if i % K == k][:10]
        for item, trigger in zip(overall.item[row], overall.trigger[row], strict=True):
            assert trigger == max(seen, key=lambda i: float(vectors[i] @ vectors[item]))


# A world of three clusters: item i goes with its partner in the next cluster, i + 1 (of i % 3).
WORLD = Ragged.of([[3 * g + (c + 1) % 3, 3 * g + c] for g in range(20) for c in range(3)])
PARTNER = {old: new for new, old in WORLD.values.reshape(-1, 2).tolist()}
TRAINED = TrainSettings(
    epochs=40, batch_size=16, uniform_negatives=16, embedding_dim=16, hidden=[16], out_dim=16
)


def trained_items(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of all candidates, and of all triggers seen from the cluster of their partner."""
    newer, older = WORLD.values.reshape(-1, 2).T
    pairs = Pairs(np.arange(60, dtype=np.int32), older, newer, np.ones(60, np.float32))
    ids, floats = torch.arange(1, N + 1)[:, None], torch.zeros(N, 0)
    catalog = Catalog(ids, floats, {"item_id": [f"i{n:02d}" for n in range(N)]}, [])
    sampler = ClusterSampler(pairs, WORLD, CLUSTERS, 16, 16, seed)
    model = train_prompted(catalog, sampler, CLUSTERS, TRAINED, seed)
    seen_from = [trigger_vectors(model, catalog, np.arange(N), k) for k in range(K)]
    toward = np.stack([seen_from[(i + 1) % 3][i] for i in range(N)])
    return item_vectors(model, catalog), toward


def test_prompted_items_find_their_partner_within_its_cluster() -> None:
    candidates, toward = trained_items(seed=0)
    index = index_of("flat", candidates)
    found = 0
    for item, partner in PARTNER.items():
        allowed = CLUSTERS.items(partner % 3)
        ids, _ = search_within(index, toward[[item]], allowed, np.array([item]), 1)
        found += int(ids[0, 0] == partner)
    assert found >= 57  # of 60; by chance 3
    again = trained_items(seed=0)
    assert (again[0] == candidates).all()
    assert (again[1] == toward).all()
    assert (trained_items(seed=1)[0] != candidates).any()


def test_prompted_sequences_find_what_comes_next_and_seeds_repeat() -> None:
    settings = SequenceSettings(dim=16, length=3, epochs=60, batch_size=16, negatives=16, lr=0.01)
    sampler = ClusterSequences(WORLD, CLUSTERS, 16, 16, 3, seed=0)
    models = [train_sequence(sampler, settings, seed=0) for _ in range(2)]
    past = sequences_of(Ragged.of([[i] for i in range(N)]), 3)
    candidates = candidate_vectors(models[0])
    found = 0
    for k in range(K):
        users, members = user_vectors(models[0], past, k), CLUSTERS.items(k)
        assert (user_vectors(models[1], past, k) == users).all()
        best = members[(users @ candidates[members].T).argmax(axis=1)]
        found += sum(int(best[i] == PARTNER[i]) for i in range(N) if PARTNER[i] % 3 == k)
    assert found >= 57
