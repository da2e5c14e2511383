"""Entities, feature views and services.

The tables behind them are made by mtmh.data.feature_tables.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Array, FeastType, Float32, Int64, String

STATISTICS: dict[str, FeastType] = {
    "popularity": Int64,
    "recent_popularity": Int64,
    "age_days": Float32,
    "log_popularity": Float32,
    "log_recent_popularity": Float32,
    "log_age_days": Float32,
}
CONTENT: dict[str, FeastType] = {"embedding": Array(Float32)}
HISTORY: dict[str, FeastType] = {
    "item_ids": Array(String),
    "topics": Array(String),
    "topic_shares": Array(Float32),
}
# Feast's word for "no expiry"; the online stores do not enforce one: readers get the age and judge.
FOREVER = timedelta(0)


def definitions(
    sources: Path, engine: str, content: bool
) -> list[Entity | FeatureView | FeatureService]:
    """All objects of the repository, over the Parquet files in `sources`, for `feast apply`.

    `engine` is the type of the offline store ("duckdb" or "spark"); `content` says whether
    item_content.parquet exists.
    """
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    statistics = _view("item_statistics", item, STATISTICS, sources, engine)
    history = _view("user_history", user, HISTORY, sources, engine)
    embedding = [_view("item_content", item, CONTENT, sources, engine)] if content else []
    services = [
        FeatureService(name="item_ranking", features=[statistics, *embedding]),
        FeatureService(name="user_triggers", features=[history]),
    ]
    return [item, user, statistics, history, *embedding, *services]


def source(name: str, sources: Path, engine: str) -> DataSource:
    """The table `name` in the folder `sources`, as the offline store `engine` reads it."""
    path = str(sources.resolve() / f"{name}.parquet")
    columns: dict[str, Any] = {
        "timestamp_field": "event_timestamp",
        "created_timestamp_column": "created",
    }
    if engine == "duckdb":
        return FileSource(name=name, path=path, file_format=ParquetFormat(), **columns)
    if engine == "spark":
        return SparkSource(name=name, path=path, file_format="parquet", **columns)
    raise ValueError(
        f"offline store {engine!r}: the sources are described for 'duckdb' and 'spark' only"
    )


def _view(
    name: str, entity: Entity, features: dict[str, FeastType], sources: Path, engine: str
) -> FeatureView:
    schema = [Field(name=entity.join_key, dtype=String)]
    schema += [Field(name=feature, dtype=dtype) for feature, dtype in features.items()]
    return FeatureView(
        name=name,
        entities=[entity],
        schema=schema,
        source=source(name, sources, engine),
        ttl=FOREVER,
    )
