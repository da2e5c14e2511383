"""What the studies of settings try: all settings, what is shown of them, and the data sets, on one
page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Setting = tuple[str, ...]  # section.key=value, over the data set's own settings

YELP, BEAUTY, GLOBO = (f"../shared/data/{name}" for name in ("yelp2019", "amazon-beauty", "globo"))
DATA, DATA_WITH_FRESH, SEEDS = [YELP, BEAUTY], [YELP, BEAUTY, GLOBO], 3
BEAUTY_ALONE, WORLD_ALONE = [BEAUTY], ["synthetic"]
ONE_WORLD = "data.synthetic.seed=0"  # seeds are then of the models alone, and users can be paired
RECALLS = ("recall_at_20", "recall_at_100", "recall_at_500")
COLD_RECALL = "cold_recall_at_500"


@dataclass(frozen=True)
class Study:
    """Settings that are each tried at every seed; equal ones are tried once."""

    settings: Sequence[Setting]
    metrics: Sequence[str]  # what is shown, as in metrics.json
    merge: str = "merged"  # the model that must have `needs`
    needs: str = "l2_relevance"


@dataclass(frozen=True)
class Part:
    """A part of the training data: what switches it, and a reason why it is no default whatever it
    brings."""

    on: Setting
    off: Setting
    never: str = ""


# What a run has, against a run without: where the model does not depend on it, training comes from
# the cache.
WITHOUT: dict[str, Setting] = {"cold items placed by content": ("retrieval.cold=model",)}
PARTS = {
    "SIM, soft": Part(("pairs.sim=soft",), ("pairs.sim=none",)),
    "SIM, hard": Part(
        ("pairs.sim=hard",), ("pairs.sim=none",), "shows the model what relevance is measured on"
    ),
    "propensity": Part(("pairs.propensity=true",), ("pairs.propensity=false",)),
    "logQ": Part(("train.logq=true",), ("train.logq=false",)),
    "hard negatives, 256": Part(("train.hard_negatives=256",), ("train.hard_negatives=0",)),
    "cold items by content": Part(("retrieval.cold=content",), ("retrieval.cold=model",)),
}
# Whose pairs count for how much, and how often they are learned from.
BY_USER, BY_AGE = "pairs.user_power=0.5", "pairs.half_life=0.5"
ALIKE, AGELESS = "pairs.user_power=0", "pairs.half_life=null"
WEIGHTS = {
    "users, n^-0.5": Part((BY_USER,), (ALIKE,)),
    "half-life of half of T1": Part((BY_AGE,), (AGELESS,)),
    "both": Part((BY_USER, BY_AGE), (ALIKE, AGELESS)),
    "three epochs": Part(("train.epochs=3",), ("train.epochs=2",)),
}
# values, and the one that the others are compared with
SWEPT: dict[str, tuple[tuple[float, ...], float]] = {
    "w_r": ((0.0, 0.25, 0.5, 1.0, 5.0), 0.5),  # 0.5 as in the paper's Table 4
    "tau_p": ((0.07, 0.1, 0.15), 0.1),
    "tau_q": ((0.03, 0.05, 0.07, 0.1), 0.05),
}
IDS_ALONE = "ids alone"
COLD: dict[str, Setting] = {
    IDS_ALONE: (
        "data.id_features=[]",
        "data.statistics=[]",
        "train.id_dropout=0",
        "retrieval.cold=model",
    ),
    "creators and numbers": ("train.id_dropout=0", "retrieval.cold=model"),
    "id dropout, creators and numbers": ("train.id_dropout=0.1", "retrieval.cold=model"),
    "content neighbours": ("train.id_dropout=0", "retrieval.cold=content"),
    "id dropout and content neighbours": ("train.id_dropout=0.1", "retrieval.cold=content"),
}


def swept(name: str, value: float) -> Setting:
    """A value of what is swept, as `--set` takes it."""
    return (f"train.{name}={value}",)


def sides(parts: Mapping[str, Part]) -> Study:
    """Every part with and without; all else as a run over the data has it."""
    settings = [(), *(side for part in parts.values() for side in (part.on, part.off))]
    metrics = ("recall_at_20", "recall_at_500", "l1_relevance", "l2_relevance", COLD_RECALL)
    return Study(settings, metrics)


STUDIES = {
    "quality": Study(
        [(), *WITHOUT.values()],
        (
            *RECALLS,
            "l2_relevance",
            "coverage",
            "cold_share",
            COLD_RECALL,
            "fresh_share",
            "fresh_recall_at_500",
        ),
        merge="merged_alpha_50",
    ),
    "ablation": sides(PARTS),
    "weights": sides(WEIGHTS),
    "sweep": Study(
        [swept(name, value) for name, (values, _) in SWEPT.items() for value in values],
        ("recall_at_500", "l2_relevance"),
    ),
    "cold": Study(
        list(COLD.values()),
        ("recall_at_500", "cold_share", COLD_RECALL, "fresh_share", "fresh_recall_at_500"),
        needs=COLD_RECALL,
    ),
    "prerank": Study(
        [("prerank.use=true",)],
        (*RECALLS, "l2_relevance", COLD_RECALL),
        merge="mixture x preranker: merged",
        needs="recall_at_20",
    ),
}
