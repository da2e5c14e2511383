"""Pairs from a file are the pairs in memory: all of them, once an epoch, whatever fits into the
window.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mtmh.data import pair_source
from mtmh.data.pair_source import PairFile, Pairs, write_blocks
from mtmh.data.sampler import PairSampler

ROWS, ITEMS = 1000, 50


@pytest.fixture
def pairs() -> Pairs:
    rng = np.random.default_rng(0)
    user, trigger, candidate = (rng.integers(0, ITEMS, ROWS).astype(np.int32) for _ in range(3))
    return Pairs(user, trigger, candidate, np.arange(ROWS, dtype=np.float32))


@pytest.fixture
def path(pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Written in three blocks, in row groups of 60 at most."""
    monkeypatch.setattr(pair_source, "ROW_GROUP", 60)
    ends = [0, 100, 130, ROWS]
    blocks = (pairs.take(slice(start, end)) for start, end in pairwise(ends))
    assert write_blocks(tmp_path / "pairs.parquet", blocks) == ROWS
    return tmp_path / "pairs.parquet"


def sampler(source: Pairs | PairFile) -> PairSampler:
    history = np.array([0, ITEMS]), np.arange(ITEMS, dtype=np.int32)
    return PairSampler(source, (history[0].repeat([1, ITEMS]), history[1]), ITEMS, 64, 16, seed=0)


def test_the_file_holds_the_pairs_in_their_order(pairs: Pairs, path: Path) -> None:
    table = pq.read_table(path)
    assert pq.ParquetFile(path).num_row_groups == 2 + 1 + 15
    np.testing.assert_array_equal(table["weight"].to_numpy(), pairs.weight)
    np.testing.assert_array_equal(table["candidate"].to_numpy(), pairs.candidate)


@pytest.mark.parametrize("window", [1, 200, 10_000])
def test_an_epoch_is_every_pair_once_with_a_window_in_memory(
    pairs: Pairs, path: Path, window: int
) -> None:
    source = PairFile(path, window)
    assert len(source) == ROWS
    for found, expected in zip(source.counts(ITEMS), pairs.counts(ITEMS), strict=True):
        np.testing.assert_array_equal(found, expected)
    blocks = list(source.shuffled(np.random.default_rng(0)))
    assert all(len(block) < window + 60 for block in blocks)
    rows = np.concatenate([block.weight for block in blocks]).astype(int)
    assert sorted(rows) == list(range(ROWS))
    assert (rows != np.arange(ROWS)).mean() > 0.9
    for name in ("user", "trigger", "candidate"):
        found = np.concatenate([getattr(block, name) for block in blocks])
        np.testing.assert_array_equal(found, getattr(pairs, name)[rows])


@pytest.mark.parametrize("window", [1, 200, 10_000])
def test_batches_go_on_over_the_ends_of_windows(path: Path, window: int) -> None:
    """So that only the last batch of an epoch is short, and a resumed epoch finds its place."""
    drawing = sampler(PairFile(path, window))
    sizes = [len(batch.trigger) for batch in drawing.epoch(0)]
    assert sizes == [64] * 15 + [ROWS - 15 * 64]
    assert drawing.steps_per_epoch() == 16
    whole, resumed = list(drawing.epoch(1)), list(drawing.epoch(1, first_step=9))
    for a, b in zip(whole[9:], resumed, strict=True):
        assert a.items[a.trigger].tolist() == b.items[b.trigger].tolist()
        assert a.items[a.positive].tolist() == b.items[b.positive].tolist()


def test_a_file_that_fits_gives_the_batches_of_the_pairs_in_memory(
    pairs: Pairs, path: Path
) -> None:
    for a, b in zip(sampler(pairs).epoch(2), sampler(PairFile(path)).epoch(2), strict=True):
        assert a.items.tolist() == b.items.tolist()
        assert a.weight.tolist() == b.weight.tolist()


def test_the_law_is_that_of_the_pairs_in_memory(pairs: Pairs, path: Path) -> None:
    np.testing.assert_array_equal(sampler(PairFile(path, 200)).log_q, sampler(pairs).log_q)
