"""Stage features: what training reads, as of the split.

A source table of snapshots, and Feast's point-in-time join over it: nothing goes online, and the
output is tables alone. What serving reads, `feature_repo.histories` writes after the gate.
"""

import json
import tempfile
import warnings
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.feast_import import import_feast
from mtmh.clock import measured
from mtmh.config import DataSettings
from mtmh.data.contract import STATISTICS
from mtmh.data.feature_tables import write_item_statistics
from mtmh.data.files import write_parquet
from mtmh.errors import UserError


def build_features(prepared: Path, out: Path, settings: DataSettings) -> None:
    """Build the features as of the split time; later events change nothing.

    Writes `out`/sources/item_statistics.parquet, the items' statistics at up to 30 times, and by
    Feast's point-in-time join `out`/item_features.parquet, row = item: float32
    `settings.statistics`, then `settings.float_features`. An item that was not there by the split
    has zeros in the statistics: no events yet, and no age.

    Raises UserError on a float feature that has the name of a statistic.
    """
    with measured("features", out), warnings.catch_warnings():
        import_feast()
        # Importing the store sets warning filters of its own: it comes before this one.
        from feature_repo.store import open_offline, read_item_features
        from feature_repo.views import item_definitions

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
        sources = out / "sources"
        write_item_statistics(prepared, sources / "item_statistics.parquet", split_time)
        # The registry is there for the join alone.
        with tempfile.TemporaryDirectory() as folder:
            store = open_offline("mtmh", f"{folder}/registry.db")
            store.apply(item_definitions(sources))
            statistics = read_item_features(store, items["item_id"].to_pylist(), split_time)
        # An item that the store does not know yet has no statistics: zeros.
        columns: dict[str, pa.ChunkedArray] = {}
        for name in settings.statistics:
            columns[name] = pc.fill_null(statistics[name].cast(pa.float32()), 0.0)
        for feature in settings.float_features:
            columns[feature] = items[feature].cast(pa.float32())
        write_parquet(pa.table(columns), out / "item_features.parquet")
