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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer

from benchmarks.studies.grids import BEAUTY_ALONE, SEEDS, Setting, Study
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
from mtmh.model.prompted import PromptedItems
from mtmh.retrieval.controllable import intent
from mtmh.retrieval.restricted import Queries, cluster_pools, lists_over_all, merged_pool
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
# Small, for a CPU; not tuned.
SEQUENCE = SequenceSettings(dim=32, length=10, epochs=4, lr=0.01)
Named = Iterator[tuple[str, Pool]]
ClusterCount = Annotated[int, typer.Option(min=1, help="K, into how many clusters items fall.")]

WithSequence = Annotated[
    bool, typer.Option("--sequence/--items", help="The sequential form too, or items' alone.")
]


def main(
    data: Data = BEAUTY_ALONE,
    seeds: Seeds = SEEDS,
    clusters: ClusterCount = 20,
    sequence: WithSequence = True,
    settings: Settings = None,
) -> None:
    """Retrieval a cluster with and without prompts, beside one global index, over exponents."""
    study = Study([()], METRICS, merge=BEST)
    trial = partial(try_divided, count=clusters, sequence=sequence)
    run("divide", partial(judge, count=clusters), data, seeds, settings, trial, study)


def judge(trials: Trials, count: int) -> Outcome:
    """Prompts at a = 1, beside one global ranking of the same model."""
    table = trials.table(())
    recall = {name: table[name]["recall_at_500"]["mean"] for name in (BEST, PLAIN)}
    details = {
        "period": "validation tail of T1",
        "seeds": trials.seeds,
        "clusters": count,
        "sequence": asdict(SEQUENCE),
        "intent": f"frequencies of the history, smoothed by {STRENGTH:g} of the popularity",
        "models": table,
    }
    unit = "recall@500 of prompts and the merge at a = 1, beside one global ranking of that model"
    return Outcome(recall[BEST], unit, recall[PLAIN], details, lines(table))


def try_divided(source: str, setting: Setting, seed: int, count: int, sequence: bool) -> Figures:
    """The figures of every model at one seed; what a model has given is read, not run again."""
    config, work = config_of(source, setting, seed), scratch(source).resolve()
    folders = model_folders(source, config, work)
    recipe = json.dumps([config.model_dump(), count, code_version(), Path(__file__).read_text()])
    folder = work / "divide" / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    figures: Figures = {}
    division: Division | None = None
    for form in (item_lists, sequence_lists) if sequence else (item_lists,):
        for name in NAMES:
            file = folder / f"{form.__name__}-{name}.json"
            if not file.exists():
                division = division or Division.of(config, folders, count)
                # Under its name only once it is whole.
                draft = file.with_suffix(".unfinished")
                draft.write_text(json.dumps(division.figures(form(division, name)), indent=1))
                draft.rename(file)
            figures |= json.loads(file.read_text())
    return figures


@dataclass(frozen=True)
class Division:
    """What the models of one seed share."""

    config: Config
    folders: StageFolders
    data: Prepared
    test: Test
    clusters: Clusters
    p: np.ndarray  # float64 [test users, K], their intent

    @classmethod
    def of(cls, config: Config, folders: StageFolders, count: int) -> "Division":
        """Clusters of the engagement head's vectors, and the test users' intent."""
        data = Prepared.load(folders.prepared)
        content = np.load(folders.content / "content.npy")
        test = Test.of(data, content, config.retrieval.triggers, config.evaluation.fresh_hours)
        heads = np.load(folders.model / "engagement.npy")
        placed = place_cold(heads, content, data.in_train, config.train.tau_q)
        clusters = cluster_by_vectors(placed, count, config.seed)
        lengths = np.sort(clusters.members.lengths).tolist()
        print(f"divide: {count} clusters of {lengths} items", flush=True)
        prior = np.bincount(clusters.of_item, data.popularity, count) / data.popularity.sum()
        p = intent(test.seen, clusters.of_item, prior, STRENGTH)
        return cls(config, folders, data, test, clusters, p)

    @property
    def request(self) -> Request:
        """As the stages retrieve."""
        return Request.of(self.test.triggers, self.test.seen, self.config.retrieval)

    def with_cold(self, vectors: np.ndarray) -> np.ndarray:
        """The vectors with cold items placed by content, in every model alike."""
        tau_q = self.config.train.tau_q
        return place_cold(vectors, self.test.content, self.data.in_train, tau_q)

    def figures(self, models: Named) -> Figures:
        """The project's measures of each list, and the entropy of its L1 topics."""
        figures: Figures = {}
        for name, pool in models:
            row = summary(measure(pool, self.test), pool, self.test)
            bits = self.test.l1_bits
            row["topic_entropy"] = None if bits is None else topic_entropy(pool.item, bits)
            printed = (f"{metric} {row[metric] or 0:.4f}" for metric in METRICS)
            print(f"divide: {name}: {', '.join(printed)}", flush=True)
            figures[name] = row
        return figures


