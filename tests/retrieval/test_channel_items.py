"""Channels of some items alone: only these come, all of them can, and a refresh adds to them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.checkerboard import ITEMS, SUBJECT, Stages, retrieval_settings
from helpers.fresh_world import FreshWorld
from hypothesis import given
from hypothesis import strategies as st

from mtmh.config import EvaluationSettings, GateSettings
from mtmh.errors import UserError
from mtmh.evaluation.evaluate import evaluate
from mtmh.evaluation.gate import judge
from mtmh.heads import HEADS
from mtmh.ragged import Ragged
from mtmh.retrieval import query
from mtmh.retrieval.channel_items import allowed_rows, with_clusters
from mtmh.retrieval.channels import Channel
from mtmh.retrieval.index import build_index, search_exact, search_within
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import refresh
from mtmh.retrieval.retriever import Request, Retriever
from mtmh.retrieval.version import build, verify, write_manifest

Make = Callable[[str], Path]
CHANNELS = {
    "engagement_1": ("engagement", "cluster:1/2"),
    "engagement_2": ("engagement", "cluster:2/2"),
    "relevance": ("relevance", None),
    "subject": ("relevance", "topic:subject 1"),
}


def channel_settings(items: dict[str, tuple[str, str | None]]) -> list[dict[str, Any]]:
    quotas = [100 // len(items)] * (len(items) - 1)
    quotas.append(100 - sum(quotas))
    return [
        {"name": name, "head": head, "items": restriction, "quota": quota}
        for (name, (head, restriction)), quota in zip(items.items(), quotas, strict=True)
    ]


def built(world: Stages, model: Path, out: Path, items: dict[str, tuple[str, str | None]]) -> Path:
    out.mkdir(exist_ok=True)
    settings = retrieval_settings(channels=channel_settings(items))
    build(world.prepared, world.features, world.content, model, out, settings, 0)
    return out


@pytest.fixture(scope="module")
def divided(world: Stages, trained: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of two clusters of a head, and of a head with and without a topic."""
    return built(world, trained("mtmh"), tmp_path_factory.mktemp("divided"), CHANNELS)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 60), st.integers(40, 400))
