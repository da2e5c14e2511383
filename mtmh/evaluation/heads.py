"""The two heads and their merge alone, measured as the stage evaluate does: what a trial of settings needs to know."""

from pathlib import Path

import numpy as np

from mtmh.config import RetrievalSettings
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import Test, measure, summary
from mtmh.retrieval.merge import quotas_at
from mtmh.retrieval.retriever import Request, Retriever, merge_pools


def evaluate_heads(
    prepared: Path, content: Path, retriever: Path, settings: RetrievalSettings, fresh_hours: float
) -> dict[str, dict[str, float | None]]:
    """Figures of each head, `<head>_head`, and of the merge at the served alpha, `merged`; keys as in metrics.json.

    All test users, the same lists and the same figures as `evaluate`; no baselines, no champion, nothing written.
    """
    data, version = Prepared.load(prepared), Retriever.load(retriever)
    test = Test.of(data, np.load(content / "content.npy"), settings.triggers, fresh_hours)
    by_head = version.pools(Request.of(test.triggers, test.seen, settings))
    quotas = quotas_at(settings.alpha, list(by_head))
    pools = {f"{head}_head": pool for head, pool in by_head.items()}
    pools["merged"] = merge_pools(list(by_head.values()), quotas, settings.pool)
    return {name: summary(measure(pool, test), pool, test) for name, pool in pools.items()}
