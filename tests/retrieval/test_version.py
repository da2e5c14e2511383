"""A version: whole or refused, and the same after loading."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.checkerboard import ITEMS, OLD, Stages, item_id, retrieval_settings

from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from mtmh.heads import HEADS
from mtmh.ragged import Ragged
from mtmh.retrieval.index import search_exact
from mtmh.retrieval.retriever import (
    Pool,
    Request,
    Retriever,
    candidate_logits,
    merge_pools,
    prerank,
)
from mtmh.retrieval.version import MANIFEST, build, verify

Make = Callable[[str], Path]
ENGAGEMENT, RELEVANCE = 0, 1


@pytest.fixture
def copy(version: Make, tmp_path: Path) -> Path:
    """A version of one's own, to damage."""
    shutil.copytree(version("mtmh"), tmp_path / "version")
    return tmp_path / "version"


def test_a_whole_version_verifies_and_says_what_it_was_made_from(
    version: Make, world: Stages
) -> None:
    manifest = verify(version("mtmh"))
    info = Prepared.load(world.prepared).info
    assert manifest["created_from"] == {
        name: info[name] for name in ("path", "fingerprint", "split_time")
    }
    held = {path.name for path in version("mtmh").iterdir()}
    assert set(manifest["sha256"]) == held - {MANIFEST}
    assert {
        "weights.safetensors",
        "engagement.faiss",
        "relevance.faiss",
        "items.parquet",
        "content.npy",
    } <= held
    assert {"preranker.safetensors", "preranker.json"} <= held


def test_one_flipped_bit_in_any_file_is_noticed(copy: Path) -> None:
    for name in json.loads((copy / MANIFEST).read_text())["sha256"]:
        whole = (copy / name).read_bytes()
        at = len(whole) // 2
        (copy / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UserError, match=rf"{name} does not have the checksum"):
            Retriever.load(copy)
        (copy / name).write_bytes(whole)
    verify(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "relevance.faiss").unlink()
    with pytest.raises(UserError, match=r"relevance\.faiss is missing"):
        Retriever.load(copy)


