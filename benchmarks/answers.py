"""Whether an answer is the one it should be: equal up to ties, of the version that it names, kept
where it says so."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

TOLERANCE = 1e-5  # of a score, relative: float32 sums in another order
Key = tuple[int, str, str]  # call, version, what is missing
# ids, each with its head where there are two, and float64 scores
Ranked = tuple[list[str], np.ndarray]


def ranked(answer: Mapping[str, Any]) -> Ranked:
    """An answer's candidates in its order."""
    candidates = answer["candidates"]
    return [f"{c['head']} {c['item_id']}" for c in candidates], np.array(
        [c["score"] for c in candidates], np.float64
    )


def differing(answer: Ranked, right: Ranked, tolerance: float = TOLERANCE) -> int:
    """Positions at which `answer` is not `right`, ties aside.

    Another item at a place is a tie when both scores there are equal, and so is the score that
    `right` has for the item found; where it has none, the item tied with the last one that `right`
    holds. A list that is longer or shorter differs at each place too many or too few.
    """
    (items, scores), (right_items, right_scores) = answer, right
    score_of = dict(zip(right_items, right_scores.tolist(), strict=True))
    wrong = abs(len(items) - len(right_items))
    for position in range(min(len(items), len(right_items))):
        if not _equal(scores[position], right_scores[position], tolerance):
            wrong += 1
        elif items[position] != right_items[position]:
            wrong += not _equal(
                score_of.get(items[position], right_scores[-1]), scores[position], tolerance
            )
    return wrong


def is_foreign(call: int, answer: Mapping[str, Any], references: Mapping[Key, Ranked]) -> bool:
    """Whether an answer is not what the version that it names answers to that call without what is
    missing."""
    right = references.get((call, answer["model_version"], " ".join(answer["missing"])))
    return right is None or bool(differing(ranked(answer), right))


def undeclared(status: int, retry_after: str | None, declared: Iterable[int]) -> bool:
    """Whether a server error is none that the OpenAPI page declares, or does not say when to come
    back."""
    return status >= 500 and (status not in declared or not (retry_after or "").isdigit())


def slope(seconds: np.ndarray, values: np.ndarray) -> float:
    """Of the least-squares line, in units an hour; 0 where there are fewer than two moments."""
    away = seconds - seconds.mean() if len(seconds) else seconds
    spread = float((away**2).sum())
    return 3600 * float((away * (values - values.mean())).sum()) / spread if spread else 0.0


def _equal(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b))
