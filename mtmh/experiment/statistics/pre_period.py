"""What users did before the experiment: the covariates of CUPED."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

DAYS = 28


def pre_period(history: Path | pa.Table, first_day: date, days: int = DAYS) -> pa.Table:
    """Active days and seconds of each user in the `days` days before `first_day`.

    history: a Parquet file or a table of user_id, item_id, timestamp[, value, dwell_seconds]: engagements. Without a
    value they are all positive; without dwell there are no seconds.
    Returns user_id string, active int64 (days with a positive engagement) and, with dwell, seconds float64: columns as
    in `user_days`, so daily active users and time spent are adjusted by their own past.
    """
    rows = ibis.memtable(history) if isinstance(history, pa.Table) else ibis.duckdb.connect().read_parquet(history)
    end = datetime.combine(first_day, time(), UTC)
    at = rows.timestamp.cast("timestamp('UTC')")
    rows = rows.filter(at >= ibis.literal(end - timedelta(days=days)), at < ibis.literal(end), rows.user_id.notnull())
    positive = rows["value"].fill_null(1.0) > 0 if "value" in rows.columns else ibis.literal(True)
    figures: dict[str, ir.Value] = {"active": rows.timestamp.cast("timestamp('UTC')").date().nunique(where=positive)}
    if "dwell_seconds" in rows.columns:
        figures["seconds"] = rows.dwell_seconds.cast("float64").sum().fill_null(0.0)
    return rows.group_by("user_id").agg(**figures).order_by("user_id").to_pyarrow()
