"""The cache of backbone vectors: a text is encoded once, and a killed run keeps what it has
done.
"""

import hashlib
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mtmh.content.cache import SHARD, encode_cached, read_shards, write_shard


class Encoder:
    """A backbone whose vectors are easy to know in advance; it counts what it is asked for."""

    def __init__(self, breaks_after: int = 1 << 60) -> None:
        self.asked: list[str] = []
        self.breaks_after = breaks_after

    def load(self) -> Callable[[Sequence[str]], np.ndarray]:
        return self.encode

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.asked) >= self.breaks_after:
            raise KeyboardInterrupt
        self.asked += texts
        return expected(texts)


def expected(texts: Sequence[str]) -> np.ndarray:
    return np.array(
        [list(hashlib.sha256(text.encode()).digest()[:3]) for text in texts], np.float32
    )


def test_a_text_is_encoded_once(tmp_path: Path) -> None:
    first, second, third = Encoder(), Encoder(), Encoder()
    texts = ["b", "a", "b", "longer", "ä"]
    np.testing.assert_array_equal(encode_cached(texts, "m", tmp_path, first.load), expected(texts))
    assert sorted(first.asked) == sorted(set(texts))
    np.testing.assert_array_equal(
        encode_cached(texts[::-1], "m", tmp_path, second.load), expected(texts[::-1])
    )
    assert second.asked == []
    np.testing.assert_array_equal(
        encode_cached(["new", "a"], "m", tmp_path, third.load), expected(["new", "a"])
    )
    assert third.asked == ["new"]


def test_another_backbone_shares_nothing(tmp_path: Path) -> None:
    encode_cached(["a"], "one", tmp_path, Encoder().load)
    other = Encoder()
    encode_cached(["a"], "other", tmp_path, other.load)
    assert other.asked == ["a"]


def test_a_killed_run_keeps_its_shards(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(SHARD + 50)]
    killed, again = Encoder(breaks_after=SHARD), Encoder()
    with pytest.raises(KeyboardInterrupt):
        encode_cached(texts, "m", tmp_path, killed.load)
    assert len(killed.asked) == SHARD
    np.testing.assert_array_equal(encode_cached(texts, "m", tmp_path, again.load), expected(texts))
    assert sorted(killed.asked + again.asked) == sorted(texts)


def test_a_shard_cut_off_while_it_was_written_does_no_harm(tmp_path: Path) -> None:
    encode_cached(["a"], "m", tmp_path, Encoder().load)
    (tmp_path / ".0123.unfinished").write_bytes(b"half")
    assert encode_cached(["a"], "m", tmp_path, Encoder().load).shape == (1, 3)


def peak_of_reading(cache: Path, wanted: set[str]) -> tuple[int, dict[str, np.ndarray]]:
    """Bytes that were allocated at once, at the most."""
    tracemalloc.start()
    try:
        vectors = read_shards(cache, wanted)
        return tracemalloc.get_traced_memory()[1], vectors
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_what_others_left_in_the_cache(tmp_path: Path) -> None:
    width, shards = 64, 12
    vectors = np.arange(SHARD * width, dtype=np.float32).reshape(SHARD, width)
    for number in range(shards):
        write_shard(tmp_path, [f"{number:04}{row:060}" for row in range(SHARD)], vectors + number)
    wanted = {f"{number:04}{7:060}" for number in (2, 5, 9)}
    peak, kept = peak_of_reading(tmp_path, wanted)
    assert kept.keys() == wanted
    for key, vector in kept.items():
        np.testing.assert_array_equal(vector, vectors[7] + int(key[:4]))
        assert vector.base is None or len(vector.base) == 1  # it keeps no other vector
    assert peak < 4 * vectors.nbytes < shards * vectors.nbytes
    assert peak_of_reading(tmp_path, {"another run's"})[0] < peak