def item_model(division: Division, name: str) -> tuple[PromptedItems, np.ndarray, Queries]:
    """One item-to-item model with the vectors of its candidates and of its triggers."""
    divided, prompted = NAMES[name]
    data, clusters, train = division.data, division.clusters, division.config.train
    seed = division.config.seed
    catalog = Catalog.load(data, division.folders.features)
    pairs, history = all_pairs(division.folders.pairs / "pairs.parquet"), data.train_histories()
    drawn = (train.batch_size, train.uniform_negatives, seed)
    sampler = (
        ClusterSampler(pairs, history, clusters, *drawn, id_dropout=train.id_dropout)
        if divided
        else PairSampler(pairs, history, data.n_items, *drawn, id_dropout=train.id_dropout)
    )
    model = train_prompted(catalog, sampler, clusters, train, seed, prompted)
    vectors = division.with_cold(item_vectors(model, catalog))
    return model, vectors, partial(trigger_vectors, model, catalog)


def item_lists(division: Division, name: str) -> Named:
    """One item-to-item model's lists: of the whole catalog, and merged at each exponent."""
    _, vectors, queries = item_model(division, name)
    clusters, request, n_items = division.clusters, division.request, division.data.n_items
    distinct = np.unique(request.triggers.values)
    lists = lists_over_all(vectors, clusters, queries, distinct, request.k_ann)
    overall = pool_lists(distinct, lists, request, request.size, n_items)
    yield from merges(name, overall, cluster_pools(vectors, clusters, queries, request), division.p)


def sequence_lists(division: Division, name: str) -> Named:
    """The same of the sequential form; with negatives of the whole catalog it is a SASRec."""
    divided, prompted = NAMES[name]
    clusters, seed, test = division.clusters, division.config.seed, division.test
    whole = Clusters.of(np.zeros(division.data.n_items, np.int64))
    drawn = (SEQUENCE.batch_size, SEQUENCE.negatives, SEQUENCE.length, seed)
    history = division.data.train_histories()
    sampler = ClusterSequences(history, clusters if divided else whole, *drawn)
    model = train_sequence(sampler, SEQUENCE, seed, prompted)
    # Without prompts the users are the same to every cluster.
    past = sequences_of(test.triggers, SEQUENCE.length)
    if prompted:
        users = [user_vectors(model, past, cluster) for cluster in range(clusters.count)]
    else:
        users = [user_vectors(model, past, 0)] * clusters.count
    vectors = division.with_cold(candidate_vectors(model))
    overall, pools = user_lists(vectors, clusters, users, division.request)
    yield from merges(f"sequence, {name}", overall, pools, division.p)


def merges(name: str, overall: Pool, pools: list[Pool], p: np.ndarray) -> Named:
    """One model's rows: the global ranking, and the clusters' lists merged at each exponent."""
    yield f"{name}, global", overall
    for exponent in EXPONENTS:
        yield f"{name}, a={exponent:g}", merged_pool(pools, p, overall.item.shape[1], exponent)


def all_pairs(path: Path) -> Pairs:
    """Every pair of the file in memory, in its order."""
    table = pq.read_table(path, columns=["user", "trigger", "candidate", "weight"])
    return Pairs(*(column.to_numpy() for column in table.columns))
