"""Run directories as far as tracking reads them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mtmh.config import Config


def write_run(
    folder: Path,
    passed: bool,
    weights: str = "w",
    retriever: Path | None = None,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Write one whose gate said `passed`, with the version `retriever`, else one that nobody could
    load, served by the `settings` of retrieval.
    """
    folder.mkdir()
    if retriever is not None:
        (folder / "retriever").symlink_to(retriever)
    else:
        (folder / "retriever").mkdir()
        (folder / "retriever" / "manifest.json").write_text(
            json.dumps({"sha256": {}, "weights": weights})
        )
        pq.write_table(pa.table({"item_id": ["i1", "i2"]}), folder / "retriever" / "items.parquet")
    (folder / "report.html").write_text("<html></html>")
    config = Config.model_validate({"retrieval": settings or {}})
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    metrics = {
        "data": {"path": "/data/tiny", "fingerprint": "f" * 64, "rows": 10},
        "models": {"merged_alpha_50": {"recall_at_500": 0.25, "l2_relevance": None}},
        "gate": {"passed": passed, "rules": []},
        "seconds": {"train": 1.5},
        "peak_memory_mb": {"train": 300},
        "code_version": "c0de",
        "seed": 0,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder
