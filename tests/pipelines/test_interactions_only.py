"""A log and nothing else, as of a news site: no items table, no text, new items every day."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtmh.config import load_config
from mtmh.errors import UserError
from pipelines import local

DAYS, PER_DAY, USERS, CLICKS = 10, 12, 120, 2400
SETTINGS = [
    "train={epochs: 1, batch_size: 128, uniform_negatives: 64, embedding_dim: 8, hidden: [16], "
    "out_dim: 16}",
    "train={id_dropout: 0.1, device: cpu}",
    "retrieval={k_ann: 50, pool: 40, cold: model}",
    "gate={baseline_recall_ratio: 0, min_coverage: 0, bootstrap: 100}",
]


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each day has twelve articles, read on that day and the next; half of the readers want the
    even ones.
    """
    rng = np.random.default_rng(0)
    second = np.sort(rng.integers(0, DAYS * 86_400, CLICKS))
    user = rng.integers(0, USERS, CLICKS)
    day = np.maximum(second // 86_400 - rng.integers(0, 2, CLICKS), 0)
    article = day * PER_DAY + 2 * rng.integers(0, PER_DAY // 2, CLICKS) + user % 2
    moment = np.datetime64("2024-05-01", "us") + second.astype("timedelta64[s]")
    log = {
        "user_id": [f"u{one}" for one in user],
        "item_id": [f"a{one}" for one in article],
        "timestamp": pa.array(moment).cast(pa.timestamp("us", tz="UTC")),
    }
    folder = tmp_path_factory.mktemp("news")
    pq.write_table(pa.table(log), folder / "interactions.parquet")
    return folder


def test_one_head_serves_and_fresh_items_are_measured(news: Path, tmp_path: Path) -> None:
    config = load_config(settings=[*SETTINGS, "train.objective=engagement"])
    run = local.run(str(news), config, tmp_path, StringIO())
    models = json.loads((run / "metrics.json").read_text())["models"]
    assert [name for name in models if not name.startswith("merged")] == [
        "popularity",
        "itemknn",
        "engagement_head",
    ]
    for figures in models.values():
        assert figures["l2_relevance"] is None
        assert figures["intra_list_diversity"] is None
    head = models["engagement_head"]
    assert head["fresh_recall_at_500"] > 0  # yesterday's articles are read today
    assert 0 < head["fresh_share"] < 1
    assert head["cold_recall_at_500"] is not None
    assert (run / "report.html").is_file()
    assert {path.stem for path in (run / "retriever").glob("*.faiss")} == {"engagement"}


def test_an_objective_that_needs_text_is_told_so(news: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no item has a title or text.*train\.objective=engagement"
    ):
        local.run(str(news), load_config(settings=SETTINGS), tmp_path, StringIO())
