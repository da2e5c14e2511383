"""What a data set holds, in figures: the log, its split, the catalog and its topics.

What they mean for the method is said in mtmh/data/profile/advice.py.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.config import DataSettings
from mtmh.data import importers
from mtmh.data.engagement import doubtful_events, engagements, value_counts
from mtmh.data.prepare import split_time
from mtmh.data.prepared import distinct, unseen_pairs
from mtmh.data.quarantine import Checked, worst
from mtmh.errors import UserError
from mtmh.ids import Ids

DAY = 86_400_000_000  # microseconds
UNITS = {
    "hours": DAY // 24,
    "minutes": DAY // 1440,
    "seconds": 10**6,
    "milliseconds": 10**3,
    "microseconds": 1,
}
WORDS_SQL = r"""create macro words(value) as
    trim(regexp_replace(lower(value), '[^\p{L}\p{N}]+', ' ', 'g'))"""
# An item spells a topic when the topic's words stand in its title and text, next to each other and
# whole (so that little matches in scripts without spaces).
SPELLED_SQL = """
    with topics as (select row, words(unnest(l2_topics)) as topic from items),
    texts as (select row, ' ' || words(title || ' ' || text) || ' ' as words from items)
    select count(distinct row) from topics join texts using (row)
    where topic <> '' and contains(texts.words, ' ' || topic || ' ')
