"""Leave-one-out as the sequential papers have it: the split, the ranks, the losses, the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import result
from benchmarks.studies import published, published_models, published_table
from benchmarks.studies.leave_one_out import LeaveOneOut, figures, load, ranks, split
from benchmarks.studies.published import NETWORKS
from benchmarks.studies.published_models import Network
from benchmarks.studies.published_order import order_within_times
from mtmh.data.cluster_sequences import SequenceBatch
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world
from mtmh.data.whole_sequences import WholeSequences
from mtmh.errors import UserError
from mtmh.model.prompted_sequence import PromptedSequence
from mtmh.ragged import Ragged
from mtmh.training.next_item_losses import catalog_softmax, one_negative
from mtmh.training.prompted_sequence import SequenceSettings, train_sequence

ROOT = Path(__file__).parents[3]


def rows(ragged: Ragged) -> list[list[int]]:
    return [ragged.take(np.array([row])).values.tolist() for row in range(ragged.rows)]


def test_the_last_is_for_test_and_the_one_before_for_validation() -> None:
    # User 0 has ties, user 1 too few items, user 2 takes an item twice, user 3 has just enough.
    events = [
        (0, 5, 10),
        (0, 1, 20),
        (0, 4, 20),
        (0, 2, 20),
        (1, 0, 1),
        (1, 3, 2),
        (2, 6, 1),
        (2, 3, 2),
        (2, 0, 3),
        (2, 6, 4),
        (3, 2, 9),
        (3, 1, 8),
        (3, 0, 7),
    ]
    user, item, time = (np.array(column) for column in zip(*events, strict=True))
    in_file = np.arange(len(events))
    parts = split(user, item.astype(np.int32), time, in_file)
    assert parts.test.tolist() == [2, 6, 2]
    assert parts.validation.tolist() == [4, 0, 1]
    assert rows(parts.train) == [[1, 5], [3], [0]]
    assert rows(parts.before_test) == [[4, 1, 5], [0, 3], [1, 0]]
    assert (parts.n_items, parts.left_out) == (7, 1)
    # The other way round within equal times: what is at different times stays where it is.
    turned = split(user, item.astype(np.int32), time, -in_file)
    assert turned.test.tolist() == [1, 6, 2]
    assert turned.validation.tolist() == [4, 0, 1]
    assert rows(turned.train) == [[2, 5], [3], [0]]


def test_an_order_of_the_items_within_a_time_is_seen() -> None:
    # Two users take 1, 2 and 3 on one day, a third 2 and 3 the other way round, and each one later.
    user = np.array([0, 1, 0, 1, 0, 1, 2, 2, 0, 1])
    item = np.array([1, 1, 2, 2, 3, 3, 3, 2, 4, 5])
    time = np.array([7, 8, 7, 8, 7, 8, 9, 9, 9, 9])
    sorted_by_item = order_within_times(user, item, time)
    assert sorted_by_item == {
        "users_whose_last_two_are_at_one_time": pytest.approx(1 / 3, abs=1e-5),
        "pairs_taken_at_one_time_by_two_or_more": 3,
        "share_of_them_in_one_order": pytest.approx(2 / 3, abs=1e-5),
        "share_by_chance": pytest.approx((0.5 + 0.5 + 0.25) / 3, abs=1e-5),
    }


def test_no_user_with_enough_items_is_refused() -> None:
    user, item = np.array([0, 0, 1]), np.array([0, 1, 2], np.int32)
    with pytest.raises(UserError, match=r"no user has 3 different items.*the most here: 2"):
        split(user, item, np.arange(3), np.arange(3))


def test_ranks_and_figures_equal_brute_force_with_ties() -> None:
    rng = np.random.default_rng(0)
    # Few levels: most scores are tied. More users than are ranked at a time.
    score = rng.integers(0, 6, (700, 30)).astype(np.float32)
    taken = [rng.choice(30, rng.integers(2, 9), replace=False) for _ in score]
    past, target = Ragged.of([t[1:] for t in taken]), np.array([t[0] for t in taken])
    # The scorer knows its users by the order in which it is called.
    blocks = iter(np.split(score, [512]))
    ours = ranks(lambda part: next(blocks), past, target)
    for kind, among in ours.items():
        gains = []
        for user, items in enumerate(taken):
            ranked = [i for i in range(30) if kind == "all" or i not in items[1:]]
            # The target stands behind all that are no worse.
            order = sorted(ranked, key=lambda i: (-score[user, i], i == items[0]))
            rank = order.index(items[0]) + 1
            assert among[user] == rank
            gains.append(1 / math.log2(rank + 1) if rank <= 10 else 0.0)
        assert figures(among)["ndcg_at_10"] == pytest.approx(np.mean(gains))
        assert figures(among)["recall_at_5"] == pytest.approx(np.mean(among <= 5))


@pytest.mark.parametrize("transducer", [False, True])
def test_a_later_item_changes_no_earlier_position(transducer: bool) -> None:
    data = Ragged.of([[3, 2, 1, 0], [5, 4, 3, 2]])
    settings = SequenceSettings(
        dim=8, length=6, layers=2, epochs=1, negatives=4, transducer=transducer, unit=False
    )
    sampler = WholeSequences(data, 9, 4, 4, 6, seed=0)
    model = train_sequence(sampler, settings, 0, False).double()
    past = torch.tensor([[-1, 0, 1, 2, 3, 4]])
    changed = torch.tensor([[-1, 0, 1, 2, 8, 7]])
    cluster = torch.zeros(1, dtype=torch.int64)
    before, after = model.states(past, cluster)[0], model.states(changed, cluster)[0]
    assert torch.allclose(before[1:4], after[1:4], rtol=1e-12)
    assert not torch.allclose(before[4:], after[4:])


def some_batch() -> tuple[PromptedSequence, SequenceBatch]:
    torch.manual_seed(0)
    model = PromptedSequence(7, 1, 6, 3, 1, 1, prompted=False, unit=False).double().eval()
    sampler = WholeSequences(Ragged.of([[2, 4, 6], [5, 1]]), 7, 2, 3, 3, seed=0)
    return model, next(iter(sampler.epoch(0)))


def test_catalog_softmax_equals_the_equation() -> None:
    model, batch = some_batch()
    assert batch.after is not None
    states = model.states(batch.past, batch.cluster).flatten(0, 1)[batch.after].detach().numpy()
    table = model.table.weight.detach().numpy()[1:]
    scores = states @ table.T / 0.5
    target = batch.columns[batch.positive].numpy()
    log_sum = np.log(np.exp(scores).sum(axis=1))
    expected = (log_sum - scores[np.arange(len(target)), target]).mean()
    assert catalog_softmax(model, batch, 0.5).item() == pytest.approx(expected, rel=1e-9)


def test_one_negative_equals_the_equation() -> None:
    model, batch = some_batch()
    assert batch.after is not None
    states = model.states(batch.past, batch.cluster).flatten(0, 1)[batch.after].detach().numpy()
    table = model.table.weight.detach().numpy()[1:]
    target = batch.columns[batch.positive].numpy()
    seen_equal = False
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = torch.randint(0, 7, (len(target),)).numpy()
        torch.manual_seed(seed)
        ours = one_negative(model, batch, 1.0).item()
        positive, against = (
            1 / (1 + np.exp(-(states * table[items]).sum(axis=1))) for items in (target, drawn)
        )
        expected = -np.log(positive) - np.where(drawn == target, 0, np.log(1 - against))
        assert ours == pytest.approx(expected.mean(), rel=1e-9)
        seen_equal |= bool((drawn == target).any())
    assert seen_equal  # a negative that is the positive was among them


def cycle() -> LeaveOneOut:
    """30 users who walk round 12 items, each from another place."""
    starts = np.arange(30) % 12
    walks = (starts[:, None] + np.arange(8)) % 12
    user, step = np.repeat(np.arange(30), 8), np.tile(np.arange(8), 30)
    return split(user, walks.ravel().astype(np.int32), step, step)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_follows_always_is_learned(name: str) -> None:
    net = NETWORKS[name]
    # Shorter than a history: no position is read at the end that training did not know.
    small = {"dim": 16, "length": 4, "epochs": 150, "batch_size": 8, "lr": 0.01, "dropout": 0.0}
    settings = SequenceSettings(**{**vars(net.settings), **small})
    data = cycle()
    score, notes = Network(settings, net.loss, patience=150, every=50).fit(data, seed=0)
    rank = ranks(score, data.before_test, data.test)["unseen"]
    assert (rank == 1).all()
    assert notes["validation_ndcg_at_10"] == 1


def test_the_epoch_that_was_best_on_validation_is_kept_and_training_ends_after_it() -> None:
    data = cycle()
    best = published_models.Best(data, patience=2, every=1)
    torch.manual_seed(0)
    model = PromptedSequence(12, 1, 8, 8, 1, 1, prompted=False).eval()
    assert not best(model)
    first = best.weights["table.weight"].clone()
    with torch.no_grad():
        model.table.weight.zero_()  # all scores tied: as bad as can be
    assert not best(model)
    assert best(model)
    assert (best.epoch, best.epochs) == (1, 3)
    assert torch.equal(best.weights["table.weight"], first)
    # Every second epoch: the first is not looked at.
    seldom = published_models.Best(data, patience=2, every=2)
    assert not seldom(model)
    assert not seldom.weights
    assert not seldom(model)
    assert (seldom.epoch, seldom.epochs) == (2, 2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, table in make_world(users=80, items=60, days=10, seed=0).tables.items():
        write_parquet(table, tmp_path / "tiny" / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(result, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(published_table, "PAGE", tmp_path / "page.md")
    return tmp_path


def test_every_model_is_measured_and_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, net in NETWORKS.items():
        short = SequenceSettings(**{**vars(net.settings), "epochs": 1, "dim": 8, "length": 5})
        brief = Network(short, net.loss, net.patience, 1)
        monkeypatch.setitem(NETWORKS, name, brief)
        monkeypatch.setitem(published.MODELS, name, brief.fit)
    begin = published_table.begin("tiny")
    (folder / "page.md").write_text(f"before\n{begin}\nold\n<!-- end -->\nbehind\n")
    published.main(Path("tiny"), seeds=2)
    board = json.loads((folder / "results" / "published_tiny.json").read_text())
    assert set(board["orders"]) == {"file", "shuffled"}
    for order, models in board["orders"].items():
        assert list(models) == list(published.MODELS)
        for name, row in models.items():
            floor = name in published.FLOORS
            assert list(row["runs"]) == (["0"] if floor and order == "file" else ["0", "1"])
            for kind in ("unseen", "all"):
                mean = np.mean([run[kind]["recall_at_10"] for run in row["runs"].values()])
                assert row[kind]["recall_at_10"]["mean"] == pytest.approx(mean, abs=1e-5)
            # What a user has can only stand in the way of what they take next.
            assert row["all"]["ndcg_at_20"]["mean"] <= row["unseen"]["ndcg_at_20"]["mean"]
            command = "mtmh bench published tiny --models"
            assert row["command"].startswith(command)
    text = (folder / "page.md").read_text()
    assert published_table.tables(board) in text
    assert text.startswith("before\n")
    assert text.endswith("behind\n")
    # Nothing is trained again, and the file stays as it is.
    capsys.readouterr()
    published.main(Path("tiny"), seeds=2)
    assert "sequence:" not in capsys.readouterr().out
    assert json.loads((folder / "results" / "published_tiny.json").read_text()) == board


def test_the_order_within_a_time_is_the_files_or_shuffled_by_the_seed(folder: Path) -> None:
    path = folder / "tiny" / "interactions.parquet"
    world = make_world(users=80, items=60, days=10, seed=0).tables["interactions"]
    same_time = world["timestamp"].combine_chunks().take([0] * len(world))
    names = world.column_names
    write_parquet(world.set_column(names.index("timestamp"), "timestamp", same_time), path)
    kept, again = (load(folder / "tiny", "file", seed) for seed in (0, 1))
    assert np.array_equal(kept.test, again.test)
    shuffled, other = (load(folder / "tiny", "shuffled", seed) for seed in (0, 1))
    assert not np.array_equal(shuffled.test, kept.test)
    assert not np.array_equal(shuffled.test, other.test)


def test_a_folder_without_long_histories_is_said_in_one_message(folder: Path) -> None:
    path = folder / "tiny" / "interactions.parquet"
    world = make_world(users=80, items=60, days=10, seed=0).tables["interactions"]
    _, first = np.unique(world["user_id"].to_numpy(zero_copy_only=False), return_index=True)
    write_parquet(world.take(np.sort(first)), path)
    with pytest.raises(UserError, match=r"tiny: no user has 3 different items.*Name a folder"):
        published.main(Path("tiny"), seeds=1)
    with pytest.raises(UserError, match=r"no folder nowhere\. Write mtmh bench published FOLDER"):
        published.main(Path("nowhere"))
    with pytest.raises(UserError, match=r"--models magic: no such model\. Known: popularity"):
        published.main(Path("tiny"), ["magic"])


@pytest.mark.parametrize(
    "file", sorted((ROOT / "benchmarks" / "results").glob("published_*.json")), ids=lambda f: f.stem
)
def test_the_docs_print_what_is_measured(file: Path) -> None:
    board = json.loads(file.read_text())
    text = (ROOT / "docs" / "results.md").read_text()
    assert published_table.with_tables(text, board["data"], board) == text
