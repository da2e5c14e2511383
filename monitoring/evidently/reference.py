"""What the version that served was trained and judged on: the reference that drift is measured against."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from mtmh.data.contract import STATISTICS
from mtmh.experiment.arms import Arm
from mtmh.experiment.folder import ExperimentFolder
from mtmh.heads import HEADS


@dataclass(frozen=True)
class Reference:
    """One version as it was trained; row = item everywhere."""

    item_id: pa.Array
    topic: np.ndarray  # object [items], the first L1 topic, None where there is none
    vectors: dict[str, np.ndarray]  # head -> float32 [items, d], unit rows
    features: dict[str, np.ndarray]  # statistic -> float32 [items], as the model read them
    engaged: np.ndarray  # int64 [items], engagements in training
    listed: dict[str, pa.Table]  # arm -> item (row), head, score: the first candidates of its evaluated lists

    def rows(self, item_id: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """The row of each item, int64; -1 for one that the version does not know."""
        return _rows(item_id, self.item_id)

    def shown(self, arm: str, head: str) -> np.ndarray:
        """How often each item stands in the evaluated lists of `arm`, from `head`: int64 [items]."""
        listed = self.listed[arm]
        item = listed["item"].to_numpy()[listed["head"].to_numpy(zero_copy_only=False) == head]
        return np.bincount(item, minlength=len(self.item_id))


def load_reference(place: ExperimentFolder, k: int) -> tuple[Reference | None, list[str]]:
    """The reference of a place, and what of it is missing, a sentence each; None without a version directory.

    `k` candidates of each evaluated list count: as many as the log's lists have.
    """
    version = place.experiment.retriever
    if version is None or not (version / "items.parquet").is_file():
        return None, [f"No drift of features and embeddings: experiment.json names no version directory ({version})."]
    items = pq.read_table(version / "items.parquet")
    item_id = items["item_id"].cast(pa.string()).combine_chunks()
    features = pq.read_table(version / "item_features.parquet")
    listed, missing = _listed(place, item_id, k)
    reference = Reference(
        item_id=item_id,
        topic=np.array([topics[0] if topics else None for topics in items["l1_topics"].to_pylist()], object),
        vectors={head: np.load(version / f"{head}.npy") for head in HEADS if (version / f"{head}.npy").is_file()},
        features={name: features[name].to_numpy() for name in STATISTICS if name in features.column_names},
        engaged=_engaged(place, version, item_id),
        listed=listed,
    )
    return reference, missing


def _engaged(place: ExperimentFolder, version: Path, item_id: pa.Array) -> np.ndarray:
    """Engagements with each item before the version's split; all that the place knows where that leaves none."""
    history = pq.read_table(place.history, columns=["item_id", "timestamp"])
    split = json.loads((version / "manifest.json").read_text())["created_from"]["split_time"]
    before = history.filter(pc.less(history["timestamp"], pa.scalar(datetime.fromisoformat(split))))
    row = _rows((before if len(before) else history)["item_id"], item_id)
    return np.bincount(row[row >= 0], minlength=len(item_id))


def _listed(place: ExperimentFolder, item_id: pa.Array, k: int) -> tuple[dict[str, pa.Table], list[str]]:
    run = place.experiment.run
    if run is None or not (run / "candidates.parquet").is_file():
        return {}, [f"No evaluated lists to compare with what is shown (run: {run})."]
    served = yaml.safe_load((run / "config.yaml").read_text())["retrieval"]["alpha"]
    lists, missing = {}, []
    for arm in place.experiment.arms:
        table = _candidates(run, arm, served, k)
        row = _rows(table["item_id"], item_id)
        columns = {"item": row, "head": table["head"], "score": table["score"].cast(pa.float64())}
        if len(table):
            lists[arm.name] = pa.table(columns).filter(pa.array(row >= 0))
        else:
            missing.append(f"{run} evaluated no lists at the alpha of the arm {arm.name}.")
    return lists, missing


def _candidates(run: Path, arm: Arm, served: float, k: int) -> pa.Table:
    alpha = served if arm.alpha is None else arm.alpha
    wanted = [("model", "=", f"merged_alpha_{alpha:g}"), ("rank", "<=", k)]
    return pq.read_table(run / "candidates.parquet", columns=["item_id", "head", "score"], filters=wanted)


def _rows(item_id: pa.Array | pa.ChunkedArray, known: pa.Array) -> np.ndarray:
    found = pc.fill_null(pc.index_in(item_id, value_set=known), -1)
    return np.asarray(found).astype(np.int64)
