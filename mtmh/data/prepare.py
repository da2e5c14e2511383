"""Stage prepare: read the data, check it against the contract, set bad rows aside, split it in time."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.clock import measured
from mtmh.config import DataSettings
from mtmh.data import importers
from mtmh.data.engagement import engagements, say_events
from mtmh.data.files import write_json, write_parquet
from mtmh.data.float_features import bounded_features
from mtmh.data.importers import SourceTables
from mtmh.data.prepared import distinct, unseen_pairs
from mtmh.data.quarantine import set_aside
from mtmh.data.split import split
from mtmh.errors import UserError

SYNTHETIC = "synthetic"
OUTPUTS = (
    "prepared.json",
    "interactions.parquet",
    "items.parquet",
    "concepts.parquet",
    "rejected.parquet",
)


def fingerprint(source: str, settings: DataSettings, seed: int) -> str:
    """Sha256 of what the data are made from: the content of the source's files, or the synthetic world's settings."""
    if source != SYNTHETIC:
        return importers.fingerprint(Path(source), settings.columns)
    from mtmh.data.synthetic import LAW

    recipe = {"law": LAW, "seed": seed, **settings.synthetic.model_dump()}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def prepare(source: str, out: Path, settings: DataSettings, seed: int) -> None:
    """Run the stage: write `out`/interactions.parquet, items.parquet, prepared.json, and what there is besides.

    interactions: the contract's columns, `user` and `item` int32, `period` "train" (T1) or "test" (T2), sorted by
    timestamp, user_id, item_id. items: the contract's columns and the declared features, sorted by item_id. Also
    concepts.parquet and rejected.parquet when there are any. prepared.json is written last and says how many of
    everything there are. Raises UserError on data that cannot be used.
    """
    with measured("prepare", out):
        for name in OUTPUTS:
            (out / name).unlink(missing_ok=True)
        raw = _read(source, settings, seed)
        checked = importers.check(
            raw, settings.id_features, settings.float_features, settings.missing_ids == "reject"
        )
        rejected_rows = set_aside(checked, out, settings.max_rejected_share)

        items = bounded_features(checked["items"].clean.sort_by("item_id"), settings.float_features)
        engaged = engagements(checked["interactions"].clean, settings)
        say_events(checked["interactions"].clean, engaged)
        events, cut = _split_events(_numbered(engaged, items), settings)
        counts = _count(events, items.num_rows)

        write_parquet(events, out / "interactions.parquet")
        write_parquet(items, out / "items.parquet")
        if "concepts" in checked:
            write_parquet(checked["concepts"].clean, out / "concepts.parquet")
        info = {
            "path": source,
            "fingerprint": fingerprint(source, settings, seed),
            "split_time": f"{cut}+00:00",
            **counts,
            "rejected_rows": rejected_rows,
            "not_engagement_rows": checked["interactions"].clean.num_rows - engaged.num_rows,
            "has_topics": any(_any_topic(items, level) for level in ("l1", "l2")),
            "has_text": any(_any_text(items, name) for name in ("title", "text")),
            "validation": settings.period == "validation",
            "id_features": settings.id_features,
        }
        write_json(info, out / "prepared.json")
        _tell(info)


def _read(source: str, settings: DataSettings, seed: int) -> SourceTables:
    if source != SYNTHETIC:
        return importers.read(Path(source), settings.columns)
    from mtmh.data.synthetic import make_world

    size = settings.synthetic
    return make_world(size.users, size.items, size.days, seed)


def _numbered(engaged: pa.Table, items: pa.Table) -> pa.Table:
    """Add `user` and `item`, and sort. Raises UserError when there is a single user or item."""
    user_ids = pc.unique(engaged["user_id"])
    user_ids = user_ids.take(pc.sort_indices(user_ids))
    engaged_items = pc.count_distinct(engaged["item_id"]).as_py()
    for number, one, two in ((len(user_ids), "user", "users"), (engaged_items, "item", "items")):
        if number < 2:
            example = engaged[f"{one}_id"][0].as_py()
            raise UserError(
                f"all {engaged.num_rows:,} engagements are of one {one} ({example!r}): co-engagement needs"
                f" two {two} at the least. Is column {one}_id the right one?"
            )
    user = pc.index_in(engaged["user_id"], user_ids).to_numpy()
    item = pc.index_in(engaged["item_id"], items["item_id"].combine_chunks()).to_numpy()
    order = np.lexsort([item, user, engaged["timestamp"].cast(pa.int64()).to_numpy()])
    engaged = engaged.append_column("user", pa.array(user, pa.int32())).append_column(
        "item", pa.array(item, pa.int32())
    )
    return engaged.take(pa.array(order))


def _split_events(events: pa.Table, settings: DataSettings) -> tuple[pa.Table, np.datetime64]:
    times = events["timestamp"].cast(pa.int64()).to_numpy().view("datetime64[us]")
    fraction = settings.validation_fraction if settings.period == "validation" else None
    kept, cut = split(times, settings.test_fraction, fraction)
    period = np.where(times[:kept] < cut, "train", "test")
    events = events.slice(0, kept).append_column("period", pa.array(period, pa.string()))
    return _renumber_users(events), cut


def _renumber_users(events: pa.Table) -> pa.Table:
    """Users that only a dropped period knows leave no gap in the numbers."""
    user = events["user"].to_numpy()
    known = np.bincount(user) > 0
    position = events.column_names.index("user")
    return events.set_column(
        position, "user", pa.array((np.cumsum(known) - 1)[user].astype(np.int32))
    )


def _count(events: pa.Table, n_items: int) -> dict[str, int]:
    """Rows, users, items, test users. Raises UserError when no test user is left."""
    pairs = events["user"].to_numpy().astype(np.int64) * n_items + events["item"].to_numpy()
    train = pc.equal(events["period"], "train").to_numpy()
    test_users = len(distinct(unseen_pairs(pairs[train], pairs[~train], n_items)[0]))
    if test_users == 0:
        raise UserError(
            f"no test user is left: of the {events.num_rows:,} engagements {train.sum():,} come before the split and"
            f" {(~train).sum():,} after, but no user has both an engagement before and a new item after it."
            " Give a longer log, or another data.test_fraction."
        )
    users = pc.max(events["user"]).as_py() + 1
    return {"rows": events.num_rows, "users": users, "items": n_items, "test_users": test_users}


def _any_topic(items: pa.Table, level: str) -> bool:
    return bool(pc.any(pc.greater(pc.list_value_length(items[f"{level}_topics"]), 0)).as_py())


def _any_text(items: pa.Table, name: str) -> bool:
    return bool(pc.any(pc.not_equal(items[name], "")).as_py())


def _tell(info: dict[str, Any]) -> None:
    print(
        f"prepared {info['path']}: {info['rows']:,} engagements of {info['users']:,} users with {info['items']:,}"
        f" items, split at {info['split_time']}, {info['test_users']:,} test users",
        flush=True,
    )
