"""New items into a trained version: where they land, what stays, what is refused."""

import filecmp
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.checkerboard import ITEMS, OLD
from helpers.fresh_world import FreshWorld

from mtmh.errors import UserError
from mtmh.heads import HEADS
from mtmh.ragged import Ragged
from mtmh.retrieval import query
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import add_items, refresh
from mtmh.retrieval.retriever import Request, Retriever
from mtmh.retrieval.version import retrieval_settings, verify

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def intake(fresh: FreshWorld) -> Intake:
    return Intake.load(fresh.before, device="cpu", cache=fresh.cache)


@pytest.fixture(scope="module")
def before(fresh: FreshWorld) -> Retriever:
    return query.load(fresh.before)


@pytest.fixture(scope="module")
def added(before: Retriever, fresh: FreshWorld, intake: Intake) -> Retriever:
    return add_items(before, fresh.new, intake)


def rows_of(retriever: Retriever, ids: list[str]) -> np.ndarray:
    place = {item: row for row, item in enumerate(retriever.items["item_id"].to_pylist())}
    return np.array([place[item] for item in ids], np.int32)


def test_added_items_are_as_in_a_build_that_had_them_from_the_start(
    fresh: FreshWorld, before: Retriever, added: Retriever
) -> None:
    whole = query.load(fresh.whole)
    ids = added.items["item_id"].to_pylist()
    assert len(fresh.new) > 15
    assert len(ids) == len(whole.items) == len(before.items) + len(fresh.new)
    order = rows_of(whole, ids)
    assert added.items.equals(whole.items.take(pa.array(order)))
    np.testing.assert_allclose(added.content, whole.content[order], atol=1e-5)
    for head in HEADS:
        np.testing.assert_allclose(added.vectors[head], whole.vectors[head][order], atol=1e-4)
    assert added.preranker is not None
    assert whole.preranker is not None
    assert added.preranker.interest.tolist() == whole.preranker.interest[order].tolist()
    assert added.preranker.new.tolist() == whole.preranker.new[order].tolist()
    np.testing.assert_allclose(added.preranker.past, whole.preranker.past[order], atol=1e-4)
    for task, vectors in added.preranker.items.items():
        np.testing.assert_allclose(vectors, whole.preranker.items[task][order], atol=1e-4)


def test_users_get_what_they_would_have_got(fresh: FreshWorld, added: Retriever) -> None:
    """Histories of known and of new items, both heads, preranked."""
    whole, rng = query.load(fresh.whole), np.random.default_rng(1)
    ids = np.array(added.items["item_id"].to_pylist())
    histories = [rng.choice(len(ids), 5, replace=False) for _ in range(40)]
    found = 0
    for head in HEADS:
        lists = []
        for retriever in (added, whole):
            triggers = Ragged.of(
                [rows_of(retriever, ids[history].tolist()) for history in histories]
            )
            flat = faiss.IndexFlatIP(
                retriever.vectors[head].shape[1]
            )  # approximation is measured elsewhere
            flat.add(retriever.vectors[head])
            exact = replace(retriever, indexes={head: flat})
            pool = exact.pools(Request(triggers, triggers.sorted(), 100, 60, 0.15))[head]
            names = np.array(retriever.items["item_id"].to_pylist())
            lists.append([names[row[row >= 0]] for row in pool.item])
        for one, two in zip(*lists, strict=True):
            assert len(np.intersect1d(one, two)) >= 0.97 * len(two)
            found += int(np.isin(one, fresh.new["item_id"].to_pylist()).sum())
    assert found > 0


def test_what_was_there_does_not_move(before: Retriever, added: Retriever) -> None:
    n = len(before.items)
    assert added.items.slice(0, n).equals(before.items)
    np.testing.assert_array_equal(added.content[:n], before.content)
    for head in HEADS:
        np.testing.assert_array_equal(added.vectors[head][:n], before.vectors[head])
        assert before.indexes[head].ntotal == n
        assert added.indexes[head].ntotal == len(added.items)
    assert added.preranker is not None
    assert before.preranker is not None
    for task, vectors in before.preranker.items.items():
        assert added.preranker.items[task][:n].equal(vectors)
    assert added.preranker.past[:n].equal(before.preranker.past)


