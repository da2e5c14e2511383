"""Batches against plain Python: they stand for their pairs, and only accidental hits are masked."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtmh.data.pair_source import Pairs
from mtmh.data.sampler import Batch, PairSampler

N_ITEMS = 9


@st.composite
def samplers(draw: st.DrawFn) -> PairSampler:
    users = draw(st.integers(1, 4))
    histories = draw(
        st.lists(st.sets(st.integers(0, N_ITEMS - 1), min_size=2), min_size=users, max_size=users)
    )
    pairs = []
    for _ in range(draw(st.integers(1, 30))):
        user = draw(st.integers(0, users - 1))
        trigger, candidate = draw(st.permutations(sorted(histories[user])))[:2]
        pairs.append((user, trigger, candidate, draw(st.floats(0.5, 4, width=32))))
    user, trigger, candidate, weight = zip(*pairs, strict=True)
    near = draw(
        st.lists(
            st.sets(st.integers(0, N_ITEMS - 1), max_size=3), min_size=N_ITEMS, max_size=N_ITEMS
        )
    )
    return PairSampler(
        Pairs(
            *(np.array(column, np.int32) for column in (user, trigger, candidate)),
            np.array(weight, np.float32),
        ),
        history=csr(histories),
        n_items=N_ITEMS,
        batch_size=draw(st.integers(1, 8)),
        uniform_negatives=draw(st.integers(0, 10)),
        seed=draw(st.integers(0, 5)),
        hard_negatives=draw(st.integers(0, 6)),
        neighbours=csr(near),
        id_dropout=draw(st.sampled_from([0.0, 0.3])),
    )


def csr(rows: list[set[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum([0, *map(len, rows)]), np.array(
        [item for row in rows for item in sorted(row)], np.int32
    )


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))


@given(samplers())
def test_an_epoch_holds_every_pair_once(sampler: PairSampler) -> None:
    batches = list(sampler.epoch(2))
    assert len(batches) == sampler.steps_per_epoch()
    found = [
        (int(b.items[t]), int(b.items[p]))
        for b in batches
        for t, p in zip(b.trigger, b.positive, strict=True)
    ]
    assert sorted(found) == sorted(
        zip(sampler.pairs.trigger.tolist(), sampler.pairs.candidate.tolist(), strict=True)
    )


@given(samplers())
def test_columns_are_the_distinct_draws_with_their_multiplicity(sampler: PairSampler) -> None:
    for batch in sampler.epoch(0):
        assert len(set(batch.items.tolist())) == len(batch.items)
        columns = batch.items[: len(batch.log_count)].tolist()
        assert len(set(columns)) == len(columns)
        count = dict(zip(columns, batch.log_count.exp().round().int().tolist(), strict=True))
        hard = sampler.hard_negatives if neighbours_of(sampler, batch) else 0
        assert sum(count.values()) == len(batch.positive) + sampler.uniform_negatives + hard
        candidates = batch.items[batch.positive].tolist()
        assert all(count[item] >= candidates.count(item) for item in candidates)
        # nothing is gathered that nothing needs
        assert set(batch.items.tolist()) == set(columns) | set(batch.items[batch.trigger].tolist())


def neighbours_of(sampler: PairSampler, batch: Batch) -> set[int]:
    """Of the batch's triggers."""
    triggers = batch.items[batch.trigger].tolist()
    return {
        int(item)
        for t in triggers
        for item in sampler.neighbours[
            sampler.neighbour_indptr[t] : sampler.neighbour_indptr[t + 1]
        ]
    }


@given(samplers())
def test_hard_negatives_are_neighbours_of_the_batchs_own_triggers(sampler: PairSampler) -> None:
    sampler.uniform_negatives = 0
    for batch in sampler.epoch(0):
        candidates = set(batch.items[batch.positive].tolist())
        assert set(batch.items[: len(batch.log_count)].tolist()) <= candidates | neighbours_of(
            sampler, batch
        )


@given(samplers())
def test_exactly_the_accidental_hits_are_masked(sampler: PairSampler) -> None:
    """The trigger, and what the user engaged with, unless it is the positive of that very row."""
    order = np.random.default_rng((sampler.seed, 1)).permutation(len(sampler.pairs.trigger))
    for step, batch in enumerate(sampler.epoch(1)):
        rows = order[step * sampler.batch_size :][: sampler.batch_size]
        hits = set(zip(batch.hit_row.tolist(), batch.hit_column.tolist(), strict=True))
        for i, row in enumerate(rows):
            user = sampler.pairs.user[row]
            engaged = set(sampler.engaged[sampler.indptr[user] : sampler.indptr[user + 1]].tolist())
            expected = [
                item != sampler.pairs.candidate[row]
                and (item in engaged or item == sampler.pairs.trigger[row])
                for item in batch.items[: len(batch.log_count)].tolist()
            ]
            assert [(i, column) in hits for column in range(len(batch.log_count))] == expected