def test_a_directory_without_a_manifest_is_no_version(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no manifest\.json"):
        verify(tmp_path)


def test_a_loaded_version_answers_as_its_vectors_do(version: Make, trained: Make) -> None:
    retriever = Retriever.load(version("mtmh"))
    items = np.arange(ITEMS, dtype=np.int32)
    assert set(retriever.indexes) == {"engagement", "relevance"}
    for head in retriever.indexes:
        vectors = retriever.vectors[head]
        np.testing.assert_array_equal(vectors[:OLD], np.load(trained("mtmh") / f"{head}.npy")[:OLD])
        ids, scores = retriever.similar_items(items, 10, head)
        exact_ids, exact_scores = search_exact(vectors, items, 10)
        np.testing.assert_array_equal(ids, exact_ids)  # so small a catalog is one cluster
        np.testing.assert_allclose(scores, exact_scores, atol=1e-6)
    table = retriever.items.to_pydict()
    assert table["item_id"] == [item_id(number) for number in range(ITEMS)]
    assert table["in_train"] == [number < OLD for number in range(ITEMS)]


def test_cold_items_are_placed_by_content_unless_told_otherwise(
    version: Make, trained: Make, world: Stages, tmp_path: Path
) -> None:
    settings = retrieval_settings(cold="model")
    build(world.prepared, world.features, world.content, trained("mtmh"), tmp_path, settings, 0)
    has_content = np.load(world.content / "content.npy").any(axis=1)
    cold = np.arange(ITEMS) >= OLD
    assert (cold & has_content).any()
    for head in HEADS:
        vectors = np.load(trained("mtmh") / f"{head}.npy")
        np.testing.assert_array_equal(np.load(tmp_path / f"{head}.npy"), vectors)
        moved = (Retriever.load(version("mtmh")).vectors[head] != vectors).any(axis=1)
        np.testing.assert_array_equal(moved, cold & has_content)


@pytest.mark.parametrize(
    ("objective", "head"), [("mtsh", "relevance"), ("engagement", "engagement")]
)
def test_a_model_with_one_head_makes_a_version_with_one_index(
    version: Make, objective: str, head: str
) -> None:
    assert list(Retriever.load(version(objective)).indexes) == [head]


def test_merged_pools_keep_score_and_trigger_of_the_channel_they_come_from() -> None:
    def pool(items: list[list[int]], head: int) -> Pool:
        item = np.array(items, np.int32)
        trigger = np.where(item >= 0, 100 * (head + 1) + item, -1).astype(np.int32)
        return Pool(
            item, (item / 10 + head).astype(np.float32), trigger, np.full(item.shape, head, np.int8)
        )

    engagement = pool([[1, 2, 3], [4, -1, -1], [-1, -1, -1]], ENGAGEMENT)
    relevance = pool([[7, 1, 9], [5, 6, -1], [-1, -1, -1]], RELEVANCE)
    merged = merge_pools([engagement, relevance], [50, 50], 4, users=2)
    assert merged.item.tolist() == [[1, 7, 2, 3], [4, 5, 6, -1], [-1] * 4]
    assert merged.channel.tolist() == [[0, 1, 0, 0], [0, 1, 1, -1], [-1] * 4]
    assert merged.trigger.tolist() == [[101, 207, 102, 103], [104, 205, 206, -1], [-1] * 4]
    present = merged.item >= 0
    expected = merged.item / 10 + merged.channel
    np.testing.assert_allclose(merged.score[present], expected[present], rtol=1e-6)


def test_more_channels_than_two_are_merged_alike() -> None:
    pools = [pool_of([[10 * n + 1, 10 * n + 2, 3]], [[0.5, 0.3, 0.2]], n) for n in range(3)]
    merged = merge_pools(pools, [50, 25, 25], 6)
    assert merged.item.tolist() == [[1, 11, 21, 2, 3, 12]]
    assert merged.channel.tolist() == [[0, 1, 2, 0, 0, 1]]
    np.testing.assert_allclose(merged.score, [[0.5, 0.5, 0.5, 0.3, 0.2, 0.3]])
    assert merged.trigger.tolist() == [[101, 111, 121, 102, 103, 112]]


def test_a_heads_pool_is_what_its_triggers_retrieve(version: Make) -> None:
    retriever = replace(Retriever.load(version("mtmh")), preranker=None)
    request = Request(
        Ragged.of([[3, 8]]), Ragged.of([[3, 8, 1]]), k_ann=30, size=12, temperature=0.1
    )
    pool = retriever.pools(request)["relevance"]
    ids, cosine = retriever.similar_items(request.triggers.values, 30, "relevance")
    p = {item: 0.0 for item in range(ITEMS)}
    for own, similarity in zip(ids, cosine.astype(np.float64), strict=True):
        likely = np.exp(similarity / 0.1)
        for item, share in zip(own.tolist(), likely / likely.sum(), strict=True):
            p[item] += share / 2
    ranked = sorted(set(p) - {3, 8, 1}, key=lambda item: -p[item])[:12]
    assert pool.item[0].tolist() == ranked
    np.testing.assert_allclose(pool.score[0], [p[item] for item in ranked], rtol=1e-4)
    assert (pool.channel == RELEVANCE).all()
    found = [
        dict(zip(own.tolist(), near, strict=True)) for own, near in zip(ids, cosine, strict=True)
    ]
    best = [
        max((near.get(item, -2), t) for near, t in zip(found, (3, 8), strict=True))[1]
        for item in ranked
    ]
    assert pool.trigger[0].tolist() == best


def test_a_version_without_a_preranker_ranks_by_its_heads(
    version: Make, trained: Make, world: Stages, tmp_path: Path
) -> None:
    build(
        world.prepared,
        world.features,
        world.content,
        trained("mtmh"),
        tmp_path,
        retrieval_settings(),
        0,
    )
    plain, ranked = Retriever.load(tmp_path), Retriever.load(version("mtmh"))
    assert plain.preranker is None
    request = Request(Ragged.of([[3, 8]]), Ragged.of([[3, 8]]), 30, 12, 0.1)
    expected = replace(ranked, preranker=None).pools(request)
    for head in HEADS:
        np.testing.assert_array_equal(plain.pools(request)[head].item, expected[head].item)
        assert ranked.pools(request)[head].item.tolist() != expected[head].item.tolist()


def pool_of(item: list[list[int]], score: list[list[float]], head: int = ENGAGEMENT) -> Pool:
    items = np.array(item, np.int32)
    trigger = np.where(items >= 0, items + 100, -1)
    return Pool(
        items, np.array(score, np.float32), trigger, np.where(items >= 0, head, -1).astype(np.int8)
    )


def test_candidates_are_ranked_by_the_product_of_both_experts() -> None:
    none = -np.inf
    pool = pool_of(
        [[4, 5, 6], [7, 8, -1], [-1, -1, -1]], [[0.5, 0.3, 0.2], [0.6, 0.4, none], [none] * 3]
    )
    logits = np.log([[1, 2, 4], [1, 1, 50], [1, 1, 1]]).astype(np.float32)
    ranked = prerank(pool, logits, 2, users=2)
    assert ranked.item.tolist() == [[6, 5], [7, 8], [-1, -1]]
    assert ranked.trigger.tolist() == [[106, 105], [107, 108], [-1, -1]]
    assert ranked.channel.tolist() == [[0, 0], [0, 0], [-1, -1]]
    np.testing.assert_allclose(
        ranked.score, [[0.8 / 1.9, 0.6 / 1.9], [0.6, 0.4], [none, none]], rtol=1e-6
    )


def test_each_head_is_ranked_on_its_own(version: Make) -> None:
    """What the engagement head's candidates score moves nothing in the relevance head's list (no
    joint ranking).
    """
    retriever = Retriever.load(version("mtmh"))
    assert retriever.preranker is not None
    request = Request(Ragged.of([[3]]), Ragged.of([[3]]), 30, 12, 0.1)
    deep = replace(request, size=retriever.depth(12))
    for number, head in enumerate(HEADS):
        alone = replace(retriever, preranker=None).pools(deep)[head]
        pool = retriever.pools(request)[head]
        assert set(pool.item[0]) <= set(alone.item[0])
        assert (pool.channel == number).all()
        expected = prerank(
            alone, candidate_logits(retriever.preranker, request.triggers, alone.item), 12
        )
        np.testing.assert_array_equal(pool.item, expected.item)
        np.testing.assert_array_equal(pool.score, expected.score)
