"""Divide and Conquer (paper.md section 8): retrieval a cluster with prompts and without, against
one global index of the same model, and what the exponent of the merge does.

Clusters are K-means of the engagement head's vectors. Item-to-item models train by the loop of the
heads on the same pairs with L_e alone; no preranker. "global" ranks the whole catalog at once,
"a=.." is the controllable merge of the clusters' lists, each of the exact nearest. A model's name
says its negatives: of the whole catalog, of the positive's cluster, or of the cluster with prompts.
The sequential form has rows of its own. All on the validation tail of T1.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer

from benchmarks.studies.grids import BEAUTY, SEEDS, Setting, Study
from benchmarks.studies.study import Data, Outcome, Seeds, Settings, Trials, config_of, lines, run
from mtmh.config import Config
from mtmh.data.cluster_sampler import ClusterSampler
from mtmh.data.cluster_sequences import ClusterSequences, sequences_of
from mtmh.data.clusters import Clusters, cluster_by_vectors
from mtmh.data.pair_source import Pairs
from mtmh.data.prepared import Prepared
from mtmh.data.sampler import PairSampler
from mtmh.evaluation.evaluate import Test, measure, summary
from mtmh.evaluation.metrics import topic_entropy
from mtmh.model.catalog import Catalog
from mtmh.retrieval.controllable import intent
from mtmh.retrieval.restricted import cluster_pools, lists_over_all, merged_pool
from mtmh.retrieval.retriever import Pool, Request, pool_lists
from mtmh.retrieval.scoring import place_cold
from mtmh.retrieval.user_lists import user_lists
from mtmh.stages import StageFolders
from mtmh.training.prompted import item_vectors, train_prompted, trigger_vectors
from mtmh.training.prompted_sequence import (
    SequenceSettings,
    candidate_vectors,
    train_sequence,
    user_vectors,
)
from mtmh.version_hash import code_version
from pipelines.trial import Figures, model_folders, scratch

EXPONENTS = (0.0, 0.5, 1.0, 2.0, 4.0, 16.0)
STRENGTH = 1.0  # of the prior, in items of a history
METRICS = (
    "recall_at_20",
    "recall_at_500",
    "l1_relevance",
    "l2_relevance",
    "intra_list_diversity",
    "topic_entropy",
)
NAMES = {"catalog": (False, False), "cluster": (True, False), "prompts": (True, True)}
BEST, PLAIN = "prompts, a=1", "prompts, global"
SEQUENCE = SequenceSettings()
Named = Iterator[tuple[str, Pool]]
ClusterCount = Annotated[int, typer.Option(min=1, help="K, into how many clusters items fall.")]


def main(
    data: Data = [BEAUTY],  # noqa: B006 (typer reads it, nobody changes it)
    seeds: Seeds = SEEDS,
    clusters: ClusterCount = 20,
    settings: Settings = None,
) -> None:
    """Retrieval a cluster with and without prompts, beside one global index, over exponents."""
    study = Study([()], METRICS, merge=BEST)
    run("divide", judge, data, seeds, settings, partial(try_divided, count=clusters), study)


def judge(trials: Trials) -> Outcome:
    """Prompts at a = 1, beside one global ranking of the same model."""
    table = trials.table(())
    recall = {name: table[name]["recall_at_500"]["mean"] for name in (BEST, PLAIN)}
    details = {
        "period": "validation tail of T1",
        "seeds": trials.seeds,
        "sequence": asdict(SEQUENCE),
        "intent": f"frequencies of the history, smoothed by {STRENGTH:g} of the popularity",
        "models": table,
    }
    unit = "recall@500 of prompts and the merge at a = 1, beside one global ranking of that model"
    return Outcome(recall[BEST], unit, recall[PLAIN], details, lines(table))


def try_divided(source: str, setting: Setting, seed: int, count: int) -> Figures:
    """The figures of every model at one seed; a finished seed is read, not run again."""
    config, work = config_of(source, setting, seed), scratch(source).resolve()
    recipe = json.dumps([config.model_dump(), count, code_version(), Path(__file__).read_text()])
    file = work / "divide" / f"{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.json"
    if not file.exists():
        folders = model_folders(source, config, work)
        figures = measured(config, folders, count)
        # Under its name only once it is whole.
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".unfinished")
        draft.write_text(json.dumps(figures, indent=1))
        draft.rename(file)
    read: Figures = json.loads(file.read_text())
    return read


def measured(config: Config, folders: StageFolders, count: int) -> Figures:
    """Train and rank each model, and measure its lists by the project's protocol."""
    data = Prepared.load(folders.prepared)
    content = np.load(folders.content / "content.npy")
    test = Test.of(data, content, config.retrieval.triggers, config.evaluation.fresh_hours)
    place = partial(place_cold, content=content, in_train=data.in_train, tau_q=config.train.tau_q)
    heads = place(np.load(folders.model / "engagement.npy"))
    clusters = cluster_by_vectors(heads, count, config.seed)
    print(f"divide: {count} clusters of {np.sort(clusters.members.lengths)} items", flush=True)
    prior = np.bincount(clusters.of_item, data.popularity, count) / data.popularity.sum()
    p = intent(test.seen, clusters.of_item, prior, STRENGTH)
    figures: Figures = {}
    of_items = item_models(config, folders, data, clusters, test, p, place)
    of_sequences = sequence_models(config, data, clusters, test, p, place)
    for models in (of_items, of_sequences):
        for name, pool in models:
            figures[name] = summary(measure(pool, test), pool, test)
            bits = test.l1_bits
            figures[name]["topic_entropy"] = (
                None if bits is None else topic_entropy(pool.item, bits)
            )
            shown = (f"{metric} {figures[name][metric] or 0:.4f}" for metric in METRICS)
            print(f"divide: {name}: {', '.join(shown)}", flush=True)
    return figures


