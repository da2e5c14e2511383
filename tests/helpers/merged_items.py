"""A request, the items of its answer, and those that the offline retriever merges for it."""

from typing import Any

from mtmh.config import RetrievalSettings
from mtmh.retrieval import query
from mtmh.retrieval.retriever import Retriever

TRIGGERS = ["i00", "i11", "i25"]
ASKED = {"triggers": TRIGGERS, "k": 12}


def offline_items(retriever: Retriever, alpha: float) -> list[str]:
    """The ids of the offline list for ASKED at `alpha`, best first."""
    merged = query.recommend(retriever, TRIGGERS, 12, alpha, RetrievalSettings())
    return [candidate.item_id for candidate in merged]


def items_of(answer: dict[str, Any]) -> list[str]:
    """The ids of an answer's candidates, best first."""
    return [candidate["item_id"] for candidate in answer["candidates"]]
