"""Stage features: source tables -> Feast (apply, load the online store) -> features as of the
split.
"""

import json
import time
import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.feast_import import import_feast
from mtmh.clock import measured
from mtmh.config import DataSettings
from mtmh.data.contract import STATISTICS
from mtmh.data.feature_tables import write_sources
from mtmh.data.files import write_parquet
from mtmh.errors import UserError

if TYPE_CHECKING:
    from feast import FeatureStore


def build_features(
    prepared: Path, content: Path | None, out: Path, store_dir: Path, settings: DataSettings
) -> None:
    """Build the features as of the split time; later events change nothing.

    Writes `out`/sources/ (the tables that Feast reads), the registry and the embedded online store
    under `store_dir` (an earlier one there is replaced), and through Feast's point-in-time join:

    - item_features.parquet, row = item: float32 `settings.statistics`, then
      `settings.float_features`. An item that was not there by the split has zeros in the
      statistics: no events yet, and no age.
    - user_history.parquet, row = user: user_id, item_ids (50 distinct items, newest first), topics,
      topic_shares (L2 interests). A user without events by the split has empty lists.

    `content` is the directory of the stage content, or None. Raises UserError on data that does not
    fit together, and MaterializationError when the online store does not hold every entity
    afterwards.
    """
    with measured("features", out), warnings.catch_warnings():
        import_feast()
        # Importing the store sets warning filters of its own: it comes before this one.
        from feature_repo.store import read_item_features

        # Ibis 12 on DuckDB 1.5.
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
        if taken := sorted(set(STATISTICS) & set(settings.float_features)):
            raise UserError(
                f"data.float_features names {taken}, which the feature stage computes. Rename the"
                " column in items."
            )
        info = json.loads((prepared / "prepared.json").read_text())
        split_time = datetime.fromisoformat(info["split_time"])
        items = pq.read_table(prepared / "items.parquet")
        write_sources(prepared, content, out / "sources", split_time)
        store = _load_store(store_dir, out / "sources", split_time)
        # An item that the store does not know yet has no statistics: zeros.
        statistics = read_item_features(store, items["item_id"].to_pylist(), split_time)
        columns: dict[str, pa.ChunkedArray] = {}
        for name in settings.statistics:
            columns[name] = pc.fill_null(statistics[name].cast(pa.float32()), 0.0)
        for feature in settings.float_features:
            columns[feature] = items[feature].cast(pa.float32())
        write_parquet(pa.table(columns), out / "item_features.parquet")
        write_parquet(_user_history(store, prepared, split_time), out / "user_history.parquet")


def _load_store(directory: Path, sources: Path, split_time: datetime) -> "FeatureStore":
    from feature_repo.store import apply, materialize, open_store

    # Rows of another run must not show through.
    for name in ("registry.db", "online.db"):
        (directory / name).unlink(missing_ok=True)
    store = open_store(directory)
    for view in apply(store, sources):
        start = time.perf_counter()
        # A catalogue is served whole; what is counted is served as of the split.
        count = materialize(store, view, None if view == "item_content" else split_time)
        seconds = time.perf_counter() - start
        print(f"features: {view}: {count:,} entities online in {seconds:.1f} s", flush=True)
    return store


def _user_history(store: "FeatureStore", prepared: Path, split_time: datetime) -> pa.Table:
    from feature_repo.store import read_user_history

    interactions = ibis.read_parquet(prepared / "interactions.parquet")
    users = interactions.select("user", "user_id").distinct().order_by("user").to_pyarrow()
    history = read_user_history(store, users["user_id"].to_pylist(), split_time)
    for index, name in enumerate(history.column_names[1:], start=1):
        column = history[name]
        history = history.set_column(index, name, pc.coalesce(column, pa.scalar([], column.type)))
    return history
