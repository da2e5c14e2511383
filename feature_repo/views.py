"""Entities, feature views and services.

The tables behind them are made by mtmh.data.feature_tables.
"""

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.feast_object import FeastObject
from feast.types import Array, FeastType, Float32, Int64, String

STATISTICS: dict[str, FeastType] = {
    "popularity": Int64,
    "recent_popularity": Int64,
    "age_days": Float32,
    "log_popularity": Float32,
    "log_recent_popularity": Float32,
    "log_age_days": Float32,
}
HISTORY: dict[str, FeastType] = {
    "item_ids": Array(String),
    "topics": Array(String),
    "topic_shares": Array(Float32),
}
# Feast's word for "no expiry"; the online stores do not enforce one: readers get the age and judge.
FOREVER = timedelta(0)


def item_definitions(sources: Path) -> list[FeastObject]:
    """Item statistics over `sources`/item_statistics.parquet, for training and rankers."""
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
    statistics = _view("item_statistics", item, STATISTICS, sources)
    return [item, statistics, FeatureService(name="item_ranking", features=[statistics])]


def user_definitions(sources: Path) -> list[FeastObject]:
    """Users' histories over `sources`/user_history.parquet, for serving."""
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    history = _view("user_history", user, HISTORY, sources)
    return [user, history, FeatureService(name="user_triggers", features=[history])]


def _view(name: str, entity: Entity, features: dict[str, FeastType], sources: Path) -> FeatureView:
    schema = [Field(name=entity.join_key, dtype=String)]
    schema += [Field(name=feature, dtype=dtype) for feature, dtype in features.items()]
    source = FileSource(
        name=name,
        path=str(sources.resolve() / f"{name}.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    return FeatureView(name=name, entities=[entity], schema=schema, source=source, ttl=FOREVER)
