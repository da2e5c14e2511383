"""Clusters of known groups, of topics and of duplicates; batches of one cluster each."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from mtmh.data.cluster_sampler import ClusterSampler
from mtmh.data.cluster_sequences import ClusterSequences, sequences_of
from mtmh.data.clusters import Clusters, cluster_by_topics, cluster_by_vectors
from mtmh.data.pair_source import Pairs
from mtmh.errors import UserError
from mtmh.ragged import Ragged

GROUPS, EACH = 4, 8
GROUP = np.repeat(np.arange(GROUPS), EACH)


def grouped_vectors() -> np.ndarray:
    """Unit rows around one axis a group."""
    noise = np.random.default_rng(0).normal(0, 0.05, (GROUPS * EACH, GROUPS))
    raw = np.eye(GROUPS)[GROUP] + noise
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def some_pairs(n: int = 200) -> tuple[Pairs, Ragged]:
    """Pairs within the histories of ten users."""
    rng = np.random.default_rng(1)
    history = [rng.permutation(GROUPS * EACH)[:9] for _ in range(10)]
    user = rng.integers(0, 10, n).astype(np.int32)
    trigger, candidate = np.array([rng.permutation(history[u])[:2] for u in user], np.int32).T
    weight = rng.uniform(0.5, 3, n).astype(np.float32)
    return Pairs(user, trigger, candidate, weight), Ragged.of(history)


def test_known_groups_are_found_and_the_same_seed_finds_the_same() -> None:
    clusters = cluster_by_vectors(grouped_vectors(), GROUPS, seed=3)
    assert len(set(zip(GROUP.tolist(), clusters.of_item.tolist(), strict=True))) == GROUPS
    again = cluster_by_vectors(grouped_vectors(), GROUPS, seed=3)
    assert (again.of_item == clusters.of_item).all()
    for k in range(GROUPS):
        assert (clusters.items(k) == np.flatnonzero(clusters.of_item == k)).all()


@pytest.mark.parametrize("count", [5, GROUPS * EACH])
def test_no_cluster_is_empty_where_vectors_are_alike(count: int) -> None:
    same = np.repeat(np.eye(2, dtype=np.float32), GROUPS * EACH // 2, axis=0)
    clusters = cluster_by_vectors(same, count, seed=0)
    assert clusters.count == count
    assert clusters.members.lengths.min() > 0
    assert clusters.reseeded == count - 2


@pytest.mark.parametrize("count", [0, GROUPS * EACH + 1])
def test_more_clusters_than_items_are_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"{count} clusters of 32 items"):
        cluster_by_vectors(grouped_vectors(), count, seed=0)


def test_topics_are_clusters_and_no_topic_is_one_too() -> None:
    bits = np.zeros((5, 2), np.uint64)
    bits[0, 0], bits[1, 0], bits[2, 1], bits[3, 0] = 0b110, 0b010, 0b1, 0b100
    clusters = cluster_by_topics(bits)
    assert clusters.of_item.tolist() == [0, 0, 2, 1, 3]
    with pytest.raises(UserError, match="no topics"):
        cluster_by_topics(None)


def test_every_pair_is_drawn_once_with_negatives_of_its_cluster() -> None:
    pairs, history = some_pairs()
    sampler = ClusterSampler(pairs, history, Clusters.of(GROUP), 16, 10, seed=0)
    batches = list(sampler.epoch(0))
    assert len(batches) == sampler.steps_per_epoch()
    drawn = []
    for batch in batches:
        columns = batch.items[: len(batch.log_count)].numpy()
        assert len(set(GROUP[columns])) == 1
        # Q is a law over the cluster: what it gives a batch's columns cannot exceed 1.
        assert float(batch.log_q.exp().sum()) <= 1 + 1e-5
        trigger, positive = batch.items[batch.trigger], batch.items[batch.positive]
        drawn += list(zip(trigger.tolist(), positive.tolist(), strict=True))
    exact = zip(pairs.trigger.tolist(), pairs.candidate.tolist(), strict=True)
    assert sorted(drawn) == sorted(exact)


def test_hits_of_the_users_history_are_masked_within_the_cluster() -> None:
    pairs, history = some_pairs(60)
    rows: dict[tuple[int, int], set[int]] = {}
    for u, t, c in zip(pairs.user, pairs.trigger, pairs.candidate, strict=True):
        rows.setdefault((t, c), set()).add(u)
    for batch in ClusterSampler(pairs, history, Clusters.of(GROUP), 16, 10, seed=0).epoch(0):
        hits = set(zip(batch.hit_row.tolist(), batch.hit_column.tolist(), strict=True))
        items = batch.items.numpy()
        for row in range(len(batch.trigger)):
            pair = items[batch.trigger[row]], items[batch.positive[row]]
            masked = {int(items[column]) for i, column in hits if i == row}
            columns = set(items[: len(batch.log_count)].tolist()) - {int(pair[1])}
            allowed = [
                columns & ({int(pair[0])} | set(history.take(np.array([u])).values.tolist()))
                for u in rows[pair]
            ]
            assert masked in allowed


def test_an_epoch_resumes_where_it_was_cut_short() -> None:
    pairs, history = some_pairs()
    whole = list(ClusterSampler(pairs, history, Clusters.of(GROUP), 16, 10, seed=5).epoch(1))
    rest = list(ClusterSampler(pairs, history, Clusters.of(GROUP), 16, 10, seed=5).epoch(1, 7))
    assert len(rest) == len(whole) - 7
    for one, two in zip(whole[7:], rest, strict=True):
        assert all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(one))


def test_sequences_end_before_their_target_and_negatives_are_of_its_cluster() -> None:
    _, history = some_pairs()
    sampler = ClusterSequences(history, Clusters.of(GROUP), 8, 6, length=4, seed=0)
    users = [row.tolist() for row in np.split(history.values, history.indptr[1:-1])]
    expected = {
        (tuple(reversed(row[i + 1 : i + 5])), row[i]) for row in users for i in range(len(row) - 1)
    }
    drawn = set()
    for batch in sampler.epoch(0):
        assert set(GROUP[batch.columns.numpy()]) == {int(batch.cluster[0])}
        for past, positive in zip(batch.past.numpy(), batch.positive, strict=True):
            drawn.add((tuple(past[past >= 0].tolist()), int(batch.columns[positive])))
        for row, column in zip(batch.hit_row, batch.hit_column, strict=True):
            newest = int(batch.past[row, -1])
            item = int(batch.columns[column])
            assert any(newest in user and item in user for user in users)
    assert drawn == expected


def test_sequences_of_users_are_right_aligned() -> None:
    sequences = sequences_of(Ragged.of([[3, 2, 1], [7]]), 2)
    assert sequences.tolist() == [[2, 3], [-1, 7]]
