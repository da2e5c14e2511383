"""The quality check: does content that is alike share a topic? The relevance head learns from
nothing else.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from mtmh.data.prepared import Level, Prepared
from mtmh.errors import UserError

NEIGHBOURS = 10  # match_at_10 is named after it
ROWS_AT_ONCE = 256  # queries whose cosines with all items are in memory


@dataclass(frozen=True)
class Quality:
    """How well the cosine of content predicts a shared topic, on a seeded sample of items that have
    both.
    """

    level: Level
    items: int  # in the sample
    # Over random pairs; 0.5 = knows nothing; None where all pairs share a topic, or none does.
    auc: float | None
    match_at_10: float  # share of the ten nearest items that share a topic
    chance: float  # the same share of random pairs


def content_quality(
    vectors: np.ndarray, data: Prepared, seed: int, sample: int = 2000, pairs: int = 200_000
) -> Quality | None:
    """Judge `vectors`, float32 [items, dim] unit rows, a zero row = no content, by L2 topics (L1
    where there are none).

    Neighbours are looked for among all items with content and topics. None when fewer than two
    items have both.
    """
    level: Level = "l2" if data.topic_names("l2") else "l1"
    bits = data.topic_bits(level)
    if bits is None:
        return None
    # Only items with content and topics say anything.
    items = np.flatnonzero(vectors.any(axis=1) & bits.any(axis=1))
    if len(items) < 2:
        return None
    rng = np.random.default_rng(seed)
    vectors, bits = vectors[items], bits[items]
    first = rng.integers(len(items), size=pairs)
    second = (first + rng.integers(1, len(items), size=pairs)) % len(items)
    same = (bits[first] & bits[second]).any(axis=1)
    queries = rng.permutation(len(items))[:sample]
    return Quality(
        level=level,
        items=len(queries),
        auc=area_under_curve(np.einsum("nd,nd->n", vectors[first], vectors[second]), same),
        match_at_10=neighbour_match(vectors, bits, queries),
        chance=float(same.mean()),
    )


def area_under_curve(score: np.ndarray, positive: np.ndarray) -> float | None:
    """Probability that a positive scores above a negative, ties counted half; None without one of
    either.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    ranks = float(rankdata(score)[positive].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def neighbour_match(
    vectors: np.ndarray, bits: np.ndarray, queries: np.ndarray, k: int = NEIGHBOURS
) -> float:
    """Share of the `k` nearest rows by cosine that share a topic with the query, itself left out.

    `vectors` float32 [n, dim] unit rows, `bits` uint64 [n, words] topics, `queries` int64 rows of
    them.
    """
    k = min(k, len(vectors) - 1)
    shares = []
    for start in range(0, len(queries), ROWS_AT_ONCE):
        rows = queries[start : start + ROWS_AT_ONCE]
        cosine = vectors[rows] @ vectors.T
        cosine[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        shares.append((bits[rows][:, None] & bits[nearest]).any(axis=2).mean(axis=1))
    return float(np.concatenate(shares).mean())


def judge(
    quality: Quality | None, min_auc: float, below: Literal["warn", "stop"]
) -> dict[str, Any] | None:
    """Print the verdict and return the figures for content.json.

    Raises UserError below the bound with "stop".
    """
    if quality is None:
        print("content quality: not checked, there are no topics to judge by", flush=True)
        return None
    # An AUC needs pairs that share a topic and pairs that share none.
    if quality.auc is None:
        share = "all" if quality.chance else "no"
        print(
            f"content quality: not checked, {share} pairs of items share an {quality.level} topic",
            flush=True,
        )
        return asdict(quality)
    # Written first, as a run that stops says it in its error.
    verdict = (
        f"content quality: cosine tells pairs that share an {quality.level} topic from others with"
        f" AUC {quality.auc:.3f}; the ten nearest share one at {quality.match_at_10:.1%}, by chance"
        f" {quality.chance:.1%}"
    )
    # The heads could be trained all the same: whether this stops a run is a setting.
    low = quality.auc < min_auc
    if low and below == "stop":
        raise UserError(
            f"{verdict}. The AUC is below content.quality.min_auc {min_auc}: the relevance head"
            " would learn what says little about topics. Look at the items' titles, texts and"
            " images, try another content.backbone, or write content.quality.below=warn."
        )
    if low:
        verdict += f". WARNING: the AUC is below content.quality.min_auc {min_auc}"
    print(verdict, flush=True)
    return asdict(quality)