def test_every_added_item_is_retrieved_by_its_neighbours(
    before: Retriever, added: Retriever
) -> None:
    everything = np.arange(len(added.items), dtype=np.int32)
    for head in HEADS:
        ids, _ = added.similar_items(everything, 100, head)
        assert set(range(len(before.items), len(added.items))) <= set(ids.ravel().tolist())


def test_in_two_parts_or_in_another_order_is_the_same(
    before: Retriever, added: Retriever, fresh: FreshWorld, intake: Intake
) -> None:
    half = len(fresh.new) // 2
    parts = add_items(
        add_items(before, fresh.new.slice(half), intake), fresh.new.slice(0, half), intake
    )
    order = rows_of(parts, added.items["item_id"].to_pylist())
    shuffled = fresh.new.take(pa.array(np.random.default_rng(0).permutation(len(fresh.new))))
    again = add_items(before, shuffled, intake)
    assert again.items.equals(added.items)
    for head in HEADS:
        np.testing.assert_array_equal(again.vectors[head], added.vectors[head])
        np.testing.assert_allclose(parts.vectors[head][order], added.vectors[head], atol=1e-5)


def test_a_refreshed_version_is_whole_and_answers_as_in_memory(
    fresh: FreshWorld, intake: Intake, added: Retriever, tmp_path: Path
) -> None:
    refresh(fresh.before, fresh.new, tmp_path / "out", intake)
    manifest = verify(tmp_path / "out")
    held = {path.name for path in (tmp_path / "out").iterdir()}
    assert set(manifest["sha256"]) == held - {"manifest.json"}
    assert held == {path.name for path in (fresh.before / "retriever").iterdir()} | {"config.yaml"}
    told = manifest["created_from"].pop("refreshed")
    assert manifest["created_from"] == verify(fresh.before / "retriever")["created_from"]
    newest = max(fresh.new["created_at"].to_pylist())
    assert (told["items"], told["newest"]) == (len(fresh.new), newest.isoformat())
    loaded = query.load(tmp_path / "out")
    assert retrieval_settings(tmp_path / "out") == retrieval_settings(fresh.before)
    features = pq.read_table(tmp_path / "out" / "item_features.parquet").to_pydict()
    assert features["log_popularity"][-len(fresh.new) :] == [0.0] * len(fresh.new)
    lengths = fresh.new.sort_by("item_id")["length"].to_pylist()
    np.testing.assert_allclose(features["length"][-len(fresh.new) :], lengths, rtol=1e-6)
    items = np.arange(len(loaded.items), dtype=np.int32)
    for head in HEADS:
        np.testing.assert_array_equal(
            loaded.similar_items(items, 50, head)[0], added.similar_items(items, 50, head)[0]
        )


