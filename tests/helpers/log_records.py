"""Records for the tests of the log."""

from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def exposure(number: int = 0, candidates: int = 3, **other: Any) -> dict[str, Any]:
    heads = ["engagement", "relevance"]
    return {
        "kind": "exposure",
        "request_id": f"request-{number}",
        "timestamp": NOON + timedelta(seconds=number),
        "user_id": f"user-{number % 7}",
        "arm": "control",
        "model_version": "7",
        "alpha": 50.0,
        "degraded": False,
        "k": max(candidates, 1),
        "surface": "retrieve",
        "item_id": [f"item-{number}-{place}" for place in range(candidates)],
        "head": [heads[place % 2] for place in range(candidates)],
        "head_rank": [place // 2 + 1 for place in range(candidates)],
        "score": [1 / (place + 1) for place in range(candidates)],
        "trigger_id": ["trigger"] * candidates,
        **other,
    }


def engagement(number: int = 0, **other: Any) -> dict[str, Any]:
    return {
        "kind": "engagement",
        "request_id": f"request-{number}",
        "timestamp": NOON + timedelta(seconds=number),
        "user_id": f"user-{number % 7}",
        "item_id": f"item-{number}-0",
        "event": "click",
        "value": 1.0,
        "dwell_seconds": 2.5,
        **other,
    }
