"""Stage prepare: read the data, check it against the contract, set bad rows aside, split it in
time.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh import object_store
from mtmh.clock import measured
from mtmh.config import DataSettings
from mtmh.data import importers
from mtmh.data.engagement import engagements, say_events
from mtmh.data.files import write_json, write_parquet
from mtmh.data.prepared import distinct, unseen_pairs
from mtmh.data.quarantine import Checked, set_aside
from mtmh.errors import UserError
from mtmh.ids import Ids
from mtmh.object_store import as_folder, is_url

SYNTHETIC = "synthetic"
OUTPUTS = (
    "prepared.json",
    "interactions.parquet",
    "items.parquet",
    "concepts.parquet",
    "rejected.parquet",
)
# Interquartile ranges from the median: no price, count or length of real items lies that far out.
SPREADS = 1e6
LARGEST = 1e15  # whatever the spread: its square still is a float32


def fingerprint(source: str, settings: DataSettings, seed: int) -> str:
    """Sha256 of what the data are made from: the content of the source's files (of a URL: what the
    object store says of it), or the synthetic world's settings.
    """
    if source != SYNTHETIC and is_url(source):
        # By what the store says of each object: nothing is fetched.
        marks = [object_store.fingerprint(source), json.dumps(settings.columns, sort_keys=True)]
        return hashlib.sha256("".join(marks).encode()).hexdigest()
    if source != SYNTHETIC:
        return importers.fingerprint(Path(source), settings.columns)
    from mtmh.data.synthetic import WORLD_VERSION

    world = settings.synthetic.model_copy(update={"seed": _world_seed(settings, seed)})
    recipe = {"law": WORLD_VERSION, **world.model_dump()}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def read_checked(source: str, settings: DataSettings, seed: int) -> dict[str, Checked]:
    """The tables of the source, or of the synthetic world, checked against the contract."""
    if source == SYNTHETIC:
        from mtmh.data.synthetic import make_world

        size = settings.synthetic
        tables = make_world(size.users, size.items, size.days, _world_seed(settings, seed))
    else:
        with as_folder(source) as folder:
            tables = importers.read(folder, settings.columns)
    reject_missing_ids = settings.missing_ids == "reject"
    return importers.check(
        tables, settings.id_features, settings.float_features, reject_missing_ids
    )


def _world_seed(settings: DataSettings, seed: int) -> int:
    """The synthetic world's own, or that of the run."""
    return seed if settings.synthetic.seed is None else settings.synthetic.seed


def prepare(source: str, out: Path, settings: DataSettings, seed: int) -> None:
    """Run the stage: write `out`/interactions.parquet, items.parquet and prepared.json.

    interactions: the contract's columns, `user` and `item` int32, `period` "train" (T1) or "test"
    (T2), sorted by timestamp, user_id, item_id. items: the contract's columns and the declared
    features, sorted by item_id. Also concepts.parquet and rejected.parquet when there are any.
    prepared.json is written last and says how many of everything there are. Raises UserError on
    data that cannot be used.
    """
    with measured("prepare", out):
        for name in OUTPUTS:
            (out / name).unlink(missing_ok=True)
        # What breaks the contract is set aside.
        checked = read_checked(source, settings, seed)
        rejected_rows = set_aside(checked, out, settings.max_rejected_share)

        # Number users and items, and cut the engagements in time.
        items = bounded_features(checked["items"].clean.sort_by("item_id"), settings.float_features)
        interactions = checked["interactions"].clean
        engaged = engagements(interactions, settings)
        say_events(interactions, engaged)
        events, cut = _numbered_and_split(engaged, items, settings)
        counts = _count(events, items.num_rows)

        # The tables, then prepared.json: while it is not there, the stage is not done.
        write_parquet(events, out / "interactions.parquet")
        write_parquet(items, out / "items.parquet")
        if "concepts" in checked:
            write_parquet(checked["concepts"].clean, out / "concepts.parquet")
        topics = [pc.list_value_length(items[name]) for name in ("l1_topics", "l2_topics")]
        texts = [pc.utf8_length(items[name]) for name in ("title", "text")]
        info = {
            "path": source,
            "fingerprint": fingerprint(source, settings, seed),
            "split_time": f"{cut}+00:00",
            **counts,
            "rejected_rows": rejected_rows,
            "not_engagement_rows": interactions.num_rows - engaged.num_rows,
            "has_topics": any(pc.any(pc.greater(length, 0)).as_py() for length in topics),
            "has_text": any(pc.any(pc.greater(length, 0)).as_py() for length in texts),
            "validation": settings.period == "validation",
            "id_features": settings.id_features,
        }
        write_json(info, out / "prepared.json")
        print(
            f"prepared {source}: {counts['rows']:,} engagements of {counts['users']:,} users with"
            f" {counts['items']:,} items, split at {info['split_time']}, {counts['test_users']:,}"
            " test users",
            flush=True,
        )