def test_a_search_within_is_exact_and_as_long_as_it_can_be(
    seed: int, count: int, k: int, n: int
) -> None:
    """Whatever is allowed of an approximate index, however little."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index, _ = build_index(vectors, 5, 0.5, 0)
    allowed = np.sort(rng.permutation(n)[: min(count, n)])
    triggers = rng.integers(n, size=6)
    ids, scores = search_within(index, vectors[triggers], allowed, triggers, k)
    similarity = vectors[triggers] @ vectors.T
    for row, trigger in enumerate(triggers):
        others = allowed[allowed != trigger]
        length = min(k, len(others))
        assert np.isin(ids[row, :length], others).all()
        assert (ids[row, length:] == -1).all()
        best = -np.sort(-similarity[row, others])[:length]
        np.testing.assert_allclose(scores[row, :length], best, atol=1e-5)
        assert np.isneginf(scores[row, length:]).all()


def test_the_version_says_what_each_channel_may_give(divided: Path) -> None:
    manifest = verify(divided)
    assert [(c["name"], c["head"], c["restriction"]) for c in manifest["channels"]] == [
        (name, head, items) for name, (head, items) in CHANNELS.items()
    ]
    # An index a head, however many channels it has.
    assert {name for name in manifest["sha256"] if name.endswith(".faiss")} == {
        f"{head}.faiss" for head in HEADS
    }
    assert json.loads((divided / "index.json").read_text()).keys() == set(HEADS)
    retriever = Retriever.load(divided)
    assert retriever.indexes["engagement_1"] is retriever.indexes["engagement_2"]
    allowed = retriever.allowed
    assert allowed["relevance"] is None
    np.testing.assert_array_equal(allowed["subject"], np.flatnonzero(SUBJECT == 1))
    first, second = allowed["engagement_1"], allowed["engagement_2"]
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(ITEMS))


def test_lists_are_those_of_the_head_without_the_other_items(divided: Path) -> None:
    retriever, triggers = Retriever.load(divided), np.arange(ITEMS, dtype=np.int32)
    for name, allowed in retriever.allowed.items():
        if allowed is None:
            continue
        ids, scores = retriever.similar_items(triggers, 12, name)
        every, similarity = search_exact(retriever.vectors[name], triggers, ITEMS - 1)
        for row in triggers:
            is_allowed = np.isin(every[row], allowed)
            assert ids[row].tolist() == every[row][is_allowed][:12].tolist()
            np.testing.assert_allclose(scores[row], similarity[row][is_allowed][:12], atol=1e-6)
    # So are pools, the merge, and what a person asks.
    history = Ragged.of([np.array([1, 5, 9], np.int32), np.array([20, 31], np.int32)])
    best = retriever.recommend(Request(history, history.sorted(), 30, 12, 0.15), alpha=50)
    for number, allowed in enumerate(retriever.allowed.values()):
        if allowed is not None:
            assert np.isin(best.item[best.channel == number], allowed).all()
            assert (best.channel == number).any()
    shown = query.similar(retriever, "i00", 30, 50)
    expected = {f"i{row:02d}" for row in np.flatnonzero(SUBJECT == 1)}
    assert {one.item_id for one in shown["subject"]} == expected


def test_an_unrestricted_channel_gives_what_it_gave(divided: Path, version: Make) -> None:
    plain, beside = Retriever.load(version("mtmh")), Retriever.load(divided)
    for item in (0, 7, 41):
        row = np.array([item], np.int32)
        lists = [each.similar_items(row, 20, "relevance") for each in (plain, beside)]
        np.testing.assert_array_equal(lists[0][0], lists[1][0])
        np.testing.assert_array_equal(lists[0][1], lists[1][1])


def test_evaluation_and_gate_take_them(world: Stages, divided: Path, tmp_path: Path) -> None:
    out, verdict = tmp_path / "evaluation", tmp_path / "gate"
    out.mkdir()
    retrieval = retrieval_settings(channels=channel_settings(CHANNELS), alphas=[50])
    settings = EvaluationSettings(sample_users=20)
    evaluate(world.prepared, world.content, divided, None, out, retrieval, settings, 0)
    judge(world.prepared, out, verdict, GateSettings(bootstrap=100, min_coverage=0), seed=0)
    models = json.loads((out / "evaluation.json").read_text())["models"]
    assert [name for name in models if name.endswith("_head")] == [f"{n}_head" for n in CHANNELS]
    rows = pq.read_table(out / "candidates.parquet").to_pandas()
    for model, names in {"subject_head": {"subject"}, "merged_alpha_50": set(CHANNELS)}.items():
        assert set(rows[rows["model"] == model]["head"]) == names
    about = {f"i{row:02d}" for row in np.flatnonzero(SUBJECT == 1)}
    assert set(rows[rows["head"] == "subject"]["item_id"]) <= about


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ("topic:subject one", r"'x': no item has the topic 'subject one'. There is 'subject \d'"),
        ("fresh:24", "channel 'x': no item is known to be fresh, as none has a created_at. Add"),
        ("cluster:1/45", "45 clusters of 44 items cannot be made. Write a number from 1 to 44"),
    ],
)
def test_items_that_are_not_there_are_one_clear_message(
    world: Stages, trained: Make, tmp_path: Path, items: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        built(world, trained("mtmh"), tmp_path / "out", {"x": ("relevance", items)})
    assert not list((tmp_path / "out").glob("*.faiss"))


def test_a_cluster_that_has_no_item_is_refused() -> None:
    items = pa.table({"cluster_3": np.array([0, 0, 2], np.int32)})
    with pytest.raises(UserError, match=r"channel 'x': cluster:2/3 has no item"):
        allowed_rows(Channel("x", "relevance", 100.0, "cluster:2/3"), items)


def test_a_refresh_adds_to_each_channel_what_it_may_give(fresh: FreshWorld, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(fresh.before, run.parent / "run")
    version = run / "retriever"
    items, manifest = pq.read_table(version / "items.parquet"), verify(version)
    (topic, *_) = fresh.new["l1_topics"][0].as_py()
    restrictions = {f"cluster_{n}": f"cluster:{n}/3" for n in (1, 2, 3)}
    restrictions |= {"topical": f"topic:{topic}", "fresh": "fresh:100"}
    channels = [Channel(name, "engagement", 20.0, text) for name, text in restrictions.items()]
    vectors = np.load(version / "engagement.npy")
    pq.write_table(with_clusters(items, channels, vectors, 0), version / "items.parquet")
    write_manifest(version, manifest["created_from"], channels)
    before = Retriever.load(version)
    intake = Intake.load(run, device="cpu", cache=fresh.cache)
    refresh(run, fresh.new, tmp_path / "out", intake)
    after, n = Retriever.load(tmp_path / "out"), len(before.items)
    assert len(after.items) == n + len(fresh.new)
    # Old items keep their clusters, new ones are where the nearest centroid of T1's items is.
    known, column = (before.items[name].to_numpy() for name in ("in_train", "cluster_3"))
    centroids = np.stack([vectors[known & (column == one)].mean(axis=0) for one in range(3)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    nearest = (after.vectors["cluster_1"][n:] @ centroids.T).argmax(axis=1)
    for one in range(3):
        old, new = (retriever.allowed[f"cluster_{one + 1}"] for retriever in (before, after))
        assert old is not None
        expected = np.concatenate([old, n + np.flatnonzero(nearest == one)])
        np.testing.assert_array_equal(new, expected)
    topics = after.items["l1_topics"].to_pylist()
    assert after.allowed["topical"].tolist() == [r for r, t in enumerate(topics) if topic in t]
    # The newest item is a new one, so what was fresh before may be so no longer.
    created = after.items["created_at"].to_numpy()
    age = (created.max() - created) / np.timedelta64(1, "h")
    np.testing.assert_array_equal(after.allowed["fresh"], np.flatnonzero(age <= 100))
    assert (after.allowed["fresh"] >= n).any()
    ids, _ = after.similar_items(np.array([n], np.int32), 10, "topical")
    assert np.isin(ids[0], after.allowed["topical"]).all()
