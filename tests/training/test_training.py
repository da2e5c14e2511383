"""Training: every objective learns, and neither a kill nor a repetition changes the model."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.checkerboard import ITEMS, OLD, SIDE, SUBJECT, Stages, train_settings
from safetensors.numpy import load_file

from mtmh.data.pair_source import Pairs
from mtmh.data.prepared import Prepared
from mtmh.data.sampler import PairSampler
from mtmh.device import pick_device
from mtmh.errors import UserError
from mtmh.heads import HEADS_OF, loss_weights
from mtmh.model.catalog import Catalog
from mtmh.model.two_heads import build_model, load_model
from mtmh.training.loop import CHECKPOINT_EVERY, embed, fit
from mtmh.training.step import pick_step
from mtmh.training.train import train

Make = Callable[[str], Path]


def run(world: Stages, out: Path, seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """Run the stage into `out` and return the weights."""
    out.mkdir(exist_ok=True)
    directories = (world.prepared, world.features, world.content, world.pairs, out)
    train(*directories, train_settings(**changes), seed, out / "checkpoints")
    return load_file(out / "weights.safetensors")


def share_alike(vectors: np.ndarray, group: np.ndarray) -> float:
    """Share of the five nearest old items that are of the same group."""
    scores = vectors[:OLD] @ vectors[:OLD].T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1)[:, :5]
    return float((group[nearest] == group[:OLD, None]).mean())


@pytest.mark.parametrize("objective", list(HEADS_OF))
def test_every_objective_learns_what_its_losses_ask_for(trained: Make, objective: str) -> None:
    """The contract of an objective: L_e brings items of one side together, L_r those of one
    subject.
    """
    out = trained(objective)
    found = {path.stem: np.load(path) for path in out.glob("*.npy")}
    assert set(found) == set(HEADS_OF[objective])
    for head, vectors in found.items():
        assert vectors.shape == (ITEMS, train_settings().out_dim)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
        distilled_alone = objective == "stmh" and head == "relevance"
        assert (share_alike(vectors, SIDE) > 0.9) is not distilled_alone
        assert (share_alike(vectors, SUBJECT) > 0.75) is (head == "relevance")
    curves = pq.read_table(out / "curves.parquet").to_pandas()
    losses = [name for name in curves if name.endswith("_loss")]
    assert {name.split("_head_")[0] for name in losses} == set(HEADS_OF[objective])
    assert all(curves[name].iloc[-1] < curves[name].iloc[0] for name in losses)
    assert curves["pairs"].is_monotonic_increasing
    assert not (out / "checkpoints").exists() or not list((out / "checkpoints").iterdir())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    world: Stages, trained: Make, tmp_path: Path
) -> None:
    first = (trained("mtmh") / "weights.safetensors").read_bytes()
    run(world, tmp_path / "again")
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == first
    other = run(world, tmp_path / "other", seed=1, epochs=1)
    assert any(
        (other[name] != weight).any()
        for name, weight in load_file(trained("mtmh") / "weights.safetensors").items()
    )


def test_heads_written_out_are_what_their_short_form_is(
    world: Stages, trained: Make, tmp_path: Path
) -> None:
    """Bit for bit: weights, vectors and curves but for the speed."""
    for objective in HEADS_OF:
        weights = loss_weights(objective, train_settings().w_r)
        heads = [{"name": name, "l_e": l_e, "l_r": l_r} for name, (l_e, l_r) in weights.items()]
        out = tmp_path / objective
        run(world, out, heads=heads)
        short = trained(objective)
        for name in ("weights.safetensors", *(f"{head}.npy" for head in weights)):
            assert (out / name).read_bytes() == (short / name).read_bytes(), name
        losses = [
            pq.read_table(folder / "curves.parquet").drop_columns("pairs_per_second")
            for folder in (out, short)
        ]
        assert losses[0].equals(losses[1])


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_each_of_three_heads_learns_what_its_own_weights_ask_for(
    world: Stages, tmp_path: Path, kernels: str
) -> None:
    weights = {"engagement": (1, 0), "relevance": (1, 1), "subject": (0, 1)}
    heads = [{"name": name, "l_e": l_e, "l_r": l_r} for name, (l_e, l_r) in weights.items()]
    run(world, tmp_path, heads=heads, kernels=kernels)
    assert {path.stem for path in tmp_path.glob("*.npy")} == set(weights)
    for name, (l_e, l_r) in weights.items():
        vectors = np.load(tmp_path / f"{name}.npy")
        assert (share_alike(vectors, SIDE) > 0.9) is (l_e > 0), name
        assert (share_alike(vectors, SUBJECT) > 0.75) is (l_r > 0), name
    assert list(load_model(tmp_path).heads) == list(weights)


def test_plain_pytorch_and_the_kernels_learn_the_same(world: Stages, tmp_path: Path) -> None:
    last = {}
    for kernels in ("auto", "torch"):
        run(world, tmp_path / kernels, kernels=kernels, precision="float32")
        curves = pq.read_table(tmp_path / kernels / "curves.parquet").to_pylist()
        last[kernels] = [value for name, value in curves[-1].items() if name.endswith("_loss")]
    np.testing.assert_allclose(last["auto"], last["torch"], rtol=0.01)


@pytest.mark.parametrize("objective", ["mtmh", "mtsh"])
def test_a_loaded_model_gives_the_vectors_that_were_saved(
    world: Stages, trained: Make, objective: str
) -> None:
    out = trained(objective)
    catalog = Catalog.load(Prepared.load(world.prepared), world.features)
    vectors = embed(load_model(out), catalog, torch.device("cpu"), rows=7)
    for head in HEADS_OF[objective]:
        np.testing.assert_allclose(vectors[head].numpy(), np.load(out / f"{head}.npy"), atol=1e-6)


class KilledError(Exception):
    """Stands for a power cut."""


class Fitting:
    """What `fit` needs, made anew each time as a new process would make it."""

    def __init__(self, world: Stages, epochs: int) -> None:
        data, self.epochs, self.calls = Prepared.load(world.prepared), epochs, 0
        table = pq.read_table(world.pairs / "pairs.parquet").slice(0, 3000)
        pairs = Pairs(
            *(table[name].to_numpy() for name in ("user", "trigger", "candidate", "weight"))
        )
        self.sampler = PairSampler(pairs, history=data.train_histories(), n_items=ITEMS, batch_size=8,
                                   uniform_negatives=4, seed=0, id_dropout=0.2)  # fmt: skip
        self.catalog = Catalog.load(data, world.features)
        self.content = torch.from_numpy(np.load(world.content / "content.npy"))
        torch.manual_seed(0)
        self.model = build_model(self.catalog.architecture(4, [4], 4, HEADS_OF["mtmh"]))

    def fit(self, checkpoint: Path, killed_at: int = -1) -> list[dict[str, float]]:
        step = pick_step("auto", torch.device("cpu"), torch.float32)
        real = partial(
            step.objective_loss, weights=loss_weights("mtmh", 0.5), tau_p=0.1, tau_q=0.1, logq=True
        )

        def loss(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == killed_at:
                raise KilledError
            return real(*arguments)

        return fit(
            self.model,
            self.sampler,
            self.catalog,
            self.content,
            step,
            loss,
            self.epochs,
            0.1,
            checkpoint,
        )


def test_a_resumed_run_ends_as_an_uninterrupted_one(world: Stages, tmp_path: Path) -> None:
    """Killed in the middle of an epoch, after a checkpoint that lies in the middle of one too."""
    whole, killed, resumed = (Fitting(world, epochs=2) for _ in range(3))
    per_epoch = whole.sampler.steps_per_epoch()
    assert per_epoch < CHECKPOINT_EVERY < 2 * per_epoch - 50
    assert CHECKPOINT_EVERY % per_epoch
    curves = whole.fit(tmp_path / "whole.pt")
    with pytest.raises(KilledError):
        killed.fit(tmp_path / "cut.pt", killed_at=CHECKPOINT_EVERY + 30)
    resumed_curves = resumed.fit(tmp_path / "cut.pt")
    assert resumed.calls == whole.calls - CHECKPOINT_EVERY
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    assert len(curves) == len(resumed_curves)
    for point, again in zip(curves, resumed_curves, strict=True):
        assert {**point, "pairs_per_second": 0} == {**again, "pairs_per_second": 0}
    assert not list(tmp_path.glob("*.unfinished"))


def test_with_id_dropout_the_model_places_cold_items_by_their_creator(
    world: Stages, tmp_path: Path
) -> None:
    """Items 40..43 are not in T1; their creators are, each on one side. Without dropout their one
    id was never trained.
    """
    closeness, margin = {}, {}
    for share in (0.0, 0.2):
        run(world, tmp_path / str(share), objective="engagement", id_dropout=share)
        vectors = np.load(tmp_path / str(share) / "engagement.npy")
        cosine = vectors[OLD:] @ vectors[:OLD].T
        own = SIDE[OLD:, None] == SIDE[:OLD]
        closeness[share] = float(cosine[own].mean() - cosine[~own].mean())
        margin[share] = float(cosine[own].min() - cosine[~own].max())
    assert closeness[0.2] > 0.8
    assert closeness[0.2] > closeness[0.0]
    assert margin[0.2] > margin[0.0] + 0.2


def test_what_is_hidden_is_the_id_and_the_history_alone() -> None:
    ids = torch.arange(1, 9).reshape(4, 2)
    floats = torch.arange(1.0, 13).reshape(4, 3)
    catalog = Catalog(ids, floats, {}, ["log_popularity", "price", "log_age_days"])
    hidden_ids, hidden_floats = catalog.drop_ids(ids.clone(), floats.clone(), torch.tensor([1, 3]))
    assert hidden_ids.tolist() == [[1, 2], [0, 4], [5, 6], [0, 8]]
    assert hidden_floats.tolist() == [[1, 2, 3], [0, 5, 0], [7, 8, 9], [0, 11, 0]]
    whole = catalog.drop_ids(ids.clone(), floats.clone(), torch.zeros(0, dtype=torch.int64))
    assert torch.equal(whole[0], ids)
    assert torch.equal(whole[1], floats)


def test_a_checkpoint_of_other_data_is_left_alone(world: Stages, tmp_path: Path) -> None:
    """Everything but the creators is as it was: the weights would not fit, or worse, would."""
    from mtmh.training.train import _checkpoint_key

    settings, inputs = train_settings(), [world.pairs / "pairs.parquet"]
    info = Prepared.load(world.prepared).info
    key = _checkpoint_key(settings, 0, info, inputs)
    assert key == _checkpoint_key(train_settings(), 0, dict(info), inputs)
    others = {
        _checkpoint_key(settings, 1, info, inputs),
        _checkpoint_key(train_settings(w_r=0.9), 0, info, inputs),
        _checkpoint_key(settings, 0, {**info, "fingerprint": "other"}, inputs),
        _checkpoint_key(settings, 0, info, [world.content / "content.npy"]),
    }
    assert len(others | {key}) == 5


def test_without_any_text_only_the_engagement_objective_can_be_trained(
    world: Stages, tmp_path: Path
) -> None:
    blank = tmp_path / "content"
    blank.mkdir()
    np.save(blank / "content.npy", np.zeros((ITEMS, 6), np.float32))
    stages = replace(world, content=blank)
    for objective in ("mtmh", "stmh", "mtsh"):
        with pytest.raises(UserError, match=r"write train\.objective=engagement"):
            run(stages, tmp_path / "out", objective=objective)
    heads = [{"name": "engagement", "l_e": 1}, {"name": "subject", "l_r": 1}]
    with pytest.raises(UserError, match=r"the subject head .* write l_r: 0 for it in train\.heads"):
        run(stages, tmp_path / "out", heads=heads)
    assert run(stages, tmp_path / "out", objective="engagement", epochs=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_told_at_once(world: Stages, tmp_path: Path) -> None:
    assert pick_device("auto", "train.device") == torch.device("cpu")
    with pytest.raises(UserError, match=r"train\.device is 'cuda'"):
        run(world, tmp_path / "out", device="cuda")
