"""The stage preranker: what it learns, from which data, and that the same seed gives the same
files.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.checkerboard import (
    ITEMS,
    OLD,
    SIDE,
    SUBJECT,
    Stages,
    prerank_settings,
    write_preranker,
)

from mtmh.config import load_config
from mtmh.data.prepared import Prepared
from mtmh.data.user_examples import NextItems
from mtmh.errors import UserError
from mtmh.model.preranker import ENGAGEMENT, LONG_DWELL, Preranker, Towers
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import candidate_logits
from mtmh.training.preranker import ItemTensors, interests_of, long_dwell, objective


def every_item(ranker: Preranker, data: Prepared) -> np.ndarray:
    """The logits of the whole catalog for every user's history, float32 [users, items]."""
    catalog = np.tile(np.arange(data.n_items, dtype=np.int32), (data.n_users, 1))
    return candidate_logits(ranker, data.train_histories(), catalog)


def test_it_ranks_first_what_a_users_kind_engages_with(world: Stages, tmp_path: Path) -> None:
    """In this world that is the items of the user's side: half of all, which no order by chance
    puts first.
    """
    data = Prepared.load(world.prepared)
    logits = every_item(Preranker.load(write_preranker(world, tmp_path)), data)[:, :OLD]
    first = np.argsort(-logits, axis=1)[:, : OLD // 4]
    indptr, items = data.train_histories()
    side = SIDE[items[indptr[:-1]]]
    assert (SIDE[first] == side[:, None]).mean() > 0.95


def test_a_new_item_is_ranked_by_its_creator_and_content(world: Stages, tmp_path: Path) -> None:
    """ItemTensors 40 to 43 are new; their creators belong to a side each."""
    data = Prepared.load(world.prepared)
    ranker = Preranker.load(write_preranker(world, tmp_path, epochs=30, new_share=0.5))
    logits = every_item(ranker, data)
    indptr, items = data.train_histories()
    side = SIDE[items[indptr[:-1]]]
    new = np.arange(OLD, ITEMS)
    assert np.isfinite(logits).all()
    even, odd = (
        logits[:, new[SIDE[new] == 0]].mean(axis=1),
        logits[:, new[SIDE[new] == 1]].mean(axis=1),
    )
    assert ((even > odd) == (side == 0)).mean() > 0.9


def test_without_dwell_times_engagement_alone_is_learned_and_said(
    world: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranker = Preranker.load(write_preranker(world, tmp_path, epochs=1, long_dwell_weight=3.0))
    assert ranker.weights == {ENGAGEMENT: prerank_settings().weight}
    assert "no dwell times" in capsys.readouterr().out


def test_switched_off_it_leaves_nothing_and_says_so(
    world: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(write_preranker(world, tmp_path, use=False).iterdir()) == []
    assert "prerank.use: false" in capsys.readouterr().out


def test_the_seed_decides(world: Stages, tmp_path: Path) -> None:
    def bits(name: str, seed: int) -> bytes:
        return (
            write_preranker(world, tmp_path / name, seed, epochs=1) / "preranker.safetensors"
        ).read_bytes()

    assert bits("a", 0) == bits("b", 0)
    assert bits("a", 0) != bits("c", 1)


def test_impossible_settings_are_all_named() -> None:
    wrong = ["prerank.candidates=0", "prerank.weight=-1", "prerank.new_share=1.5", "prerank.wait=1"]
    with pytest.raises(UserError) as caught:
        load_config(settings=wrong)
    for key in ("prerank.candidates", "prerank.weight", "prerank.new_share", "prerank.wait"):
        assert key in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_told(world: Stages, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prerank\.device is 'cuda'"):
        write_preranker(world, tmp_path, device="cuda")


@pytest.fixture(scope="module")
def dwelling(world: Stages, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """The world with dwell times: 40 to 50 s on items of subject 0, 10 to 20 s on the others, no
    time on item 1.
    """
    prepared = tmp_path_factory.mktemp("dwelling") / "prepared"
    shutil.copytree(world.prepared, prepared)
    log = pq.read_table(prepared / "interactions.parquet")
    item = log["item"].to_numpy()
    seconds = (
        np.where(SUBJECT[item] == 0, 40.0, 10.0) + np.random.default_rng(0).random(len(item)) * 10
    )
    dwell = pa.array(seconds, mask=item == 1)
    log = log.set_column(log.column_names.index("dwell_seconds"), "dwell_seconds", dwell)
    pq.write_table(log, prepared / "interactions.parquet")
    return replace(world, prepared=prepared)


def test_long_is_at_or_above_the_quantile_of_t1(dwelling: Stages) -> None:
    data = Prepared.load(dwelling.prepared)
    log = pq.read_table(dwelling.prepared / "interactions.parquet").to_pandas()
    log = log[log.period == "train"]
    label, seconds = long_dwell(data, 0.3)
    assert seconds == pytest.approx(log.dwell_seconds.quantile(0.3))
    newest = log.groupby(["user", "item"]).dwell_seconds.last()
    indptr, items = data.train_histories()
    user = np.repeat(np.arange(data.n_users), np.diff(indptr))
    told = np.array([newest[pair] for pair in zip(user, items, strict=True)])
    np.testing.assert_array_equal(label, np.where(np.isnan(told), np.nan, told >= seconds))
    assert np.isnan(label[items == 1]).all()


def test_long_dwell_prefers_what_is_dwelt_on(dwelling: Stages, tmp_path: Path) -> None:
    """Users engage with both subjects alike and dwell on one of them."""
    data = Prepared.load(dwelling.prepared)
    ranker = Preranker.load(write_preranker(dwelling, tmp_path, long_dwell_weight=1.0))
    found = {}
    for task in (ENGAGEMENT, LONG_DWELL):
        weights = {other: float(other == task) for other in ranker.weights}
        first = np.argsort(-every_item(replace(ranker, weights=weights), data)[:, :OLD], axis=1)[
            :, : OLD // 4
        ]
        found[task] = (SUBJECT[first] == 0).mean()
    assert found[LONG_DWELL] > 0.9
    assert found[ENGAGEMENT] < 0.7


def test_items_without_content_share_an_interest_of_their_own() -> None:
    content = np.eye(6, 4, dtype=np.float32)
    interest, count = interests_of(content, np.ones(6, bool), 64, seed=0)
    assert count == 5
    assert interest[4:].tolist() == [4, 4]
    assert sorted(interest[:4].tolist()) == [0, 1, 2, 3]
    assert interests_of(np.zeros((3, 4), np.float32), np.ones(3, bool), 8, seed=0)[1] == 1


def test_the_same_batch_gives_the_same_gradients_to_the_bit() -> None:
    """With histories long enough that threads share the work."""
    rng = np.random.default_rng(0)
    users, length, catalog = 400, 40, 300
    items = np.concatenate(
        [rng.choice(catalog, length, replace=False) for _ in range(users)]
    ).astype(np.int32)
    history = Ragged(np.arange(users + 1, dtype=np.int64) * length, items)
    examples = NextItems(
        history, np.full(len(items), np.nan, np.float32), catalog, 512, 128, 30, seed=0
    )
    ids = torch.arange(1, catalog + 1)[:, None]
    table = ItemTensors(
        ids,
        torch.zeros(catalog, 0),
        torch.zeros(catalog, 16),
        torch.zeros(catalog, dtype=torch.int64),
    )
    none = torch.zeros(0)
    towers = Towers(
        [catalog + 1],
        [32],
        none,
        none,
        content_dim=16,
        interests=1,
        hidden=32,
        dim=32,
        tasks=(ENGAGEMENT,),
    )
    batch = next(examples.epoch(0))
    new = torch.zeros(len(batch.columns), dtype=torch.bool)

    def gradients() -> list[bytes]:
        towers.zero_grad(set_to_none=True)
        objective(towers, batch, table, new).backward()
        return [
            weight.grad.to_dense().numpy().tobytes()
            for weight in towers.parameters()
            if weight.grad is not None
        ]

    first = gradients()
    assert all(gradients() == first for _ in range(10))