def bounded_features(items: pa.Table, names: list[str]) -> pa.Table:
    """Bound what is out of all proportion, fill null by the mean of the others, and say both.

    `items` has the float64 columns `names`. Values within `SPREADS` interquartile ranges stay as
    they are; the mean is 0 where there are no values.
    """
    for name in names:
        values = items[name]
        # Where most items have the same value, its size stands for the spread.
        numbers = values.drop_null().to_numpy()
        quartiles = np.quantile(numbers, [0.25, 0.5, 0.75]) if len(numbers) else np.zeros(3)
        low, median, high = np.clip(quartiles, -LARGEST, LARGEST)
        reach = SPREADS * max(high - low, abs(median), 1.0)
        least, most = max(median - reach, -LARGEST), min(median + reach, LARGEST)
        too_low, too_high = pc.less(values, least), pc.greater(values, most)
        outside = pc.or_(too_low, too_high)
        if rows := pc.sum(outside).as_py():
            first = pc.index(outside, True).as_py()
            example = f"item {items['item_id'][first].as_py()!r} has {values[first].as_py():.6g}"
            print(
                f"items: {rows:,} values of {name} bounded to {least:.6g} .. {most:.6g}: {example}",
                flush=True,
            )
            values = pc.if_else(too_high, most, pc.if_else(too_low, least, values))
        # What is missing is filled with the mean of the bounded values.
        missing = values.null_count
        if missing:
            mean = pc.mean(values).as_py() or 0.0
            print(
                f"items: {missing:,} null values of {name} filled with the mean, {mean:.6g}",
                flush=True,
            )
            values = pc.fill_null(values, mean)
        items = items.set_column(items.column_names.index(name), name, values)
    return items


def _numbered_and_split(
    engaged: pa.Table, items: pa.Table, settings: DataSettings
) -> tuple[pa.Table, np.datetime64]:
    """The events with `user`, `item` and `period`, sorted; and the split time.

    Users are numbered without gaps. Raises UserError when there is a single user or item.
    """
    user_ids = pc.unique(engaged["user_id"])
    user_ids = user_ids.take(pc.sort_indices(user_ids))
    engaged_items = pc.count_distinct(engaged["item_id"]).as_py()
    for number, noun in ((len(user_ids), "user"), (engaged_items, "item")):
        if number < 2:
            example = engaged[f"{noun}_id"][0].as_py()
            raise UserError(
                f"all {engaged.num_rows:,} engagements are of one {noun} ({example!r}):"
                f" co-engagement needs two {noun}s at the least. Is column {noun}_id the right one?"
            )
    # In the order of time, then of the numbers: so the same data give the same rows.
    user = Ids(user_ids).rows(engaged["user_id"])
    item = Ids(items["item_id"]).rows(engaged["item_id"])
    order = np.lexsort([item, user, engaged["timestamp"].cast(pa.int64()).to_numpy()])
    engaged = engaged.append_column("user", pa.array(user)).append_column("item", pa.array(item))
    events = engaged.take(pa.array(order))
    # Cut them in time; tuning sees no event of the test period.
    times = events["timestamp"].cast(pa.int64()).to_numpy().view("datetime64[us]")
    fraction = settings.validation_fraction if settings.period == "validation" else None
    rows, cut = split(times, settings.test_fraction, fraction)
    period = np.where(times[:rows] < cut, "train", "test")
    events = events.slice(0, rows).append_column("period", pa.array(period, pa.string()))
    # Users of a dropped period alone leave no gap in the numbers.
    user = events["user"].to_numpy()
    number = (np.cumsum(np.bincount(user) > 0) - 1)[user]
    position = events.column_names.index("user")
    return events.set_column(position, "user", pa.array(number.astype(np.int32))), cut


def split(
    timestamps: np.ndarray, test_fraction: float, validation_fraction: float | None
) -> tuple[int, np.datetime64]:
    """How many of the ascending events to use, and the split time among these.

    With a `validation_fraction`, everything from T2 on is dropped, and the last part of T1 takes
    T2's place: tuning sees T1 alone. Raises UserError as `split_time` does.
    """
    cut = split_time(timestamps, test_fraction)
    if validation_fraction is None:
        return len(timestamps), cut
    rows = int(np.searchsorted(timestamps, cut))
    return rows, split_time(timestamps[:rows], validation_fraction)


def split_time(timestamps: np.ndarray, test_fraction: float) -> np.datetime64:
    """The first moment of T2: the `1 - test_fraction` quantile of the events' times.

    The global time split: T1 to learn from, T2 to be judged on (paper section 6). `timestamps` is
    datetime64 [events] in ascending order. Events at one moment stay on one side: T2 is everything
    at the returned time or later. T1 is never empty. Raises UserError when all events happened at
    the same moment.
    """
    first, last = timestamps[0], timestamps[-1]
    if first == last:
        raise UserError(
            f"all {len(timestamps):,} engagements happened at the same time ({first}Z): there is no"
            " earlier and later to split them by. Give the column timestamp its real values."
        )
    row = min(int((1.0 - test_fraction) * len(timestamps)), len(timestamps) - 1)
    if timestamps[row] > first:
        return timestamps[row]
    return timestamps[np.searchsorted(timestamps, first, side="right")]


def _count(events: pa.Table, n_items: int) -> dict[str, int]:
    """Rows, users, items, test users. Raises UserError when no test user is left."""
    pairs = events["user"].to_numpy().astype(np.int64) * n_items + events["item"].to_numpy()
    train = pc.equal(events["period"], "train").to_numpy()
    test_users = len(distinct(unseen_pairs(pairs[train], pairs[~train], n_items)[0]))
    if test_users == 0:
        raise UserError(
            f"no test user is left: of the {events.num_rows:,} engagements {train.sum():,} come"
            f" before the split and {(~train).sum():,} after, but no user has both an engagement"
            " before and a new item after it. Give a longer log, or another data.test_fraction."
        )
    users = pc.max(events["user"]).as_py() + 1
    return {"rows": events.num_rows, "users": users, "items": n_items, "test_users": test_users}