@given(samplers())
def test_weights_keep_their_proportions_and_have_mean_one(sampler: PairSampler) -> None:
    order = np.random.default_rng((sampler.seed, 0)).permutation(len(sampler.pairs.trigger))
    for step, batch in enumerate(sampler.epoch(0)):
        weight = sampler.pairs.weight[order[step * sampler.batch_size :][: sampler.batch_size]]
        np.testing.assert_allclose(batch.weight.numpy(), weight / weight.mean(), rtol=1e-5)


@given(samplers(), st.integers(0, 10))
def test_batches_depend_on_seed_and_place_alone(sampler: PairSampler, first: int) -> None:
    """The same seed gives the same epoch, and one resumed in its middle goes on as it would
    have.
    """
    whole = list(sampler.epoch(3))
    resumed = list(sampler.epoch(3, first_step=first))
    assert len(resumed) == max(0, len(whole) - first)
    assert all(same(a, b) for a, b in zip(whole[first:], resumed, strict=True))
    assert all(same(a, b) for a, b in zip(whole, sampler.epoch(3), strict=True))


def many(uniform: int, seed: int = 0, hard: int = 0) -> PairSampler:
    """Candidates 0..7, each with its own trigger; trigger 3 has no neighbours; only the uniform law
    draws item 8, and nothing draws item 9, which nobody engaged with.
    """
    rng = np.random.default_rng(3)
    candidate = rng.choice(
        N_ITEMS - 1, 4000, p=np.arange(1, N_ITEMS) / np.arange(1, N_ITEMS).sum()
    ).astype(np.int32)
    trigger = ((candidate + 1) % N_ITEMS).astype(np.int32)
    history = (np.array([0, N_ITEMS]), np.arange(N_ITEMS, dtype=np.int32))
    near = csr(
        [
            {(item + 2) % 8, (item + 5) % 8, item % 3} if item != 3 else set()
            for item in range(N_ITEMS)
        ]
    )
    pairs = Pairs(np.zeros(4000, np.int32), trigger, candidate, np.ones(4000, np.float32))
    near = np.append(near[0], near[0][-1]), near[1]
    return PairSampler(pairs, history, N_ITEMS + 1, 40, uniform, seed, hard, near)


@pytest.mark.parametrize(("uniform", "hard"), [(0, 0), (20, 0), (120, 0), (0, 80), (20, 200)])
def test_log_q_is_the_law_the_columns_are_drawn_from(uniform: int, hard: int) -> None:
    sampler = many(uniform, hard=hard)
    drawn = np.zeros(N_ITEMS + 1)
    log_q = np.full(N_ITEMS + 1, -np.inf)
    for batch in sampler.epoch(0):
        items = batch.items[: len(batch.log_count)].numpy()
        drawn[items] += batch.log_count.exp().numpy()
        log_q[items] = batch.log_q.numpy()
    assert np.exp(log_q).sum() == pytest.approx(1, rel=1e-4)
    total = drawn.sum()
    error = np.sqrt(np.exp(log_q) / total)  # of a frequency over all draws
    assert (np.abs(drawn / total - np.exp(log_q)) <= 5 * error + 1e-6).all()
    assert drawn[N_ITEMS] == 0
    if uniform == 0:
        assert drawn[N_ITEMS - 1] == 0  # nobody's candidate or neighbour is nobody's negative
    if uniform + hard == 0:
        np.testing.assert_allclose(drawn / total, np.exp(log_q), rtol=1e-4)


def test_where_no_trigger_has_neighbours_the_law_is_that_of_the_other_negatives() -> None:
    """As with data whose triggers have no content: nothing is drawn, and nothing is counted as
    drawn.
    """
    without = many(20)
    nowhere = csr([set() for _ in range(N_ITEMS + 1)])
    history = without.indptr, without.engaged
    asked = PairSampler(
        without.pairs, history, N_ITEMS + 1, 40, 20, 0, hard_negatives=30, neighbours=nowhere
    )
    assert all(same(a, b) for a, b in zip(asked.epoch(0), without.epoch(0), strict=True))


def test_hidden_items_are_the_asked_share_and_change_nothing_else() -> None:
    """An item is as likely to be hidden as any other, and a batch is otherwise the one without
    dropout.
    """
    dropping, shown = many(20), many(20)
    dropping.id_dropout = 0.3
    hidden, drawn = np.zeros(N_ITEMS + 1), np.zeros(N_ITEMS + 1)
    for batch, plain in zip(dropping.epoch(0), shown.epoch(0), strict=True):
        assert not len(plain.hidden)
        assert same(plain, replace(batch, hidden=plain.hidden))
        hidden[batch.items[batch.hidden].numpy()] += 1
        drawn[batch.items.numpy()] += 1
    assert hidden.sum() / drawn.sum() == pytest.approx(0.3, abs=0.05)
    hidden, drawn = hidden[:N_ITEMS], drawn[:N_ITEMS]
    assert (np.abs(hidden / drawn - 0.3) < 5 * np.sqrt(0.21 / drawn)).all()


def test_another_seed_or_epoch_gives_other_batches() -> None:
    first = next(many(20).epoch(0))
    assert not same(first, next(many(20, seed=1).epoch(0)))
    assert not same(first, next(many(20).epoch(1)))
