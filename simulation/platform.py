"""Days on the platform, hour by hour: users come, are served, respond; written as a watched place.

PLACE/tables (the log, compacted), items.parquet, history.parquet, experiment.json: see mtmh/experiment/folder.py.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from mtmh.data.files import write_parquet
from mtmh.data.synthetic import START, interactions_table
from mtmh.experiment.arms import Arm, assign_all
from mtmh.exposures.compact import write_batch
from mtmh.ids import Ids
from simulation.behaviour import Behaviour
from simulation.event_log import Diary
from simulation.population import Population
from simulation.response import respond
from simulation.server import Server
from simulation.users import Lives

HOURS = 24
ITEMS = ["item_id", "title", "creator_id", "created_at", "l1_topics", "l2_topics"]
HISTORY = ["user_id", "item_id", "timestamp", "dwell_seconds"]


@dataclass
class Told:
    """What has happened so far."""

    days: int = 0
    visits: int = 0
    exposures: int = 0
    engagements: int = 0  # positive ones, of lists and elsewhere
    items: int = 0  # that are served
    seconds: float = 0.0


def simulate(
    people: Population,
    behaviour: Behaviour,
    server: Server,
    arms: Sequence[Arm],
    salt: str,
    seed: int,
    out: Path,
    refresh_hours: int = HOURS,
    after_day: Callable[[Told], None] = lambda told: None,
) -> Told:
    """Live all days of `people` and write the log to the new folder `out`/tables, a batch a day.

    Every `refresh_hours` the server is told how many items are published by then, also at the start; none that is
    younger is served. `after_day` is called after each day. Each arm must name its alpha.
    """
    names = [arm.name for arm in arms]
    arm_of = Ids(names).rows(assign_all(people.user_ids, salt, arms))
    lives = Lives.begin(people, behaviour, seed)
    diary = Diary(people, arms, arm_of, behaviour.asked, seed)
    _make_folders(out / "tables")
    elsewhere_hour = ((people.elsewhere.day - people.start) * HOURS).astype(int)
    told, begun = Told(), time.perf_counter()
    for hour in range(HOURS * people.days):
        if hour % refresh_hours == 0:
            told.items = people.published(people.start + hour / HOURS)
            server.refresh(told.items)
        told.visits += _visits(hour, lives, server, diary)
        _elsewhere(slice(*np.searchsorted(elsewhere_hour, [hour, hour + 1])), lives, diary)
        lives.pass_hour()
        if (hour + 1) % HOURS == 0:
            tables = diary.tables()
            write_batch(out / "tables", tables, [])
            told.days += 1
            told.exposures += tables.exposures.num_rows
            told.engagements += int(pc.sum(pc.greater(tables.engagements["value"], 0.0)).as_py() or 0)
            told.seconds = time.perf_counter() - begun
            after_day(told)
    return told


def _visits(hour: int, lives: Lives, server: Server, diary: Diary) -> int:
    users = lives.visitors(hour)
    if len(users):
        slates = server.answer(users, lives.triggers(users), diary.arm_of[users], lives.behaviour.asked)
        page, place = lives.page(users, hour, slates)
        response = respond(page, lives.people, lives.behaviour, lives.seed)
        lives.live(page, response)
        diary.visits(page, place, slates, response)
    return len(users)


def _elsewhere(rows: slice, lives: Lives, diary: Diary) -> None:
    """Engagements beside the lists in one hour; none with what the user engaged with before."""
    done = lives.people.elsewhere
    columns = done.user[rows], done.item[rows], done.day[rows], done.dwell[rows]
    new = lives.elsewhere(columns[0], columns[1])
    diary.elsewhere(*(column[new] for column in columns))


def write_place(out: Path, people: Population, arms: Sequence[Arm], salt: str, told: dict[str, Any]) -> None:
    """Everything of a watched place but the log; experiment.json comes last. `told` has the rest of what it says."""
    last = people.published(people.start + people.days)
    write_parquet(people.item_table.slice(0, last).select(ITEMS), out / "items.parquet")
    write_parquet(interactions_table(people.history).select(HISTORY), out / "history.parquet")
    experiment = {
        "salt": salt,
        "control": arms[0].name,
        "treatment": arms[1].name,
        "arms": [arm.model_dump() for arm in arms],
        "first_day": str((START + np.timedelta64(people.start, "D")).astype("datetime64[D]")),
        "days": people.days,
        "simulated": True,
        **told,
    }
    (out / "experiment.json").write_text(json.dumps(experiment, indent=2) + "\n")


def _make_folders(tables: Path) -> None:
    for name in ("exposures", "engagements", "rejected", "batches"):
        (tables / name).mkdir(parents=True)