def test_the_same_input_gives_the_same_files(
    fresh: FreshWorld, intake: Intake, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        refresh(fresh.before, fresh.new, tmp_path / name, intake)
    names = [path.name for path in (tmp_path / "one").iterdir()]
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", names, shallow=False)[0] == names


def test_a_refreshed_version_is_refreshed_again(
    fresh: FreshWorld, intake: Intake, tmp_path: Path
) -> None:
    half = len(fresh.new) // 2
    refresh(fresh.before, fresh.new.slice(0, half), tmp_path / "monday", intake)
    again = Intake.load(tmp_path / "monday", device="cpu", cache=fresh.cache)
    assert again.settings == intake.settings
    refresh(tmp_path / "monday", fresh.new, tmp_path / "tuesday", again, skip_known=True)
    told = verify(tmp_path / "tuesday")["created_from"]["refreshed"]
    assert told["items"] == len(fresh.new)
    assert len(query.load(tmp_path / "tuesday").items) == len(query.load(fresh.whole).items)


def test_what_cannot_be_added_is_refused_with_a_count_and_an_example(
    fresh: FreshWorld, intake: Intake, before: Retriever, tmp_path: Path
) -> None:
    new, n = fresh.new, len(fresh.new)
    old = before.items["item_id"].to_pylist()[:2]
    known = new.set_column(0, "item_id", pa.array([*old, *new["item_id"].to_pylist()[2:]]))
    for items, complaint in (
        (known, rf"2 of {n} new items are in this version already, such as '{old[0]}'"),
        (
            pa.concat_tables([new, new.slice(3, 1)]),
            rf"1 of {n + 1} new items break the contract.*there twice",
        ),
        (new.drop_columns("length"), "column 'length'"),
        (new.slice(0, 0), "no rows"),
    ):
        with pytest.raises(UserError, match=f"(?s){complaint}"):
            refresh(fresh.before, items, tmp_path / "out", intake)
    assert not any(tmp_path.iterdir())
    with pytest.raises(UserError, match="is there already: name a new folder"):
        refresh(fresh.before, new, tmp_path, intake)
    with pytest.raises(UserError, match=r"2 of 2 new items"):
        add_items(before, known.slice(0, 2), intake, skip_known=True)
    assert len(add_items(before, known, intake, skip_known=True).items) == len(before.items) + n - 2


def test_without_an_encoder_what_is_known_of_a_creator_places_an_item(version: Make) -> None:
    intake = Intake.load(version("mtmh"))
    retriever = query.load(version("mtmh"))
    items = pa.table(
        {
            "item_id": ["z1", "z2"],
            "creator_id": ["c00", "nobody"],
            "popularity": [1.0, None],
            "constant": [3.0, None],
        }
    )
    added = add_items(retriever, items, intake)
    assert (added.content[ITEMS:] == 0).all()
    # Item 43 has neither content nor events, and creator c13: the model's own place for a creator
    # it knows.
    twin = add_items(
        retriever,
        pa.table(
            {
                "item_id": ["twin"],
                "creator_id": ["c13"],
                "popularity": [43 % 7 * 1.0],
                "constant": [3.0],
            }
        ),
        intake,
    )
    for head in HEADS:
        np.testing.assert_allclose(
            np.linalg.norm(added.vectors[head][ITEMS:], axis=1), 1, atol=1e-5
        )
        np.testing.assert_allclose(
            twin.vectors[head][ITEMS], retriever.vectors[head][ITEMS - 1], atol=1e-5
        )
    with pytest.raises(
        UserError, match=r"nothing is known of any of the 1 new items, such as 'z2'"
    ):
        add_items(retriever, items.slice(1), intake)


def test_cold_items_of_a_version_that_leaves_them_to_the_model(
    before: Retriever, fresh: FreshWorld
) -> None:
    intake = Intake.load(fresh.before, device="cpu", cache=fresh.cache)
    intake = replace(intake, settings=intake.settings.model_copy(update={"cold": "model"}))
    added = add_items(before, fresh.new, intake)
    own = intake.encode(intake.check(fresh.new)).vectors
    for head in HEADS:
        np.testing.assert_array_equal(added.vectors[head][len(before.items) :], own[head])


@pytest.mark.parametrize("objective", ["engagement", "mtsh"])
def test_a_version_with_one_head(version: Make, objective: str, tmp_path: Path) -> None:
    items = pa.table(
        {"item_id": ["z1"], "creator_id": ["c00"], "popularity": [1.0], "constant": [3.0]}
    )
    refresh(version(objective), items, tmp_path / "out", Intake.load(version(objective)))
    added = query.load(tmp_path / "out")
    assert list(added.indexes) == list(query.load(version(objective)).indexes)
    assert json.loads((tmp_path / "out" / "index.json").read_text()).keys() == added.indexes.keys()
    assert added.items["in_train"].to_pylist()[OLD:] == [False] * (ITEMS - OLD + 1)