def item_models(
    config: Config,
    folders: StageFolders,
    data: Prepared,
    clusters: Clusters,
    test: Test,
    p: np.ndarray,
    place: Callable[[np.ndarray], np.ndarray],
) -> Named:
    """The item-to-item models' lists: of the whole catalog, and merged at each exponent."""
    catalog, train = Catalog.load(data, folders.features), config.train
    pairs, history = all_pairs(folders.pairs / "pairs.parquet"), data.train_histories()
    drawn = (train.batch_size, train.uniform_negatives, config.seed)
    request = Request.of(test.triggers, test.seen, config.retrieval)
    distinct = np.unique(test.triggers.values)
    for name, (divided, prompted) in NAMES.items():
        sampler = (
            ClusterSampler(pairs, history, clusters, *drawn, id_dropout=train.id_dropout)
            if divided
            else PairSampler(pairs, history, data.n_items, *drawn, id_dropout=train.id_dropout)
        )
        model = train_prompted(catalog, sampler, clusters, train, config.seed, prompted)
        vectors, queries = (
            place(item_vectors(model, catalog)),
            partial(trigger_vectors, model, catalog),
        )
        lists = lists_over_all(vectors, clusters, queries, distinct, request.k_ann)
        overall = pool_lists(distinct, lists, request, request.size, data.n_items)
        yield from merges(name, overall, cluster_pools(vectors, clusters, queries, request), p)


def sequence_models(
    config: Config,
    data: Prepared,
    clusters: Clusters,
    test: Test,
    p: np.ndarray,
    place: Callable[[np.ndarray], np.ndarray],
) -> Named:
    """The same of the sequential form; with negatives of the whole catalog it is a SASRec."""
    request = Request.of(test.triggers, test.seen, config.retrieval)
    past = sequences_of(test.triggers, SEQUENCE.length)
    whole = Clusters.of(np.zeros(data.n_items, np.int64))
    for name, (divided, prompted) in NAMES.items():
        sampler = ClusterSequences(
            data.train_histories(),
            clusters if divided else whole,
            SEQUENCE.batch_size,
            SEQUENCE.negatives,
            SEQUENCE.length,
            config.seed,
        )
        model = train_sequence(sampler, SEQUENCE, config.seed, prompted)
        # Without prompts the users are the same to every cluster.
        users = [
            user_vectors(model, past, cluster if prompted else 0)
            for cluster in range(clusters.count if prompted else 1)
        ] * (1 if prompted else clusters.count)
        overall, pools = user_lists(place(candidate_vectors(model)), clusters, users, request)
        yield from merges(f"sequence, {name}", overall, pools, p)


def merges(name: str, overall: Pool, pools: list[Pool], p: np.ndarray) -> Named:
    """One model's rows: the global ranking, and the clusters' lists merged at each exponent."""
    yield f"{name}, global", overall
    for exponent in EXPONENTS:
        yield f"{name}, a={exponent:g}", merged_pool(pools, p, overall.item.shape[1], exponent)


def all_pairs(path: Path) -> Pairs:
    """Every pair of the file in memory, in its order."""
    table = pq.read_table(path, columns=["user", "trigger", "candidate", "weight"])
    return Pairs(*(column.to_numpy() for column in table.columns))
