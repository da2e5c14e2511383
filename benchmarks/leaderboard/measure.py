"""One model of the leaderboard at one setting and seed, measured in the project's own protocol;
what was measured is read and not fitted again."""

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.leaderboard import segments, systems
from benchmarks.leaderboard.systems import SYSTEMS, Ranked
from benchmarks.studies.grids import Setting
from benchmarks.studies.study import config_of
from mtmh.baselines.contract import TrainData
from mtmh.baselines.models import MODELS, TEMPERATURE, Hyper, drawn, fit_baseline
from mtmh.baselines.protocol import FIGURES, load_test, pool_of
from mtmh.config import Config
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import Test, measure, summary
from mtmh.retrieval.retriever import Request
from mtmh.stages import StageFolders
from pipelines.trial import scratch, stages_before

Period = Literal["validation", "test"]
NAMES = (*MODELS, *SYSTEMS)
OF_USERS = ("recall", "l2_matches", "retrieved")  # what the comparison of two models reads


@dataclass(frozen=True)
class Measured:
    """A model's FIGURES, the same by segments, its size and cost, and OF_USERS [U] each; l2_matches
    empty where the data has no topics."""

    figures: dict[str, float | None]
    segments: segments.Segments
    parameters: int
    seconds: float  # of fitting
    milliseconds: float  # a user's list, all users asked for at once
    users: dict[str, np.ndarray]


@dataclass(frozen=True)
class Bench:
    """Where models are measured: the data, the period, and settings under those of every model."""

    source: str
    period: Period
    base: Setting = ()

    def measured(self, name: str, hyper: Hyper, seed: int) -> Measured:
        """The model `name`; raises UserError where the data lacks what it reads."""
        settings = (*self.base, f"data.period={self.period}")
        config = config_of(self.source, settings, seed)
        folders = stages_before("train", self.source, config, scratch(self.source))
        # The name is made of all that the figures depend on; how a system is built is no part of
        # the code's version that the folder has in its name.
        recipe = {
            "model": name,
            "hyper": dict(hyper),
            "config": config.model_dump(exclude={"cluster"}, mode="json"),
            "inputs": [folders.prepared.name, folders.content.name, folders.pairs.name],
            "systems": Path(systems.__file__).read_text() if name in SYSTEMS else "",
            "segments": Path(segments.__file__).read_text(),
        }
        key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
        file = folders.prepared.parents[1] / "leaderboard" / f"{name}-{key}.npz"
        if not file.exists():
            popularity = Prepared.load(folders.prepared).popularity
            write(file, recipe, popularity, *self._fitted(name, hyper, config, folders))
        # What is there is read, also right after it was written: both ways give the same numbers.
        with np.load(file) as arrays:
            row = json.loads(str(arrays["row"]))
            users = {part: arrays[part] for part in OF_USERS}
        return Measured(
            row["figures"],
            row["segments"],
            row["parameters"],
            row["seconds"],
            row["milliseconds"],
            users,
        )

    def _fitted(
        self, name: str, hyper: Hyper, config: Config, folders: StageFolders
    ) -> tuple[Ranked, Test]:
        """The model's lists for all test users."""
        data, retrieval = Prepared.load(folders.prepared), config.retrieval
        test = load_test(data, folders.content, retrieval, config.evaluation.fresh_hours)
        request = Request.of(test.triggers, test.seen, retrieval)
        if name in SYSTEMS:
            request = replace(request, temperature=hyper[TEMPERATURE])
            settings = (*self.base, f"data.period={self.period}")
            return SYSTEMS[name].rank(self.source, settings, config.seed, hyper, request), test
        # Fitted on T1 alone; the lists are of those who come back after it.
        train_data = TrainData.load(data, folders.features, folders.content, folders.pairs)
        started = time.perf_counter()
        model = fit_baseline(name, train_data, config.train, config.seed, hyper)
        fitted = time.perf_counter()
        pool = pool_of(model, request, data.n_items, hyper[TEMPERATURE])
        listed = time.perf_counter()
        return Ranked(pool, model.parameters, fitted - started, listed - fitted), test


def settings_of(name: str, count: int) -> list[dict[str, Any]]:
    """The first `count` settings of a model, its default first."""
    return drawn(SYSTEMS[name].space if name in SYSTEMS else MODELS[name].space, count)


def tuned_as(name: str) -> str:
    """The model whose trials choose the setting of `name`: itself, but for the parts of another."""
    return (SYSTEMS[name].tuned_as if name in SYSTEMS else "") or name


def is_seeded(name: str) -> bool:
    """Whether a seed changes what the model learns."""
    return name in SYSTEMS or MODELS[name].seeded


def write(
    file: Path, recipe: dict[str, Any], popularity: np.ndarray, ranked: Ranked, test: Test
) -> None:
    """The figures of the lists, under the file's name only once they are whole. `popularity` int
    [items], engagements in T1."""
    metrics = measure(ranked.pool, test)
    figures = summary(metrics, ranked.pool, test)
    groups = segments.popular_and_tail(popularity)
    groups |= {name: test.item_groups[name] for name in ("cold", "fresh")}
    row = {
        "figures": {figure: figures[figure] for figure in FIGURES},
        "segments": segments.segments(ranked.pool, test, groups),
        "parameters": ranked.parameters,
        "seconds": ranked.fit_seconds,
        "milliseconds": 1000 * ranked.list_seconds / len(test.users),
        "recipe": recipe,
    }
    # Written beside its name and renamed: what has the name is whole.
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".unfinished.npz")
    matches = metrics.l2_matches
    np.savez(
        draft,
        allow_pickle=False,
        row=np.array(json.dumps(row)),
        recall=metrics.recall[:, -1],
        l2_matches=np.zeros(0, np.int32) if matches is None else matches,
        retrieved=metrics.retrieved,
    )
    draft.rename(file)
