"""The synthetic world: seeded, in the contract's form, and one in which recall and relevance
conflict.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import scipy.sparse as sp

from mtmh.config import DataSettings, SyntheticSettings
from mtmh.data import synthetic_vocabulary
from mtmh.data.importers import SourceTables, check
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.data.synthetic import make_world


@pytest.fixture(scope="module")
def world() -> SourceTables:
    return make_world(users=500, items=800, days=30, seed=3)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    out = tmp_path_factory.mktemp("prepared")
    prepare(
        "synthetic", out, DataSettings(synthetic=SyntheticSettings(users=2000, items=2000)), seed=3
    )
    return Prepared.load(out)


def test_the_seed_decides_everything(world: SourceTables) -> None:
    again, other = make_world(500, 800, 30, seed=3), make_world(500, 800, 30, seed=4)
    for name, table in world.tables.items():
        assert table.equals(again.tables[name])
        assert not table.equals(other.tables[name])


def test_it_keeps_the_contract(world: SourceTables) -> None:
    for checked in check(world, ["creator_id"], []).values():
        assert checked.rejected.num_rows == 0


@pytest.mark.parametrize(("users", "items", "days"), [(2, 2, 1), (3, 500, 2), (300, 5, 30)])
def test_any_size_makes_a_world(users: int, items: int, days: int) -> None:
    tables = make_world(users, items, days, seed=0).tables
    assert tables["items"].num_rows == items
    assert all(
        checked.rejected.num_rows == 0
        for checked in check(make_world(users, items, days, 0), [], []).values()
    )


def test_nothing_is_engaged_with_before_it_is_published(world: SourceTables) -> None:
    joined = world.tables["interactions"].join(
        world.tables["items"].select(["item_id", "created_at"]), "item_id"
    )
    assert joined.num_rows > 10_000
    assert pc.all(pc.greater_equal(joined["timestamp"], joined["created_at"])).as_py()


def test_titles_are_short_and_do_not_spell_the_topic(world: SourceTables) -> None:
    titles = np.char.lower(world.tables["items"]["title"].to_numpy().astype(str))
    assert 3 <= np.char.count(titles, " ").mean() + 1 <= 7
    for names in synthetic_vocabulary.TOPICS.values():
        for name, line in names.items():
            spelled = {word.rstrip("s") for word in line.replace("-", " ").split()}
            assert not spelled & {word.rstrip("s") for word in name.lower().split()}, name


def test_every_topic_has_ten_words_of_its_own() -> None:
    lines = [
        line.split() for below in synthetic_vocabulary.TOPICS.values() for line in below.values()
    ]
    assert {len(set(line)) for line in lines} == {10}
    assert [len(names) for names in synthetic_vocabulary.names()] == [12, 96]


def test_engagement_lasts_longer_on_topic(world: SourceTables) -> None:
    dwell = world.tables["interactions"]["dwell_seconds"].to_numpy()
    assert 15 < np.median(dwell) < 45
    assert dwell.min() > 0


def test_there_are_cold_and_fresh_items(prepared: Prepared) -> None:
    in_train, in_test = (
        np.unique(prepared.item[period]) for period in (prepared.is_train, ~prepared.is_train)
    )
    cold = np.setdiff1d(in_test, in_train)
    assert 0.02 < len(cold) / prepared.n_items < 0.25
    created = prepared.items["created_at"].cast(pa.int64()).to_numpy().view("datetime64[us]")
    split = prepared.timestamp[~prepared.is_train][0]
    assert 0.05 < (created >= split).mean() < 0.25


def test_co_engagement_recalls_and_topics_relate_but_neither_does_both(prepared: Prepared) -> None:
    """ItemKNN against an oracle of the topic: each is far ahead on its own axis."""
    bits = prepared.topic_bits("l2")
    assert bits is not None
    indptr, items = prepared.train_histories()
    shape = (prepared.n_users, prepared.n_items)
    engaged = sp.csr_matrix((np.ones(len(items), np.float32), items, indptr), shape)
    norm = np.sqrt(np.maximum(np.bincount(items, minlength=prepared.n_items), 1)).astype(np.float32)
    neighbours = (engaged.T @ engaged).toarray() / norm / norm[:, None]
    np.fill_diagonal(neighbours, 0)
    topical = (bits[:, None] & bits[None]).any(-1).astype(np.float32)
    np.fill_diagonal(topical, 0)

    knn, oracle = (
        recall_at_100(prepared, engaged, neighbours),
        recall_at_100(prepared, engaged, topical),
    )
    assert 0.2 < knn < 0.5
    assert oracle < knn / 1.5
    best = np.argsort(-neighbours, axis=1)[:, :30]
    assert np.take_along_axis(topical, best, axis=1).mean() < 0.3


def recall_at_100(
    prepared: Prepared, engaged: sp.csr_matrix, similarity: np.ndarray, count: int = 200
) -> float:
    users, (indptr, targets) = prepared.targets()
    scores = engaged[users[:count]] @ similarity
    scores[engaged[users[:count]].toarray() > 0] = -1
    best = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    return float(
        np.mean([np.isin(targets[indptr[u] : indptr[u + 1]], best[u]).mean() for u in range(count)])
    )
