"""The feature store: open, apply, load the online store, read at a point in time, read online.

The offline read is for training, where no row may see what came later; the online read is for
serving a request.
"""

import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from string import Template
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from feast import FeatureStore, FeatureView, FileSource
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.repo_config import RepoConfig

from feature_repo.views import HISTORY, STATISTICS, definitions
from mtmh.errors import UserError

EMBEDDED = Path(__file__).with_name("feature_store.embedded.yaml")
ONLINE_READ = 5000  # entities in one request


class MaterializationError(Exception):
    """The online store does not hold what the source holds."""


@dataclass(frozen=True)
class UserHistory:
    """A user's interaction history (UIH) as served; `as_of` is the time of its snapshot, None where
    there is none.
    """

    user_id: str
    item_ids: list[str]  # newest first
    topics: list[str]
    topic_shares: list[float]
    as_of: datetime | None


def open_store(directory: Path | None = None) -> FeatureStore:
    """Open the store that FEAST_FS_YAML_FILE_PATH describes, the embedded one where that is not
    set.

    `directory` stands for ${MTMH_FEATURE_STORE} in that file (default: the variable itself). Raises
    UserError when the file or a variable it names is missing.
    """
    path = Path(os.environ.get("FEAST_FS_YAML_FILE_PATH", EMBEDDED))
    # A copy: the router opens one store a version, each with a directory of its own.
    variables = dict(os.environ)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        variables["MTMH_FEATURE_STORE"] = str(directory.resolve())
    try:
        # A variable that is missing shows here, before Feast connects to anything.
        config = RepoConfig(**_filled(yaml.safe_load(path.read_text()), variables))
    except FileNotFoundError:
        raise UserError(
            f"FEAST_FS_YAML_FILE_PATH is {path}: no such file. Beside {EMBEDDED} lie the two to"
            " choose from."
        ) from None
    except KeyError as error:
        raise UserError(
            f"{path} asks for the environment variable {error.args[0]}, which is not set. Set it."
        ) from None
    return FeatureStore(config=config)


def _filled(setting: Any, variables: dict[str, str]) -> Any:
    """The settings with ${NAME} replaced in every text, after YAML was read: a value may hold any
    character.
    """
    if isinstance(setting, dict):
        return {key: _filled(value, variables) for key, value in setting.items()}
    return Template(setting).substitute(variables) if isinstance(setting, str) else setting


def apply(store: FeatureStore, sources: Path) -> list[str]:
    """Register entities, views and services over the tables in `sources`; returns the names of the
    views.
    """
    content = (sources / "item_content.parquet").is_file()
    objects = definitions(sources, store.config.offline_store.type, content)
    store.apply(list(objects))
    return [view.name for view in objects if isinstance(view, FeatureView)]


def materialize(store: FeatureStore, view_name: str, end: datetime | None = None) -> int:
    """Load each entity's newest row at or before `end` (None: of all) into the online store;
    returns their number.

    Reads every entity back: raises MaterializationError unless the online store has the row of that
    time for each.
    """
    view = store.get_feature_view(view_name)
    # The time of each entity's newest row, independently of Feast, to hold what it loads to.
    connection = ibis.duckdb.connect()
    table = connection.read_parquet(_path(view))
    if end is not None:
        table = table.filter(table.event_timestamp <= ibis.literal(end))
    newest = (
        table.group_by(view.join_keys).agg(event_timestamp=table.event_timestamp.max()).to_pyarrow()
    )
    connection.disconnect()
    if newest.num_rows == 0:
        return 0
    times = newest["event_timestamp"]
    with redirect_stdout(StringIO()):  # Feast colours its lines and says less than the count below
        store.materialize(
            pc.min(times).as_py(), end or pc.max(times).as_py(), feature_views=[view_name]
        )
    # An online row keeps its time to the second (as in SQLite).
    key, feature, count = view.join_keys[0], view.features[0].name, 0
    for start in range(0, newest.num_rows, ONLINE_READ):
        chunk = newest.slice(start, ONLINE_READ)
        columns = _read_online(store, view_name, [feature], key, chunk[key].to_pylist())
        pairs = zip(chunk["event_timestamp"].to_pylist(), columns["as_of"], strict=True)
        count += sum(
            as_of is not None and abs((as_of - time).total_seconds()) <= 1 for time, as_of in pairs
        )
    if count != newest.num_rows:
        raise MaterializationError(
            f"feature view {view_name}: expected {newest.num_rows} entities in the online store,"
            f" found {count}. Its source is {_path(view)}; load it again, and do not serve from"
            " this store until the counts agree."
        )
    return count


