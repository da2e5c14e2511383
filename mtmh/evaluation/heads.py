"""The two heads and their merge alone, measured as the stage evaluate does: what a trial of settings needs to know."""

from pathlib import Path

import numpy as np

from mtmh.config import RetrievalSettings
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import Test, measure, summary
from mtmh.retrieval.retriever import Retriever, merge_pools


def evaluate_heads(
    prepared: Path, content: Path, retriever: Path, settings: RetrievalSettings, fresh_hours: float
) -> dict[str, dict[str, float | None]]:
    """Figures of each head, `<head>_head`, and of the merge at the served alpha, `merged`; keys as in metrics.json.

    All test users, the same lists and the same figures as `evaluate`; no baselines, no champion, nothing written.
    """
    data, version = Prepared.load(prepared), Retriever.load(retriever)
    test = Test.of(data, np.load(content / "content.npy"), settings.triggers, fresh_hours)
    k_ann = min(settings.k_ann, data.n_items - 1)
    asked = test.triggers, test.seen, k_ann, settings.pool, settings.temperature
    heads = {head: version.pool(head, *asked) for head in version.indexes}
    pools = {f"{head}_head": pool for head, pool in heads.items()}
    if len(heads) == 2:
        pools["merged"] = merge_pools(heads["engagement"], heads["relevance"], settings.alpha, settings.pool)
    else:  # a single head serves alone
        pools["merged"] = next(iter(heads.values()))
    return {name: summary(measure(pool, test), pool, test) for name, pool in pools.items()}
