"""Backbone vectors on disk, keyed by the hash of backbone and content: a text or image is encoded
once, ever.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from mtmh.clock import Progress

SHARD = 4096  # vectors a file: so many are lost at most when a run is killed


def encode_cached(
    texts: Sequence[str],
    identity: str,
    cache: Path | None,
    load: Callable[[], Callable[[Sequence[str]], np.ndarray]],
) -> np.ndarray:
    """Vectors of `texts`, float32 [len(texts), width]; only texts not in `cache` are encoded (None:
    nothing is kept).

    `identity` names everything a vector depends on besides its text. `load` gives the encoder and
    is called only when something is missing. Every 4,096 new vectors become a shard, so a killed
    run loses at most one shard of work.
    """
    keys = [hashlib.sha256(f"{identity}\0{text}".encode()).hexdigest() for text in texts]
    vectors = read_shards(cache, set(keys))
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
    if missing:
        encode = load()
        progress = Progress("content", len(missing), "texts")
        # Sorted by length, so that a shard holds texts of like length and little is spent on
        # padding.
        todo = sorted(missing, key=lambda key: (len(missing[key]), key))
        for start in range(0, len(todo), SHARD):
            shard = todo[start : start + SHARD]
            new = encode([missing[key] for key in shard])
            write_shard(cache, shard, new)
            vectors.update(zip(shard, new, strict=True))
            progress.advance(len(shard))
    note_use(cache, keys)
    return np.stack([vectors[key] for key in keys])


def read_shards(cache: Path | None, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The vectors of a cache whose keys are `wanted`, float32 [width] each; {} without a cache.

    One shard is in memory at a time, and only where it has one of them: what other runs and
    backbones left there takes time to look through, and no memory.
    """
    vectors: dict[str, np.ndarray] = {}
    if cache is None:
        return vectors
    for path in sorted(cache.glob("*.npz")):
        with np.load(path) as shard:
            keys: list[str] = shard["keys"].tolist()
            rows = [row for row, key in enumerate(keys) if key in wanted]
            if rows:  # a copy of these alone: a row of the shard itself would keep all of it
                vectors.update(
                    zip([keys[row] for row in rows], shard["vectors"][rows], strict=True)
                )
    return vectors


def note_use(cache: Path | None, keys: Collection[str]) -> None:
    """Give the shards that hold one of `keys` the present time: `mtmh clean` takes those that have
    not been used for long.
    """
    used = set(keys)
    for path in cache.glob("*.npz") if cache is not None else ():
        with np.load(path) as shard:
            is_used = not used.isdisjoint(shard["keys"].tolist())
        if is_used:
            with suppress(OSError):  # a cache that can only be read is not ours to clean
                os.utime(path)


def write_shard(cache: Path | None, keys: list[str], vectors: np.ndarray) -> None:
    """Keep `vectors`, float32 [len(keys), width], whole or not at all; nothing without a cache or
    keys.
    """
    if cache is None or not keys:
        return
    cache.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
    unfinished = cache / f".{name}.unfinished"
    with unfinished.open("wb") as file:
        np.savez(file, keys=np.array(keys), vectors=vectors)
    unfinished.rename(cache / f"{name}.npz")
