"""Days on the platform, hour by hour: users come, are served, respond; written as an experiment
folder.

FOLDER/tables (the log, compacted), items.parquet, history.parquet, experiment.json: see
mtmh/experiment/folder.py.
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
from simulation.event_log import EventLog
from simulation.population import Population
from simulation.response import respond
from simulation.server import Server
from simulation.users import UserStates

HOURS = 24
ITEMS = ["item_id", "title", "creator_id", "created_at", "l1_topics", "l2_topics"]
HISTORY = ["user_id", "item_id", "timestamp", "dwell_seconds"]


@dataclass
class Totals:
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
    after_day: Callable[[Totals], None] = lambda progress: None,
) -> Totals:
    """Simulate all days of `people` and write the log to the new folder `out`/tables, a batch a
    day.

    Every `refresh_hours` the server learns how many items are published by then, also at the start;
    none that is younger is served. `after_day` is called after each day. Each arm must name its
    alpha.
    """
    names = [arm.name for arm in arms]
    arm_of = Ids(names).rows(assign_all(people.user_ids, salt, arms))
    states = UserStates.begin(people, behaviour, seed)
    log = EventLog(people, arms, arm_of, behaviour.list_length, seed)
    for name in ("exposures", "engagements", "rejected", "batches"):
        (out / "tables" / name).mkdir(parents=True)
    elsewhere_hour = ((people.elsewhere.day - people.start) * HOURS).astype(int)
    progress, begun = Totals(), time.perf_counter()
    for hour in range(HOURS * people.days):
        # New items are served from the next refresh on.
        if hour % refresh_hours == 0:
            progress.items = people.published(people.start + hour / HOURS)
            server.refresh(progress.items)
        progress.visits += _serve_visitors(hour, states, server, log)
        # What users do beside the lists; nobody engages twice with an item.
        start, end = np.searchsorted(elsewhere_hour, [hour, hour + 1])
        user, item, day, dwell = (column[start:end] for column in vars(people.elsewhere).values())
        new = states.elsewhere(user, item)
        log.elsewhere(user[new], item[new], day[new], dwell[new])
        states.rest()
        # A day's log is written at its end.
        if (hour + 1) % HOURS == 0:
            tables = log.tables()
            write_batch(out / "tables", tables, [])
            progress.days += 1
            progress.exposures += tables.exposures.num_rows
            is_positive = pc.greater(tables.engagements["value"], 0.0)
            progress.engagements += int(pc.sum(is_positive).as_py() or 0)
            progress.seconds = time.perf_counter() - begun
            after_day(progress)
    return progress


def _serve_visitors(hour: int, states: UserStates, server: Server, log: EventLog) -> int:
    """Serve those who come in this hour and let them respond; returns how many they are."""
    users = states.visitors(hour)
    if len(users):
        triggers, arms = states.triggers(users), log.arm_of[users]
        slates = server.answer(users, triggers, arms, states.behaviour.list_length)
        page, position = states.page(users, hour, slates)
        response = respond(page, states.people, states.behaviour, states.seed)
        states.apply(page, response)
        log.visits(page, position, slates, response)
    return len(users)


def write_experiment(
    out: Path, people: Population, arms: Sequence[Arm], salt: str, provenance: dict[str, Any]
) -> None:
    """Everything of an experiment folder but the log; experiment.json, which also has `provenance`,
    comes last."""
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
        **provenance,
    }
    (out / "experiment.json").write_text(json.dumps(experiment, indent=2) + "\n")
