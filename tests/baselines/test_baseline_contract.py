"""The one contract of all baselines, on a checkerboard: what each must answer is known."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers.checkerboard import ITEMS, OLD, SIDE, SUBJECT, retrieval_settings, train_settings

from mtmh.baselines.contract import Baseline, TrainData
from mtmh.baselines.models import MODELS, TEMPERATURE, fit_baseline, named, trials
from mtmh.baselines.protocol import FIGURES, evaluate_baseline, load_test
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from mtmh.stages import StageFolders

TRIGGERS = np.arange(OLD, dtype=np.int32)
SAME_FOR_ALL = ("popularity", "recent_popularity")
# A model of 64 factors (here are two sides), or a penalty of 1,000, is for more than 40 items.
SMALL: dict[str, dict[str, Any]] = {
    "als": {"factors": 2, "alpha": 10.0},
    "ease": {"regularization": 10},
    "sasrec": {"epochs": 20, "batch_size": 8, "lr": 0.03, "tau": 0.1},
    "hstu": {"epochs": 20, "batch_size": 8, "lr": 0.03, "tau": 0.1},
}


def small_setting(name: str) -> dict[str, Any]:
    return trials(name, 1)[0] | SMALL.get(name, {})


@pytest.fixture(scope="module")
def data(world: StageFolders) -> TrainData:
    prepared = Prepared.load(world.prepared)
    return TrainData.load(prepared, world.features, world.content, world.pairs)


@pytest.fixture(scope="module")
def fitted(data: TrainData) -> Any:
    """Name -> the model, fitted once."""
    return cache(lambda name: fit_baseline(name, data, train_settings(), 0, small_setting(name)))


@pytest.mark.parametrize("k", [1, 10, ITEMS + 20])
@pytest.mark.parametrize("name", MODELS)
def test_lists_are_ordered_and_end_and_leave_the_trigger_out(
    name: str, k: int, fitted: Any
) -> None:
    ids, scores = fitted(name).similar_items(TRIGGERS, k)
    assert (ids.dtype, scores.dtype, ids.shape, scores.shape) == (
        np.int32,
        np.float32,
        (OLD, k),
        (OLD, k),
    )
    assert not (ids == TRIGGERS[:, None]).any()
    for row, score in zip(ids, scores, strict=True):
        length = int((row >= 0).sum())
        assert length > 0
        assert (row[length:] == -1).all()
        assert (score[length:] == -np.inf).all()
        assert len(set(row[:length])) == length
        assert (np.diff(score[:length]) <= 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_answer_is_known(name: str, fitted: Any, data: TrainData) -> None:
    """Items of one side are engaged with together, items of one subject are alike, and of all, the
    most engaged are the most popular."""
    ids, _ = fitted(name).similar_items(TRIGGERS, 8)
    if name in SAME_FOR_ALL:
        last = data.events if name == "popularity" else data.events[-len(data.events) // 10 :]
        counts = np.bincount(last, minlength=ITEMS)
        for trigger, row in zip(TRIGGERS, ids, strict=True):
            others = np.delete(counts, trigger)
            assert sorted(counts[row]) == sorted(others)[-8:]
        return
    alike = SUBJECT if name == "content" else SIDE
    assert (ids >= 0).all()
    assert (alike[ids] == alike[TRIGGERS][:, None]).mean() > 0.95


@pytest.mark.parametrize("name", MODELS)
def test_what_is_learned_is_counted(name: str, fitted: Any) -> None:
    assert (fitted(name).parameters > 0) == (name != "content")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_fitted_twice_alike(name: str, fitted: Any, data: TrainData) -> None:
    again: Baseline = fit_baseline(name, data, train_settings(), 0, small_setting(name))
    for first, second in zip(
        fitted(name).similar_items(TRIGGERS, 10), again.similar_items(TRIGGERS, 10), strict=True
    ):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_measured_in_the_protocol(
    name: str, fitted: Any, world: StageFolders
) -> None:
    """Users of a side want what is left of their side, so a model that knows sides finds more."""
    settings = retrieval_settings()
    test = load_test(Prepared.load(world.prepared), world.content, settings, 24.0)
    figures = {
        one: evaluate_baseline(fitted(one), test, settings, small_setting(one)[TEMPERATURE])
        for one in (name, "popularity")
    }
    assert tuple(figures[name]) == FIGURES
    assert 0 < figures[name]["coverage"] <= 1
    if name not in (*SAME_FOR_ALL, "content"):
        assert figures[name]["warm_recall_at_500"] > figures["popularity"]["warm_recall_at_500"]


def test_every_model_is_tried_as_often_or_wholly() -> None:
    for name, model in MODELS.items():
        drawn = trials(name, 8)
        assert drawn[0] == {key: values[0] for key, values in model.space.items()}
        assert len({str(hyper) for hyper in drawn}) == len(drawn) <= 8
        assert drawn == trials(name, 20)[: len(drawn)]


def test_an_unknown_baseline_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"--models magic: no such model\. Known: popularity, "):
        named(["itemknn", "magic"])
    assert named(["itemknn", "popularity"]) == ["popularity", "itemknn"]