def read_features(store: FeatureStore, rows: pa.Table, features: Sequence[str]) -> pa.Table:
    """`rows` with the `features` ("view:feature") as of each row's event_timestamp; null where
    there was nothing.

    `rows` has the join keys (item_id, user_id) and event_timestamp (UTC); the result has the same
    rows and order. A source's row counts from the later of its event_timestamp and its created.
    """
    if rows.num_rows == 0:
        raise ValueError("read_features: no rows to read features for")
    entities = rows.to_pandas()
    entities["row_id"] = range(len(entities))  # DuckDB does not keep the order
    job = store.get_historical_features(entities, list(features), filter_by_created_timestamp=True)
    table = job.to_arrow().sort_by("row_id")
    if table.num_rows != rows.num_rows:
        raise RuntimeError(f"asked for the features of {rows.num_rows} rows, got {table.num_rows}")
    names = [feature.partition(":")[2] for feature in features]
    return table.select([*rows.column_names, *names])


def read_item_features(store: FeatureStore, item_ids: Sequence[str], as_of: datetime) -> pa.Table:
    """item_id and the item statistics as of `as_of`, in the order of `item_ids`; null for an item
    unknown then.
    """
    features = [f"item_statistics:{name}" for name in STATISTICS]
    return read_features(store, _rows("item_id", item_ids, as_of), features).drop_columns(
        "event_timestamp"
    )


def read_user_history(store: FeatureStore, user_ids: Sequence[str], as_of: datetime) -> pa.Table:
    """user_id and the history as of `as_of`, in the order of `user_ids`; null for a user without
    events by then.
    """
    features = [f"user_history:{name}" for name in HISTORY]
    return read_features(store, _rows("user_id", user_ids, as_of), features).drop_columns(
        "event_timestamp"
    )


def online_user_history(store: FeatureStore, user_ids: Sequence[str]) -> list[UserHistory]:
    """The histories in the online store, in the order of `user_ids`; empty, with as_of None, for an
    unknown user.
    """
    columns = _read_online(store, "user_history", list(HISTORY), "user_id", user_ids)
    rows = zip(user_ids, *(columns[name] for name in HISTORY), columns["as_of"], strict=True)
    return [
        UserHistory(user, items or [], topics or [], shares or [], as_of)
        for user, items, topics, shares, as_of in rows
    ]


def online_item_features(store: FeatureStore, item_ids: Sequence[str]) -> pd.DataFrame:
    """item_id, the item statistics and as_of (time of the snapshot) in the online store, in the
    order of `item_ids`.

    An unknown item has nulls. Meant for the items of one request: a thousand candidates take a
    tenth of a second.
    """
    columns = _read_online(store, "item_statistics", list(STATISTICS), "item_id", item_ids)
    return pd.DataFrame({"item_id": list(item_ids), **columns})


def _rows(key: str, ids: Sequence[str], as_of: datetime) -> pa.Table:
    times = pa.repeat(pa.scalar(as_of, pa.timestamp("us", tz="UTC")), len(ids))
    return pa.table({key: pa.array(ids, pa.string()), "event_timestamp": times})


def _path(view: FeatureView) -> str:
    source = view.batch_source
    if not isinstance(source, FileSource | SparkSource):
        raise ValueError(
            f"feature view {view.name}: its source is {type(source).__name__}, expected a Parquet"
            " file"
        )
    return str(source.path)


def _read_online(
    store: FeatureStore, view: str, features: list[str], key: str, ids: Sequence[str]
) -> dict[str, list[Any]]:
    """Columns of the named features, and as_of: the time of each entity's row, None where there is
    no row.
    """
    response = store.get_online_features([f"{view}:{name}" for name in features], {key: list(ids)})
    columns = response.to_dict(include_event_timestamps=True)
    seconds = columns[f"{features[0]}__ts"]
    as_of = [datetime.fromtimestamp(time, UTC) if time > 0 else None for time in seconds]
    return {**{name: columns[name] for name in features}, "as_of": as_of}
