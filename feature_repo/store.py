"""The feature store: where it lies, and reading it at a point in time.

That read is for training, where no row may see what came later. What serves a request is
`feature_repo.online`.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

import pyarrow as pa
import yaml
from feast import FeatureStore
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import RepoConfig

from feature_repo.views import STATISTICS
from mtmh.errors import UserError

EMBEDDED = Path(__file__).with_name("feature_store.embedded.yaml")
REGISTRY = "registry.db"


def open_store(directory: Path, project: str | None = None) -> FeatureStore:
    """Open the store that FEAST_FS_YAML_FILE_PATH describes, the embedded one where that is not
    set.

    `directory` stands for ${MTMH_FEATURE_STORE} in that file, and holds the registry; `project` for
    ${MTMH_FEATURE_PROJECT}: None is that of the registry which is there. Raises UserError when the
    file or a variable it names is missing.
    """
    path = Path(os.environ.get("FEAST_FS_YAML_FILE_PATH", EMBEDDED))
    directory.mkdir(parents=True, exist_ok=True)
    # A copy: the router opens one store a version, each with a directory of its own.
    variables = {
        **os.environ,
        "MTMH_FEATURE_STORE": str(directory.resolve()),
        "MTMH_FEATURE_PROJECT": project or _project_in(directory / REGISTRY),
    }
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


def open_offline(project: str, registry: str | dict[str, Any]) -> FeatureStore:
    """A store for reads at a point in time alone, by DuckDB: nothing of it is online."""
    return FeatureStore(
        config=RepoConfig(
            project=project,
            provider="local",
            registry=registry,
            offline_store={"type": "duckdb"},  # not `file`: that one loses training rows in silence
            online_store=None,
            entity_key_serialization_version=3,
        )
    )


def _project_in(registry: Path) -> str:
    """The project of a registry's file. Raises FileNotFoundError when there is none."""
    (project,) = Registry.FromString(registry.read_bytes()).projects
    return str(project.spec.name)


def _filled(setting: Any, variables: dict[str, str]) -> Any:
    """The settings with ${NAME} replaced in every text, after YAML was read: a value may hold any
    character.
    """
    if isinstance(setting, dict):
        return {key: _filled(value, variables) for key, value in setting.items()}
    return Template(setting).substitute(variables) if isinstance(setting, str) else setting


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
    times = pa.repeat(pa.scalar(as_of, pa.timestamp("us", tz="UTC")), len(item_ids))
    rows = pa.table({"item_id": pa.array(item_ids, pa.string()), "event_timestamp": times})
    features = [f"item_statistics:{name}" for name in STATISTICS]
    return read_features(store, rows, features).drop_columns("event_timestamp")
