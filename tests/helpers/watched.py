"""Small places to watch: a log that the real `LogWriter` wrote and the real `compact` compacted."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.log_records import engagement, exposure
from mtmh.data.contract import UTC_MICROSECONDS
from mtmh.experiment.arms import Arm, assign
from mtmh.exposures.compact import compact
from mtmh.exposures.log import LogWriter

Row = dict[str, Any]

FIRST = date(2025, 3, 2)
SALT = "spring"
ARMS = ("engagement-only", "mtmh")
_ARMS = tuple(Arm(name=name) for name in ARMS)
ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("created_at", UTC_MICROSECONDS),
        ("l2_topics", pa.list_(pa.string())),
    ]
)
HISTORY_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", UTC_MICROSECONDS),
        ("value", pa.float64()),
    ]
)


def at(day: float, seconds: float = 0.0) -> datetime:
    """So many days after the first day of the experiment began."""
    return datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(
        days=day, seconds=seconds
    )


def arm_of(user: str) -> str:
    return assign(user, SALT, _ARMS).name


def item(item_id: str, topics: list[str], created: datetime | None = None) -> Row:
    return {
        "item_id": item_id,
        "title": item_id,
        "created_at": created or at(-30),
        "l2_topics": topics,
    }


def past(user: str, item_id: str, day: float, value: float = 1.0) -> Row:
    return {"user_id": user, "item_id": item_id, "timestamp": at(day), "value": value}


def answer(
    request: str,
    user: str | None,
    time: datetime,
    items: list[str],
    triggers: list[str | None],
    **other: Any,
) -> Row:
    """An exposure of the items, by turns from both heads."""
    lists = {"item_id": items, "trigger_id": triggers}
    columns = {"arm": arm_of(user or ""), **lists, **other}
    columns.setdefault("alpha", 100.0 if columns["arm"] == ARMS[0] else 50.0)
    return exposure(0, len(items), request_id=request, user_id=user, timestamp=time, **columns)


def event(request: str | None, user: str, time: datetime, item_id: str, **other: Any) -> Row:
    return engagement(0, request_id=request, user_id=user, timestamp=time, item_id=item_id, **other)


def write(directory: Path, records: list[Row]) -> None:
    """Into a log, and no further."""

    async def appended() -> None:
        async with LogWriter(directory) as log:
            await log.append(records)

    asyncio.run(appended())


def append(folder: Path, records: list[Row]) -> None:
    """Into the log of the place, then into its tables."""
    write(folder / "log", records)
    compact(folder / "log", folder / "tables")


def make_place(
    folder: Path,
    items: list[Row],
    history: list[Row],
    *batches: list[Row],
    days: int = 4,
    **experiment: Any,
) -> Path:
    """A place with a log; each list of records is compacted before the next one is written."""
    (folder / "log").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(items, schema=ITEM_SCHEMA), folder / "items.parquet")
    pq.write_table(pa.Table.from_pylist(history, schema=HISTORY_SCHEMA), folder / "history.parquet")
    for records in batches:
        append(folder, records)
    content = {
        "salt": SALT,
        "control": ARMS[0],
        "treatment": ARMS[1],
        "arms": [
            {"name": name, "weight": 1.0, "alpha": alpha}
            for name, alpha in zip(ARMS, (100, 50), strict=True)
        ],
        "first_day": str(FIRST),
        "days": days,
        "simulated": True,
        **experiment,
    }
    (folder / "experiment.json").write_text(json.dumps(content))
    return folder


def draw(
    seed: int, users: int = 12, items: int = 15, topics: int = 5, days: int = 4
) -> tuple[list[Row], list[Row], list[Row]]:
    """Items, history and a log in which everything occurs that the metrics look at, and nothing is
    wrong.
    """
    random = Random(seed)
    names = [f"topic {n}" for n in range(topics)]
    catalog = [
        item(
            f"item-{n}",
            random.sample(names, random.choice((0, 1, 1, 1, 2, 3))),
            at(random.uniform(-5, days - 2)),
        )
        for n in range(items)
    ]

    def there(time: datetime) -> list[str]:
        return [one["item_id"] for one in catalog if one["created_at"] <= time]

    people = [f"user-{n}" for n in range(users)]
    history = []
    for _ in range(random.randint(0, 5 * users)):
        time = at(-random.uniform(0, 40))
        history.append(
            past(
                random.choice(people),
                f"item-{random.randrange(items)}",
                (time - at(0)) / timedelta(days=1),
                random.choice((1, 1, 0, -1)),
            )
        )
    log: list[Row] = []
    for number in range(random.randint(1, 6 * users)):
        user, time = random.choice(people), at(random.uniform(0, days) * 0.97)
        known = there(time)
        shown = random.sample(known, min(len(known), random.randint(0, 6)))
        if not shown:
            continue
        heads = [random.choice(("engagement", "relevance")) for _ in shown]
        triggers = [random.choice([None, *known]) for _ in shown]
        log.append(answer(f"r-{number}", user, time, shown, triggers, head=heads))
        for chosen in shown:
            for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
                after = time + timedelta(
                    seconds=random.choice((-100, 5, 400, 9_000, 80_000, 100_000)) + random.random()
                )
                if not at(0) <= after < at(days):
                    continue
                named = random.choice((None, f"r-{number}", f"r-{number}", "r-lost"))
                value, dwell = (
                    random.choice((1.0, 1.0, 2.0, 0.0, -1.0)),
                    random.choice((None, 3.5, 60.0)),
                )
                log.append(event(named, user, after, chosen, value=value, dwell_seconds=dwell))
    for _ in range(random.randint(0, users)):  # on their own accord, by some who were never served
        user, time = random.choice([*people, "guest-1", "guest-2"]), at(random.uniform(0, days))
        log.append(event(None, user, time, f"item-{random.randrange(items)}", dwell_seconds=1.0))
    return catalog, history, log
