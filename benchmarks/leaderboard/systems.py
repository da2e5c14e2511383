"""The project's own models as rows of the leaderboard: the heads of each objective, their merge,
and Divide and Conquer.

They are trained by the pipeline's own stages, and tuned over what the networks among the baselines
are tuned over; w_r and alpha stay as the data's settings have them. Lists are exact, as those of
the baselines, by the same pooling; cold items have their places as in a run.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.studies.divide import Division, item_model
from benchmarks.studies.grids import Setting
from benchmarks.studies.study import config_of
from mtmh.baselines.models import TEMPERATURE, TRAINED, Hyper
from mtmh.baselines.neural import weights_of
from mtmh.config import Config
from mtmh.data.prepared import Prepared
from mtmh.model.preranker import Preranker
from mtmh.model.two_heads import build_model
from mtmh.retrieval.channels import channels_of
from mtmh.retrieval.restricted import cluster_pools, merged_pool
from mtmh.retrieval.retriever import Pool, Request, Retriever
from mtmh.retrieval.scoring import place_cold
from mtmh.stages import StageFolders
from pipelines.trial import scratch, stages_before

# As TRAINED, with the heads' learning rates; the networks' widths are others.
HEADS: Mapping[str, Sequence[Any]] = {**TRAINED, "lr": (0.05, 0.02, 0.1)}
DIVIDED = {**HEADS, "clusters": (10, 20, 5), "exponent": (2.0, 1.0, 4.0)}


@dataclass(frozen=True)
class Ranked:
    """The lists of all users by a fitted model, and what it took."""

    pool: Pool
    parameters: int  # numbers learned from T1
    fit_seconds: float
    list_seconds: float


# source, settings under all, seed, hyper-parameters, request -> lists
Rank = Callable[[str, Setting, int, Hyper, Request], Ranked]


@dataclass(frozen=True)
class System:
    """A row; `tuned_as` names the one whose best setting it has, where that is another."""

    rank: Rank
    space: Mapping[str, Sequence[Any]]
    tuned_as: str = ""


def heads(
    source: str,
    base: Setting,
    seed: int,
    hyper: Hyper,
    request: Request,
    objective: str,
    head: str = "",
    preranked: bool = False,
) -> Ranked:
    """The merge of the objective's heads, or one `head` alone, with or without the preranker."""
    config = config_with(source, (*base, f"train.objective={objective}"), seed, hyper)
    last = "index" if preranked else "preranker"
    folders = stages_before(last, source, config, scratch(source))
    retriever = retriever_of(folders, config, preranked)
    metadata = json.loads((folders.model / "model.json").read_text())
    parameters = weights_of(build_model(metadata["architecture"]))
    seconds = seconds_of(folders.model)
    if retriever.preranker is not None:
        parameters += weights_of(retriever.preranker.towers)
        seconds += seconds_of(folders.preranker)
    started = time.perf_counter()
    if head:
        pool = retriever.pools(request, channels=[head])[head]
    else:
        pool = retriever.recommend(request, config.retrieval.alpha)
    return Ranked(pool, parameters, seconds, time.perf_counter() - started)


def divide(source: str, base: Setting, seed: int, hyper: Hyper, request: Request) -> Ranked:
    """Prompts and negatives a cluster, merged by the user's intent (`mtmh bench divide`); the
    clusters are of the engagement head's vectors, trained with the data's own settings."""
    trained = {name: hyper[name] for name in HEADS}
    plain = config_of(source, base, seed)
    folders = stages_before("preranker", source, plain, scratch(source))
    division = Division.of(config_with(source, base, seed, trained), folders, hyper["clusters"])
    started = time.perf_counter()
    model, vectors, queries = item_model(division, "prompts")
    fitted = time.perf_counter()
    pools = cluster_pools(vectors, division.clusters, queries, request)
    pool = merged_pool(pools, division.p, request.size, hyper["exponent"])
    listed = time.perf_counter()
    fit_seconds = fitted - started + seconds_of(folders.model)
    return Ranked(pool, weights_of(model), fit_seconds, listed - fitted)


def retriever_of(folders: StageFolders, config: Config, preranked: bool) -> Retriever:
    """A version in memory, with exact indexes."""
    data = Prepared.load(folders.prepared)
    content = np.load(folders.content / "content.npy")
    architecture = json.loads((folders.model / "model.json").read_text())["architecture"]
    channels = channels_of(architecture["heads"], config.retrieval)
    vectors = dict[str, np.ndarray]()
    indexes = dict[str, faiss.Index]()
    for channel in channels:
        rows = np.load(folders.model / f"{channel.head}.npy")
        if config.retrieval.cold == "content":
            rows = place_cold(rows, content, data.in_train, config.train.tau_q)
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(np.ascontiguousarray(rows))
        vectors[channel.name], indexes[channel.name] = rows, index
    ranker = Preranker.load(folders.preranker) if preranked else None
    return Retriever(data.items, channels, vectors, indexes, content, ranker)


def config_with(source: str, base: Setting, seed: int, hyper: Hyper) -> Config:
    """The settings of a run with the hyper-parameters."""
    return config_of(source, (*base, *as_settings(hyper)), seed)


def as_settings(hyper: Hyper) -> Setting:
    """Hyper-parameters in their sections, as `--set` takes them."""
    section = {name: "retrieval" if name == TEMPERATURE else "train" for name in hyper}
    return tuple(f"{section[name]}.{name}={json.dumps(value)}" for name, value in hyper.items())


def seconds_of(artifact: Path) -> float:
    """Wall seconds of the stage that made it."""
    return float(json.loads((artifact / "step.json").read_text())["seconds"])


SYSTEMS: dict[str, System] = {
    "engagement_alone": System(partial(heads, objective="engagement"), HEADS),
    "mtsh": System(partial(heads, objective="mtsh"), HEADS),
    "stmh": System(partial(heads, objective="stmh"), HEADS),
    "mtmh": System(partial(heads, objective="mtmh"), HEADS),
    "mtmh_engagement_head": System(
        partial(heads, objective="mtmh", head="engagement"), HEADS, tuned_as="mtmh"
    ),
    "mtmh_relevance_head": System(
        partial(heads, objective="mtmh", head="relevance"), HEADS, tuned_as="mtmh"
    ),
    "mtmh_preranked": System(
        partial(heads, objective="mtmh", preranked=True), HEADS, tuned_as="mtmh"
    ),
    "divide_and_conquer": System(divide, DIVIDED),
}
