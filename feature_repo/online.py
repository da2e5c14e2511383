"""The online store: loading it, and checking that; reading it; removing what was loaded.

A version has a project of its own, so that two of them (arms of an experiment, before and after a
rollback) each have their own rows in one Redis.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import ibis
import pyarrow.compute as pc
from feast import FeatureStore, FeatureView, FileSource
from redis import RedisError

from feature_repo.store import REGISTRY, open_store
from feature_repo.views import HISTORY
from mtmh.errors import UserError

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


def materialize(store: FeatureStore, view_name: str) -> int:
    """Load each entity's newest row into the online store; returns their number.

    Reads every entity back: raises MaterializationError unless the online store has the row of that
    time for each, and UserError when Redis refuses.
    """
    view = store.get_feature_view(view_name)
    # The time of each entity's newest row, independently of Feast, to hold what it loads to.
    connection = ibis.duckdb.connect()
    table = connection.read_parquet(_path(view))
    newest = (
        table.group_by(view.join_keys).agg(event_timestamp=table.event_timestamp.max()).to_pyarrow()
    )
    connection.disconnect()
    if newest.num_rows == 0:
        return 0
    times = newest["event_timestamp"]
    key, feature, count = view.join_keys[0], view.features[0].name, 0
    with _explained(store):
        with redirect_stdout(StringIO()):  # Feast colours its lines and says less than the count
            store.materialize(pc.min(times).as_py(), pc.max(times).as_py(), [view_name])
        # An online row keeps its time to the second (as in SQLite).
        for start in range(0, newest.num_rows, ONLINE_READ):
            chunk = newest.slice(start, ONLINE_READ)
            columns = _read_online(store, view_name, [feature], key, chunk[key].to_pylist())
            pairs = zip(chunk["event_timestamp"].to_pylist(), columns["as_of"], strict=True)
            count += sum(
                as_of is not None and abs((as_of - time).total_seconds()) <= 1
                for time, as_of in pairs
            )
    if count != newest.num_rows:
        raise MaterializationError(
            f"feature view {view_name}: expected {newest.num_rows} entities in the online store,"
            f" found {count}. Its source is {_path(view)}; load it again, and do not serve from"
            " this store until the counts agree."
        )
    return count


def remove_rows(directory: Path) -> None:
    """Remove from the online store what was loaded into the project of the registry in
    `directory`, which stays as it is. Raises UserError when Redis refuses.
    """
    with tempfile.TemporaryDirectory() as folder:  # Feast empties the registry as well
        shutil.copy2(directory / REGISTRY, folder)
        store = open_store(Path(folder))
        with _explained(store):
            store.teardown()


@contextmanager
def _explained(store: FeatureStore) -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise UserError(
            f"Redis, the online store of project {store.project}, refuses: {error}. See that it"
            " runs (REDIS_CONNECTION) and has room for the users (k8s/README.md has the formula),"
            " and run again."
        ) from None


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


def _path(view: FeatureView) -> str:
    source = view.batch_source
    if not isinstance(source, FileSource):
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
