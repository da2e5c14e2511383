"""What the version that served was trained and judged on: the reference that drift is measured
against.
"""

import json
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from mtmh.data.contract import STATISTICS
from mtmh.experiment.folder import ExperimentFolder
from mtmh.heads import HEADS
from mtmh.ids import Ids


@dataclass(frozen=True)
class Reference:
    """One version as it was trained; row = item everywhere."""

    item_id: pa.Array
    topic: np.ndarray  # object [items], the first L1 topic, None where there is none
    vectors: dict[str, np.ndarray]  # channel -> float32 [items, d], unit rows
    features: dict[str, np.ndarray]  # statistic -> float32 [items], as the model read them
    engaged: np.ndarray  # int64 [items], engagements in training
    # arm -> item (row), head, score: the first candidates of the arm's evaluated lists
    candidates: dict[str, pa.Table]

    def rows(self, item_id: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """The row of each item, int32; -1 for one that training did not see."""
        return Ids(self.item_id).rows(item_id)

    def candidate_counts(self, arm: str, head: str) -> np.ndarray:
        """How often each item stands in the evaluated lists of an arm and head: int64 [items]."""
        candidates = self.candidates[arm]
        of_head = candidates["head"].to_numpy(zero_copy_only=False) == head
        return np.bincount(candidates["item"].to_numpy()[of_head], minlength=len(self.item_id))


def load_reference(folder: ExperimentFolder, k: int) -> tuple[Reference | None, list[str]]:
    """The reference of an experiment, and what of it is missing, a sentence each.

    None without a version directory. `k` candidates of each evaluated list count: as many as the
    log's lists have.
    """
    version = folder.experiment.retriever
    if version is None or not (version / "items.parquet").is_file():
        return None, [
            "No drift of features and embeddings: experiment.json names no version directory "
            f"({version})."
        ]
    items = pq.read_table(version / "items.parquet")
    item_id = items["item_id"].cast(pa.string()).combine_chunks()
    features = pq.read_table(version / "item_features.parquet")
    candidates, missing = _candidates(folder, item_id, k)
    # Engagements before the version's split; all of the history where that leaves none.
    history = pq.read_table(folder.history, columns=["item_id", "timestamp"])
    manifest = json.loads((version / "manifest.json").read_text())
    split = pa.scalar(datetime.fromisoformat(manifest["created_from"]["split_time"]))
    before = history.filter(pc.less(history["timestamp"], split))
    engaged = Ids(item_id).rows((before if len(before) else history)["item_id"])
    # The first L1 topic of each item, and the vectors of the version's channels.
    topics = [topics[0] if topics else None for topics in items["l1_topics"].to_pylist()]
    # A version from before its manifest named channels has those of the two heads.
    named = manifest.get("channels") or [{"name": head, "head": head} for head in HEADS]
    channels = {channel["name"]: channel["head"] for channel in named}
    files = {name: version / f"{head}.npy" for name, head in channels.items()}
    reference = Reference(
        item_id=item_id,
        topic=np.array(topics, object),
        vectors={name: np.load(path) for name, path in files.items() if path.is_file()},
        features={
            name: features[name].to_numpy() for name in STATISTICS if name in features.column_names
        },
        engaged=np.bincount(engaged[engaged >= 0], minlength=len(item_id)),
        candidates=candidates,
    )
    return reference, missing


def _candidates(
    folder: ExperimentFolder, item_id: pa.Array, k: int
) -> tuple[dict[str, pa.Table], list[str]]:
    """The first `k` candidates of each arm's evaluated lists, and the arms without any."""
    run = folder.experiment.run
    if run is None or not (run / "candidates.parquet").is_file():
        return {}, [f"No evaluated lists to compare with what is shown (run: {run})."]
    served_alpha = yaml.safe_load((run / "config.yaml").read_text())["retrieval"]["alpha"]
    # An arm's lists are evaluated under the alpha that it serves with.
    candidates, missing = {}, []
    for arm in folder.experiment.arms:
        if arm.quotas is not None:
            missing.append(f"{run} evaluated no lists at the quotas of the arm {arm.name}.")
            continue
        alpha = served_alpha if arm.alpha is None else arm.alpha
        table = pq.read_table(
            run / "candidates.parquet",
            columns=["item_id", "head", "score"],
            filters=[("model", "=", f"merged_alpha_{alpha:g}"), ("rank", "<=", k)],
        )
        if not len(table):
            missing.append(f"{run} evaluated no lists at the alpha of the arm {arm.name}.")
            continue
        row = Ids(item_id).rows(table["item_id"])
        columns = {"item": row, "head": table["head"], "score": table["score"].cast(pa.float64())}
        candidates[arm.name] = pa.table(columns).filter(pa.array(row >= 0))
    return candidates, missing