"""


@dataclass(frozen=True)
class Rejected:
    """Rows of one table that break the contract; the most frequent reasons with their counts."""

    rows: int
    of: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class LogProfile:
    """The interactions; shares are of those that count as engagement by the settings of data."""

    rows: int  # that keep the contract
    engagements: int
    users: int
    items: int  # engaged with
    first: str
    last: str
    resolution: str  # days, hours, .. microseconds
    same_time_of_day: float  # share of engagements at the most frequent time of the day
    tied: float  # share of engagements at the same time as another one of the user
    events: dict[str, int]  # rows of each kind, most frequent first
    counted: dict[str, int]  # engagements of each kind
    negative: int  # rows with a value below 0
    events_per_user_median: float
    events_per_user_p90: float
    density: float  # share of the user-item pairs (of those above) that are engaged
    values: tuple[float, float]  # least and most
    dwell: float  # share of engagements with a dwell time
    dwell_median: float | None  # seconds
    arms: dict[str, int]
    exposures: int  # engagements whose event sounds like an exposure, a skip or a dislike

    @classmethod
    def of(cls, interactions: pa.Table, engaged: pa.Table, times: np.ndarray) -> "LogProfile":
        """Of checked interactions, those that count, and the times of these in order."""
        user, item = (_codes(engaged[name]) for name in ("user_id", "item_id"))
        per_user = np.bincount(user)
        items = int(item.max()) + 1
        pairs = distinct(user.astype(np.int64) * items + item)
        # The clock: how fine it is, and how many engagements it cannot tell apart.
        same = np.unique(times % DAY, return_counts=True)[1].max() / len(times)
        # A few stray times must not decide it.
        finest = next(name for name, unit in UNITS.items() if (times % unit == 0).mean() >= 0.99)
        order = np.lexsort([_microseconds(engaged), user])
        again = (np.diff(user[order]) == 0) & (np.diff(_microseconds(engaged)[order]) == 0)
        tied = np.append(again, False) | np.append(False, again)
        least, most = pc.min_max(engaged["value"]).values()
        counted = value_counts(engaged["event"])
        return cls(
            rows=interactions.num_rows,
            engagements=engaged.num_rows,
            users=len(per_user),
            items=items,
            first=_written(times[0]),
            last=_written(times[-1]),
            resolution="days" if same > 0.5 else finest,
            same_time_of_day=float(same),
            tied=float(tied.mean()),
            events=value_counts(interactions["event"]),
            counted=counted,
            negative=pc.sum(pc.less(interactions["value"], 0.0)).as_py() or 0,
            events_per_user_median=float(np.median(per_user)),
            events_per_user_p90=float(np.quantile(per_user, 0.9)),
            density=len(pairs) / (len(per_user) * items),
            values=(least.as_py(), most.as_py()),
            dwell=_share(pc.is_valid(engaged["dwell_seconds"])),
            dwell_median=_median(engaged["dwell_seconds"].drop_null().to_numpy()),
            arms=value_counts(engaged["arm"].drop_null()),
            exposures=sum(counted[name] for name in doubtful_events(counted)),
        )


@dataclass(frozen=True)
class SplitProfile:
    """The global time split of a run with these settings."""

    time: str
    train: int  # engagements in T1
    test: int
    learners: int  # users with two different items in T1, which pairs are mined from
    test_users: int  # users with a T1 engagement and a new item in T2
    targets: int
    cold_items: int  # engaged with in T2 alone
    cold_share: float  # share of T2's engagements with such items

    @classmethod
    def of(cls, engaged: pa.Table, items: pa.Table, cut: np.datetime64) -> "SplitProfile":
        """Of the engagements, split at `cut`."""
        train = _microseconds(engaged).view("datetime64[us]") < cut
        user = _codes(engaged["user_id"]).astype(np.int64)
        item = Ids(items["item_id"]).rows(engaged["item_id"])
        # A user and an item are one number.
        pairs = user * items.num_rows + item
        users, targets = unseen_pairs(pairs[train], pairs[~train], items.num_rows)
        in_train = np.bincount(item[train], minlength=items.num_rows) > 0
        cold = ~in_train[item[~train]]
        return cls(
            time=_written(cut.astype(np.int64)),
            train=int(train.sum()),
            test=int((~train).sum()),
            learners=int((np.bincount(distinct(pairs[train]) // items.num_rows) > 1).sum()),
            test_users=len(distinct(users)),
            targets=len(targets),
            cold_items=len(distinct(item[~train][cold])),
            cold_share=float(cold.mean()),
        )


@dataclass(frozen=True)
class CatalogProfile:
    """The items, engaged with or not; shares of all of them."""

    items: int
    title: float
    text: float
    words: float  # title or text
    characters: float | None  # median length of title and text, of the items that have one
    image: float
    creator: float
    creators: int
    created_at: float
    concepts: int  # items with a concept

    @classmethod
    def of(cls, items: pa.Table, concepts: Checked | None) -> "CatalogProfile":
        """Of checked items, and concepts where there are any."""
        # Blanks are no title and no text.
        title, text = (pc.utf8_trim_whitespace(items[name]) for name in ("title", "text"))
        length = pc.add(pc.utf8_length(title), pc.utf8_length(text)).to_numpy()
        # Null is left out with the empty ones: a comparison with null is no yes.
        creators = items["creator_id"].filter(pc.not_equal(items["creator_id"], ""))
        return cls(
            items=items.num_rows,
            title=_share(pc.not_equal(title, "")),
            text=_share(pc.not_equal(text, "")),
            words=float((length > 0).mean()),
            characters=_median(length[length > 0]),
            image=_share(pc.not_equal(items["image_path"], "")),
            creator=len(creators) / items.num_rows,
            creators=pc.count_distinct(creators).as_py(),
            created_at=_share(pc.is_valid(items["created_at"])),
            concepts=pc.count_distinct(concepts.clean["item_id"]).as_py() if concepts else 0,
        )


@dataclass(frozen=True)
class TopicProfile:
    """One level's topics."""

    topics: int
    items_per_topic: float | None  # median
    largest: float  # share of the items that have the most frequent topic
    without: float  # share of the items without a topic

    @classmethod
    def of(cls, items: pa.Table, level: str) -> "TopicProfile":
        """Of the items' column `level`."""
        lists = items[level].combine_chunks()
        topic, item = _codes(pc.list_flatten(lists)), pc.list_parent_indices(lists).to_numpy()
        if not len(topic):
            return cls(topics=0, items_per_topic=None, largest=0.0, without=1.0)
        per_topic = np.bincount(distinct(topic.astype(np.int64) * len(lists) + item) // len(lists))
        return cls(
            topics=len(per_topic),
            items_per_topic=float(np.median(per_topic)),
            largest=float(per_topic.max() / len(lists)),
            without=1.0 - len(distinct(item)) / len(lists),
        )


@dataclass(frozen=True)
class Description:
    """All of it."""

    path: str
    form: str
    rejected: dict[str, Rejected]
    log: LogProfile
    split: SplitProfile | None
    not_split: str | None  # why there is no split
    catalog: CatalogProfile
    l1: TopicProfile
    l2: TopicProfile
    spelled: float  # share of the items that spell one of their own L2 topics in title or text


def describe(folder: Path, settings: DataSettings) -> Description:
    """Read and check a data folder and describe it.

    Raises UserError as a run would on data that cannot be read.
    """
    tables = importers.read(folder, settings.columns)
    reject_missing = settings.missing_ids == "reject"
    checked = importers.check(tables, settings.id_features, settings.float_features, reject_missing)
    items, interactions = checked["items"].clean, checked["interactions"].clean
    try:
        engaged = engagements(interactions, settings)
    except UserError as error:
        reasons = "".join(worst(checked["interactions"].rejected))
        advice = f"`mtmh check {folder}` says which rows were rejected, and why."
        raise UserError(f"{error}{reasons}\n{advice}") from None
    rejected = {}
    for name, table in checked.items():
        rows = table.rejected.num_rows
        reasons_of = value_counts(table.rejected["reason"])
        rejected[name] = Rejected(rows, rows + table.clean.num_rows, reasons_of)
    # A log that cannot be split is described all the same.
    times = np.sort(_microseconds(engaged))
    split, not_split = None, None
    try:
        cut = split_time(times.view("datetime64[us]"), settings.test_fraction)
        split = SplitProfile.of(engaged, items, cut)
    except UserError as error:
        not_split = str(error)
    return Description(
        path=str(folder),
        form=importers.form_name(folder),
        rejected=rejected,
        log=LogProfile.of(interactions, engaged, times),
        split=split,
        not_split=not_split,
        catalog=CatalogProfile.of(items, checked.get("concepts")),
        l1=TopicProfile.of(items, "l1_topics"),
        l2=TopicProfile.of(items, "l2_topics"),
        spelled=_spelled_share(items),
    )


def _spelled_share(items: pa.Table) -> float:
    number = pa.array(np.arange(items.num_rows))
    rows = items.select(["title", "text", "l2_topics"]).append_column("row", number)
    with duckdb.connect() as connection:
        connection.register("items", rows)
        connection.execute(WORDS_SQL)
        return float(connection.sql(SPELLED_SQL).fetchall()[0][0]) / items.num_rows


def _microseconds(table: pa.Table) -> np.ndarray:
    return table["timestamp"].cast(pa.int64()).to_numpy()


def _written(microseconds: np.int64) -> str:
    return f"{np.datetime64(int(microseconds), 'us').astype('datetime64[s]')}".replace("T", " ")


def _codes(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The values as dense numbers from 0."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.dictionary_encode().indices.to_numpy()


def _share(mask: pa.ChunkedArray) -> float:
    """Null counts as False."""
    return float(pc.mean(pc.fill_null(mask, False)).as_py())


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None
