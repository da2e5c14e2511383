"""Content of a small finished run: twelve topics, ten models, forty sampled users."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.config import Config
from mtmh.evaluation import run_directory
from mtmh.report.examples import Search
from mtmh.stages import STAGES, StageFolders

ITEMS, USERS = 240, 40
WORDS = [
    "Bread",
    "Cheese",
    "Tea",
    "Garden",
    "Bicycle",
    "Guitar",
    "Camera",
    "Chess",
    "Hiking",
    "Yoga",
    "Jazz",
    "Soup",
]
TABLE = {  # recall@500, L1, L2 relevance, coverage, diversity, cold share
    "popularity": (0.0912, 0.11, 0.0604, 0.021, 0.91, 0.0),
    "itemknn": (0.2431, 0.31, 0.1812, 0.55, 0.83, 0.0),
    "content": (0.0642, 0.81, 0.6573, 0.93, 0.44, 0.021),
    "engagement_head": (0.3904, 0.39, 0.2531, 0.81, 0.79, 0.012),
    "relevance_head": (0.3853, 0.52, 0.3652, 0.86, 0.71, 0.015),
    "merged_alpha_0": (0.3853, 0.52, 0.3652, 0.86, 0.71, 0.015),
    "merged_alpha_30": (0.3991, 0.49, 0.3451, 0.87, 0.73, 0.014),
    "merged_alpha_50": (0.4024, 0.47, 0.3312, 0.88, 0.74, 0.013),
    "merged_alpha_70": (0.3982, 0.44, 0.3014, 0.87, 0.76, 0.013),
    "merged_alpha_100": (0.3904, 0.39, 0.2531, 0.81, 0.79, 0.012),
}


def model_figures(has_topics: bool, head: str = "") -> dict[str, dict[str, float | None]]:
    """Figures of every model; with `head` those of a model that has this one alone."""
    models: dict[str, dict[str, float | None]] = {}
    for name, (recall, coarse, fine, coverage, diversity, cold) in TABLE.items():
        models[name] = {
            f"recall_at_{k}": recall * share
            for k, share in ((5, 0.07), (20, 0.17), (100, 0.48), (500, 1))
        }
        models[name] |= {"l1_relevance": coarse, "l2_relevance": fine} if has_topics else {
            "l1_relevance": None, "l2_relevance": None}  # fmt: skip
        models[name] |= {"coverage": coverage, "intra_list_diversity": diversity}
        models[name] |= {"cold_share": cold, "cold_recall_at_500": 7 * cold}
        models[name] |= {"fresh_share": cold / 2, "fresh_recall_at_500": 5 * cold}
    if head:
        models = {
            name: figures
            for name, figures in models.items()
            if name in (f"{head}_head", "popularity", "itemknn")
        }
        models |= {name: models[f"{head}_head"] for name in TABLE if name.startswith("merged")}
    return models


def item_table(has_topics: bool, title: str = "{word} {number}") -> pa.Table:
    fine = [n % 12 for n in range(ITEMS)]
    return pa.table(
        {
            "item_id": [f"i{n:03d}" for n in range(ITEMS)],
            "title": [title.format(word=WORDS[topic], number=n) for n, topic in enumerate(fine)],
            "text": [""] * ITEMS,
            "l1_topics": pa.array(
                [[f"area {t // 4}"] * has_topics for t in fine], pa.list_(pa.string())
            ),
            "l2_topics": pa.array(
                [[f"{WORDS[t].lower()} fans"] * has_topics for t in fine], pa.list_(pa.string())
            ),
        }
    )


def candidate_table() -> pa.Table:
    rng = np.random.default_rng(5)
    rows = len(TABLE) * USERS * 20
    skewed = (ITEMS * rng.random(rows) ** 2).astype(int)
    return pa.table(
        {
            "model": np.repeat(list(TABLE), USERS * 20),
            "user_id": np.tile(np.repeat([f"u{n:03d}" for n in range(USERS)], 20), len(TABLE)),
            "rank": pa.array(np.tile(np.arange(1, 21), len(TABLE) * USERS), pa.int32()),
            "item_id": [f"i{n:03d}" for n in rng.integers(0, ITEMS, rows)],
            "trigger_id": [f"i{n:03d}" for n in skewed],
            "head": ["engagement"] * rows,
            "score": pa.array(rng.random(rows), pa.float32()),
        }
    )


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


def write_stages(
    root: Path,
    has_topics: bool = True,
    passed: bool = True,
    title: str = "{word} {number}",
    head: str = "",
) -> StageFolders:
    """Write all stages' directories under `root`; `title` is a format with word and number, `head`
    a single head.
    """
    stages = StageFolders(**{stage.artifact: root / "stages" / stage.name for stage in STAGES})
    for number, (stage, folder) in enumerate(stages.by_stage(), start=1):
        folder.mkdir(parents=True)
        write_json(
            folder / "step.json",
            {"step": stage.name, "seconds": 1.5 * number, "peak_memory_mb": 100 * number},
        )
    prepared = {
        "path": "elsewhere", "fingerprint": "f" * 64, "split_time": "2025-03-01T12:30:00+00:00", "rows": 12345,
        "users": 678, "items": ITEMS, "test_users": USERS, "rejected_rows": 3, "has_topics": has_topics,
        "has_text": True, "validation": False,
    }  # fmt: skip
    write_json(stages.prepared / "prepared.json", prepared)
    rejected = {
        "table": ["interactions"] * 3,
        "row": [1, 2, 9],
        "reason": ["timestamp is null"] * 3,
        "content": [""] * 3,
    }
    pq.write_table(pa.table(rejected), stages.prepared / "rejected.parquet")
    pq.write_table(
        pa.table({"user": pa.array(range(777), pa.int32())}), stages.pairs / "pairs.parquet"
    )
    steps = np.arange(1, 201)
    curve = {"step": steps, "pairs": steps * 512, "pairs_per_second": np.full(200, 30000.0)}
    curve |= {"engagement_loss": 4 + 3 / steps**0.5, "relevance_loss": 1 + 2 / steps**0.4}
    pq.write_table(pa.table(curve), stages.model / "curves.parquet")
    pq.write_table(item_table(has_topics, title), stages.retriever / "items.parquet")
    write_json(stages.retriever / "manifest.json", {"files": {}})
    models = model_figures(has_topics, head)
    write_json(stages.result / "evaluation.json", {"models": models, "sample": models})
    pq.write_table(candidate_table(), stages.result / "candidates.parquet")
    rules = gate_rules(passed)
    verdict = {"passed": passed, "rules": rules, "champion": "3"}
    write_json(stages.verdict / "verdict.json", verdict)
    return stages


def gate_rules(passed: bool) -> list[dict[str, object]]:
    """One that decides, one that could not be measured, and one beside the champion."""
    rule: dict[str, object] = {
        "rule": "recall_floor",
        "metric": "recall_at_500",
        "value": 0.4024,
        "bound": 0.2431,
        "interval": None,
    }
    rule |= {
        "passed": passed,
        "why": "Recall@500 of the merge is 40.24 %, the best baseline <itemknn> has 24.31 %.",
    }
    unmeasured: dict[str, object] = {
        "rule": "relevance_floor",
        "metric": "l2_relevance",
        "value": None,
        "bound": None,
    }
    unmeasured |= {
        "interval": None,
        "passed": True,
        "why": "Not measured: no item has an L2 topic.",
    }
    better: dict[str, object] = {
        "rule": "coverage_not_worse",
        "metric": "coverage",
        "value": 0.012,
        "bound": 0.0,
        "passed": True,
    }
    better |= {
        "interval": [0.004, 0.02],
        "why": "Coverage differs from champion 3 by +1.20 points.",
    }
    return [rule, unmeasured, better]


def write_run(root: Path, **wishes: object) -> Path:
    """Assemble a run directory under `root` from stages written as `write_stages` does."""
    run = root / "runs" / "20250301T123000Z-abc"
    run_directory.write(run, write_stages(root, **wishes), Config(), "code-1", 3, "data/here")
    return run


def make_search(head: str = "") -> Search:
    """Exact search: the relevance head knows the items' topics, the engagement head habits that cut
    across them.

    With `head`, there is no other.
    """
    rng = np.random.default_rng(2)
    vectors = {}
    for name, groups in (
        ("relevance", np.arange(ITEMS) % 12),
        ("engagement", rng.integers(0, 15, ITEMS)),
    ):
        raw = rng.normal(size=(15, 16))[groups] + 0.5 * rng.normal(size=(ITEMS, 16))
        vectors[name] = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)

    if head:
        vectors = {head: vectors[head]}

    def similar(items: np.ndarray, k: int, head: str) -> tuple[np.ndarray, np.ndarray]:
        scores = vectors[head][items] @ vectors[head].T
        ids = np.argsort(-scores, axis=1)[:, :k].astype(np.int32)
        return ids, np.take_along_axis(scores, ids, axis=1)

    return similar
