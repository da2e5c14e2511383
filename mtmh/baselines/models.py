"""Every baseline by its name: how it is fitted, and the hyper-parameters that it is tuned over.

A space lists the values of each hyper-parameter, the default first. `trials` draws the same number
of settings for every model, so that none is tuned more than another; a model with fewer settings
than that has all of them tried.
"""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtmh.baselines import classical, neural, sequences
from mtmh.baselines.contract import Baseline, TrainData
from mtmh.config import TrainSettings
from mtmh.errors import UserError

Hyper = Mapping[str, Any]  # name of a hyper-parameter -> its value
TEMPERATURE = "temperature"  # of pooling, a hyper-parameter of every model; None: sum of the scores
SUMS_FIRST = (None, 0.15, 0.1, 0.3)  # pooling of models whose own ranking is the sum
SUMS = (None,)  # of models whose scores are no cosines


@dataclass(frozen=True)
class Model:
    """One baseline; `fit` takes T1, the settings of the stage train, a seed and its
    hyper-parameters."""

    fit: Callable[[TrainData, TrainSettings, int, Hyper], Baseline]
    space: Mapping[str, Sequence[Any]]
    seeded: bool  # whether a seed changes what it learns


TRAINED: Mapping[str, Sequence[Any]] = {  # what the networks are tuned over
    "lr": (0.02, 0.01, 0.05),
    "tau_p": (0.1, 0.07, 0.15),
    "logq": (False, True),
    TEMPERATURE: (0.15, 0.1, 0.2),
}
# At 0.02 and more the mixture's gate settles before its dots have learned anything.
MIXED = {**TRAINED, "lr": (0.01, 0.005, 0.002)}
# Squared distances are larger than cosines, and so are their temperatures.
BY_DISTANCE = {**TRAINED, "tau_p": (1.0, 0.5, 0.3), TEMPERATURE: (1.0, 0.5, 0.3)}
# A history's rows are many examples: 256 histories a step, and Adam's learning rates.
SEQUENTIAL: Mapping[str, Sequence[Any]] = {
    "lr": (0.003, 0.001, 0.01),
    "epochs": (5, 10),
    TEMPERATURE: (0.15, 0.1, 0.2),
}


def of_data(fit: Callable[..., Baseline]) -> Callable[..., Baseline]:
    """A function of T1 and hyper-parameters as `Model.fit`: nothing in it is random or trained."""
    return lambda data, train, seed, hyper: fit(data, **hyper)


MODELS: dict[str, Model] = {
    "popularity": Model(of_data(classical.popularity), {TEMPERATURE: SUMS}, seeded=False),
    "recent_popularity": Model(
        of_data(classical.recent_popularity),
        {"share": (0.1, 0.5, 0.3, 0.2, 0.07, 0.05, 0.03, 0.02), TEMPERATURE: SUMS},
        seeded=False,
    ),
    "content": Model(
        of_data(classical.content_alone),
        {TEMPERATURE: (0.15, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3)},
        seeded=False,
    ),
    "itemknn": Model(
        of_data(classical.item_knn),
        {
            "weighting": ("none", "tfidf", "bm25"),
            "shrinkage": (0, 5, 20, 100, 500),
            TEMPERATURE: SUMS_FIRST,
        },
        seeded=False,
    ),
    "rp3beta": Model(
        of_data(classical.rp3beta),
        {"alpha": (1.0, 0.6, 0.8, 1.2), "beta": (0.0, 0.2, 0.4, 0.6), TEMPERATURE: SUMS},
        seeded=False,
    ),
    "ease": Model(
        of_data(classical.ease),
        {"regularization": (1000, 30, 100, 200, 500, 2000, 5000, 10000), TEMPERATURE: SUMS},
        seeded=False,
    ),
    "als": Model(
        lambda data, train, seed, hyper: classical.als(data, seed, **hyper),
        {
            "votes": ("fold_in", "cosine"),
            "factors": (64, 128, 256),
            "regularization": (0.01, 0.1, 1.0, 10.0),
            "alpha": (10.0, 40.0, 5.0),
            TEMPERATURE: SUMS_FIRST,
        },
        seeded=True,
    ),
    "itemcf": Model(
        lambda data, train, seed, hyper: neural.item_cf(data, train, seed, **hyper),
        BY_DISTANCE,
        seeded=True,
    ),
    "neucf": Model(
        lambda data, train, seed, hyper: neural.item_tower(data, train, seed, "neucf", **hyper),
        TRAINED,
        seeded=True,
    ),
    "content_features": Model(
        lambda data, train, seed, hyper: neural.item_tower(
            data, train, seed, "content_features", neural.CONTENT_WIDTH, **hyper
        ),
        TRAINED,
        seeded=True,
    ),
    "mol": Model(
        lambda data, train, seed, hyper: neural.mixture_of_logits(
            data, train, seed, "mol", **hyper
        ),
        MIXED,
        seeded=True,
    ),
    "hllm": Model(
        lambda data, train, seed, hyper: neural.item_tower(data, train, seed, "hllm", 0, **hyper),
        TRAINED,
        seeded=True,
    ),
    "sasrec": Model(
        lambda data, train, seed, hyper: sequences.sequence_items(
            data, train, seed, sequences.SASREC, **hyper
        ),
        {**SEQUENTIAL, "tau": (0.1, 0.05), "query": ("table", "alone")},
        seeded=True,
    ),
    "hstu": Model(
        lambda data, train, seed, hyper: sequences.sequence_items(
            data, train, seed, sequences.HSTU, **hyper
        ),
        {**SEQUENTIAL, "tau": (0.05, 0.1), "query": ("table",)},
        seeded=True,
    ),
}


def trials(name: str, count: int) -> list[dict[str, Any]]:
    """The first `count` settings of a baseline: see `drawn`."""
    return drawn(MODELS[name].space, count)


def drawn(space: Mapping[str, Sequence[Any]], count: int) -> list[dict[str, Any]]:
    """The first `count` settings of a space: its default, then a draw without repetition.

    The draw is the same wherever and whenever it is made. A fold-in's scores are no cosines, so a
    setting that would pool them as such is left out.
    """
    settings = [
        dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())
    ]
    settings = [
        hyper for hyper in settings if hyper.get("votes") != "fold_in" or hyper[TEMPERATURE] is None
    ]
    # The default is the first of all combinations, as it is of each hyper-parameter.
    others = np.random.default_rng(0).permutation(len(settings) - 1) + 1
    return [settings[number] for number in (0, *others[: count - 1])]


def fit_baseline(
    name: str, data: TrainData, train: TrainSettings, seed: int, hyper: Hyper
) -> Baseline:
    """The model `name` fitted on T1. Raises UserError where the data lacks what it reads, or is too
    large for it."""
    fitted = {key: value for key, value in hyper.items() if key != TEMPERATURE}
    return MODELS[name].fit(data, train, seed, fitted)


def named(names: Sequence[str] | None, models: Collection[str] = MODELS) -> list[str]:
    """`names` in the order of `models`, all by default. Raises UserError where one is not known."""
    if wrong := sorted(set(names or ()) - set(models)):
        raise UserError(f"--models {', '.join(wrong)}: no such model. Known: {', '.join(models)}.")
    return [name for name in models if not names or name in names]
